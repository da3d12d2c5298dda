//! Reads the certificate of the gateway, its private key, the certificate authorities (CAs) that the gateway trusts,
//! and the revocation lists. The certificates and the key are in PEM files, or in the key store and the trust store of
//! Zowe.

use std::{fmt, path::Path};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use super::{
    key_material::{AuthoritiesSource, IdentitySource, Store},
    key_store_file::{self, Purpose},
    passwords::{PasswordSetting, Passwords},
    pem::{self, Wanted},
    pkcs12::KeyEntry,
    private_key_file,
    reader::Field,
    revocation_lists,
    secret_file::{
        SecretFileError, public_file_warning, read_authorization_file, read_public_file,
    },
    validity,
};
use tower_passticket::clock::Timestamp;

/// The PEM texts for the TLS listener, and for TLS connections to services.
///
/// [`certificate`](Self::certificate), [`authorities`](Self::authorities) and
/// [`service_authorities`](Self::service_authorities) each contain at least one certificate. The key belongs to the
/// first certificate in `certificate`. `Debug` shows no content.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the gateway, followed by its intermediate certificates.
    pub certificate: Vec<u8>,
    /// The private key of the gateway's certificate.
    pub key: Zeroizing<Vec<u8>>,
    /// The certificates of the CAs that the gateway trusts for clients.
    pub authorities: Vec<u8>,
    /// The certificates of the CAs that the gateway trusts for services and other servers. If
    /// `components.passticket-proxy.serviceAuthorities` is absent, they are the same as
    /// [`authorities`](Self::authorities).
    pub service_authorities: Vec<u8>,
    /// The certificate revocation lists for client certificates: `components.passticket-proxy.crls`.
    pub revocation_lists: Option<Vec<u8>>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles").finish_non_exhaustive()
    }
}

/// The certificate of the gateway and its key, as PEM texts, and the settings that name their files.
struct Identity<'a> {
    certificate: Vec<u8>,
    chain: Chain,
    key: Zeroizing<Vec<u8>>,
    certificate_field: &'a Field<'a>,
    key_field: &'a Field<'a>,
}

/// The settings of `components.passticket-proxy` that concern certificates.
pub(super) struct OwnKeys<'a> {
    pub(super) passwords: Passwords,
    /// `serviceAuthorities`.
    pub(super) service_authorities: Option<Field<'a>>,
    /// `crls`.
    pub(super) revocation_lists: Option<Field<'a>>,
}

/// How the program uses the certificates of clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientCertificateUse {
    /// Whether a certificate is a credential of its user.
    pub(super) is_credential: bool,
    /// Whether at least one listener asks clients for a certificate and verifies it.
    pub(super) is_verified: bool,
}

/// Reads the files. Certificates that have expired or will expire soon at the time `now` cause a warning.
pub(super) fn read(
    identity: &IdentitySource<'_>,
    authorities: &AuthoritiesSource<'_>,
    ours: &OwnKeys<'_>,
    certificates: ClientCertificateUse,
    now: Timestamp,
) -> Option<TlsFiles> {
    // All files are read before the function returns, so that the errors of all files are reported.
    let identity = match identity {
        IdentitySource::Pem { certificate, key } => {
            identity_in_pem(certificate.as_ref(), key.as_ref(), &ours.passwords)
        }
        IdentitySource::KeyStore { store, alias } => {
            identity_in_store(store, alias.as_ref(), &ours.passwords)
        }
    };
    let clients = match authorities {
        AuthoritiesSource::Pem(field) => field.as_ref().and_then(concatenate),
        AuthoritiesSource::TrustStore(store) => authorities_in_store(store, &ours.passwords),
    };
    let services = ours.service_authorities.as_ref().map(concatenate);
    if let Some(identity) = &identity {
        validity::check(&identity.certificate_field.at, &identity.certificate, now);
    }
    if let (Some(field), Some(clients)) = (authorities.field(), &clients) {
        validity::check(&field.at, clients, now);
        if certificates.is_credential && services.is_none() {
            field.at.warning(
                "has the certificate authorities (CAs) of clients and of services in one list, so a CA of services can \
                 issue a client certificate for any user; add the CAs of services to \
                 components.passticket-proxy.serviceAuthorities",
            );
        }
    }
    if let (Some(field), Some(Some(services))) = (&ours.service_authorities, &services) {
        validity::check(&field.at, services, now);
    }
    let lists = match (&ours.revocation_lists, &clients) {
        (Some(field), Some(clients)) => Some(revocation_lists::read(field, clients, now)),
        _ => None,
    };
    if let (Some(field), false) = (&ours.revocation_lists, certificates.is_verified) {
        field.at.warning(
            "has no effect, because client certificates are off; set components.gateway.apiml.security.x509.enabled to \
             true",
        );
    }
    let identity = identity.filter(is_usable)?;
    let clients = clients?;
    Some(TlsFiles {
        certificate: identity.certificate,
        key: identity.key,
        service_authorities: match services {
            Some(services) => services?,
            None => clients.clone(),
        },
        authorities: clients,
        revocation_lists: match lists {
            Some(lists) => Some(lists?),
            None => None,
        },
    })
}

