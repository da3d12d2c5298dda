//! Writes JSON objects to a byte buffer.
//!
//! A request on a route causes up to three audit records, so writing a record must be fast. Most values have types that
//! cannot contain a character that needs an escape in JSON. These values are copied unchanged. Only other values are
//! searched for such characters. A search of all values takes longer than all other work of the audit log
//! (`benches/choices.md`).

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

use super::{request_id::RequestId, request_line::RequestLine, rfc3339::rfc3339};
use crate::{
    clock::Timestamp,
    connection::ClientAddress,
    identity::Fingerprint,
    passticket::{Applid, UserId},
    revocation::AccessTokenId,
    token::{Scope, ServiceId, TokenFingerprint},
};

/// A JSON object under construction.
pub(crate) struct Object<'a> {
    bytes: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn begin(bytes: &'a mut Vec<u8>) -> Self {
        bytes.push(b'{');
        Self { bytes, is_empty: true }
    }

    fn key(&mut self, key: &'static str) {
        if !self.is_empty {
            self.bytes.push(b',');
        }
        self.is_empty = false;
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    /// Writes a value that needs no escapes.
    pub(crate) fn plain(&mut self, key: &'static str, value: impl Plain) {
        self.key(key);
        plain(self.bytes, value);
    }

    pub(crate) fn plain_if_any(&mut self, key: &'static str, value: Option<impl Plain>) {
        if let Some(value) = value {
            self.plain(key, value);
        }
    }

    pub(crate) fn plain_list(
        &mut self,
        key: &'static str,
        values: impl IntoIterator<Item = impl Plain>,
    ) {
        self.key(key);
        self.bytes.push(b'[');
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                self.bytes.push(b',');
            }
            plain(self.bytes, value);
        }
        self.bytes.push(b']');
    }

    /// Writes a list of any texts, with escapes.
    pub(crate) fn text_list<'t>(
        &mut self,
        key: &'static str,
        texts: impl IntoIterator<Item = &'t str>,
    ) {
        self.key(key);
        self.bytes.push(b'[');
        for (i, text) in texts.into_iter().enumerate() {
            if i > 0 {
                self.bytes.push(b',');
            }
            // Writing to a Vec cannot fail.
            let _ = serde_json::to_writer(&mut *self.bytes, text);
        }
        self.bytes.push(b']');
    }

    /// Writes any text, with escapes.
    pub(crate) fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        // Writing to a Vec cannot fail.
        let _ = serde_json::to_writer(&mut *self.bytes, text);
    }

    /// Writes the method and the path. A method is a token (RFC 9110 §5.6.2), which needs no escapes. A path has no
    /// control characters. So only a quote or a backslash in a path needs an escape. The search for these two
    /// characters is faster than [`text`](Self::text).
    pub(crate) fn request(&mut self, request: &RequestLine) {
        let (method, path) = (request.method(), request.path());
        self.key("method");
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(method.as_bytes());
        self.bytes.extend_from_slice(b"\",\"path\":");
        if memchr::memchr2(b'"', b'\\', path.as_bytes()).is_some() {
            // Writing to a Vec cannot fail.
            let _ = serde_json::to_writer(&mut *self.bytes, path);
        } else {
            self.bytes.push(b'"');
            self.bytes.extend_from_slice(path.as_bytes());
            self.bytes.push(b'"');
        }
    }

    pub(crate) fn number(&mut self, key: &'static str, number: u64) {
        self.key(key);
        decimal(self.bytes, number);
    }

    /// Writes a value that is already JSON.
    pub(crate) fn raw(&mut self, key: &'static str, json: &str) {
        self.key(key);
        self.bytes.extend_from_slice(json.as_bytes());
    }

    pub(crate) fn set_true(&mut self, key: &'static str) {
        self.key(key);
        self.bytes.extend_from_slice(b"true");
    }

    pub(crate) fn object(&mut self, key: &'static str) -> Object<'_> {
        self.key(key);
        Object::begin(self.bytes)
    }

    pub(crate) fn end(self) {
        self.bytes.push(b'}');
    }
}

