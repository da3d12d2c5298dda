//! `explain --request-id`: tells what the audit files and the access log say about a past request.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use passticket_proxy::{config::Config, explained::PastId};
use serde_json::{Map, Value, json};
use tower_passticket::access_log::AccessLogFormat;

use super::report::{print_json, print_wrapped, printable};
use crate::{exit::Exit, terminal::print_line};

/// The maximum length of a line in bytes. The gateway does not write longer lines. A longer line is skipped.
const MAX_LINE: u64 = 1024 * 1024;

/// The maximum number of records of one request that are shown.
const MAX_RECORDS: usize = 200;

pub(super) fn explain(config: &Config, id: &PastId, as_json: bool) -> Result<(), Exit> {
    let audit = config.audit.iter().flat_map(|audit| [&audit.file, &audit.unauthenticated]);
    let access = config.access_log.iter().filter(|log| log.format == AccessLogFormat::Json);
    let files = audit.map(|file| (Source::Audit, file));
    let files: Vec<_> = files.chain(access.map(|log| (Source::AccessLog, &log.file))).collect();
    if files.is_empty() {
        return Err(Exit::usage(
            "components.passticket-proxy.audit.enabled is false, and there is no access log in the format json, so the \
             gateway has recorded no requests; set enabled to true",
        ));
    }
    let mut records = Vec::new();
    let mut searched = 0;
    for (source, base) in files {
        for file in with_rotated(base) {
            searched += 1;
            let found = search(source, &file, id.as_str(), &mut records);
            found.map_err(|e| Exit::runtime(format!("cannot read {}: {e}", file.display())))?;
        }
    }
    records.sort_by(|one, other| one.time().cmp(other.time()));
    if as_json {
        let records: Vec<_> = records.iter().map(|record| &record.fields).collect();
        print_json(&json!({"requestId": id.as_str(), "records": records}));
        return if records.is_empty() {
            Err(Exit::Refused(not_found(id.as_str(), searched)))
        } else {
            Ok(())
        };
    }
    let Some(last) = records.last() else {
        return Err(Exit::Negative(not_found(id.as_str(), searched)));
    };
    let decisions = || records.iter().rev().filter(|record| record.source == Source::Audit);
    let failed = decisions().find(|record| record.text("outcome") != Some("success"));
    match (failed, decisions().next()) {
        (Some(failed), _) => print_wrapped("", &format!("REFUSED: {}", failed.summary())),
        (None, Some(last)) => print_wrapped("", &format!("SUCCESS: {}", last.summary())),
        (None, None) => {
            print_wrapped("", &format!("NO DECISION IN THE AUDIT FILES: {}", last.summary()));
        }
    }
    for (number, record) in records.iter().enumerate() {
        print_line("");
        print_wrapped("", &format!("{}. {}", number + 1, record.summary()));
        for (key, value) in &record.fields {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let label = format!("   {:<20} ", printable(key));
            print_wrapped(&label, &printable(&text));
        }
        print_line(&format!("   {:<20} {}", "file", record.file.display()));
    }
    Ok(())
}

fn not_found(id: &str, searched: usize) -> String {
    format!(
        "no record of request {id} in {searched} files; possible reasons: the file with the record was deleted; one \
         record stands for several requests without a valid credential; the request needed no decision, as with the \
         scheme bypass"
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Audit,
    AccessLog,
}

struct Record {
    source: Source,
    fields: Map<String, Value>,
    file: PathBuf,
}

impl Record {
    fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key)?.as_str()
    }

    fn time(&self) -> &str {
        self.text("time").unwrap_or_default()
    }

    /// Returns the event, its outcome and what it concerns, in one sentence. A line of the access log has no event.
    fn summary(&self) -> String {
        let text = |key: &str| self.text(key).map(printable);
        let mut summary = match self.source {
            Source::Audit => text("event").unwrap_or_else(|| "record".to_owned()),
            Source::AccessLog => "request in the access log".to_owned(),
        };
        let mut add = |before: &str, key: &str| {
            if let Some(value) = text(key) {
                summary.push_str(before);
                summary.push_str(&value);
            }
        };
        add(" ", "outcome");
        add(": ", "reason");
        add(", user ", "user");
        add(", service ", "service");
        add(", APPLID ", "applid");
        add(", ended as ", "termination");
        add(", at ", "time");
        summary
    }
}