fn identity_in_pem<'a>(
    certificate: Option<&'a Field<'a>>,
    key: Option<&'a Field<'a>>,
    passwords: &Passwords,
) -> Option<Identity<'a>> {
    let chain = certificate
        .and_then(|field| Some((certificates(field, field.text()?, read_public_file)?, field)));
    let key = key.and_then(|field| Some((private_key(field, &passwords.key)?, field)));
    let (((certificate, chain), certificate_field), (key, key_field)) = (chain?, key?);
    Some(Identity { certificate, chain, key, certificate_field, key_field })
}

fn identity_in_store<'a>(
    store: &'a Store<'a>,
    alias: Option<&Field<'_>>,
    passwords: &Passwords,
) -> Option<Identity<'a>> {
    let alias = match alias {
        Some(field) => Some(field.text()?),
        None => None,
    };
    let file = &store.file;
    let (path, opened) = key_store_file::open(store, &passwords.keystore, Purpose::Key(alias))?;
    match opened.key(alias) {
        Ok(KeyEntry { key, chain }) => Some(Identity {
            chain: CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>().ok()?,
            certificate: chain,
            key,
            certificate_field: file,
            key_field: file,
        }),
        Err(error) => {
            key_store_file::report_entry(file, &path, &error);
            None
        }
    }
}

fn authorities_in_store(store: &Store<'_>, passwords: &Passwords) -> Option<Vec<u8>> {
    let (path, opened) = key_store_file::open(store, &passwords.truststore, Purpose::Authorities)?;
    match opened.trusted() {
        Ok(authorities) => Some(authorities),
        Err(error) => {
            key_store_file::report_entry(&store.file, &path, &error);
            None
        }
    }
}

/// Returns whether TLS can use the certificate with the key. Otherwise reports why not.
fn is_usable(identity: &Identity<'_>) -> bool {
    let Ok(key) = PrivateKeyDer::from_pem_slice(&identity.key) else { return false };
    let (field, text) = match CertifiedKey::from_der(
        identity.chain.clone(),
        key,
        &aws_lc_rs::default_provider(),
    ) {
        Ok(_) => return true,
        Err(rustls::Error::InconsistentKeys(_)) => (
            identity.key_field,
            "is not the private key of the certificate in zowe.certificate.pem.certificate; set it to the path of the \
             file with that private key",
        ),
        Err(rustls::Error::InvalidCertificate(_)) => (
            identity.certificate_field,
            "is not a certificate that TLS can use; set it to the path of a file with an X.509 certificate",
        ),
        Err(_) => (
            identity.key_field,
            "is not a key that TLS can use; set it to the path of a file with an RSA or ECDSA key",
        ),
    };
    field.at.error(text);
    false
}

pub(super) type Chain = Vec<CertificateDer<'static>>;

/// Reads the certificates in the file `path` with `read`.
pub(super) fn certificates(
    field: &Field<'_>,
    path: &str,
    read: impl Fn(&Path) -> Result<Vec<u8>, SecretFileError>,
) -> Option<(Vec<u8>, Chain)> {
    let path = field.path_of(path)?;
    let pem = match read(&path) {
        Ok(pem) => pem,
        Err(error) => {
            field.at.error(error);
            return None;
        }
    };
    if let Some(warning) = public_file_warning(&path) {
        field.at.warning(warning);
    }
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Chain, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    if chain.is_none() {
        let text = pem::explain(&pem, &path, Wanted::Certificates).unwrap_or_else(|| {
            "has no certificate in it; name a PEM file with a certificate (-----BEGIN CERTIFICATE-----)"
                .to_owned()
        });
        field.at.error(format_args!("{} {text}", path.display()));
    }
    Some((pem, chain?))
}

pub(super) fn private_key(
    field: &Field<'_>,
    password: &PasswordSetting,
) -> Option<Zeroizing<Vec<u8>>> {
    let (path, pem) = private_key_file::read(field, password)?;
    // `explain` is called even if the file can be parsed, because the parser wrongly accepts an encrypted key in
    // OpenSSL's older format.
    let text = pem::explain(&pem, &path, Wanted::PrivateKey);
    if text.is_some() || PrivateKeyDer::from_pem_slice(&pem).is_err() {
        let text = text.unwrap_or_else(|| {
            "has no private key in it; name a PEM file with a private key (-----BEGIN PRIVATE KEY-----)"
                .to_owned()
        });
        field.at.error(format_args!("{} {text}", path.display()));
        return None;
    }
    Some(pem)
}

/// Reads all PEM files that the setting names into one PEM text. Commas may separate several paths in one value.
pub(super) fn concatenate(field: &Field<'_>) -> Option<Vec<u8>> {
    let mut paths = Vec::new();
    for item in field.one_or_more() {
        let text = item.text()?;
        paths.extend(text.split(',').map(|path| (item.clone(), path.trim())));
    }
    paths.retain(|(_, path)| !path.is_empty());
    if paths.is_empty() {
        field.at.error("names no file; add the paths of PEM files with certificates");
        return None;
    }
    // All files are read, even after an error, so that the errors of all files are reported.
    let read: Vec<_> = paths
        .iter()
        .map(|(item, path)| {
            let warn = |text| item.at.warning(text);
            certificates(item, path, |path| read_authorization_file(path, warn))
        })
        .collect();
    let mut all = Vec::new();
    for (pem, _) in read.into_iter().collect::<Option<Vec<_>>>()? {
        all.extend_from_slice(&pem);
        // A line end is added, because the last line of a file may have no line end.
        all.push(b'\n');
    }
    Some(all)
}
