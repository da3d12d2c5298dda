//! Reads the passwords of encrypted files. A setting names a file or an environment variable with the password:
//! `{file: PATH}` or `{env: NAME}`. Zowe's own settings `password` contain the password itself.

use std::fmt;

use zeroize::Zeroizing;

use super::{
    environment::Environment,
    problem::may_contain_secret,
    reader::{Field, Section},
    secret_file::is_secret,
};

const MAX_LEN: usize = 1024;

/// A password. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct Password(Zeroizing<String>);

impl Password {
    pub(super) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[derive(Clone, Debug, Default)]
pub(super) enum PasswordSetting {
    /// The configuration contains no password.
    #[default]
    Absent,
    Known(Password),
    /// A problem with the password was reported. So the encrypted file need not be opened.
    Faulty,
}

impl PasswordSetting {
    /// Returns this setting if it is present. Otherwise returns `other`.
    pub(super) fn or(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Absent => other(),
            present => present,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Passwords {
    /// The password of `zowe.certificate.pem.key`.
    pub(super) key: PasswordSetting,
    /// The password of `zowe.certificate.keystore`.
    pub(super) keystore: PasswordSetting,
    /// The password of `zowe.certificate.truststore`.
    pub(super) truststore: PasswordSetting,
    /// The password of `signingKey`.
    pub(super) signing_key: PasswordSetting,
}

/// Reads the section `passwords`, and the files and environment variables that it names.
pub(super) fn read(mut section: Section<'_>, env: Environment<'_>) -> Passwords {
    let mut password = |name| setting(section.optional(name).as_ref(), env);
    let passwords = Passwords {
        key: password("key"),
        keystore: password("keystore"),
        truststore: password("truststore"),
        signing_key: password("signingKey"),
    };
    section.finish();
    passwords
}

pub(super) fn setting(field: Option<&Field<'_>>, env: Environment<'_>) -> PasswordSetting {
    let Some(field) = field else { return PasswordSetting::Absent };
    if !field.is_mapping() {
        // The value is not shown, because it may be the password.
        field
            .at
            .error("must be a mapping (its value is not shown); write {file: PATH} or {env: NAME}");
        return PasswordSetting::Faulty;
    }
    let mut section = field.section();
    let (file, variable) = (section.optional("file"), section.optional("env"));
    if section.fields().iter().any(|(name, _)| !["file", "env"].contains(name)) {
        // The names may be parts of the password.
        field.at.error(
            "has other keys than file and env (not shown); write {file: PATH} or {env: NAME}",
        );
        return PasswordSetting::Faulty;
    }
    section.finish();
    for field in file.iter().chain(&variable) {
        let text = field.text().unwrap_or_default();
        if !text.contains(['/', '.']) && may_contain_secret(text) {
            field.at.error(
                "looks like the password itself (not shown); move it to a file that only you can read, and write \
                 {file: PATH} with the path of that file",
            );
            return PasswordSetting::Faulty;
        }
    }
    let password = match (file, variable) {
        (Some(file), None) => from_file(&file),
        (None, Some(variable)) => from_environment(&variable, env),
        _ => {
            field.at.error("must have exactly one of two keys; write {file: PATH} or {env: NAME}");
            None
        }
    };
    password.map_or(PasswordSetting::Faulty, PasswordSetting::Known)
}

/// Reads a setting `password` of Zowe, which contains the password itself. If other users can read the file that
/// contains the setting, this causes a warning. The warning names `ours`. This is a setting of
/// `components.passticket-proxy` that an operator can use in place of Zowe's setting.
pub(super) fn of_zowe(field: Option<&Field<'_>>, ours: &str) -> PasswordSetting {
    let Some(field) = field else { return PasswordSetting::Absent };
    if !is_secret(field.at.file) {
        field.at.warning(format_args!(
            "is a password in clear text, and other users can read this file; set {ours} to {{file: PATH}} or \
             {{env: NAME}} and remove the password here, or run: chmod 600 {}",
            field.at.file.display()
        ));
    }
    // `text` removes blanks at both ends. Zowe's scripts do the same, so no password of Zowe begins or ends with a
    // blank.
    match field.text() {
        Some(text) => PasswordSetting::Known(Password::new(text)),
        None => PasswordSetting::Faulty,
    }
}

/// Reads the password from the secret file whose path the value contains.
pub(super) fn from_file(field: &Field<'_>) -> Option<Password> {
    let (path, content) = field.secret_file()?;
    match checked(&content) {
        Ok(password) => Some(password),
        Err(problem) => {
            field.at.error(format_args!("{} {problem}", path.display()));
            None
        }
    }
}

fn from_environment(field: &Field<'_>, env: Environment<'_>) -> Option<Password> {
    let name = field.text()?;
    let Some(value) = env(name).map(Zeroizing::new) else {
        field.at.error("names an environment variable that is not set; set it to the password");
        return None;
    };
    match checked(value.as_bytes()) {
        Ok(password) => Some(password),
        Err(problem) => {
            field.at.error(format_args!("names an environment variable whose value {problem}"));
            None
        }
    }
}

/// Returns the password in the content of a file or of an environment variable. One line end after the password is
/// removed.
fn checked(content: &[u8]) -> Result<Password, &'static str> {
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match str::from_utf8(line) {
        Err(_) => Err("is not UTF-8; encode the password in UTF-8"),
        Ok("") => Err("is empty; it must be the password, in one line"),
        Ok(text) if text.len() > MAX_LEN => {
            Err("is longer than 1024 bytes; use a shorter password, in one line")
        }
        Ok(text) if text.contains(char::is_control) => {
            Err("has a control character or several lines; it must be the password, in one line")
        }
        Ok(text) => Ok(Password::new(text)),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::config::{problem::Report, reader::Document};

    /// Returns the password of the setting `p` in a document, or the problems.
    fn read_text(directory: &tempfile::TempDir, text: &str) -> Result<String, String> {
        let report = Report::default();
        let file = directory.path().join("z");
        let document = Document::parse(file, text.as_bytes(), &report);
        let env = |name: &str| (name == "PASSWORD").then(|| "of the environment".to_owned());
        let field = document.section(&report).optional("p");
        let known = match setting(field.as_ref(), &env) {
            PasswordSetting::Known(password) => Some(password.expose().to_owned()),
            PasswordSetting::Absent => Some("absent".to_owned()),
            PasswordSetting::Faulty => None,
        };
        report.finish(known).map(|(known, _)| known).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_password_is_one_line_of_a_private_file_or_an_environment_variable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        for (content, want) in [
            (&b"secret"[..], Ok("secret")),
            (b"secret\n", Ok("secret")),
            (b"secret\r\n", Ok("secret")),
            (" two words \u{e4}".as_bytes(), Ok(" two words \u{e4}")),
            (b"", Err("is empty")),
            (b"\n", Err("is empty")),
            (b"hidden\nhidden", Err("has a control character or several lines")),
            (b"hidden\xff", Err("is not UTF-8")),
            (&[b'x'; 1025], Err("is longer than 1024 bytes")),
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            match (read_text(&directory, "p: {file: password}"), want) {
                (Ok(password), Ok(want)) => assert_eq!(password, want),
                (Err(problem), Err(want)) => {
                    assert!(problem.contains(want) && !problem.contains("hidden"), "{problem}");
                }
                (got, want) => panic!("{got:?} {want:?}"),
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let problem = read_text(&directory, "p: {file: password}").unwrap_err();
        assert!(problem.contains("chmod 600"), "{problem}");
        assert_eq!(read_text(&directory, "p: {env: PASSWORD}").unwrap(), "of the environment");
        assert_eq!(read_text(&directory, "q: 1").unwrap(), "absent");
        for (text, want) in [
            ("p: {env: MISSING}", "names an environment variable that is not set"),
            ("p: {file: hidden-password!}", "looks like the password itself (not shown)"),
            ("p: {}", "absent"),
            ("p: hidden", "must be a mapping (its value is not shown)"),
            ("p: {file: a, env: b}", "must have exactly one of two keys"),
            ("p: {hidden: 1}", "has other keys than file and env (not shown)"),
        ] {
            let (Ok(got) | Err(got)) = read_text(&directory, text);
            assert!(got.contains(want) && !got.contains("hidden"), "{text}: {got}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let shown = format!("{:?}", PasswordSetting::Known(Password::new("hidden")));
        assert_eq!(shown, "Known(Password(..))");
    }
}
