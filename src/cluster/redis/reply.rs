//! Reads answers of Redis. They are bytes from outside: what is not as expected is an error.

use std::{collections::HashMap, sync::Arc};

use redis::Value;

/// The maximum number of lines of an answer to `INFO`.
const MAX_INFO_LINES: usize = 2000;

/// The answer to `INFO`.
#[derive(Debug, Default)]
pub(super) struct Info(HashMap<String, String>);

impl Info {
    /// Reads the lines `name:value`. Other lines are ignored.
    pub(super) fn read(answer: &Value) -> Self {
        let text = bytes(answer).map(String::from_utf8_lossy).unwrap_or_default();
        let pairs = text.lines().take(MAX_INFO_LINES).filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The primary that a Sentinel names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SentinelMaster {
    pub(super) host: String,
    pub(super) port: u16,
    /// The number of the failover. A higher number is newer.
    pub(super) epoch: u64,
}

impl SentinelMaster {
    /// Reads the answer to `SENTINEL MASTER`, names and values in turn.
    pub(super) fn read(answer: &Value) -> Option<Self> {
        let Value::Array(parts) = answer else { return None };
        let field = |name: &str| {
            let mut pairs = parts.chunks_exact(2);
            let pair = pairs.find(|pair| bytes(&pair[0]) == Some(name.as_bytes()))?;
            std::str::from_utf8(bytes(&pair[1])?).ok()
        };
        let host = field("ip").filter(|host| !host.is_empty() && host.len() <= 253)?.to_owned();
        let port = field("port")?.parse().ok().filter(|port| *port > 0)?;
        Some(Self { host, port, epoch: field("config-epoch")?.parse().ok()? })
    }
}

/// Whether the answer to `ROLE` is that of a primary.
pub(super) fn is_primary(answer: &Value) -> bool {
    let Value::Array(parts) = answer else { return false };
    parts.first().and_then(bytes) == Some(b"master")
}

/// The seconds of the answer to `TIME`.
pub(super) fn seconds(answer: &Value) -> Option<u64> {
    let Value::Array(parts) = answer else { return None };
    std::str::from_utf8(bytes(parts.first()?)?).ok()?.parse().ok()
}

/// The id of a server process or of its data: 40 hexadecimal digits.
pub(super) fn server_id(text: &str) -> Option<Arc<str>> {
    let is_id = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| text.into())
}

/// An integer.
pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

/// The bytes of a string.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        Value::VerbatimString { text, .. } => Some(text.as_bytes()),
        Value::Okay => Some(b"OK"),
        _ => None,
    }
}