fn plain(bytes: &mut Vec<u8>, value: impl Plain) {
    bytes.push(b'"');
    value.write(bytes);
    bytes.push(b'"');
}

/// A value that JSON can contain without escapes, because it has no quote, no backslash and no control character.
pub(crate) trait Plain {
    fn write(&self, bytes: &mut Vec<u8>);
}

impl Plain for AccessTokenId {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_string().as_bytes());
    }
}

/// All these strings are constants of this crate.
impl Plain for &'static str {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.as_bytes());
    }
}

macro_rules! plain_names {
    ($($name:ty),*) => {$(
        impl Plain for $name {
            fn write(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(self.as_str().as_bytes());
            }
        }
    )*};
}

plain_names!(UserId, Applid, &ServiceId);

/// A path in a scope consists of characters of RFC 3986.
impl Plain for &Scope {
    fn write(&self, bytes: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = write!(bytes, "{self}");
    }
}

impl Plain for Timestamp {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&rfc3339(*self));
    }
}

impl Plain for RequestId {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.digits());
    }
}

impl Plain for TokenFingerprint {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.digits());
    }
}

impl Plain for Fingerprint {
    fn write(&self, bytes: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = write!(bytes, "{self}");
    }
}

impl Plain for ClientAddress {
    fn write(&self, bytes: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = write!(bytes, "{self}");
    }
}

/// An IPv4-mapped IPv6 address is written as the IPv4 address that it contains.
impl Plain for SocketAddr {
    fn write(&self, bytes: &mut Vec<u8>) {
        match self.ip().to_canonical() {
            IpAddr::V4(ip) => {
                for (octet, separator) in ip.octets().into_iter().zip(*b"...:") {
                    decimal(bytes, octet.into());
                    bytes.push(separator);
                }
                decimal(bytes, self.port().into());
            }
            // Writing to a Vec cannot fail.
            ip @ IpAddr::V6(_) => drop(write!(bytes, "{}", Self::new(ip, self.port()))),
        }
    }
}

fn decimal(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(value: impl Plain) -> String {
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_ipv4_mapped_address_is_written_as_ipv4() {
        for (address, want) in [
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("192.0.2.7:65535", "192.0.2.7:65535"),
            ("[::ffff:192.0.2.7]:555", "192.0.2.7:555"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[fe80::1%3]:443", "[fe80::1]:443"),
        ] {
            assert_eq!(written(address.parse::<SocketAddr>().unwrap()), want);
        }
    }

    #[test]
    fn objects_are_valid_json() {
        let mut bytes = Vec::new();
        let mut line = Object::begin(&mut bytes);
        line.object("empty").end();
        line.plain_if_any("absent", None::<UserId>);
        line.plain_list("none", [] as [&str; 0]);
        line.plain_list("two", ["a", "b"]);
        let mut object = line.object("object");
        object.number("number", u64::MAX);
        object.set_true("yes");
        object.end();
        line.text("text", "\"\\\n\u{1}é");
        line.end();
        let want = json!({
            "empty": {}, "none": [], "two": ["a", "b"],
            "object": {"number": u64::MAX, "yes": true}, "text": "\"\\\n\u{1}é",
        });
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), want);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn plain_values_need_no_escapes(text in "\\PC{0,10}|[\\x00-\\x7f]{0,10}|[a-zA-Z0-9#@$._\"\\\\-]{1,8}", secs: u64) {
            let values = [
                UserId::new(&text).ok().map(written),
                Applid::new(&text).ok().map(written),
                ServiceId::new(&text).ok().as_ref().map(written),
                Some(written(Timestamp::from_secs(secs))),
            ];
            for written in values.into_iter().flatten() {
                prop_assert_eq!(serde_json::to_string(&written).unwrap(), format!("\"{written}\""));
            }
        }
    }
}
