//! The credentials of the users: `--credential` and `--token-in`.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, header};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::secret_file::{self, SecretFileError};

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Source {
    None,
    Jwt(PathBuf),
    Pat(PathBuf),
    Basic(PathBuf),
    Certificate { certificate: PathBuf, key: PathBuf },
}

/// Where a token is in the request: a value of `--token-in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TokenPlace {
    /// Authorization: Bearer. The default for login tokens.
    Bearer,
    /// The cookie apimlAuthenticationToken, or personalAccessToken for a Personal Access Token.
    Cookie,
    /// The header PRIVATE-TOKEN. The default for Personal Access Tokens, and only for them.
    Header,
}

impl TokenPlace {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Cookie => "cookie",
            Self::Header => "header",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    Jwt(TokenPlace),
    Pat(TokenPlace),
    Basic,
    Certificate,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Jwt(_) => "jwt",
            Self::Pat(_) => "pat",
            Self::Basic => "basic",
            Self::Certificate => "certificate",
        }
    }

    pub(crate) fn token_place(self) -> Option<TokenPlace> {
        match self {
            Self::Jwt(place) | Self::Pat(place) => Some(place),
            _ => None,
        }
    }
}

/// Why the credentials cannot be used. The messages contain neither credentials nor paths.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error(
        "--credential has an unknown form; write none, jwt:FILE, pat:FILE, basic:FILE, certificate:FILE or \
         certificate:FILE,KEY. The secret is in the file, never on the command line"
    )]
    Form,
    #[error("--credential can be given several times only if each one is a certificate")]
    Mixed,
    #[error("--token-in {0} is not possible with --credential {1}")]
    Place(&'static str, &'static str),
    #[error("--credential {kind}, file {file}: {source}")]
    File { kind: &'static str, file: usize, source: SecretFileError },
    #[error("--credential {0}: the file has no line with a credential")]
    Empty(&'static str),
    #[error("--credential {kind}: line {line} of the file {problem}")]
    Line { kind: &'static str, line: usize, problem: &'static str },
    #[error("--credential certificate, file {file}: {problem}")]
    Certificate { file: usize, problem: &'static str },
}

impl FromStr for Source {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let file = |path: &str| match path {
            "" => Err(CredentialError::Form),
            path => Ok(PathBuf::from(path)),
        };
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            Some(("jwt", path)) => Ok(Self::Jwt(file(path)?)),
            Some(("pat", path)) => Ok(Self::Pat(file(path)?)),
            Some(("basic", path)) => Ok(Self::Basic(file(path)?)),
            Some(("certificate", paths)) => {
                let (certificate, key) = paths.split_once(',').unwrap_or((paths, paths));
                Ok(Self::Certificate { certificate: file(certificate)?, key: file(key)? })
            }
            _ => Err(CredentialError::Form),
        }
    }
}

/// The header with which one user sends its credential.
pub(crate) struct User {
    pub(crate) header: Option<(HeaderName, HeaderValue)>,
    /// Texts that must not be printed, although an answer may contain them.
    secrets: Vec<Zeroizing<String>>,
}

impl User {
    fn anonymous() -> Self {
        Self { header: None, secrets: Vec::new() }
    }

    /// Returns a text of the gateway without the user's credential.
    pub(crate) fn without_secrets(&self, text: &str) -> String {
        self.secrets
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "********"))
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User")
    }
}

pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