/// Returns `base` and its rotated files that exist, the oldest first.
fn with_rotated(base: &Path) -> Vec<PathBuf> {
    let parent = base.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(parent.unwrap_or(Path::new("."))).into_iter().flatten();
    let name = base.file_name().unwrap_or_default().as_encoded_bytes();
    let numbered = entries.flatten().filter_map(|entry| {
        let file = entry.file_name();
        let digits = file.as_encoded_bytes().strip_prefix(name)?.strip_prefix(b".")?;
        let number: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
        Some((number, entry.path()))
    });
    let mut numbered: Vec<_> = numbered.filter(|(_, path)| path.is_file()).collect();
    numbered.sort_by(|(one, _), (other, _)| other.cmp(one));
    let current = base.is_file().then(|| base.to_owned());
    numbered.into_iter().map(|(_, path)| path).chain(current).collect()
}

/// Adds the records of the request in `file`. Lines that are not complete records are skipped.
fn search(source: Source, file: &Path, id: &str, records: &mut Vec<Record>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(file)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && read as u64 == MAX_LINE {
            skip_line(&mut reader)?;
            continue;
        }
        if records.len() < MAX_RECORDS && contains(&line, id.as_bytes()) {
            let fields = parse(&String::from_utf8_lossy(&line), id);
            records.extend(fields.map(|fields| Record { source, fields, file: file.to_owned() }));
        }
    }
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let (used, is_end) = match reader.fill_buf()? {
            [] => return Ok(()),
            bytes => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (bytes.len(), false),
            },
        };
        reader.consume(used);
        if is_end {
            return Ok(());
        }
    }
}

fn contains(line: &[u8], id: &[u8]) -> bool {
    line.windows(id.len()).any(|window| window == id)
}

/// Parses a line: a JSON object, or an event in the Common Event Format. Returns `None` if the line is not a record
/// of the request.
fn parse(line: &str, id: &str) -> Option<Map<String, Value>> {
    // Blanks at the end may belong to the last value of an event.
    let line = line.trim_end_matches(['\r', '\n']);
    if line.starts_with('{') {
        let fields: Map<String, Value> = serde_json::from_str(line).ok()?;
        return (fields.get("request_id")?.as_str()? == id).then_some(fields);
    }
    let mut fields = cef(line)?;
    if fields.get("externalId")?.as_str()? != id {
        return None;
    }
    // `Record::summary` needs the names that the fields have in the JSON format.
    for (of_cef, name) in [
        ("act", "outcome"),
        ("suser", "user"),
        ("destinationServiceName", "service"),
        ("rt", "time"),
    ] {
        if let Some(value) = fields.remove(of_cef) {
            fields.insert(name.to_owned(), value);
        }
    }
    Some(fields)
}

/// Parses an event in the Common Event Format. Returns the id of the event as `event`, and the extension: `key=value`
/// pairs, in which a value may contain blanks and [escapes](unescape).
fn cef(line: &str) -> Option<Map<String, Value>> {
    let mut header = line.get(line.find("CEF:")?..)?;
    let mut names = Vec::new();
    while names.len() < 7 {
        let end = unescaped(header, '|')?;
        names.push(&header[..end]);
        header = &header[end + 1..];
    }
    let mut fields = Map::new();
    // The ids of events contain no escapes.
    fields.insert("event".to_owned(), names[4].into());
    let mut rest = header;
    while let Some(equals) = unescaped(rest, '=') {
        let key = rest[..equals].trim().to_owned();
        let after = &rest[equals + 1..];
        // The value ends before the word that is the next key.
        let next = unescaped(after, '=');
        let end = next.map_or(after.len(), |next| after[..next].rfind(' ').unwrap_or(next));
        fields.insert(key, unescape(&after[..end]).into());
        rest = &after[end..];
        if next.is_none() {
            break;
        }
    }
    Some(fields)
}

/// Reverses the escapes that [`CefDevice`](tower_passticket::audit::CefDevice) writes in a value: `\\`, `\=`, `\n`,
/// `\r`, and `\u` with four hexadecimal digits. Keeps a backslash that begins no such escape.
fn unescape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('\\') {
        let (c, len) = match after.bytes().next() {
            Some(escaped @ (b'\\' | b'=')) => (char::from(escaped), 1),
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b'u') => match after.get(1..5).and_then(from_hexadecimal) {
                Some(c) => (c, 5),
                None => ('\\', 0),
            },
            _ => ('\\', 0),
        };
        text.push_str(before);
        text.push(c);
        rest = &after[len..];
    }
    text + rest
}

