//! Writes the lines, as JSON or in the combined format of Apache with further fields.

use std::{io::Write, time::Duration};

use super::{
    entry::{Entry, EntryHead, protocol},
    options::AccessLogFormat,
};
use crate::{
    audit::{Object, rfc3339},
    clock::Timestamp,
    request_facts::{RequestSnapshot, Termination},
};

impl AccessLogFormat {
    /// Appends the line of `entry`, and a newline.
    pub(super) fn write(self, entry: &Entry, bytes: &mut Vec<u8>) {
        match self {
            Self::Json => write_json(entry, bytes),
            Self::Combined => write_combined(entry, bytes),
        }
        bytes.push(b'\n');
    }

    pub(super) fn write_gap(self, time: Timestamp, count: u64, bytes: &mut Vec<u8>) {
        match self {
            Self::Json => {
                let mut line = Object::begin(bytes);
                line.plain("time", time);
                line.plain("event", "dropped");
                line.number("count", count);
                line.end();
            }
            Self::Combined => {
                bytes.extend_from_slice(b"# ");
                bytes.extend_from_slice(&rfc3339(time));
                let _ = write!(bytes, " dropped {count} lines");
            }
        }
        bytes.push(b'\n');
    }
}

/// Returns the time in milliseconds, with microseconds as its fraction.
fn millis(time: Duration) -> String {
    let micros = time.as_micros();
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn write_json(Entry { head, status, total, facts }: &Entry, bytes: &mut Vec<u8>) {
    let mut line = Object::begin(bytes);
    line.plain("time", head.time);
    line.plain("request_id", head.request_id);
    if let Some(id) = &head.client_request_id {
        line.text("client_request_id", id);
    }
    if let Some(connection) = &head.connection {
        line.plain("client", connection.client());
        line.plain("peer", connection.peer);
    }
    line.request(&head.line);
    line.plain("protocol", protocol(head.version));
    if let Some(status) = status {
        line.number("status", status.as_u16().into());
    }
    line.plain_if_any("service", facts.service.as_ref());
    if let Some(instance) = &facts.instance {
        line.text("instance", instance.as_str());
    }
    line.plain_if_any("user", facts.user);
    line.plain_if_any("credential", facts.credential.map(|credential| credential.as_str()));
    line.number("bytes_in", facts.bytes_in);
    line.number("bytes_out", facts.bytes_out);
    for (name, time) in timers(facts, *total) {
        if let Some(time) = time {
            line.raw(name, &millis(time));
        }
    }
    if facts.retries > 0 {
        line.number("retries", facts.retries.into());
    }
    match facts.termination {
        None => line.text("termination", Termination::NORMAL),
        Some(termination) => {
            line.text("termination", termination.code().as_str());
            line.plain("ended_by", termination.cause.as_str());
            line.plain("stage", termination.stage.as_str());
        }
    }
    if let Some(agent) = &head.user_agent {
        line.text("user_agent", agent);
    }
    if let Some(referer) = &head.referer {
        line.text("referer", referer);
    }
    line.end();
}

fn timers(facts: &RequestSnapshot, total: Duration) -> [(&'static str, Option<Duration>); 5] {
    [
        ("prepare_ms", facts.prepare),
        ("queue_ms", facts.queue),
        ("connect_ms", facts.connect),
        ("first_byte_ms", facts.first_byte),
        ("total_ms", Some(total)),
    ]
}

fn write_combined(Entry { head, status, total, facts }: &Entry, bytes: &mut Vec<u8>) {
    let EntryHead { time, request_id, client_request_id, connection, line, .. } = head;
    // Writing to a Vec cannot fail.
    match connection {
        Some(connection) => drop(write!(bytes, "{}", connection.client())),
        None => bytes.push(b'-'),
    }
    bytes.extend_from_slice(b" - ");
    match &facts.user {
        Some(user) => escape(user.as_str(), bytes),
        None => bytes.push(b'-'),
    }
    bytes.extend_from_slice(b" [");
    apache_time(*time, bytes);
    bytes.extend_from_slice(b"] \"");
    escape(line.method(), bytes);
    bytes.push(b' ');
    escape(line.path(), bytes);
    let _ = write!(bytes, " {}\" ", protocol(head.version));
    match status {
        Some(status) => drop(write!(bytes, "{}", status.as_u16())),
        None => bytes.push(b'-'),
    }
    let _ = write!(bytes, " {}", facts.bytes_out);
    for text in [&head.referer, &head.user_agent] {
        bytes.extend_from_slice(b" \"");
        escape(text.as_deref().unwrap_or("-"), bytes);
        bytes.push(b'"');
    }
    bytes.push(b' ');
    bytes.extend_from_slice(&request_id.digits());
    for text in [
        client_request_id.as_deref(),
        facts.service.as_ref().map(|service| service.as_str()),
        facts.instance.as_ref().map(|instance| instance.as_str()),
        facts.credential.map(|credential| credential.as_str()),
    ] {
        bytes.push(b' ');
        escape(text.unwrap_or("-"), bytes);
    }
    let _ = write!(bytes, " {} ", facts.bytes_in);
    for (at, (_, time)) in timers(facts, *total).into_iter().enumerate() {
        if at > 0 {
            bytes.push(b'/');
        }
        match time {
            Some(time) => bytes.extend_from_slice(millis(time).as_bytes()),
            None => bytes.push(b'-'),
        }
    }
    let code = facts.termination.map(Termination::code);
    let code = code.as_ref().map_or(Termination::NORMAL, |code| code.as_str());
    let _ = write!(bytes, " {} {code}", facts.retries);
}

/// Writes the time in the format of Apache, in UTC: `10/Oct/2027:13:55:36 +0000`.
fn apache_time(time: Timestamp, bytes: &mut Vec<u8>) {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = rfc3339(time);
    let part = |from: usize, to: usize| str::from_utf8(&text[from..to]).unwrap_or_default();
    let month =
        part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    let (day, month, year) = (part(8, 10), month.unwrap_or(&"Jan"), part(0, 4));
    let _ = write!(bytes, "{day}/{month}/{year}:{} +0000", part(11, 19));
}

/// Writes a text as Apache does: with a backslash before `"` and `\`, and with `\xHH` for a byte that is not printable
/// ASCII. So a text cannot end its field or its line.
fn escape(text: &str, bytes: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => bytes.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => bytes.push(byte),
            _ => drop(write!(bytes, "\\x{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, StatusCode, Version};

    use super::*;
    use crate::{
        audit::{CredentialKind, RequestId},
        connection::{ConnectionInfo, Protocol},
        passticket::UserId,
        request_facts::{Cause, Stage},
        token::ServiceId,
    };

    fn entry() -> Entry {
        let request = Request::builder()
            .method(Method::PUT)
            .version(Version::HTTP_2)
            .uri("https://gw/files/a\"b?password=secret")
            .header("user-agent", "curl/8 \"x\" \\")
            .header("referer", "https://gw/ui?token=secret")
            .header("authorization", "Bearer secret")
            .header("cookie", "a=secret");
        let request = request.body(()).unwrap();
        let peer = "[2001:db8::1]:50000".parse().unwrap();
        let local = "[::1]:7554".parse().unwrap();
        let connection = ConnectionInfo::new(peer, local, Protocol::Https);
        let time = Timestamp::from_millis(1_800_000_000_123);
        let head = EntryHead::of(&request, Some(connection), RequestId::next(), time);
        let facts = RequestSnapshot {
            service: Some(ServiceId::new("zosmf").unwrap()),
            user: Some(UserId::new("USER#1").unwrap()),
            credential: Some(CredentialKind::LoginToken),
            instance: Some("zos:10443".parse().unwrap()),
            prepare: Some(Duration::from_micros(1234)),
            queue: Some(Duration::ZERO),
            connect: Some(Duration::from_micros(7)),
            first_byte: Some(Duration::from_millis(20)),
            bytes_in: 11,
            bytes_out: 12,
            retries: 1,
            termination: Some(Termination { cause: Cause::Client, stage: Stage::Body }),
            ..RequestSnapshot::default()
        };
        let (status, total) = (Some(StatusCode::OK), Duration::from_micros(1_000_001));
        Entry { head, status, total, facts }
    }

    fn line(format: AccessLogFormat, entry: &Entry) -> String {
        let mut bytes = Vec::new();
        format.write(entry, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_has_all_fields_and_no_secret() {
        let entry = entry();
        let id = entry.head.request_id;
        let want = format!(
            "{{\"time\":\"2027-01-15T08:00:00.123Z\",\"request_id\":\"{id}\",\
             \"client\":\"2001:db8::1\",\"peer\":\"[2001:db8::1]:50000\",\"method\":\"PUT\",\
             \"path\":\"/files/a\\\"b\",\"protocol\":\"HTTP/2\",\"status\":200,\
             \"service\":\"zosmf\",\"instance\":\"zos:10443\",\"user\":\"USER#1\",\
             \"credential\":\"login-token\",\"bytes_in\":11,\"bytes_out\":12,\
             \"prepare_ms\":1.234,\"queue_ms\":0.000,\"connect_ms\":0.007,\
             \"first_byte_ms\":20.000,\"total_ms\":1000.001,\"retries\":1,\
             \"termination\":\"CD\",\"ended_by\":\"client\",\"stage\":\"body\",\
             \"user_agent\":\"curl/8 \\\"x\\\" \\\\\",\"referer\":\"https://gw/ui\"}}\n"
        );
        let line = line(AccessLogFormat::Json, &entry);
        assert_eq!(line, want);
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }

    #[test]
    fn a_combined_line_has_the_fields_of_apache_and_more() {
        let entry = entry();
        let id = entry.head.request_id;
        let want = format!(
            "2001:db8::1 - USER#1 [15/Jan/2027:08:00:00 +0000] \"PUT /files/a\\\"b HTTP/2\" 200 12 \
             \"https://gw/ui\" \"curl/8 \\\"x\\\" \\\\\" {id} - zosmf zos:10443 login-token 11 \
             1.234/0.000/0.007/20.000/1000.001 1 CD\n"
        );
        assert_eq!(line(AccessLogFormat::Combined, &entry), want);
    }

    #[test]
    fn facts_that_are_not_known_are_left_out() {
        let mut entry = entry();
        entry.facts = RequestSnapshot::default();
        (entry.status, entry.head.connection) = (None, None);
        (entry.head.user_agent, entry.head.referer) = (None, None);
        let json = line(AccessLogFormat::Json, &entry);
        let tail = "\"protocol\":\"HTTP/2\",\"bytes_in\":0,\"bytes_out\":0,\"total_ms\":1000.001,\
                    \"termination\":\"--\"}\n";
        assert!(json.ends_with(tail), "{json}");
        let combined = line(AccessLogFormat::Combined, &entry);
        assert!(combined.starts_with("- - - [15/Jan/2027:08:00:00 +0000]"), "{combined}");
        assert!(combined.ends_with(" - - - - 0 -/-/-/-/1000.001 0 --\n"), "{combined}");
    }

    #[test]
    fn a_text_cannot_end_its_field_or_its_line() {
        for (text, want) in [
            ("a b", "a b"),
            ("a\"b\\", "a\\\"b\\\\"),
            ("a\r\nb\0\u{7f}", "a\\x0d\\x0ab\\x00\\x7f"),
            ("\u{e9}\u{2026}", "\\xc3\\xa9\\xe2\\x80\\xa6"),
        ] {
            let mut bytes = Vec::new();
            escape(text, &mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), want);
        }
    }

    #[test]
    fn lost_lines_are_reported() {
        let time = Timestamp::from_millis(1_800_000_000_123);
        for (format, want) in [
            (
                AccessLogFormat::Json,
                "{\"time\":\"2027-01-15T08:00:00.123Z\",\"event\":\"dropped\",\"count\":3}\n",
            ),
            (AccessLogFormat::Combined, "# 2027-01-15T08:00:00.123Z dropped 3 lines\n"),
        ] {
            let mut bytes = Vec::new();
            format.write_gap(time, 3, &mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), want);
        }
    }
}
