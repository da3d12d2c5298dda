//! Chooses the files with the certificate of the gateway and with the certificate authorities (CAs) that it trusts:
//! `zowe.certificate.pem`, or the key store and the trust store of Zowe.

use super::reader::{Field, Section};

pub(super) enum IdentitySource<'a> {
    /// PEM files. A field is `None` if its setting is missing. [`read`] has then reported the missing setting.
    Pem { certificate: Option<Field<'a>>, key: Option<Field<'a>> },
    /// `zowe.certificate.keystore`.
    KeyStore { store: Store<'a>, alias: Option<Field<'a>> },
}

pub(super) enum AuthoritiesSource<'a> {
    /// PEM files. `None` if the setting is missing. [`read`] has then reported the missing setting.
    Pem(Option<Field<'a>>),
    /// `zowe.certificate.truststore`.
    TrustStore(Store<'a>),
}

impl<'a> AuthoritiesSource<'a> {
    pub(super) fn field(&self) -> Option<&Field<'a>> {
        match self {
            Self::Pem(field) => field.as_ref(),
            Self::TrustStore(store) => Some(&store.file),
        }
    }
}

/// The settings of a key store or trust store whose file is known.
pub(super) struct Store<'a> {
    pub(super) file: Field<'a>,
    pub(super) r#type: Option<Field<'a>>,
    /// Zowe's setting `password`, which contains the password itself.
    pub(super) password: Option<Field<'a>>,
}

/// The settings of a key store or trust store. Each may be absent.
struct StoreKeys<'a> {
    file: Option<Field<'a>>,
    r#type: Option<Field<'a>>,
    password: Option<Field<'a>>,
}

impl<'a> StoreKeys<'a> {
    fn read(section: &mut Section<'a>) -> Self {
        Self {
            file: section.optional("file"),
            r#type: section.optional("type"),
            password: section.optional("password"),
        }
    }

    fn store(self) -> Option<Store<'a>> {
        let Self { file, r#type, password } = self;
        Some(Store { file: file?, r#type, password })
    }
}

/// Reads the section `certificate`, which is merged from several sections in order of precedence.
///
/// The identity (certificate and private key) and the CAs are chosen separately. For each of the two, the first section
/// with PEM files or a store decides. For the identity, an alias also counts as a store.
///
/// - If this section has PEM files, they are used, even if it also has a store.
/// - If this section has only a store, the store is used, even if a later section has PEM files.
/// - If this section has only an alias, the file of the store comes from a later section. If no section names a file,
///   PEM files are used.
pub(super) fn read(mut certificate: Section<'_>) -> (IdentitySource<'_>, AuthoritiesSource<'_>) {
    let is_key_store = certificate
        .first_of(&[
            ["pem", "certificate"],
            ["pem", "key"],
            ["keystore", "file"],
            ["keystore", "alias"],
        ])
        .is_some_and(|index| index >= 2);
    let is_trust_store = certificate
        .first_of(&[["pem", "certificateAuthorities"], ["truststore", "file"]])
        .is_some_and(|index| index == 1);
    let mut keystore = certificate.section("keystore");
    let alias = keystore.optional("alias");
    let keystore = StoreKeys::read(&mut keystore).store().filter(|_| is_key_store);
    let truststore = StoreKeys::read(&mut certificate.section("truststore")).store();
    let mut pem = certificate.section("pem");
    let identity = match keystore {
        Some(store) => IdentitySource::KeyStore { store, alias },
        None => IdentitySource::Pem {
            certificate: pem.required(
                "certificate",
                "the path of a PEM file with the certificate chain of the gateway",
            ),
            key: pem.required("key", "the path of a PEM file with the key of the certificate"),
        },
    };
    let authorities = match truststore.filter(|_| is_trust_store) {
        Some(store) => AuthoritiesSource::TrustStore(store),
        None => AuthoritiesSource::Pem(pem.required(
            "certificateAuthorities",
            "the paths of PEM files with the certificate authorities (CAs) of clients and services",
        )),
    };
    (identity, authorities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    /// Returns the files that are used: a store with an alias, or PEM files. The files with the authorities follow.
    fn chosen(first: &str, last: &str) -> String {
        let report = Report::default();
        let yaml = format!("first: {first}\nlast: {last}\n");
        let document = Document::parse("z".into(), yaml.as_bytes(), &report);
        let mut root = document.section(&report);
        let section = root.section("first").over(root.section("last"));
        let (identity, authorities) = read(section);
        let text = |field: Option<&Field<'_>>| field.map_or("-", |f| f.text().unwrap()).to_owned();
        let identity = match &identity {
            IdentitySource::Pem { certificate, key } => {
                format!("{} {}", text(certificate.as_ref()), text(key.as_ref()))
            }
            IdentitySource::KeyStore { store, alias } => {
                format!("{}#{}", text(Some(&store.file)), text(alias.as_ref()))
            }
        };
        format!("{identity}, {}", text(authorities.field()))
    }

    #[test]
    fn an_earlier_section_decides_and_within_a_section_pem_files_precede_a_store() {
        let pem = "pem: {certificate: c, key: k, certificateAuthorities: a}";
        let stores = "keystore: {file: s, alias: x}, truststore: {file: t}";
        for (first, last, want) in [
            ("{}".to_owned(), format!("{{{pem}}}"), "c k, a"),
            ("{}".to_owned(), format!("{{{stores}}}"), "s#x, t"),
            ("{}".to_owned(), format!("{{{pem}, {stores}}}"), "c k, a"),
            (format!("{{{stores}}}"), format!("{{{pem}}}"), "s#x, t"),
            (format!("{{{pem}}}"), format!("{{{stores}}}"), "c k, a"),
            ("{keystore: {file: o}}".to_owned(), format!("{{{pem}, {stores}}}"), "o#x, a"),
            ("{keystore: {alias: y}}".to_owned(), format!("{{{pem}, {stores}}}"), "s#y, a"),
            ("{pem: {key: o}}".to_owned(), format!("{{{pem}, {stores}}}"), "c o, a"),
            ("{truststore: {file: o}}".to_owned(), format!("{{{pem}, {stores}}}"), "c k, o"),
            ("{}".to_owned(), "{keystore: {alias: y}}".to_owned(), "- -, -"),
            ("{keystore: {file: ''}}".to_owned(), format!("{{{pem}}}"), "c k, a"),
        ] {
            assert_eq!(chosen(&first, &last), want, "{first} {last}");
        }
    }
}
