//! Accepts the certificates of clients from proxies that terminate TLS.
//!
//! A proxy that terminates TLS sends the certificate of its client in the header `Client-Cert`
//! (docs/reference/zowe-site.md#forwarded-certificates). Any client could send such a header. So the layer accepts it
//! only on a TLS connection of a [trusted forwarder](TrustedForwarders): a proxy whose own certificate is in a list.
//!
//! 1. If the peer is a trusted forwarder, the layer replaces the peer's certificate by the certificate in
//!    `Client-Cert`. Without `Client-Cert`, the request has no certificate. So the forwarder cannot act as a user
//!    itself.
//! 2. A [`VerifyClientCertificate`] verifies the certificate in the header, because the TLS handshake has not verified
//!    it. It checks the dates, the issuer and the purpose. If the certificate is refused, or if the header is
//!    malformed, the response is 400.
//! 3. If the peer is not a trusted forwarder, the header is removed, and the certificate of the peer stays.
//!
//! The proxy must remove `Client-Cert` and `Client-Cert-Chain` from the requests of its clients.
//!
//! Put this layer in front of all other layers and of the auth API.

use std::{
    collections::HashSet,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http::Request;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tower_layer::Layer;

use super::{
    check::{Check, CheckService},
    client_cert::{self, ForwardedChain},
    rejection::Rejection,
};
use crate::{
    identity::{CertificateError, Fingerprint, PeerCertificate},
    log_limit::log_limited,
};

/// The number of verified certificates that the cache holds.
const REMEMBERED: usize = 1000;

/// A verified certificate stays in the cache for this time. The end of its validity is checked for each request.
const REMEMBER_FOR: Duration = Duration::from_secs(60);

/// The certificates of the proxies that may send the certificates of their clients. Clones share the list.
///
/// A proxy is a trusted forwarder if its own TLS certificate is in the list. The certificate of an authority in the
/// list does not make other certificates trusted.
///
/// ```
/// use tower_passticket::{identity::Fingerprint, layer::TrustedForwarders};
///
/// let fingerprint: Fingerprint = "AB".repeat(32).parse()?;
/// let forwarders = TrustedForwarders::new([fingerprint]);
/// forwarders.replace([]);
/// # Ok::<(), tower_passticket::identity::FingerprintError>(())
/// ```
#[derive(Clone)]
pub struct TrustedForwarders(Arc<ArcSwap<HashSet<Fingerprint>>>);

impl TrustedForwarders {
    /// Trusts the proxies with these certificates.
    pub fn new(certificates: impl IntoIterator<Item = Fingerprint>) -> Self {
        let certificates: HashSet<_> = certificates.into_iter().collect();
        Self(Arc::new(ArcSwap::from_pointee(certificates)))
    }

    /// Replaces the list: only the proxies with these certificates are trusted.
    pub fn replace(&self, certificates: impl IntoIterator<Item = Fingerprint>) {
        self.0.store(Arc::new(certificates.into_iter().collect()));
    }

    /// Returns the fingerprints of the certificates in a PEM document.
    ///
    /// # Errors
    /// [`CertificateError`] if a certificate is malformed, or if the document has no certificate.
    pub fn fingerprints(pem: &[u8]) -> Result<Vec<Fingerprint>, CertificateError> {
        let documents = pem::parse_many(pem).unwrap_or_default();
        let certificates = documents.into_iter().filter(|it| it.tag() == "CERTIFICATE");
        let found: Vec<_> = certificates
            .map(|document| {
                let certificate = PeerCertificate::from_der(document.into_contents())?;
                Ok(Fingerprint::from(*certificate.sha256()))
            })
            .collect::<Result<_, CertificateError>>()?;
        match found.is_empty() {
            // An empty list is an error, too: `from_der` refuses an empty certificate.
            true => PeerCertificate::from_der(Vec::new()).map(|_| Vec::new()),
            false => Ok(found),
        }
    }

    fn contain(&self, certificate: &PeerCertificate) -> bool {
        self.0.load().contains(&Fingerprint::from(*certificate.sha256()))
    }
}

impl fmt::Debug for TrustedForwarders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrustedForwarders").field(&self.0.load().len()).finish()
    }
}

