//! Keys and certificates. The private keys are public, so **never trust these keys outside of tests.**
//!
//! The files in `pki/` are committed, because it takes a long time to generate an RSA key. The certificates are valid
//! until
//! 2126. `cargo run -p test-support --example make-pki` replaces these files.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An RSA key of 2048 bits that signs tokens.
pub const SIGNING_KEY: &str = include_str!("../pki/signing.key");

/// Another RSA key of 2048 bits. A verifier that trusts only [`SIGNING_KEY`] refuses tokens of this key.
pub const OTHER_SIGNING_KEY: &str = include_str!("../pki/other-signing.key");

/// The certificate of a server at `localhost`, signed by [`Authority::trusted`].
pub const SERVER: Identity = Identity {
    certificate: include_str!("../pki/server.pem"),
    key: include_str!("../pki/server.key"),
};

/// The certificate of the user `USER`, signed by [`Authority::trusted`].
pub const USER: Identity =
    Identity { certificate: include_str!("../pki/user.pem"), key: include_str!("../pki/user.key") };

/// The certificate of the user `APIMTST`, signed by [`Authority::trusted`].
pub const APIMTST: Identity = Identity {
    certificate: include_str!("../pki/apimtst.pem"),
    key: include_str!("../pki/apimtst.key"),
};

/// A certificate and its private key, both in PEM format.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: &'static str,
    /// The private key.
    pub key: &'static str,
}

impl Identity {
    /// Returns the private key for the crate rcgen, which makes certificates.
    pub fn key_pair(&self) -> KeyPair {
        KeyPair::from_pem(self.key).unwrap()
    }

    /// Returns the certificate for the crate rustls.
    pub fn certificate_der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    /// Returns the private key for the crate rustls.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// Returns a TLS acceptor that presents this certificate, and asks clients for theirs.
    pub fn acceptor_of_clients(&self, clients: Clients) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(Authority::trusted().roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let verifier = match clients {
            Clients::MayHaveCertificate => verifier.allow_unauthenticated(),
            Clients::MustHaveCertificate => verifier,
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![self.certificate_der()], self.private_key())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Returns a TLS acceptor that presents this certificate. It does not ask clients for a certificate.
    pub fn acceptor(&self) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate_der()], self.private_key())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// The clients that an acceptor serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Clients with a certificate of [`Authority::trusted`], and clients without a certificate.
    MayHaveCertificate,
    /// Only clients with a certificate of [`Authority::trusted`].
    MustHaveCertificate,
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    certificate: &'static str,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Returns the authority that signed [`SERVER`], [`USER`] and [`APIMTST`].
    pub fn trusted() -> Self {
        let (certificate, key) = (include_str!("../pki/ca.pem"), include_str!("../pki/ca.key"));
        Self::new("CA", certificate, key)
    }

    /// Returns an authority with the same name as [`Self::trusted`], but with another key.
    pub fn namesake() -> Self {
        let certificate = include_str!("../pki/namesake.pem");
        Self::new("CA", certificate, include_str!("../pki/namesake.key"))
    }

    /// Returns an authority whose name and key both differ from those of [`Self::trusted`].
    pub fn stranger() -> Self {
        let certificate = include_str!("../pki/stranger.pem");
        Self::new("another", certificate, include_str!("../pki/stranger.key"))
    }

    fn new(name: &str, certificate: &'static str, key: &str) -> Self {
        let issuer = Issuer::new(authority_params(name), KeyPair::from_pem(key).unwrap());
        Self { certificate, issuer }
    }

    /// Returns the certificate of the authority, in PEM format.
    pub fn pem(&self) -> &'static str {
        self.certificate
    }

    /// Returns the root certificates of a peer that trusts only this authority.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        roots
    }

    /// Returns a TLS connector that trusts only servers with a certificate of this authority. It offers the protocols
    /// in `alpn`.
    pub fn connector(&self, alpn: &[&[u8]]) -> TlsConnector {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// Issues a certificate for `key`, and returns it in PEM format. By default, the certificate is for `localhost` and
    /// has the common name `USER`. `change` can change these parameters.
    pub fn certify(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = leaf_params("USER");
        change(&mut params);
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    /// Issues a certificate revocation list with these serial numbers, and returns it in PEM format. By default, the
    /// list is current. `change` can change its parameters.
    pub fn revoke(
        &self,
        serials: &[u64],
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> String {
        let mut params = revocation_list_params();
        params.revoked_certs = serials
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: date_time_ymd(2001, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        change(&mut params);
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn revocation_list_params() -> CertificateRevocationListParams {
    CertificateRevocationListParams {
        this_update: date_time_ymd(2000, 1, 1),
        next_update: date_time_ymd(2126, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

/// Returns a self-signed certificate in DER format. Its subject is empty, unless `change` sets the subject.
pub fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    params.self_signed(&USER.key_pair()).unwrap().der().to_vec()
}

/// Returns a self-signed certificate in DER format. Its subject has only this common name.
pub fn self_signed_with_name(common_name: &str) -> Vec<u8> {
    self_signed(|params| params.distinguished_name.push(DnType::CommonName, common_name))
}

/// Returns the parameters for the certificate of an authority.
pub fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2126, 1, 1));
    params
}

/// Returns the parameters for the certificate of a server at `localhost`, or of a user.
pub fn leaf_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.distinguished_name = subject(common_name);
    (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2126, 1, 1));
    params
}

fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_belongs_to_its_key() {
        for identity in [SERVER, USER, APIMTST] {
            // `acceptor` panics if the key does not match the certificate.
            identity.acceptor();
        }
        for authority in [Authority::trusted(), Authority::namesake(), Authority::stranger()] {
            let certificate = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
            let key = authority.issuer.key().public_key_raw();
            assert!(certificate.windows(key.len()).any(|part| part == key));
        }
    }
}
