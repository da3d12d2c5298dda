//! Verifies client certificates outside of a TLS handshake.

use std::{fmt, sync::Arc};

use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, UnixTime},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{
    error::TlsError,
    pem::{revocation_lists, roots},
};
use crate::layer::VerifyClientCertificate;

/// Verifies client certificates that a [trusted forwarder](crate::layer::TrustedForwarders) sends. As in a TLS
/// handshake, it checks the signatures up to a trusted CA (certificate authority), the dates, and the purpose (client
/// authentication). It cannot check whether the client has the private key. The forwarder has checked this in its
/// handshake with the client.
#[derive(Clone)]
pub struct ClientCertificates(Arc<dyn ClientCertVerifier>);

impl ClientCertificates {
    /// Accepts certificates that the CAs in a PEM document have issued.
    ///
    /// # Errors
    /// [`TlsError::Authorities`] if the document cannot be used.
    pub fn new(authorities: &[u8]) -> Result<Self, TlsError> {
        Self::with(authorities, None)
    }

    /// Like [`new`](Self::new), but also checks the certificate revocation lists (CRLs) in the PEM document `lists`.
    /// The rules are those of
    /// [`ServerTlsBuilder::with_revocation_lists`](super::ServerTlsBuilder::with_revocation_lists): a certificate is
    /// refused if its issuer has no list, or only an expired one.
    ///
    /// # Errors
    /// [`TlsError::Authorities`] or [`TlsError::RevocationLists`] if a document cannot be used.
    pub fn with_revocation_lists(authorities: &[u8], lists: &[u8]) -> Result<Self, TlsError> {
        Self::with(authorities, Some(lists))
    }

    fn with(authorities: &[u8], lists: Option<&[u8]>) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        client_verifier(authorities, lists, provider).map(Self)
    }
}

/// Returns a verifier for TLS handshakes and for [`ClientCertificates`]. It also accepts clients without a certificate.
pub(super) fn client_verifier(
    authorities: &[u8],
    lists: Option<&[u8]>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = roots(authorities).ok_or(TlsError::Authorities)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated();
    let Some(lists) = lists else { return builder.build().map_err(|_| TlsError::Authorities) };
    let lists = revocation_lists(lists).ok_or(TlsError::RevocationLists)?;
    builder.with_crls(lists).enforce_revocation_expiration().build().map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(_) => TlsError::RevocationLists,
        _ => TlsError::Authorities,
    })
}

impl VerifyClientCertificate for ClientCertificates {
    fn verify(&self, leaf: &[u8], intermediates: &[Vec<u8>]) -> Result<(), String> {
        let leaf = CertificateDer::from(leaf);
        let intermediates: Vec<_> =
            intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let verified = self.0.verify_client_cert(&leaf, &intermediates, UnixTime::now());
        verified.map(drop).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificates(..)")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
        KeyPair, date_time_ymd,
    };
    use test_support::pki::{Authority, USER};

    use super::*;

    #[test]
    fn certificates_are_verified_as_in_a_handshake() {
        let verifier = ClientCertificates::new(Authority::trusted().pem().as_bytes()).unwrap();
        let verify = |der: &[u8]| verifier.verify(der, &[]);
        assert_eq!(verify(&USER.certificate_der()), Ok(()));
        let stranger = ClientCertificates::new(Authority::stranger().pem().as_bytes()).unwrap();
        let namesake = ClientCertificates::new(Authority::namesake().pem().as_bytes()).unwrap();
        for other in [&stranger, &namesake] {
            assert!(other.verify(&USER.certificate_der(), &[]).is_err());
        }
        assert!(verify(b"no certificate").is_err() && verify(&[]).is_err());
        let mut changed = USER.certificate_der().to_vec();
        *changed.last_mut().unwrap() ^= 1;
        assert!(verify(&changed).is_err());
    }

    #[test]
    fn revocation_lists_are_checked_as_in_a_handshake() {
        let authority = Authority::trusted();
        let key = USER.key_pair();
        let [good, revoked] = [7_u64, 8].map(|serial| {
            let pem = authority.certify(&key, |params| params.serial_number = Some(serial.into()));
            pem::parse(pem).unwrap().into_contents()
        });
        let current = authority.revoke(&[8], |_| {});
        let expired = authority.revoke(&[8], |list| list.next_update = date_time_ymd(2020, 1, 1));
        let of_another = Authority::stranger().revoke(&[8], |_| {});
        for (case, lists, want) in [
            ("current", &current, [true, false]),
            ("expired", &expired, [false, false]),
            ("no list of the issuer", &of_another, [false, false]),
        ] {
            let verifier = ClientCertificates::with_revocation_lists(
                authority.pem().as_bytes(),
                lists.as_bytes(),
            )
            .unwrap();
            let got = [&good, &revoked].map(|der| verifier.verify(der, &[]).is_ok());
            assert_eq!(got, want, "{case}");
        }
        let none = ClientCertificates::with_revocation_lists(authority.pem().as_bytes(), b"");
        assert!(matches!(none, Err(TlsError::RevocationLists)));
    }

    #[test]
    fn dates_purpose_and_chain_are_checked() {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "root");
        let root = ca.self_signed(&ca_key).unwrap();
        let root_issuer = Issuer::from_params(&ca, &ca_key);
        let middle_key = KeyPair::generate().unwrap();
        let mut middle = CertificateParams::default();
        middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        middle.distinguished_name.push(DnType::CommonName, "middle");
        let middle_certificate = middle.signed_by(&middle_key, &root_issuer).unwrap();
        let middle_issuer = Issuer::from_params(&middle, &middle_key);
        let verifier = ClientCertificates::new(root.pem().as_bytes()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = |edit: fn(&mut CertificateParams)| {
            let mut params = CertificateParams::default();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            edit(&mut params);
            params
        };
        for (case, params, is_good) in [
            ("valid", params(|_| ()), true),
            ("any purpose", params(|p| p.extended_key_usages.clear()), true),
            (
                "for servers",
                params(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
                false,
            ),
            ("expired", params(|p| p.not_after = date_time_ymd(2020, 1, 1)), false),
            ("not yet valid", params(|p| p.not_before = date_time_ymd(2999, 1, 1)), false),
        ] {
            let leaf = params.signed_by(&key, &root_issuer).unwrap();
            assert_eq!(verifier.verify(leaf.der(), &[]).is_ok(), is_good, "{case}");
            let leaf = params.signed_by(&key, &middle_issuer).unwrap();
            assert!(verifier.verify(leaf.der(), &[]).is_err(), "{case}");
            let chain = [middle_certificate.der().to_vec()];
            assert_eq!(verifier.verify(leaf.der(), &chain).is_ok(), is_good, "{case}");
        }
    }
}