/// Verifies a client certificate that no TLS handshake has verified.
#[cfg_attr(
    feature = "tls",
    doc = "[`ClientCertificates`](crate::tls::ClientCertificates) implements it."
)]
pub trait VerifyClientCertificate: Send + Sync + 'static {
    /// Checks that the certificate `leaf` is valid now for a TLS client, and comes from a trusted authority.
    /// `intermediates` are the certificates of the authorities in between. All certificates are in DER, as the
    /// forwarder has sent them.
    ///
    /// # Errors
    /// The reason why the certificate is not accepted, for the log.
    fn verify(&self, leaf: &[u8], intermediates: &[Vec<u8>]) -> Result<(), String>;
}

impl<V: VerifyClientCertificate + ?Sized> VerifyClientCertificate for Arc<V> {
    fn verify(&self, leaf: &[u8], intermediates: &[Vec<u8>]) -> Result<(), String> {
        (**self).verify(leaf, intermediates)
    }
}

/// The layer. See the [module](self).
#[derive(Clone, Debug)]
pub struct ForwardedCertificateLayer {
    check: ForwardedCertificate,
}

impl ForwardedCertificateLayer {
    /// Accepts certificates from `forwarders` that `verifier` accepts.
    pub fn new(forwarders: TrustedForwarders, verifier: impl VerifyClientCertificate) -> Self {
        let verified = Cache::new(REMEMBERED);
        let verifier = Arc::new(verifier);
        Self { check: ForwardedCertificate(Arc::new(Inner { forwarders, verifier, verified })) }
    }
}

impl<S> Layer<S> for ForwardedCertificateLayer {
    type Service = ForwardedCertificateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckService::new(inner, self.check.clone())
    }
}

/// The service of [`ForwardedCertificateLayer`].
pub type ForwardedCertificateService<S> = CheckService<S, ForwardedCertificate>;

/// The check of [`ForwardedCertificateLayer`].
#[derive(Clone)]
pub struct ForwardedCertificate(Arc<Inner>);

struct Inner {
    forwarders: TrustedForwarders,
    verifier: Arc<dyn VerifyClientCertificate>,
    /// The key is the hash of the forwarded certificates.
    verified: Cache<[u8; 32], (PeerCertificate, Instant)>,
}

impl Check for ForwardedCertificate {
    fn check<B>(&self, request: &mut Request<B>) -> Result<(), Rejection> {
        let peer = request.extensions().get::<PeerCertificate>();
        if peer.is_some_and(|peer| self.0.forwarders.contain(peer)) {
            return self.forwarded(request);
        }
        if client_cert::is_forwarded(request.headers()) {
            client_cert::remove(request.headers_mut());
            tracing::debug!("removed Client-Cert, because the peer is not a trusted forwarder");
        }
        Ok(())
    }
}

impl ForwardedCertificate {
    /// Replaces the certificate of the forwarder by the certificate of its client.
    fn forwarded<B>(&self, request: &mut Request<B>) -> Result<(), Rejection> {
        let forwarder = request.extensions_mut().remove::<PeerCertificate>();
        let chain = ForwardedChain::of(request.headers()).map_err(|what| {
            refuse(forwarder.as_ref(), what);
            Rejection::Malformed(what)
        })?;
        client_cert::remove(request.headers_mut());
        let Some(chain) = chain else { return Ok(()) };
        let certificate = self.verified(&chain, Instant::now()).map_err(|reason| {
            refuse(forwarder.as_ref(), &reason);
            Rejection::Malformed("the certificate in its Client-Cert header is not valid")
        })?;
        request.extensions_mut().insert(certificate);
        Ok(())
    }

