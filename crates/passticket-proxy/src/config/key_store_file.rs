//! Opens the key store and the trust store of Zowe.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    key_material::Store,
    key_ring::KeyRing,
    passwords::{self, PasswordSetting},
    pem::{self, Wanted},
    pkcs12::{Pkcs12, Pkcs12Error},
    problem::quote,
    reader::Field,
};

/// The types of Java key stores that `keytool` can convert. A store of the type `JCECCAKS` can refer to keys in
/// cryptographic hardware.
const JAVA_TYPES: [&str; 3] = ["JKS", "JCEKS", "JCECCAKS"];

/// The content that the gateway needs from a store.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// The store contains the key of the gateway. The alias selects the key.
    Key(Option<&'a str>),
    /// The store contains the authorities.
    Authorities,
}

impl Purpose<'_> {
    fn password_key(self) -> &'static str {
        match self {
            Self::Key(_) => "components.passticket-proxy.passwords.keystore",
            Self::Authorities => "components.passticket-proxy.passwords.truststore",
        }
    }

    fn export(self, ring: &KeyRing) -> String {
        match self {
            Self::Key(label) => ring.export_key(label),
            Self::Authorities => ring.export_authorities(),
        }
    }
}

/// Opens a store. `ours` is the password from `components.passticket-proxy`. It has precedence over Zowe's setting
/// `password`. On a problem, reports it and returns `None`.
pub(super) fn open(
    store: &Store<'_>,
    ours: &PasswordSetting,
    purpose: Purpose<'_>,
) -> Option<(PathBuf, Pkcs12)> {
    let file = &store.file;
    let text = file.text()?;
    if let Some(ring) = KeyRing::of_path(text) {
        file.at.error(purpose.export(&ring));
        return None;
    }
    if let Some(r#type) = &store.r#type {
        check_type(r#type, text, purpose)?;
    }
    let (path, content) = match purpose {
        Purpose::Key(_) => file.secret_file()?,
        Purpose::Authorities => {
            let (path, content) = file.authorization_file()?;
            (path, Zeroizing::new(content))
        }
    };
    if let Some(text) = pem::explain(&content, &path, Wanted::KeyStore) {
        file.at.error(format_args!("{} {text}", path.display()));
        return None;
    }
    let key = purpose.password_key();
    let setting = ours.clone().or(|| passwords::of_zowe(store.password.as_ref(), key));
    let password = match &setting {
        PasswordSetting::Absent => None,
        PasswordSetting::Known(password) => Some(password),
        PasswordSetting::Faulty => return None,
    };
    match Pkcs12::open(&content, password) {
        Ok(opened) => Some((path, opened)),
        Err(error) => {
            report(file, &path, &error, password.is_some(), key);
            None
        }
    }
}

/// Reports why a store, or an entry of it, cannot be used.
pub(super) fn report_entry(file: &Field<'_>, path: &Path, error: &Pkcs12Error) {
    file.at.error(format_args!("{} {error}", path.display()));
}

fn report(file: &Field<'_>, path: &Path, error: &Pkcs12Error, has_password: bool, key: &str) {
    let shown = path.display();
    match error {
        Pkcs12Error::WrongPassword if has_password => file.at.error(format_args!(
            "{shown} {error}; write the password of this store to a file or an environment variable, and set {key} to \
             {{file: PATH}} or {{env: NAME}}"
        )),
        Pkcs12Error::WrongPassword => file.at.error(format_args!(
            "{shown} needs a password; set {key} to {{file: PATH}} or {{env: NAME}}"
        )),
        Pkcs12Error::Unreadable(_) => file.at.error(format_args!(
            "{shown} {error}; convert it with: keytool -importkeystore -srckeystore {shown} -destkeystore NEW.p12 \
             -deststoretype PKCS12"
        )),
        other => report_entry(file, path, other),
    }
}

fn check_type(field: &Field<'_>, file: &str, purpose: Purpose<'_>) -> Option<()> {
    let name = field.text()?;
    if name.eq_ignore_ascii_case("PKCS12") {
        return Some(());
    }
    if KeyRing::is_type(name) {
        field.at.error(purpose.export(&KeyRing::default()));
    } else if let Some(java) = JAVA_TYPES.iter().find(|java| java.eq_ignore_ascii_case(name)) {
        field.at.error(format_args!(
            "{java} is a type that only Java reads; make a PKCS12 file with: keytool -importkeystore -srckeystore \
             {file} -srcstoretype {java} -destkeystore NEW.p12 -deststoretype PKCS12; then set type to \
             PKCS12, and set file to NEW.p12"
        ));
    } else {
        field.at.error(format_args!(
            "{} is not a type that the gateway reads; set it to PKCS12",
            quote(name)
        ));
    }
    None
}
