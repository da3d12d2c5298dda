//! The arguments of the command `explain`.

use std::{fmt, path::PathBuf, str::FromStr};

use http::{HeaderName, HeaderValue, Method, Uri};
use tower_passticket::passticket::UserId;

/// The subject of the explanation.
#[derive(Debug)]
pub enum Subject {
    /// A request that a client could send.
    Request(Box<Asked>),
    /// A request that the gateway has handled.
    Past(PastId),
}

/// The request that the arguments describe.
#[derive(Debug)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The path, or the URL at the gateway.
    pub url: Uri,
    /// The headers.
    pub headers: Vec<HeaderArgument>,
    /// The credential.
    pub credential: Given,
    /// Whether the command may ask the servers that the gateway would ask.
    pub is_live: bool,
}

/// The credential that the arguments describe.
#[derive(Debug)]
pub enum Given {
    /// No credential, or a credential in the headers of the command line.
    Headers,
    /// A login token of this user, which the command itself makes.
    User(UserId),
    /// The token in this file.
    Token(PathBuf),
    /// The client certificate in this file.
    Certificate(PathBuf),
}

/// A header of the command line: `Name: value`.
#[derive(Clone)]
pub struct HeaderArgument(pub HeaderName, pub HeaderValue);

impl FromStr for HeaderArgument {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wrong = "write a header as 'Name: value'";
        let (name, value) = text.split_once(':').ok_or(wrong)?;
        let name = name.trim().parse().map_err(|_| wrong)?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong)?;
        value.set_sensitive(true);
        Ok(Self(name, value))
    }
}

/// `Debug` does not show the value, which may be a token.
impl fmt::Debug for HeaderArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderArgument({})", self.0)
    }
}

/// The id of a request, as in `X-Request-Id`.
#[derive(Clone, Debug)]
pub struct PastId(String);

impl PastId {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PastId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_id = (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
        match is_id {
            true => Ok(Self(text.to_owned())),
            false => {
                Err("write the id as in the header X-Request-Id: letters, digits and -_.:"
                    .to_owned())
            }
        }
    }
}
