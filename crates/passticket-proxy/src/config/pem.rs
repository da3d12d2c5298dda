//! Recognizes the format of a file that is not the expected PEM or PKCS12 file. The error can then name the command
//! that converts the file.

use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    PrivateKey,
    Certificates,
    RevocationLists,
    /// A PKCS12 file.
    KeyStore,
}

/// Returns a text about a file that does not have the wanted format, or that is encrypted. The text names the format of
/// the file, and a command that converts the file. Returns `None` if the format is not known, or if no command can
/// convert the file.
///
/// The error shows this text after the path of the file. The text does not contain any content of the file.
pub(super) fn explain(content: &[u8], path: &Path, wanted: Wanted) -> Option<String> {
    let file = path.display();
    let kind = Kind::of(content)?;
    let text = match (kind, wanted) {
        (Kind::EncryptedKey, _) => format!(
            "is an encrypted private key, and the gateway has no password for it; add the password to \
             components.passticket-proxy.passwords, or decrypt the key with: (umask 077; openssl pkey -in {file} -out \
             NEW.key)"
        ),
        (Kind::OldEncryptedKey, _) => format!(
            "is an encrypted private key in the old format of OpenSSL, which the gateway cannot decrypt; decrypt it \
             with: (umask 077; openssl pkey -in {file} -out NEW.key), or encrypt it again with: (umask 077; openssl \
             pkcs8 -topk8 -in {file} -out NEW.key)"
        ),
        (Kind::Pkcs12, Wanted::PrivateKey) => format!(
            "is a PKCS12 file, not PEM; extract the private key with: (umask 077; openssl pkcs12 -in {file} \
             -nocerts -nodes -out NEW.key)"
        ),
        (Kind::Pkcs12, Wanted::Certificates) => format!(
            "is a PKCS12 file, not PEM; extract the certificates with: openssl pkcs12 -in {file} \
             -nokeys -out NEW.pem"
        ),
        (Kind::JavaKeyStore(store), wanted) => {
            let name = store.name();
            let place = match wanted {
                Wanted::KeyStore => "this setting",
                _ => "zowe.certificate.keystore.file or zowe.certificate.truststore.file",
            };
            format!(
                "is a Java key store of type {name}; make it a PKCS12 file with: keytool -importkeystore -srckeystore \
                 {file} -srcstoretype {name} -destkeystore NEW.p12 -deststoretype PKCS12, and set {place} to NEW.p12"
            )
        }
        (Kind::DerKey, Wanted::PrivateKey) => format!(
            "is a private key in DER, not PEM; convert it with: (umask 077; openssl pkey -inform DER \
             -in {file} -out NEW.key)"
        ),
        (Kind::DerCertificate, Wanted::Certificates) => format!(
            "is a certificate in DER, not PEM; convert it with: openssl x509 -inform DER -in {file} \
             -out NEW.pem"
        ),
        (Kind::Pem, Wanted::KeyStore) => {
            "is a PEM file, not PKCS12; name this file in zowe.certificate.pem, and remove \
                                          this setting"
                .to_owned()
        }
        _ => return None,
    };
    Some(text)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pem,
    EncryptedKey,
    /// An encrypted key in the older format of OpenSSL (RFC 1421 §4.6.1.1).
    OldEncryptedKey,
    Pkcs12,
    JavaKeyStore(JavaKeyStore),
    DerKey,
    DerCertificate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JavaKeyStore {
    Jks,
    Jceks,
}

impl JavaKeyStore {
    fn name(self) -> &'static str {
        match self {
            Self::Jks => "JKS",
            Self::Jceks => "JCEKS",
        }
    }
}

