//! Writes keys and certificates as PEM texts (RFC 7468).

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

const LINE: usize = 64;

/// Writes a private key in PKCS #8 as PEM. No other copy of the text stays in memory.
pub(super) fn private_key(der: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(capacity(der)));
    write(&mut text, "PRIVATE KEY", der);
    text
}

pub(super) fn certificates<'d>(ders: impl IntoIterator<Item = &'d [u8]>) -> Vec<u8> {
    let mut text = Vec::new();
    for der in ders {
        write(&mut text, "CERTIFICATE", der);
    }
    text
}

pub(super) fn revocation_list(der: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    write(&mut text, "X509 CRL", der);
    text
}

/// Returns a capacity that is enough for the text. So the text does not move to a larger buffer, and leaves no copy.
fn capacity(der: &[u8]) -> usize {
    2 * der.len() + 128
}

fn write(text: &mut Vec<u8>, label: &str, der: &[u8]) {
    text.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    // Base64 turns 3 bytes into 4 characters. So each piece of 48 bytes fills a line.
    let mut line = Zeroizing::new([0; LINE]);
    for piece in der.chunks(LINE / 4 * 3) {
        let written = BASE64_STANDARD.encode_slice(piece, &mut line[..]);
        let written = written.expect("48 bytes are 64 characters in base64");
        text.extend_from_slice(&line[..written]);
        text.push(b'\n');
    }
    text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject,
    };
    use test_support::pki::{APIMTST, SERVER};

    use super::*;

    #[test]
    fn texts_are_pem_and_fit_into_their_first_buffer() {
        let key = SERVER.private_key();
        let text = private_key(key.secret_der());
        assert_eq!(PrivateKeyDer::from_pem_slice(&text).unwrap(), key);
        let ders = [SERVER.certificate_der(), APIMTST.certificate_der()];
        let text = certificates(ders.iter().map(|der| &der[..]));
        let read: Vec<_> = CertificateDer::pem_slice_iter(&text).map(Result::unwrap).collect();
        assert_eq!(read, ders);
        assert_eq!(text, [SERVER.certificate, APIMTST.certificate].concat().as_bytes());
        for length in 0..200 {
            let der = vec![7; length];
            assert!(private_key(&der).len() <= capacity(&der), "{length}");
            let list = revocation_list(&der);
            let list = CertificateRevocationListDer::from_pem_slice(&list).unwrap();
            assert_eq!(list.as_ref(), der);
        }
    }
}
