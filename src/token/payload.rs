//! The payload of a token: its claims, with each value still in JSON.
//!
//! The claim `iss` selects the keys, so it is read before the signature is checked. The other claims are read after
//! this check.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::TokenError;

/// The claims of a payload, in their order.
pub(super) struct Payload<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Payload<'a> {
    /// Reads the names of the claims.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] if `json` is not a JSON object.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, TokenError> {
        serde_json::from_slice(json).map_err(|_| TokenError::Malformed)
    }

    /// Returns the claim `iss`. Until the signature is checked, use the result only to select the keys.
    ///
    /// # Errors
    /// [`TokenError::Claims`] if the claim is missing, repeated or not a string.
    pub(super) fn issuer(&self) -> Result<Cow<'a, str>, TokenError> {
        let issuer = self.claim("iss").ok().flatten().and_then(Claim::text);
        issuer.ok_or_else(|| TokenError::Claims("iss is missing, repeated or not a string".into()))
    }

    /// Returns [`TokenError::Claims`] if the claim is repeated (RFC 7519 §4).
    pub(super) fn claim(&self, name: &str) -> Result<Option<Claim<'a>>, TokenError> {
        let mut found = self.0.iter().filter(|(other, _)| other == name);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(TokenError::Claims("a claim is repeated".into())),
            (first, _) => Ok(first.map(|(_, json)| Claim(json.get()))),
        }
    }
}

impl<'de> Deserialize<'de> for Payload<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Claims;

        impl<'de> Visitor<'de> for Claims {
            type Value = Payload<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut claims = Vec::with_capacity(16);
                while let Some((Text(name), json)) = access.next_entry()? {
                    claims.push((name, json));
                }
                Ok(Payload(claims))
            }
        }

        deserializer.deserialize_map(Claims)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Claim<'a>(&'a str);

/// A JSON string. It is copied only if it contains an escape sequence.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Claim<'a> {
    /// Returns the value if it is a string.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        serde_json::from_str(self.0).ok().map(|Text(text)| text)
    }

    /// Returns the value if it is an array.
    pub(super) fn list(self) -> Option<Vec<Self>> {
        let items: Vec<&RawValue> = serde_json::from_str(self.0).ok()?;
        Some(items.into_iter().map(|item| Claim(item.get())).collect())
    }

    /// Returns the value if it is an integer that is not negative.
    pub(super) fn number(self) -> Option<u64> {
        serde_json::from_str(self.0).ok()
    }

    /// Returns the value as a [`Value`]. Returns `None` if serde_json cannot represent it: its arrays and objects are
    /// nested too deeply, a number is too large, or a string has an unpaired surrogate.
    pub(super) fn value(self) -> Option<Value> {
        serde_json::from_str(self.0).ok()
    }

    pub(super) fn is_null(self) -> bool {
        self.0 == "null"
    }

    pub(super) fn is_true(self) -> bool {
        self.0 == "true"
    }
}
