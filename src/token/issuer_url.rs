//! The URL that identifies an identity provider: the claim `iss` of its tokens.

use std::{fmt, str::FromStr, sync::Arc};

/// The claim `iss` of the tokens of an identity provider: an `https://` or `http://` URL of at most 255 bytes.
///
/// The URL is only compared, byte for byte, so a slash at the end makes a difference. It never equals `APIML`,
/// `APIML_PAT` or `zOSMF`, because these are not URLs. They are the issuers of the tokens of API ML (Zowe's API
/// Mediation Layer) and of z/OSMF (IBM's management server on z/OS).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IssuerUrl(Arc<str>);

impl IssuerUrl {
    /// The maximum length in bytes.
    pub const MAX_LEN: usize = 255;

    /// Checks the beginning, the characters and the length of `text`. Does not change it.
    ///
    /// # Errors
    /// [`IssuerUrlError`] if the text does not begin with `https://` or `http://`, has nothing after it, contains a
    /// character that is not visible ASCII, or is longer than [`MAX_LEN`](Self::MAX_LEN).
    pub fn new(text: &str) -> Result<Self, IssuerUrlError> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_visible = text.bytes().all(|b| b.is_ascii_graphic());
        if host.is_none_or(str::is_empty) || !is_visible || text.len() > Self::MAX_LEN {
            return Err(IssuerUrlError { text: text.chars().take(200).collect() });
        }
        Ok(Self(text.into()))
    }

    /// Returns the URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IssuerUrl {
    type Err = IssuerUrlError;

    fn from_str(text: &str) -> Result<Self, IssuerUrlError> {
        Self::new(text)
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IssuerUrl").field(&self.as_str()).finish()
    }
}

/// The text is not the URL of an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not the URL of an issuer; write the claim iss of its tokens, such as https://idp.example.com/"
)]
pub struct IssuerUrlError {
    /// The first 200 characters.
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_a_url() {
        for good in ["https://idp", "https://idp/", "http://localhost:8080/realms/a"] {
            assert_eq!(IssuerUrl::new(good).unwrap().as_str(), good);
        }
        let long = format!("https://{}", "a".repeat(248));
        for bad in [
            "",
            "APIML",
            "apiml_pat",
            "zOSMF",
            "https://",
            "ftp://x",
            " https://x",
            "https://x y",
            &long,
        ] {
            let error = IssuerUrl::new(bad).unwrap_err().to_string();
            assert!(error.contains("is not the URL of an issuer; write"), "{error}");
        }
    }
}