    fn verified(&self, chain: &ForwardedChain, now: Instant) -> Result<PeerCertificate, String> {
        let mut hash = Sha256::new();
        for der in std::iter::once(&chain.leaf).chain(&chain.intermediates) {
            hash.update(u64::try_from(der.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(der);
        }
        let key = hash.finalize().into();
        if let Some((certificate, since)) = self.0.verified.get(&key)
            && now.saturating_duration_since(since) < REMEMBER_FOR
        {
            return Ok(certificate);
        }
        let certificate =
            PeerCertificate::from_der(chain.leaf.clone()).map_err(|error| error.to_string())?;
        self.0.verifier.verify(&chain.leaf, &chain.intermediates)?;
        self.0.verified.insert(key, (certificate.clone(), now));
        Ok(certificate)
    }
}

fn refuse(forwarder: Option<&PeerCertificate>, reason: &str) {
    let forwarder = forwarder.map(PeerCertificate::subject);
    log_limited!(
        warn, ("forwarded certificate", forwarder), { forwarder, reason },
        "client certificate of a trusted forwarder refused"
    );
}

impl fmt::Debug for ForwardedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardedCertificate")
            .field("forwarders", &self.0.forwarders)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use base64::{Engine, prelude::BASE64_STANDARD};
    use test_support::pki;

    use super::*;

    /// Accepts all certificates except the certificate of `APIMTST`, and counts the checks.
    #[derive(Default)]
    struct Verifier(AtomicUsize);

    impl VerifyClientCertificate for Verifier {
        fn verify(&self, leaf: &[u8], _: &[Vec<u8>]) -> Result<(), String> {
            self.0.fetch_add(1, SeqCst);
            match leaf == pki::APIMTST.certificate_der().as_ref() {
                true => Err("refused by the test".to_owned()),
                false => Ok(()),
            }
        }
    }

    fn certificate(identity: pki::Identity) -> PeerCertificate {
        PeerCertificate::from_der(identity.certificate_der().to_vec()).unwrap()
    }

    fn text(identity: pki::Identity) -> String {
        BASE64_STANDARD.encode(identity.certificate_der())
    }

    /// Returns the common name of the certificate that the inner service receives, or the rejection.
    fn seen(
        check: &ForwardedCertificate,
        peer: Option<pki::Identity>,
        headers: &[(&'static str, String)],
    ) -> Result<Option<String>, Rejection> {
        let mut request = Request::new(());
        if let Some(peer) = peer {
            request.extensions_mut().insert(certificate(peer));
        }
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        check.check(&mut request)?;
        assert!(request.headers().is_empty(), "{:?}", request.headers());
        let seen = request.extensions().get::<PeerCertificate>();
        Ok(seen.and_then(PeerCertificate::common_name).map(str::to_owned))
    }

    #[test]
    fn only_a_trusted_forwarder_sends_certificates_and_its_own_is_no_credential() {
        let server = pki::SERVER;
        let forwarders = TrustedForwarders::new(
            TrustedForwarders::fingerprints(server.certificate.as_bytes()).unwrap(),
        );
        let verifier = Arc::new(Verifier::default());
        let layer = ForwardedCertificateLayer::new(forwarders.clone(), verifier.clone());
        let check = &layer.check;
        let zowe = || ("client-cert", text(pki::USER));
        let rfc = || ("client-cert", format!(":{}:", text(pki::USER)));
        let chain = || ("client-cert-chain", format!(":{}:", text(pki::APIMTST)));
        let user = || Ok(Some("USER".to_owned()));
        let other = || Ok(Some("APIMTST".to_owned()));
        for _ in 0..2 {
            for (peer, headers, want) in [
                (Some(server), vec![zowe()], user()),
                (Some(server), vec![rfc()], user()),
                (Some(server), vec![rfc(), chain()], user()),
                (Some(server), vec![], Ok(None)),
                (Some(server), vec![chain()], Ok(None)),
                (Some(pki::APIMTST), vec![zowe()], other()),
                (Some(pki::APIMTST), vec![rfc(), chain()], other()),
                (Some(pki::APIMTST), vec![], other()),
                (None, vec![zowe(), zowe()], Ok(None)),
                (None, vec![], Ok(None)),
            ] {
                assert_eq!(seen(check, peer, &headers), want, "{peer:?} {headers:?}");
            }
        }
        // The result is cached for a certificate and its chain.
        assert_eq!(verifier.0.load(SeqCst), 2);
        for bad in [
            vec![zowe(), zowe()],
            vec![("client-cert", "x y".to_owned())],
            vec![("client-cert", BASE64_STANDARD.encode("no certificate"))],
            vec![("client-cert", text(pki::APIMTST))],
            vec![zowe(), ("client-cert-chain", "x".to_owned())],
        ] {
            let got = seen(check, Some(server), &bad);
            assert!(matches!(got, Err(Rejection::Malformed(_))), "{bad:?}: {got:?}");
        }
        forwarders.replace([]);
        assert_eq!(seen(check, Some(pki::USER), &[("client-cert", text(pki::APIMTST))]), user());
        assert!(TrustedForwarders::fingerprints(b"").is_err());
        assert!(TrustedForwarders::fingerprints(b"no PEM").is_err());
    }
}
