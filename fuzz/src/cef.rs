//! Fuzz target for audit records in the Common Event Format (CEF).

use tower_passticket::{
    audit::{AuditRecord, CefDevice, Detail, Event, ReasonCode},
    clock::Timestamp,
};

/// The input consists of two texts, separated by a zero byte: the name of an instance that registers, and the reason
/// why the gateway refuses the registration. The second text is also the name of the gateway's host.
pub(crate) fn cef(data: &[u8]) {
    let (instance, why) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b""[..]),
    };
    let (instance, why) = (String::from_utf8_lossy(instance), String::from_utf8_lossy(why));
    let time = Timestamp::from_secs(1);
    let record = AuditRecord::failed(Event::Registration, ReasonCode::RegistrationRefused, time)
        .with_detail(Detail::Registration { instance: (&*instance).into(), why: (&*why).into() });
    let line = CefDevice::new("v", "p", "1").with_host(&why).line(&record);
    assert!(!line.contains(|c: char| c.is_control() || "\u{2028}\u{2029}".contains(c)), "{line:?}");
    let extension = line.strip_prefix("CEF:0|v|p|1|registration|Registration of an instance|5|");
    let extension = extension.expect("no text is in the header");
    let mut fields = Vec::new();
    let mut key = String::new();
    for chunk in chunks(extension) {
        match chunk {
            Chunk::Key(next) => {
                key = next;
                fields.push((key.clone(), String::new()));
            }
            Chunk::Value(text) => {
                fields.last_mut().expect("a line begins with a key").1 = unescape(&text);
            }
        }
    }
    assert_eq!(key, "msg");
    let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        fields,
        [
            ("rt", "1000"),
            ("dvchost", &*why),
            ("act", "refused"),
            ("outcome", "failure"),
            ("reason", "registration-refused"),
            ("flexString1Label", "Instance"),
            ("flexString1", &*instance),
            ("msg", &*why),
        ]
    );
}

enum Chunk {
    Key(String),
    Value(String),
}

/// Splits an extension into keys and values. An equals sign ends a key unless the number of backslashes before it is
/// odd. The key begins after the last space before its equals sign.
fn chunks(extension: &str) -> Vec<Chunk> {
    let mut ends = Vec::new();
    for (at, _) in extension.match_indices('=') {
        let before = &extension[..at];
        let backslashes = before.len() - before.trim_end_matches('\\').len();
        if backslashes.is_multiple_of(2) {
            ends.push(at);
        }
    }
    let mut chunks = Vec::new();
    for (i, end) in ends.iter().enumerate() {
        let key = extension[..*end].rfind(' ').map_or(0, |space| space + 1);
        chunks.push(Chunk::Key(extension[key..*end].to_owned()));
        let last = match ends.get(i + 1) {
            Some(next) => extension[..*next].rfind(' ').expect("a space is before each key"),
            None => extension.len(),
        };
        chunks.push(Chunk::Value(extension[end + 1..last].to_owned()));
    }
    chunks
}

fn unescape(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let kind = after.chars().next().expect("no value ends within an escape");
        rest = &after[kind.len_utf8()..];
        match kind {
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            'u' => {
                let (digits, others) = rest.split_at(4);
                let number = u32::from_str_radix(digits, 16).expect("four hex digits");
                text.push(char::from_u32(number).expect("a character"));
                rest = others;
            }
            '\\' | '=' => text.push(kind),
            other => panic!("unknown escape {other:?}"),
        }
    }
    text.push_str(rest);
    text
}
