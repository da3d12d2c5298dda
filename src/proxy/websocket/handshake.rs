//! Checks both sides of a WebSocket handshake (RFC 6455 §4). The headers `Sec-WebSocket-*` pass through the gateway
//! unchanged, so client and service agree on the key, the subprotocol and the extensions.

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};

use crate::headers::all_list_items;

/// The text that is appended to the key before it is hashed (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The values of a client's handshake with which the service's answer must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The required value of `Sec-WebSocket-Accept`.
    accept: String,
    protocols: Vec<Vec<u8>>,
    extensions: Vec<Vec<u8>>,
}

/// The reason why the answer of a service to a handshake is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(in crate::proxy) enum InvalidAnswer {
    #[error("Upgrade is not websocket")]
    Upgrade,
    #[error("Connection does not contain upgrade")]
    Connection,
    #[error("Sec-WebSocket-Accept does not belong to the key of the request")]
    Accept,
    #[error("the client did not offer the Sec-WebSocket-Protocol")]
    Protocol,
    #[error("the client did not offer an extension of Sec-WebSocket-Extensions")]
    Extension,
}

impl Offer {
    /// Reads the handshake of a client. Returns `None` if the version is not 13, or if the key does not have 16 bytes.
    /// Also returns `None` if the header of the version or of the key does not occur exactly once.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let version = only(headers, &SEC_WEBSOCKET_VERSION)?;
        let key = only(headers, &SEC_WEBSOCKET_KEY)?;
        if version != b"13" || BASE64_STANDARD.decode(key).ok()?.len() != 16 {
            return None;
        }
        let protocols = all_list_items(headers, &SEC_WEBSOCKET_PROTOCOL);
        Some(Self {
            accept: accept(key),
            protocols: protocols.map(<[u8]>::to_vec).collect(),
            extensions: extension_names(headers).map(<[u8]>::to_vec).collect(),
        })
    }

    /// Checks the headers of the service's answer with status 101 (RFC 6455 §4.1).
    ///
    /// # Errors
    /// The first header that is not valid.
    pub(super) fn check(&self, answer: &HeaderMap) -> Result<(), InvalidAnswer> {
        let is_websocket =
            only(answer, &UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
        if !is_websocket {
            return Err(InvalidAnswer::Upgrade);
        }
        if !all_list_items(answer, &CONNECTION).any(|item| item.eq_ignore_ascii_case(b"upgrade")) {
            return Err(InvalidAnswer::Connection);
        }
        if only(answer, &SEC_WEBSOCKET_ACCEPT) != Some(self.accept.as_bytes()) {
            return Err(InvalidAnswer::Accept);
        }
        if answer.contains_key(SEC_WEBSOCKET_PROTOCOL) {
            let chosen = only(answer, &SEC_WEBSOCKET_PROTOCOL).ok_or(InvalidAnswer::Protocol)?;
            if !self.protocols.iter().any(|offered| offered == chosen) {
                return Err(InvalidAnswer::Protocol);
            }
        }
        let is_offered = |name: &[u8]| self.extensions.iter().any(|offered| offered == name);
        match extension_names(answer).all(is_offered) {
            true => Ok(()),
            false => Err(InvalidAnswer::Extension),
        }
    }
}

/// Returns whether the gateway accepts `answer` to the handshake `request`. Returns `None` if `request` is not a
/// correct handshake.
#[cfg(feature = "fuzzing")]
pub fn accepts_answer(request: &HeaderMap, answer: &HeaderMap) -> Option<bool> {
    Some(Offer::of(request)?.check(answer).is_ok())
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let value = values.next()?;
    values.next().is_none().then_some(value.trim_ascii())
}

/// Returns the names in `Sec-WebSocket-Extensions`, without parameters. The line is split at each comma. A quoted
/// value of a parameter contains no comma, because it must be a token (RFC 6455 §9.1).
fn extension_names(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let names = all_list_items(headers, &SEC_WEBSOCKET_EXTENSIONS)
        .filter_map(|extension| extension.split(|b| *b == b';').next().map(<[u8]>::trim_ascii));
    // Empty items mean nothing (RFC 9110 §5.6.1).
    names.filter(|name| !name.is_empty())
}

fn accept(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    BASE64_STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of RFC 6455 §1.3.
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const ACCEPT: (&str, &str) = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    const VERSION: (&str, &str) = ("sec-websocket-version", "13");
    const UPGRADED: [(&str, &str); 2] = [("upgrade", "WebSocket"), ("connection", "x, Upgrade")];

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn a_handshake_needs_version_13_and_a_key_of_16_bytes() {
        for (fields, want) in [
            (&[KEY, VERSION][..], true),
            (&[KEY], false),
            (&[VERSION], false),
            (&[KEY, ("sec-websocket-version", "8")], false),
            (&[KEY, VERSION, VERSION], false),
            (&[KEY, KEY, VERSION], false),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZQ=="), VERSION], false),
            (&[("sec-websocket-key", "not base64!!!!!!!!!!!!!!"), VERSION], false),
        ] {
            assert_eq!(Offer::of(&headers(fields)).is_some(), want, "{fields:?}");
        }
    }

    #[test]
    fn a_service_may_choose_only_protocols_and_extensions_that_the_client_offered() {
        const PROTOCOL: (&str, &str) = ("sec-websocket-protocol", "tn3270e");
        const DEFLATE: (&str, &str) =
            ("sec-websocket-extensions", "permessage-deflate; server_max_window_bits=12");
        let offer = [
            KEY,
            VERSION,
            ("sec-websocket-protocol", "chat, tn3270e"),
            ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits, x-other"),
        ];
        let offer = Offer::of(&headers(&offer)).unwrap();
        let nothing = Offer::of(&headers(&[KEY, VERSION])).unwrap();
        let [upgrade, connection] = UPGRADED;
        let cases = [
            (&offer, &[upgrade, connection, ACCEPT][..], Ok(())),
            (&offer, &[upgrade, connection, ACCEPT, PROTOCOL, DEFLATE], Ok(())),
            (&nothing, &[upgrade, connection, ACCEPT], Ok(())),
            (&offer, &[connection, ACCEPT], Err(InvalidAnswer::Upgrade)),
            (&offer, &[("upgrade", "h2c"), connection, ACCEPT], Err(InvalidAnswer::Upgrade)),
            (&offer, &[upgrade, ACCEPT], Err(InvalidAnswer::Connection)),
            (&offer, &[upgrade, connection], Err(InvalidAnswer::Accept)),
            (&offer, &[upgrade, connection, ACCEPT, ACCEPT], Err(InvalidAnswer::Accept)),
            (
                &offer,
                &[upgrade, connection, ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOO=")],
                Err(InvalidAnswer::Accept),
            ),
            (&nothing, &[upgrade, connection, ACCEPT, PROTOCOL], Err(InvalidAnswer::Protocol)),
            (
                &offer,
                &[upgrade, connection, ACCEPT, ("sec-websocket-protocol", "TN3270E")],
                Err(InvalidAnswer::Protocol),
            ),
            (
                &offer,
                &[upgrade, connection, ACCEPT, PROTOCOL, PROTOCOL],
                Err(InvalidAnswer::Protocol),
            ),
            (&nothing, &[upgrade, connection, ACCEPT, DEFLATE], Err(InvalidAnswer::Extension)),
            (
                &offer,
                &[upgrade, connection, ACCEPT, DEFLATE, ("sec-websocket-extensions", "y")],
                Err(InvalidAnswer::Extension),
            ),
        ];
        for (offer, answer, want) in cases {
            assert_eq!(offer.check(&headers(answer)), want, "{answer:?}");
        }
    }
}
