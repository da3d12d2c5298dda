//! Accepts the certificates of clients from proxies that terminate TLS.
//!
//! A proxy that terminates TLS sends the certificate of its client in the header `Client-Cert`
//! (docs/reference/zowe-site.md#forwarded-certificates). Any client can send such a header. So the layer accepts the
//! header only on a TLS connection of a [trusted forwarder](TrustedForwarders): a proxy whose own certificate is in a
//! list.
//!
//! 1. If the peer is a trusted forwarder whose own certificate has not expired, the certificate in `Client-Cert` is the
//!    client certificate of the request. Without `Client-Cert`, the request has no client certificate, because the
//!    certificate of a forwarder is never a credential. The request gets the extension [`Forwarder`], so that audit
//!    records name the forwarder.
//! 2. The TLS handshake has not verified the certificate in the header. So a [`VerifyClientCertificate`] checks its
//!    dates, issuer and purpose. If it refuses the certificate, or if the header is malformed, the answer is 400. With
//!    [`InvalidCertificates::Ignored`], the layer forwards the request without a client certificate instead.
//! 3. If the peer is not a trusted forwarder, the layer removes the header. A peer that sends the header can be a
//!    forwarder that is not in the list yet, such as a forwarder with a new certificate. Its requests can come from any
//!    of its clients. So the certificate of the peer is no credential in this request, and in all its requests within
//!    the next hour. With [`UnlistedPeers::ActForThemselves`], it stays a credential in the requests without the
//!    header.
//! 4. A former forwarder is a proxy that was in the list and was removed from it. Its certificate is no credential, and
//!    the layer removes its `Client-Cert`. The same applies to a forwarder whose certificate has expired. The list
//!    remembers the last 1,000 former forwarders until the program ends.
//! 5. While the list is [incomplete](TrustedForwarders::incomplete), each peer can be a forwarder. So the only
//!    certificates that are credentials are those that a trusted forwarder sends in `Client-Cert`.
//! 6. In all other cases, the certificate of the peer stays the client certificate of the request.
//!
//! The proxy must remove `Client-Cert` and `Client-Cert-Chain` from the requests of its clients.
//!
//! Put this layer before [`SanitizeLayer`](super::SanitizeLayer), which removes `Client-Cert`, and before the auth API.

use std::{
    collections::{HashSet, VecDeque},
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
    clock::{Clock, SystemClock},
    identity::{
        CertificateError, DistinguishedName, Fingerprint, Forwarder, PeerCertificate, UnlistedPeer,
    },
    log_limit::log_limited,
};

/// The maximum number of verified certificates in the cache.
const REMEMBERED: usize = 1000;

/// A verified certificate stays in the cache for this time. The authenticator checks for each request whether the
/// certificate has expired.
const REMEMBER_FOR: Duration = Duration::from_secs(60);

/// The list remembers at most this number of former forwarders. It forgets the oldest first.
const WITHDRAWN: usize = 1000;

/// The maximum number of peers in `suspected`.
const SUSPECTED: usize = 1000;

/// A peer stays in `suspected` for this time. By then, a new forwarder should be in the list.
const SUSPECT_FOR: Duration = Duration::from_secs(3600);

/// The list of the proxies that may send the certificates of their clients. Clones share the list.
///
/// A proxy is a trusted forwarder if the list has its own TLS certificate, or the subject of this certificate. The
/// certificate of a CA (certificate authority) in the list does not make the proxies trusted whose certificates the CA
/// has issued.
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
pub struct TrustedForwarders(Arc<Shared>);

struct Shared {
    lists: ArcSwap<Lists>,
    /// Peers that are not in the list and have sent `Client-Cert`, and when they sent it.
    suspected: Cache<Fingerprint, Instant>,
}

/// The name of a proxy in [`TrustedForwarders`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwarderName {
    /// The SHA-256 hash of its certificate. If the proxy gets a new certificate, it needs a new name.
    Certificate(Fingerprint),
    /// The subject of its certificate. Each certificate with this subject that the TLS listener accepts is trusted. An
    /// empty subject names no proxy.
    Subject(DistinguishedName),
}