pub(crate) struct Credentials {
    pub(crate) kind: Kind,
    /// There is at least one user. The requests take the users in turn.
    pub(crate) users: Arc<[User]>,
    /// The client certificates. The connections take them in turn. Empty if there are no client certificates.
    pub(crate) identities: Vec<Identity>,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// If a file cannot be read or other users have access to it, if a line has no credential, or if `sources` and
    /// `place` contradict each other.
    pub(crate) fn load(
        sources: &[Source],
        place: Option<TokenPlace>,
    ) -> Result<Self, CredentialError> {
        let no_place = |kind| match place {
            None => Ok(()),
            Some(place) => Err(CredentialError::Place(place.as_str(), kind)),
        };
        let (kind, path) = match sources {
            [Source::None] => {
                no_place("none")?;
                return Ok(Self {
                    kind: Kind::None,
                    users: [User::anonymous()].into(),
                    identities: Vec::new(),
                });
            }
            [Source::Jwt(path)] => match place.unwrap_or(TokenPlace::Bearer) {
                TokenPlace::Header => return Err(CredentialError::Place("header", "jwt")),
                place => (Kind::Jwt(place), path),
            },
            [Source::Pat(path)] => (Kind::Pat(place.unwrap_or(TokenPlace::Header)), path),
            [Source::Basic(path)] => {
                no_place("basic")?;
                (Kind::Basic, path)
            }
            [Source::Certificate { .. }, ..] => {
                no_place("certificate")?;
                return Self::certificates(sources);
            }
            _ => return Err(CredentialError::Mixed),
        };
        let content = secret_file::read(path).map_err(|source| CredentialError::File {
            kind: kind.as_str(),
            file: 1,
            source,
        })?;
        Ok(Self { kind, users: users(kind, &content)?.into(), identities: Vec::new() })
    }

    fn certificates(sources: &[Source]) -> Result<Self, CredentialError> {
        let identity = |(index, source): (usize, &Source)| {
            let Source::Certificate { certificate, key } = source else {
                return Err(CredentialError::Mixed);
            };
            let file = index + 1;
            let problem = |problem| move |_| CredentialError::Certificate { file, problem };
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(problem(
                    "the certificate cannot be read; the file must be in PEM format",
                ))?;
            if chain.is_empty() {
                return Err(CredentialError::Certificate {
                    file,
                    problem: "there is no certificate",
                });
            }
            let key = secret_file::read(key).map_err(|source| CredentialError::File {
                kind: "certificate",
                file,
                source,
            })?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(problem(
                "there is no private key in PEM format; write certificate:FILE,KEY",
            ))?;
            Ok(Identity { chain, key })
        };
        Ok(Self {
            kind: Kind::Certificate,
            users: [User::anonymous()].into(),
            identities: sources.iter().enumerate().map(identity).collect::<Result<_, _>>()?,
        })
    }

    /// Returns the number of users. Each line of the file, or each client certificate, is a user. Without credentials,
    /// the number is 1.
    pub(crate) fn count(&self) -> usize {
        self.users.len().max(self.identities.len())
    }
}

