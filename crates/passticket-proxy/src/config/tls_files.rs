//! Reads the certificates and the private key from the PEM files that `zowe.certificate.pem` names.

use std::{fmt, path::Path};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use super::{
    pem::{self, Wanted},
    reader::Field,
    secret_file::{
        SecretFileError, public_file_warning, read_authorization_file, read_public_file,
    },
};

/// The PEM texts for the TLS listener, and for TLS connections to services.
///
/// [`certificate`](Self::certificate) and [`authorities`](Self::authorities) each contain at least one certificate.
/// [`key`](Self::key) is the private key of the first certificate in `certificate`. `Debug` shows no content.
#[derive(Clone)]
pub struct TlsFiles {
    /// The certificate of the gateway, followed by its intermediate certificates.
    pub certificate: Vec<u8>,
    /// The private key of the gateway's certificate.
    pub key: Zeroizing<Vec<u8>>,
    /// The certificates of the authorities (CAs) from which the gateway accepts certificates of clients and of
    /// services.
    pub authorities: Vec<u8>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles").finish_non_exhaustive()
    }
}

/// Reads the files. `authorities` is one path, several paths separated by commas, or a list of such texts.
pub(super) fn read(
    certificate: Option<&Field<'_>>,
    key: Option<&Field<'_>>,
    authorities: Option<&Field<'_>>,
) -> Option<TlsFiles> {
    let chain = certificate
        .and_then(|field| Some((certificates(field, field.text()?, read_public_file)?, field)));
    let key = key.and_then(|field| Some((private_key(field)?, field)));
    let authorities = authorities.and_then(concatenate);
    let (((certificate, chain), chain_field), (key, key_field)) = (chain?, key?);
    let der = PrivateKeyDer::from_pem_slice(&key).ok()?;
    match CertifiedKey::from_der(chain, der, &aws_lc_rs::default_provider()) {
        Ok(_) => Some(TlsFiles { certificate, key, authorities: authorities? }),
        Err(error) => {
            let (field, text) = match error {
                rustls::Error::InconsistentKeys(_) => (
                    key_field,
                    "is not the private key of the certificate in zowe.certificate.pem.certificate; \
                     set it to the path of the file with that private key",
                ),
                rustls::Error::InvalidCertificate(_) => (
                    chain_field,
                    "is not a certificate that TLS can use; write the path of a file with an X.509 \
                     certificate",
                ),
                _ => (
                    key_field,
                    "is not a private key that TLS can use; write the path of a file with an RSA or \
                     ECDSA private key",
                ),
            };
            field.at.error(text);
            None
        }
    }
}

type Chain = Vec<CertificateDer<'static>>;

/// Reads the certificates in the file `path` with `read`.
fn certificates(
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
            "has no certificate in it; write the path of a PEM file (-----BEGIN CERTIFICATE-----)"
                .to_owned()
        });
        field.at.error(format_args!("{} {text}", path.display()));
    }
    Some((pem, chain?))
}

fn private_key(field: &Field<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let (path, pem) = field.secret_file()?;
    // `explain` is called even if the file can be parsed, because the parser wrongly accepts an encrypted key in
    // OpenSSL's older format.
    let text = pem::explain(&pem, &path, Wanted::PrivateKey);
    if text.is_some() || PrivateKeyDer::from_pem_slice(&pem).is_err() {
        let text = text.unwrap_or_else(|| {
            "has no private key in it; write the path of a PEM file (-----BEGIN PRIVATE KEY-----)"
                .to_owned()
        });
        field.at.error(format_args!("{} {text}", path.display()));
        return None;
    }
    Some(pem)
}

/// Reads the files of all authorities into one PEM text.
pub(super) fn concatenate(field: &Field<'_>) -> Option<Vec<u8>> {
    let mut paths = Vec::new();
    for item in field.one_or_more() {
        let text = item.text()?;
        paths.extend(text.split(',').map(|path| (item.clone(), path.trim())));
    }
    paths.retain(|(_, path)| !path.is_empty());
    if paths.is_empty() {
        field.at.error("names no file; write the paths of PEM files with the authorities");
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