impl From<Fingerprint> for ForwarderName {
    fn from(certificate: Fingerprint) -> Self {
        Self::Certificate(certificate)
    }
}

/// Whether a peer that sends `Client-Cert` and is not in the list can be a forwarder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnlistedPeers {
    /// The peer can be a forwarder that is not in the list yet. For an hour, its certificate is no credential.
    #[default]
    MayBeForwarders,
    /// The peer acts for itself, and its own certificate is its credential. Exception: in a request with `Client-Cert`,
    /// its certificate is no credential, because an operator could have forgotten to name a forwarder. All requests of
    /// the peer have the extension [`UnlistedPeer`]. Use this value only if an operator names all forwarders.
    ActForThemselves,
}

/// What the layer does if a trusted forwarder sends a `Client-Cert` that is malformed or not valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidCertificates {
    /// The response is 400.
    #[default]
    Refused,
    /// The layer forwards the request without a client certificate. Another credential in the request still counts.
    Ignored,
}

#[derive(Clone)]
struct Lists {
    trusted: Names,
    completeness: Completeness,
    /// The names that were in `trusted` earlier, oldest first.
    withdrawn: VecDeque<ForwarderName>,
}

#[derive(Clone, Default)]
struct Names {
    certificates: HashSet<Fingerprint>,
    subjects: HashSet<DistinguishedName>,
}

/// The parts of a certificate that [`ForwarderName`] compares.
#[derive(Clone, Copy)]
struct Peer<'a> {
    certificate: Fingerprint,
    subject: &'a DistinguishedName,
}

impl<'a> From<&'a PeerCertificate> for Peer<'a> {
    fn from(peer: &'a PeerCertificate) -> Self {
        Self { certificate: Fingerprint::from(*peer.sha256()), subject: peer.subject_name() }
    }
}

impl ForwarderName {
    /// Returns whether a proxy with this certificate has this name. Does not check whether the certificate is valid.
    pub fn names(&self, certificate: &PeerCertificate) -> bool {
        self.is_of(Peer::from(certificate))
    }

    fn is_of(&self, peer: Peer<'_>) -> bool {
        match self {
            Self::Certificate(certificate) => *certificate == peer.certificate,
            // Many certificates can have an empty subject, so it names no proxy.
            Self::Subject(subject) => !subject.is_empty() && subject == peer.subject,
        }
    }
}

impl Names {
    fn is_of(&self, peer: Peer<'_>) -> bool {
        self.certificates.contains(&peer.certificate)
            || (!self.subjects.is_empty() && self.subjects.contains(peer.subject))
    }

    fn has(&self, name: &ForwarderName) -> bool {
        match name {
            ForwarderName::Certificate(certificate) => self.certificates.contains(certificate),
            ForwarderName::Subject(subject) => self.subjects.contains(subject),
        }
    }

    fn iter(&self) -> impl Iterator<Item = ForwarderName> {
        let certificates = self.certificates.iter().copied().map(ForwarderName::Certificate);
        certificates.chain(self.subjects.iter().cloned().map(ForwarderName::Subject))
    }

    fn len(&self) -> usize {
        self.certificates.len() + self.subjects.len()
    }
}

impl FromIterator<ForwarderName> for Names {
    fn from_iter<I: IntoIterator<Item = ForwarderName>>(names: I) -> Self {
        let mut all = Self::default();
        for name in names {
            match name {
                ForwarderName::Certificate(certificate) => {
                    all.certificates.insert(certificate);
                }
                ForwarderName::Subject(subject) if subject.is_empty() => {}
                ForwarderName::Subject(subject) => {
                    all.subjects.insert(subject);
                }
            }
        }
        all
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completeness {
    /// All forwarders are in the list.
    Complete,
    /// There can be forwarders that are not in the list.
    Incomplete,
}

/// The role of a peer, by its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The peer is a trusted forwarder.
    Forwarder,
    /// The peer was a forwarder earlier, or can be a forwarder now. So its requests can come from its clients. Neither
    /// its own certificate nor a certificate in `Client-Cert` is a credential.
    Uncertain,
    /// The peer acts for itself.
    Client,
}

impl Lists {
    fn new(trusted: Names, completeness: Completeness) -> Self {
        Self { trusted, completeness, withdrawn: VecDeque::new() }
    }

