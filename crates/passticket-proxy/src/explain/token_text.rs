//! Reads the claims of a token that may be invalid. The result is only shown to the operator.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

/// The maximum length of a token in bytes. A longer token is not read.
const MAX_LEN: usize = 64 * 1024;

/// The prefix that a Personal Access Token may have.
const PREFIX: &[u8] = b"zowepat_";

/// The claims that are shown. None of them contains a secret.
const SHOWN: [&str; 13] = [
    "iss",
    "sub",
    "aud",
    "azp",
    "iat",
    "nbf",
    "exp",
    "dom",
    "auth.prov",
    "scopes",
    "jti",
    "act",
    "email_verified",
];

pub(super) struct TokenText {
    /// The key id in the header.
    pub(super) key_id: Option<String>,
    /// The algorithm in the header.
    pub(super) algorithm: Option<String>,
    pub(super) claims: Map<String, Value>,
}

impl TokenText {
    /// Decodes the text, and verifies nothing. Returns `None` if the text is not a JWT or is too long. `names_user`
    /// says whether a claim names the user of an identity provider. Such a claim is shown, too.
    pub(super) fn decode(text: &[u8], names_user: impl Fn(&str) -> bool) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let text = text.strip_prefix(PREFIX).unwrap_or(text);
        let mut parts = text.split(|byte| *byte == b'.');
        let mut object = || -> Option<Map<String, Value>> {
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()
        };
        let (header, claims) = (object()?, object()?);
        let text = |key: &str| header.get(key)?.as_str().map(str::to_owned);
        let is_shown = |name: &str| SHOWN.contains(&name) || names_user(name);
        let claims = claims.into_iter().filter(|(name, _)| is_shown(name));
        Some(Self { key_id: text("kid"), algorithm: text("alg"), claims: claims.collect() })
    }

    pub(super) fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_claims_of_a_token_are_read() {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let header = encode(r#"{"alg":"RS256","kid":"k1"}"#);
        let claims = encode(r#"{"sub":"USER","password":"x","email":"u@x","exp":1}"#);
        let text = format!("{header}.{claims}.c2ln");
        for text in [text.clone(), format!("zowepat_{text}")] {
            let token = TokenText::decode(text.as_bytes(), |name| name == "email").unwrap();
            assert_eq!(token.claim("sub"), Some("USER"));
            assert_eq!(token.key_id.as_deref(), Some("k1"));
            assert!(!token.claims.contains_key("password"));
            assert_eq!(token.claim("email"), Some("u@x"));
        }
        for bad in ["", "a.b.c", "not a token", &header] {
            assert!(TokenText::decode(bad.as_bytes(), |_| false).is_none(), "{bad}");
        }
    }
}
