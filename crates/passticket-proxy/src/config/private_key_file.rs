//! Reads the file of a private key, and decrypts the key if it is encrypted.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{encrypted_key, passwords::PasswordSetting, reader::Field};

/// Returns the path and the content of the file that `field` names. If the content is an encrypted key in PKCS #8 and
/// its password is known, the returned content is the decrypted key in PEM. This function does not check whether the
/// content is a private key.
pub(super) fn read(
    field: &Field<'_>,
    password: &PasswordSetting,
) -> Option<(PathBuf, Zeroizing<Vec<u8>>)> {
    let (path, content) = field.secret_file()?;
    let password = match password {
        PasswordSetting::Absent => return Some((path, content)),
        PasswordSetting::Known(password) => Some(password),
        PasswordSetting::Faulty => None,
    };
    if !encrypted_key::is_present(&content) {
        return Some((path, content));
    }
    // If there is no password here, a problem with the password was reported.
    match encrypted_key::decrypt(&content, password?) {
        Ok(key) => Some((path, key)),
        Err(error) => {
            field.at.error(format_args!("{} {error}", path.display()));
            None
        }
    }
}