    fn updated(&self, trusted: &Names, completeness: Completeness) -> Self {
        let earlier = self
            .withdrawn
            .iter()
            .cloned()
            .chain(self.trusted.iter().filter(|name| !self.withdrawn.contains(name)));
        let mut withdrawn: VecDeque<_> = earlier.filter(|it| !trusted.has(it)).collect();
        withdrawn.drain(..withdrawn.len().saturating_sub(WITHDRAWN));
        Self { trusted: trusted.clone(), completeness, withdrawn }
    }

    fn role(&self, peer: Peer<'_>) -> Role {
        match self.completeness {
            _ if self.trusted.is_of(peer) => Role::Forwarder,
            Completeness::Incomplete => Role::Uncertain,
            Completeness::Complete if self.was_trusted(peer) => Role::Uncertain,
            Completeness::Complete => Role::Client,
        }
    }

    fn was_trusted(&self, peer: Peer<'_>) -> bool {
        self.withdrawn.iter().any(|name| name.is_of(peer))
    }
}

impl TrustedForwarders {
    /// Trusts the proxies with these certificates. The list is complete: there are no other forwarders.
    pub fn new(certificates: impl IntoIterator<Item = Fingerprint>) -> Self {
        Self::named(certificates.into_iter().map(ForwarderName::Certificate))
    }

    /// Trusts the proxies with these names. The list is complete: there are no other forwarders.
    pub fn named(names: impl IntoIterator<Item = ForwarderName>) -> Self {
        Self::with(names.into_iter().collect(), Completeness::Complete)
    }

    /// Trusts the proxies with these certificates. The list is incomplete: there can be other forwarders. Until
    /// [`replace`](Self::replace) or [`replace_named`](Self::replace_named) is called, no certificate of a TLS
    /// connection is a credential.
    pub fn incomplete(certificates: impl IntoIterator<Item = Fingerprint>) -> Self {
        let names = certificates.into_iter().map(ForwarderName::Certificate);
        Self::with(names.collect(), Completeness::Incomplete)
    }

    /// Trusts the proxies with these certificates from now on, and no others. The list is complete.
    pub fn replace(&self, certificates: impl IntoIterator<Item = Fingerprint>) {
        self.replace_named(certificates.into_iter().map(ForwarderName::Certificate));
    }

    /// Trusts the proxies with these names from now on, and no others. The list is complete.
    pub fn replace_named(&self, names: impl IntoIterator<Item = ForwarderName>) {
        self.update(&names.into_iter().collect(), Completeness::Complete);
    }

    /// Trusts the proxies with these certificates from now on, and no others. The list is
    /// [incomplete](Self::incomplete).
    pub fn replace_incomplete(&self, certificates: impl IntoIterator<Item = Fingerprint>) {
        let names = certificates.into_iter().map(ForwarderName::Certificate);
        self.update(&names.collect(), Completeness::Incomplete);
    }

    fn with(names: Names, completeness: Completeness) -> Self {
        Self(Arc::new(Shared {
            lists: ArcSwap::from_pointee(Lists::new(names, completeness)),
            suspected: Cache::new(SUSPECTED),
        }))
    }

    fn update(&self, names: &Names, completeness: Completeness) {
        self.0.lists.rcu(|lists| lists.updated(names, completeness));
    }