fn from_hexadecimal(digits: &str) -> Option<char> {
    // `from_str_radix` also accepts a sign.
    let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    char::from_u32(u32::from_str_radix(digits, 16).ok().filter(|_| are_digits)?)
}

/// Returns the position of the first `c` that is not escaped by a backslash.
fn unescaped(text: &str, c: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, found) in text.char_indices() {
        match found {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if found == c => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;
    use tower_passticket::{
        audit::{AuditRecord, CefDevice, Detail, Event},
        clock::Timestamp,
    };

    use super::*;

    #[test]
    fn records_of_all_files_are_found_and_incomplete_lines_are_skipped() {
        let directory = TempDir::new().unwrap();
        let base = directory.path().join("audit.jsonl");
        let line =
            |time: u8| format!("{{\"time\":\"{time}\",\"request_id\":\"abc\",\"path\":\"/\"}}\n");
        fs::write(&base, format!("{}{{\"time\":\"9\",\"request_id\":\"abc\"", line(3))).unwrap();
        fs::write(directory.path().join("audit.jsonl.1"), line(2)).unwrap();
        let other = "{\"time\":\"0\",\"request_id\":\"x\",\"path\":\"abc\"}\n";
        fs::write(directory.path().join("audit.jsonl.10"), format!("{other}{}", line(1))).unwrap();
        fs::write(directory.path().join("audit.jsonl.bak"), line(7)).unwrap();
        let files = with_rotated(&base);
        assert_eq!(files.len(), 3);
        let mut records = Vec::new();
        for file in &files {
            search(Source::Audit, file, "abc", &mut records).unwrap();
        }
        let times: Vec<_> = records.iter().map(Record::time).collect();
        assert_eq!(times, ["1", "2", "3"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("audit.jsonl");
        let long = "x".repeat(usize::try_from(MAX_LINE).unwrap() * 2 + 5);
        fs::write(&file, format!("{long}\n{{\"request_id\":\"abc\"}}\n")).unwrap();
        let mut records = Vec::new();
        search(Source::Audit, &file, "abc", &mut records).unwrap();
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn the_extension_of_an_event_is_parsed() {
        let line = "CEF:0|passticket-proxy|passticket-proxy|1|authentication|authentication refused|5|rt=Nov 30 \
                    externalId=abc reason=out\\=of scope suser=USER";
        let fields = parse(line, "abc").unwrap();
        assert_eq!(fields["externalId"], "abc");
        assert_eq!(fields["reason"], "out=of scope");
        assert_eq!(fields["user"], "USER");
        assert_eq!(fields["time"], "Nov 30");
        assert!(parse(line, "ab").is_none());
        assert!(parse("CEF:0|a|b", "abc").is_none());
    }

    #[test]
    fn escapes_are_reversed_and_other_backslashes_are_kept() {
        for (value, want) in [
            (r"a\\nb", r"a\nb"),
            (r"a\nb\rc", "a\nb\rc"),
            (r"\\\n", "\\\n"),
            (r"a\=b\\=", r"a=b\="),
            (r"a\u0085b\u2028", "a\u{85}b\u{2028}"),
            (r"a\\u0085", r"a\u0085"),
            (r"\u00", r"\u00"),
            (r"\u+085", r"\u+085"),
            (r"\ud800", r"\ud800"),
            (r"\u00ä5", r"\u00ä5"),
            (r"\x\", r"\x\"),
        ] {
            assert_eq!(unescape(value), want, "{value}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn each_text_of_an_event_is_read_back(
            host in "(\\PC|[\\x00-\\x20\\\\=|\u{85}\u{2028}\u{2029}]| act=|\\\\n){0,30}",
            why in "(\\PC|[\\x00-\\x20\\\\=|\u{85}\u{2028}\u{2029}]| act=|\\\\u0085){0,30}",
        ) {
            let device = CefDevice::new("a|b", "c\\", "1").with_host(&host);
            let detail = Detail::Registration { instance: "a".into(), why: why.as_str().into() };
            let record = AuditRecord::succeeded(Event::Registration, Timestamp::from_secs(1));
            let fields = cef(&device.line(&record.with_detail(detail))).unwrap();
            prop_assert_eq!(&fields["event"], "registration");
            prop_assert_eq!(fields["dvchost"].as_str(), Some(host.as_str()));
            prop_assert_eq!(&fields["act"], "success");
            prop_assert_eq!(fields["msg"].as_str(), Some(why.as_str()));
        }
    }
}