impl Kind {
    fn of(content: &[u8]) -> Option<Self> {
        let contains = |text: &[u8]| content.windows(text.len()).any(|window| window == text);
        // This is the PEM label of an encrypted key in PKCS #8 (RFC 7468 §11).
        if contains(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            return Some(Self::EncryptedKey);
        }
        if contains(b"Proc-Type: 4,ENCRYPTED") {
            return Some(Self::OldEncryptedKey);
        }
        if contains(b"-----BEGIN ") {
            return Some(Self::Pem);
        }
        match content {
            [0xfe, 0xed, 0xfe, 0xed, ..] => return Some(Self::JavaKeyStore(JavaKeyStore::Jks)),
            [0xce, 0xce, 0xce, 0xce, ..] => return Some(Self::JavaKeyStore(JavaKeyStore::Jceks)),
            _ => {}
        }
        match in_sequence(content)? {
            // This is INTEGER 3, which is the version of a PFX. A PFX is the outer structure of PKCS12 (RFC 7292 §4).
            [0x02, 0x01, 3, ..] => Some(Self::Pkcs12),
            // This is INTEGER 0 or 1, which is the version of a PKCS #8, PKCS #1 or SEC 1 key.
            [0x02, 0x01, 0 | 1, ..] => Some(Self::DerKey),
            // This is an inner SEQUENCE. In a certificate, it is the TBSCertificate (RFC 5280 §4.1), which begins with
            // the tag [0] of its version. In an encrypted PKCS #8 key, it begins with an object identifier.
            inner => match in_sequence(inner)? {
                [0xa0, ..] => Some(Self::DerCertificate),
                [0x06, ..] => Some(Self::EncryptedKey),
                _ => None,
            },
        }
    }
}

/// Returns `bytes` without the header (tag and length) of the ASN.1 SEQUENCE at the start. The SEQUENCE is in DER, or
/// in BER with indefinite length.
fn in_sequence(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [0x30, len, rest @ ..] if *len <= 0x80 => Some(rest),
        [0x30, len, rest @ ..] => rest.get(usize::from(len & 0x7f)..),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use test_support::pki::SERVER;

    use super::*;

    /// Returns the text of `explain` up to the first comma or semicolon.
    fn format_name(content: &[u8], wanted: Wanted) -> Option<String> {
        let text = explain(content, Path::new("f"), wanted)?;
        Some(text.split([',', ';']).next().unwrap().to_owned())
    }

    #[test]
    fn explain_names_the_format_of_the_file() {
        let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n";
        let openssl = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n";
        let encrypted = "is an encrypted private key";
        // These bytes are the start of an EncryptedPrivateKeyInfo: SEQUENCE { SEQUENCE { PBES2 ...
        let encrypted_der = [&[0x30, 0x82, 5, 0, 0x30, 0x57, 0x06, 0x09][..], &[0; 9]].concat();
        let long = [&[0x30, 0x82, 9, 0x7f, 0x02, 0x01, 3][..], &[0x30; 9]].concat();
        let indefinite = [0x30, 0x80, 0x02, 0x01, 3, 0x30, 0x80];
        use Wanted::{Certificates, KeyStore, PrivateKey};
        for (content, wanted, want) in [
            (pkcs8.as_bytes(), PrivateKey, Some(encrypted)),
            (
                openssl.as_bytes(),
                PrivateKey,
                Some("is an encrypted private key in the old format of OpenSSL"),
            ),
            (&encrypted_der, PrivateKey, Some(encrypted)),
            (&long, PrivateKey, Some("is a PKCS12 file")),
            (&indefinite, Certificates, Some("is a PKCS12 file")),
            (
                &[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2],
                PrivateKey,
                Some("is a Java key store of type JKS"),
            ),
            (
                &[0xce, 0xce, 0xce, 0xce, 0, 0, 0, 2],
                KeyStore,
                Some("is a Java key store of type JCEKS"),
            ),
            (SERVER.certificate.as_bytes(), KeyStore, Some("is a PEM file")),
            (&long, KeyStore, None),
            (SERVER.private_key().secret_der(), PrivateKey, Some("is a private key in DER")),
            (&SERVER.certificate_der(), Certificates, Some("is a certificate in DER")),
            (&SERVER.certificate_der(), PrivateKey, None),
            (SERVER.certificate.as_bytes(), PrivateKey, None),
            (SERVER.key.as_bytes(), PrivateKey, None),
            (b"", PrivateKey, None),
            (&[0x30], PrivateKey, None),
            (&[0x30, 0xff, 1], PrivateKey, None),
            (&[0x30, 0x82, 5, 0, 0x30], PrivateKey, None),
        ] {
            assert_eq!(format_name(content, wanted).as_deref(), want, "{content:x?}");
        }
    }
}