    fn role<'a>(&self, peer: impl Into<Peer<'a>>, now: impl FnOnce() -> Instant) -> Role {
        let peer = peer.into();
        let role = self.0.lists.load().role(peer);
        if role == Role::Client
            && let Some(since) = self.0.suspected.get(&peer.certificate)
            && now().saturating_duration_since(since) < SUSPECT_FOR
        {
            return Role::Uncertain;
        }
        role
    }

    /// Returns whether the certificate belongs to a trusted or former forwarder.
    fn is_of_forwarder<'a>(&self, certificate: impl Into<Peer<'a>>) -> bool {
        let (lists, peer) = (self.0.lists.load(), certificate.into());
        lists.trusted.is_of(peer) || lists.was_trusted(peer)
    }

    /// Adds `peer` to `suspected`.
    fn suspect(&self, peer: Fingerprint, now: Instant) {
        self.0.suspected.insert(peer, now);
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
            // `from_der` makes the error for a document without a certificate.
            true => PeerCertificate::from_der(Vec::new()).map(|_| Vec::new()),
            false => Ok(found),
        }
    }
}

impl fmt::Debug for TrustedForwarders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = self.0.lists.load();
        f.debug_struct("TrustedForwarders")
            .field("trusted", &lists.trusted.len())
            .field("completeness", &lists.completeness)
            .field("withdrawn", &lists.withdrawn.len())
            .finish_non_exhaustive()
    }
}