/// Returns the user of each line. Empty lines, and lines that begin with `#`, are skipped.
fn users(kind: Kind, content: &str) -> Result<Vec<User>, CredentialError> {
    let lines =
        content.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end_matches('\r')));
    let users = lines
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            user(kind, line).map_err(|problem| CredentialError::Line {
                kind: kind.as_str(),
                line: number,
                problem,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if users.is_empty() {
        return Err(CredentialError::Empty(kind.as_str()));
    }
    Ok(users)
}

fn user(kind: Kind, line: &str) -> Result<User, &'static str> {
    let bearer = |token: &str| (header::AUTHORIZATION, format!("Bearer {token}"));
    let cookie = |name: &str, token: &str| (header::COOKIE, format!("{name}={token}"));
    if matches!(kind, Kind::Jwt(_) | Kind::Pat(_)) && line.contains([' ', '\t', ';', ',', '"']) {
        return Err("is not a token; write only the token on the line");
    }
    let mut secrets = vec![Zeroizing::new(line.to_owned())];
    let (name, value) = match kind {
        Kind::Pat(TokenPlace::Header) => {
            (HeaderName::from_static("private-token"), line.to_owned())
        }
        Kind::Jwt(TokenPlace::Cookie) => cookie("apimlAuthenticationToken", line),
        Kind::Pat(TokenPlace::Cookie) => cookie("personalAccessToken", line),
        Kind::Jwt(_) | Kind::Pat(_) => bearer(line),
        Kind::Basic => {
            let (user, password) =
                line.split_once(':').ok_or("has no colon; write USER:PASSWORD")?;
            if user.is_empty() || password.is_empty() {
                return Err("has no user or no password; write USER:PASSWORD");
            }
            let encoded = BASE64_STANDARD.encode(line);
            secrets.push(Zeroizing::new(password.to_owned()));
            secrets.push(Zeroizing::new(encoded.clone()));
            (header::AUTHORIZATION, format!("Basic {encoded}"))
        }
        Kind::None | Kind::Certificate => return Err("is not used"),
    };
    let value = Zeroizing::new(value);
    let mut value = HeaderValue::from_str(&value)
        .map_err(|_| "contains characters that a header cannot have")?;
    value.set_sensitive(true);
    Ok(User { header: Some((name, value)), secrets })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use tempfile::TempDir;

    use super::*;

    fn file(directory: &TempDir, content: &str, mode: u32) -> PathBuf {
        let path = directory.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn each_kind_has_its_header() {
        let directory = TempDir::new().unwrap();
        let path = file(&directory, "# users\nU:one\r\n\nV:two\n", 0o600);
        let (jwt, pat, basic) =
            (Source::Jwt(path.clone()), Source::Pat(path.clone()), Source::Basic(path));
        use TokenPlace::{Bearer, Cookie, Header};
        for (source, place, first) in [
            (&jwt, None, "authorization: Bearer U:one"),
            (&jwt, Some(Bearer), "authorization: Bearer U:one"),
            (&jwt, Some(Cookie), "cookie: apimlAuthenticationToken=U:one"),
            (&pat, None, "private-token: U:one"),
            (&pat, Some(Header), "private-token: U:one"),
            (&pat, Some(Bearer), "authorization: Bearer U:one"),
            (&pat, Some(Cookie), "cookie: personalAccessToken=U:one"),
            (&basic, None, "authorization: Basic VTpvbmU="),
        ] {
            let credentials = Credentials::load(std::slice::from_ref(source), place).unwrap();
            assert_eq!(credentials.count(), 2);
            let (name, value) = credentials.users[0].header.as_ref().unwrap();
            assert_eq!(format!("{name}: {}", value.to_str().unwrap()), first);
            assert!(value.is_sensitive());
            let shown = format!(
                "{:?} {}",
                credentials.users[0],
                credentials.users[0].without_secrets("a U:one b")
            );
            assert_eq!(shown, "User a ******** b");
        }
        let none = Credentials::load(&[Source::None], None).unwrap();
        assert!(none.users[0].header.is_none());
        for (sources, place) in [
            (vec![Source::None], Some(Cookie)),
            (vec![jwt.clone()], Some(Header)),
            (vec![basic.clone()], Some(Bearer)),
            (vec![jwt, basic], None),
            (vec![], None),
        ] {
            assert!(Credentials::load(&sources, place).is_err());
        }
    }

    #[test]
    fn errors_name_the_line_and_never_the_secret() {
        let directory = TempDir::new().unwrap();
        for (content, mode, expected) in [
            ("U:hidden\n", 0o640, "accessible to users other than its owner (mode 0640)"),
            ("# no user\n\n", 0o600, "no line with a credential"),
            ("U:p\nhidden\n", 0o600, "line 2 of the file has no colon"),
            (":hidden\n", 0o600, "line 1 of the file has no user"),
        ] {
            let source = Source::Basic(file(&directory, content, mode));
            let error = Credentials::load(&[source], None).err().unwrap().to_string();
            assert!(error.contains(expected) && !error.contains("hidden"), "{error}");
        }
        let jwt = Source::Jwt(file(&directory, "Bearer hidden\n", 0o600));
        let error = Credentials::load(&[jwt], None).err().unwrap().to_string();
        assert!(
            error.contains("line 1 of the file is not a token") && !error.contains("hidden"),
            "{error}"
        );
        for text in
            ["jwt:", "jwt", "eyJhidden", "basic", "certificate:", "certificate:a,", "cookie:x"]
        {
            let error = text.parse::<Source>().err().unwrap().to_string();
            assert!(error.contains("unknown form") && !error.contains("hidden"), "{text}");
        }
        let error = Credentials::load(&["jwt:eyJhidden".parse().unwrap()], None).err().unwrap();
        assert!(
            error.to_string().contains("cannot read the file")
                && !error.to_string().contains("hidden")
        );
    }
}