/// Verifies a client certificate that no TLS handshake has verified.
#[cfg_attr(
    feature = "tls",
    doc = "[`ClientCertificates`](crate::tls::ClientCertificates) implements it."
)]
pub trait VerifyClientCertificate: Send + Sync + 'static {
    /// Checks that the certificate `leaf` is valid now for a TLS client, and that a chain leads from it to a trusted CA
    /// (certificate authority). `intermediates` are the CA certificates between `leaf` and the trusted CA. All
    /// certificates are in DER.
    ///
    /// # Errors
    /// Why the certificate is not accepted, for the log.
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
    /// Creates a layer that accepts a certificate if one of `forwarders` has sent it and `verifier` accepts it.
    pub fn new(forwarders: TrustedForwarders, verifier: impl VerifyClientCertificate) -> Self {
        let shared = Arc::new(Inner {
            forwarders,
            verifier: Arc::new(verifier),
            verified: Cache::new(REMEMBERED),
        });
        let (unlisted, invalid) = (UnlistedPeers::default(), InvalidCertificates::default());
        let clock = Arc::new(SystemClock);
        Self { check: ForwardedCertificate { shared, unlisted, invalid, clock } }
    }

    /// Sets whether a peer that sends `Client-Cert` and is not in the list can be a forwarder.
    #[must_use]
    pub fn with_unlisted_peers(self, unlisted: UnlistedPeers) -> Self {
        Self { check: ForwardedCertificate { unlisted, ..self.check } }
    }

    /// Uses `clock` to check whether the certificate of a forwarder has expired.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { check: ForwardedCertificate { clock, ..self.check } }
    }

    /// Sets what the layer does if a trusted forwarder sends a `Client-Cert` that is malformed or not valid.
    #[must_use]
    pub fn with_invalid_certificates(self, invalid: InvalidCertificates) -> Self {
        Self { check: ForwardedCertificate { invalid, ..self.check } }
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
pub struct ForwardedCertificate {
    shared: Arc<Inner>,
    unlisted: UnlistedPeers,
    invalid: InvalidCertificates,
    clock: Arc<dyn Clock>,
}

struct Inner {
    forwarders: TrustedForwarders,
    verifier: Arc<dyn VerifyClientCertificate>,
    /// The key is the hash of the forwarded certificates.
    verified: Cache<[u8; 32], (PeerCertificate, Instant)>,
}

impl Check for ForwardedCertificate {
    fn check<B>(&mut self, request: &mut Request<B>) -> Result<(), Rejection> {
        let is_forwarded = client_cert::is_forwarded(request.headers());
        if let Some(peer) = request.extensions().get::<PeerCertificate>() {
            let forwarders = &self.shared.forwarders;
            let has_expired = || peer.not_after() < self.clock.now();
            let role = forwarders.role(peer, Instant::now);
            match role {
                // The certificate can have expired since the TLS handshake.
                Role::Forwarder if !has_expired() => return self.forwarded(request),
                Role::Client if self.unlisted == UnlistedPeers::ActForThemselves => {
                    let unlisted = UnlistedPeer::new(peer.clone());
                    request.extensions_mut().insert(unlisted);
                    if !is_forwarded {
                        return Ok(());
                    }
                }
                Role::Client if !is_forwarded => return Ok(()),
                Role::Client => {
                    forwarders.suspect(Fingerprint::from(*peer.sha256()), Instant::now());
                }
                Role::Forwarder | Role::Uncertain => {}
            }
            if let Some(peer) = request.extensions_mut().remove::<PeerCertificate>() {
                let (sha256, peer) = (Fingerprint::from(*peer.sha256()), peer.subject());
                log_limited!(
                    warn, ("certificate of a forwarder", peer), { peer, %sha256, is_forwarded, ?role },
                    "a client certificate is not accepted, because the peer may be a forwarder that is not trusted, or \
                     its certificate has expired"
                );
            }
        }
        if is_forwarded {
            client_cert::remove(request.headers_mut());
        }
        Ok(())
    }
}

impl ForwardedCertificate {
    /// Replaces the certificate of the forwarder by the certificate of its client.
    fn forwarded<B>(&self, request: &mut Request<B>) -> Result<(), Rejection> {
        let forwarder = request.extensions_mut().remove::<PeerCertificate>();
        let chain = ForwardedChain::of(request.headers());
        client_cert::remove(request.headers_mut());
        let certificate = chain.map_err(|what| (what.to_owned(), what)).and_then(|chain| {
            let Some(chain) = chain else { return Ok(None) };
            let certificate = self.verified(&chain, Instant::now());
            let invalid = "the certificate in its Client-Cert header is not valid";
            certificate.map(Some).map_err(|reason| (reason, invalid))
        });
        let certificate = match certificate {
            Ok(certificate) => certificate,
            Err((reason, what)) => {
                refuse(forwarder.as_ref(), &reason);
                if self.invalid == InvalidCertificates::Refused {
                    return Err(Rejection::Malformed(what));
                }
                None
            }
        };
        if let Some(forwarder) = forwarder {
            request.extensions_mut().insert(Forwarder::new(forwarder));
        }
        // A client of the forwarder can present the certificate of another forwarder. It is never a credential.
        let is_of_client =
            |certificate: &PeerCertificate| !self.shared.forwarders.is_of_forwarder(certificate);
        if let Some(certificate) = certificate.filter(is_of_client) {
            request.extensions_mut().insert(certificate);
        }
        Ok(())
    }

    fn verified(&self, chain: &ForwardedChain, now: Instant) -> Result<PeerCertificate, String> {
        let mut hash = Sha256::new();
        for der in std::iter::once(&chain.leaf).chain(&chain.intermediates) {
            hash.update(u64::try_from(der.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(der);
        }
        let key = hash.finalize().into();
        if let Some((certificate, since)) = self.shared.verified.get(&key)
            && now.saturating_duration_since(since) < REMEMBER_FOR
        {
            return Ok(certificate);
        }
        let certificate =
            PeerCertificate::from_der(chain.leaf.clone()).map_err(|error| error.to_string())?;
        self.shared.verifier.verify(&chain.leaf, &chain.intermediates)?;
        self.shared.verified.insert(key, (certificate.clone(), now));
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
            .field("forwarders", &self.shared.forwarders)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use base64::{Engine, prelude::BASE64_STANDARD};
    use test_support::pki;

    use super::*;
    use crate::clock::ManualClock;

    /// Refuses only the certificate of `APIMTST`, and counts the checks.
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
        check.clone().check(&mut request)?;
        assert!(request.headers().is_empty(), "{:?}", request.headers());
        let seen = request.extensions().get::<PeerCertificate>();
        Ok(seen.and_then(PeerCertificate::common_name).map(str::to_owned))
    }

    #[test]
    fn only_certificates_from_a_trusted_forwarder_are_accepted_and_its_own_is_no_credential() {
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
        assert_eq!(seen(check, Some(pki::APIMTST), &[]), other());
        for _ in 0..2 {
            for (peer, headers, want) in [
                (Some(server), vec![zowe()], user()),
                (Some(server), vec![rfc()], user()),
                (Some(server), vec![rfc(), chain()], user()),
                (Some(server), vec![], Ok(None)),
                (Some(server), vec![chain()], Ok(None)),
                // A client presents the certificate of the forwarder.
                (Some(server), vec![("client-cert", text(server))], Ok(None)),
                (Some(pki::APIMTST), vec![zowe()], Ok(None)),
                (Some(pki::APIMTST), vec![rfc(), chain()], Ok(None)),
                // This peer has sent the header before, so it can be a forwarder.
                (Some(pki::APIMTST), vec![], Ok(None)),
                (Some(pki::USER), vec![], user()),
                (None, vec![zowe(), zowe()], Ok(None)),
                (None, vec![], Ok(None)),
            ] {
                assert_eq!(seen(check, peer, &headers), want, "{peer:?} {headers:?}");
            }
        }
        // The cache has prevented further checks.
        assert_eq!(verifier.0.load(SeqCst), 3);
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
        // A former forwarder is neither a user nor a forwarder.
        forwarders.replace([]);
        assert_eq!(seen(check, Some(server), &[]), Ok(None));
        assert_eq!(seen(check, Some(server), &[zowe()]), Ok(None));
        assert_eq!(seen(check, Some(pki::USER), &[]), user());
        assert!(TrustedForwarders::fingerprints(b"").is_err());
        assert!(TrustedForwarders::fingerprints(b"no PEM").is_err());
    }

    #[test]
    fn forwarders_can_be_named_by_subject_and_other_peers_act_for_themselves() {
        let subject = certificate(pki::SERVER).subject_name().clone();
        let name = ForwarderName::Subject(subject);
        let forwarders = TrustedForwarders::named([name.clone()]);
        let layer = ForwardedCertificateLayer::new(forwarders.clone(), Verifier::default())
            .with_unlisted_peers(UnlistedPeers::ActForThemselves)
            .with_invalid_certificates(InvalidCertificates::Ignored);
        let check = &layer.check;
        let of = |identity| vec![("client-cert", text(identity))];
        let seen = |peer, headers: &[_]| seen(check, peer, headers).unwrap();
        let user = Some("USER".to_owned());
        for _ in 0..2 {
            for (peer, headers, want) in [
                (Some(pki::SERVER), of(pki::USER), user.clone()),
                (Some(pki::SERVER), vec![], None),
                (Some(pki::SERVER), of(pki::SERVER), None),
                // The verifier refuses this certificate.
                (Some(pki::SERVER), of(pki::APIMTST), None),
                (Some(pki::SERVER), vec![("client-cert", "x y".to_owned())], None),
                (Some(pki::SERVER), [of(pki::USER), of(pki::USER)].concat(), None),
                // The certificate of this peer is no credential in the request with the header. In the next request,
                // without the header, it is a credential.
                (Some(pki::USER), of(pki::APIMTST), None),
                (Some(pki::USER), vec![], user.clone()),
                (None, of(pki::USER), None),
            ] {
                assert_eq!(seen(peer, &headers), want, "{peer:?} {headers:?}");
            }
        }
        // A former forwarder is neither a user nor a forwarder, until it is in the list again.
        for other in [
            vec![],
            vec![ForwarderName::Subject(DistinguishedName::default())],
            vec![ForwarderName::Subject("CN=localhost,O=Other".parse().unwrap())],
        ] {
            forwarders.replace_named(other);
            assert_eq!(seen(Some(pki::SERVER), &of(pki::USER)), None);
            assert_eq!(seen(Some(pki::SERVER), &[]), None);
        }
        forwarders.replace_named([name]);
        assert_eq!(seen(Some(pki::SERVER), &of(pki::USER)), user);
    }

    #[test]
    fn a_name_is_the_fingerprint_or_the_subject_of_a_certificate() {
        let [server, user] = [pki::SERVER, pki::USER].map(certificate);
        for (name, want) in [
            (ForwarderName::Certificate(Fingerprint::from(*server.sha256())), true),
            (ForwarderName::Certificate(Fingerprint::from(*user.sha256())), false),
            (ForwarderName::Subject(server.subject_name().clone()), true),
            (ForwarderName::Subject(user.subject_name().clone()), false),
            (ForwarderName::Subject(DistinguishedName::default()), false),
        ] {
            assert_eq!(name.names(&server), want, "{name:?}");
        }
        let empty = DistinguishedName::default();
        let peer = Peer { certificate: Fingerprint::from(*user.sha256()), subject: &empty };
        assert!(!ForwarderName::Subject(empty.clone()).is_of(peer));
    }

    #[test]
    fn a_forwarder_with_an_expired_certificate_is_not_trusted() {
        let end = certificate(pki::SERVER).not_after();
        let name = ForwarderName::Subject(certificate(pki::SERVER).subject_name().clone());
        let at = |now| {
            let forwarders = TrustedForwarders::named([name.clone()]);
            let layer = ForwardedCertificateLayer::new(forwarders, Verifier::default());
            let check = layer.with_clock(Arc::new(ManualClock::new(now))).check;
            let headers = [("client-cert", text(pki::USER))];
            [&headers[..], &[]].map(|headers| seen(&check, Some(pki::SERVER), headers).unwrap())
        };
        assert_eq!(at(end), [Some("USER".to_owned()), None]);
        assert_eq!(at(end.plus(Duration::from_secs(1))), [None, None]);
    }

    #[test]
    fn the_role_of_a_peer_depends_on_all_lists() {
        let peer = |n: usize| {
            Fingerprint::from({
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&n.to_be_bytes());
                bytes
            })
        };
        let now = Instant::now();
        let nobody = DistinguishedName::default();
        let of = |n| Peer { certificate: peer(n), subject: &nobody };
        let role = |forwarders: &TrustedForwarders, n| forwarders.role(of(n), || now);
        let forwarders = TrustedForwarders::incomplete([peer(1)]);
        assert_eq!([1, 2].map(|n| role(&forwarders, n)), [Role::Forwarder, Role::Uncertain]);
        forwarders.replace_incomplete([peer(2)]);
        assert_eq!([1, 2].map(|n| role(&forwarders, n)), [Role::Uncertain, Role::Forwarder]);
        forwarders.replace([peer(2)]);
        let roles = [1, 2, 3].map(|n| role(&forwarders, n));
        assert_eq!(roles, [Role::Uncertain, Role::Forwarder, Role::Client]);
        forwarders.replace([peer(1)]);
        assert_eq!([1, 2].map(|n| role(&forwarders, n)), [Role::Forwarder, Role::Uncertain]);

        // After an hour, a suspected peer is a client again. When it is in the list, it is a forwarder.
        forwarders.suspect(peer(3), now);
        assert_eq!(role(&forwarders, 3), Role::Uncertain);
        assert_eq!(forwarders.role(of(3), || now + SUSPECT_FOR), Role::Client);
        forwarders.replace([peer(3)]);
        assert_eq!(role(&forwarders, 3), Role::Forwarder);

        forwarders.replace((10..10 + 2 * WITHDRAWN).map(peer));
        forwarders.replace([]);
        assert_eq!(forwarders.0.lists.load().withdrawn.len(), WITHDRAWN);
    }
}
