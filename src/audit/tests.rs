//! Tests that audit records match their JSON schema, and tests of the audit file.

use std::{
    collections::HashMap,
    fs,
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use http::{Method, Uri};
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use test_support::{pki, tickets::user};

use super::{
    queue::{Put, Queue},
    writer::Writer,
    *,
};
use crate::{
    clock::{ManualClock, Timestamp},
    connection::{ConnectionInfo, Protocol, TrustedProxies},
    identity::{Fingerprint, PeerCertificate},
    metrics::MetricRegistry,
    passticket::{Applid, SafReturnCodes},
    revocation::Evicted,
    token::{Scopes, ServiceId, TokenFingerprint},
};

/// A sink for the tests of several modules. It stores the records, and asserts that each record matches the schema.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    records: Mutex<Vec<AuditRecord>>,
    pub(crate) is_unavailable: AtomicBool,
}

impl Collected {
    pub(crate) fn take(&self) -> Vec<AuditRecord> {
        std::mem::take(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AuditSink for Collected {
    fn record(&self, record: AuditRecord) {
        assert_matches_schema(&record.to_json());
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    fn is_available(&self) -> bool {
        !self.is_unavailable.load(SeqCst)
    }
}

static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("schema.json")).unwrap());

fn assert_matches_schema(line: &str) {
    let value = serde_json::from_str(line).unwrap();
    if let Err(problem) = check(&value, &SCHEMA) {
        panic!("{problem}: {line}");
    }
}

/// Checks a value against a schema. Supports only the keywords that the schema of the audit records contains. Any other
/// keyword is an error.
fn check(value: &Value, schema: &Value) -> Result<(), String> {
    for (keyword, want) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let pointer = want.as_str().unwrap().strip_prefix('#').unwrap();
                check(value, SCHEMA.pointer(pointer).unwrap())?;
                true
            }
            "oneOf" => {
                let results = want.as_array().unwrap().iter().map(|schema| check(value, schema));
                let (matching, errors): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
                if matching.len() != 1 {
                    let count = matching.len();
                    return Err(format!("{count} schemas of oneOf match instead of 1: {errors:?}"));
                }
                true
            }
            "type" => match want.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_u64() || value.is_i64(),
                other => return Err(format!("the type {other} is not supported")),
            },
            "const" => value == want,
            "enum" => want.as_array().unwrap().contains(value),
            "pattern" => value
                .as_str()
                .is_some_and(|text| Regex::new(want.as_str().unwrap()).unwrap().is_match(text)),
            "minimum" => value.as_u64() >= want.as_u64(),
            "maximum" => value.as_u64() <= want.as_u64(),
            "minItems" => value.as_array().map(Vec::len) >= want.as_u64().map(|n| n as usize),
            "items" => {
                value.as_array().unwrap().iter().try_for_each(|item| check(item, want))?;
                true
            }
            "required" => {
                let keys = want.as_array().unwrap();
                keys.iter().all(|key| value.get(key.as_str().unwrap()).is_some())
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object().unwrap();
                *want == json!(false)
                    && value.as_object().unwrap().keys().all(|key| known.contains_key(key))
            }
            "properties" => {
                let members = value.as_object().unwrap().iter();
                members
                    .filter_map(|(key, value)| Some((value, want.get(key)?)))
                    .try_for_each(|(value, schema)| check(value, schema))?;
                true
            }
            other => return Err(format!("the keyword {other} is not supported")),
        };
        if !holds {
            return Err(format!("{value} does not match {keyword} {want}"));
        }
    }
    Ok(())
}

const TIME: Timestamp = Timestamp::from_millis(1_800_000_000_001);

fn full_record(detail: Detail) -> AuditRecord {
    let der = pki::self_signed_with_name("rcgen self signed cert");
    let certificate = PeerCertificate::from_der(der).unwrap();
    let mut extensions = http::Extensions::new();
    extensions.insert(RequestId::next());
    let (peer, local) = ("[::ffff:192.0.2.7]:555", "127.0.0.1:10010");
    let connection =
        ConnectionInfo::new(peer.parse().unwrap(), local.parse().unwrap(), Protocol::Https);
    let mut headers = http::HeaderMap::new();
    headers.insert("x-forwarded-for", http::HeaderValue::from_static("::ffff:203.0.113.9"));
    let proxies = TrustedProxies::new(|ip| ip.to_string() == "192.0.2.7");
    extensions.insert(connection.with_trusted_proxies(&proxies, &headers));
    AuditRecord::failed(Event::RuleMade, ReasonCode::TicketFailed, TIME)
        .with_request(&Method::GET, &Uri::from_static("/files/\"x?query"), &extensions)
        .with_credential(CredentialKind::Certificate)
        .with_certificate(&certificate)
        .with_token_id(TokenFingerprint::of("a"))
        .with_issued_token_id(TokenFingerprint::of("b"))
        .with_user(user("USER"))
        .with_target(user("OTHER"))
        .with_service(&ServiceId::new("files").unwrap())
        .with_applid(Applid::new("ZOWEAPPL").unwrap())
        .with_codes(SafReturnCodes { saf: 8, racf: 16, reason: 32 })
        .with_detail(detail)
}

#[test]
fn a_line_contains_all_fields_of_the_record() {
    let record =
        full_record(Detail::Rule { kind: RuleKind::Service, up_to: Timestamp::from_secs(1) });
    let value: Value = serde_json::from_str(&record.to_json()).unwrap();
    let want = json!({
        "time": "2027-01-15T08:00:00.001Z",
        "event": "rule-made",
        "outcome": "error",
        "reason": "ticket-failed",
        "request_id": record.request_id.unwrap().to_string(),
        "peer": "192.0.2.7:555",
        "client": "203.0.113.9",
        "method": "GET",
        "path": "/files/\"x",
        "credential": "certificate",
        // This is the output of `printf a | sha256sum`.
        "token_id": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "issued_token_id": "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
        "certificate": {
            "subject": "CN=rcgen self signed cert",
            "sha256": Fingerprint::from(*record.certificate.as_ref().unwrap().sha256()).to_string(),
        },
        "user": "USER",
        "target": "OTHER",
        "service": "files",
        "applid": "ZOWEAPPL",
        "codes": {"saf": 8, "racf": 16, "reason": 32},
        "rule": {"kind": "service", "up_to": "1970-01-01T00:00:01.000Z"},
    });
    assert_eq!(value, want);

    let minimal = AuditRecord::succeeded(Event::Logout, TIME);
    assert_eq!(
        minimal.to_json(),
        r#"{"time":"2027-01-15T08:00:00.001Z","event":"logout","outcome":"success"}"#
    );
}

#[test]
fn all_details_match_the_schema_and_the_schema_lists_all_strings_of_the_enums() {
    let scopes = Scopes::parse(["a", "b"]).unwrap();
    let mut evicted = Evicted::default();
    (evicted.tokens, evicted.users, evicted.services) = (1, 2, 3);
    for detail in [
        Detail::Rule { kind: RuleKind::User, up_to: Timestamp::from_millis(u64::MAX) },
        Detail::Minted { scopes, days: 90 },
        Detail::Evicted(evicted),
        Detail::AccessToken { id: "0a".repeat(16).parse().unwrap() },
        Detail::Exchange(Box::default()),
        Detail::Exchange(Box::new(ExchangeDetail {
            subject: Some(CredentialKind::ExternalToken),
            actor_token: Some(TokenFingerprint::of("c")),
            actors: vec!["AGENT".into(), "https://idp.example.com#\"\n".into()],
        })),
        Detail::PasswordChange,
        Detail::Scheme { name: "apiKey" },
        Detail::Check { check: "compare the keys" },
        Detail::Registration { instance: "a:b:1\n".into(), why: "another host".into() },
    ] {
        assert_matches_schema(&full_record(detail).to_json());
    }
    for event in Event::ALL {
        let record = AuditRecord::succeeded(*event, TIME);
        assert_matches_schema(&record.to_json());
    }

    fn strings<T: ToString>(all: &[T]) -> Value {
        all.iter().map(ToString::to_string).collect()
    }
    let properties = &SCHEMA["$defs"]["record"]["properties"];
    assert_eq!(properties["event"]["enum"], strings(Event::ALL));
    assert_eq!(properties["outcome"]["enum"], strings(Outcome::ALL));
    assert_eq!(properties["reason"]["enum"], strings(ReasonCode::ALL));
    assert_eq!(properties["credential"]["enum"], strings(CredentialKind::ALL));
    assert_eq!(properties["rule"]["properties"]["kind"]["enum"], strings(RuleKind::ALL));

    // The function `check` must refuse lines that do not match the schema.
    for wrong in [
        json!({}),
        json!({"time": "2027", "event": "login", "outcome": "success"}),
        json!({"time": "2027-01-15T08:00:00.001Z", "event": "login"}),
        json!({"time": "2027-01-15T08:00:00.001Z", "event": "login", "outcome": "success", "x": 1}),
        json!({"time": "2027-01-15T08:00:00.001Z", "event": "dropped", "count": 0}),
    ] {
        assert!(check(&wrong, &SCHEMA).is_err(), "{wrong}");
    }
}

/// A record must be small, because each record is copied into the queue.
#[test]
fn a_record_has_at_most_320_bytes() {
    let size = size_of::<AuditRecord>();
    assert!(size <= 320, "{size}");
}

#[test]
fn no_record_is_made_without_a_sink() {
    Audit::none().record(|| unreachable!("there is no sink"));
    assert!(!Audit::default().is_on());
    assert!(Audit::none().is_available());
}

#[test]
fn a_handle_is_available_if_its_sink_is_available() {
    let sink = Arc::new(Collected::default());
    let audit = Audit::to(sink.clone());
    assert!(audit.is_available());
    sink.is_unavailable.store(true, SeqCst);
    assert!(!audit.is_available());
}

#[test]
fn by_default_20_full_files_of_100_mib_are_kept() {
    let AuditFileOptions { rotate_at, keep, .. } = AuditFileOptions::default();
    assert_eq!((rotate_at >> 20, keep.get()), (100, 20));
}

fn record(name: &str) -> AuditRecord {
    AuditRecord::succeeded(Event::Login, TIME).with_user(user(name))
}

/// Reads an audit log, whose lines must match the schema. Returns a text for each line: the user of the record, or the
/// number of dropped records.
fn logged(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| {
            assert_matches_schema(line);
            let line: Map<String, Value> = serde_json::from_str(line).unwrap();
            match line["event"].as_str() {
                Some("dropped") => format!("{} dropped", line["count"]),
                _ => line["user"].as_str().unwrap().to_owned(),
            }
        })
        .collect()
}

fn options() -> AuditFileOptions {
    AuditFileOptions::default().with_fsync(Fsync::Never)
}

fn log_path() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    (directory, path)
}

#[test]
fn closing_or_dropping_the_sink_writes_waiting_records() {
    let (_directory, path) = log_path();
    for fsync in [Fsync::Never, Fsync::EverySeconds(NonZeroU32::MIN), Fsync::EveryBatch] {
        let file = AuditFile::open(&path, options().with_fsync(fsync)).unwrap();
        let audit = Audit::to(Arc::new(file));
        audit.record(|| record("A"));
        drop(audit);
    }
    let file = AuditFile::open(&path, options()).unwrap();
    file.record(record("B"));
    assert!(file.is_available() && !file.has_ended() && file.health().is_up());
    file.close();
    file.close();
    assert!(!file.is_available() && file.has_ended());
    let reason = file.health().reason().unwrap().to_owned();
    assert!(reason.contains("has ended; restart the program"), "{reason}");
    file.record(record("LATE"));
    assert_eq!((file.written(), file.dropped(), file.write_errors()), (1, 1, 0));
    assert_eq!(logged(&path), ["A", "A", "A", "B"]);
}

#[cfg(unix)]
#[test]
fn the_file_has_mode_0600() {
    use std::os::unix::fs::PermissionsExt;

    let (_directory, path) = log_path();
    drop(AuditFile::open(&path, options()).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn open_fails_if_the_file_cannot_be_written() {
    let (directory, path) = log_path();
    let error = AuditFile::open(directory.path().join("no/such/folder"), options()).unwrap_err();
    assert!(error.to_string().contains("no/such/folder"), "{error}");
    assert!(AuditFile::open(directory.path(), options()).is_err());
    #[cfg(unix)]
    assert!(AuditFile::open("/dev/null", options()).is_err());

    let first = AuditFile::open(&path, options()).unwrap();
    let error = AuditFile::open(&path, options()).unwrap_err();
    assert!(error.to_string().contains("another process writes to the file"), "{error}");
    drop(first);
    AuditFile::open(&path, options()).unwrap();
}

/// During a takeover, the old process shares the file, and the new process opens it.
#[test]
fn a_shared_file_can_be_opened_by_another_process_and_both_append() {
    let (_directory, path) = log_path();
    let record = || AuditRecord::succeeded(Event::Ticket, Timestamp::from_secs(1));
    let old = AuditFile::open(&path, options()).unwrap();
    old.record(record());
    assert!(AuditFile::open(&path, options()).unwrap_err().is_busy());
    old.share();
    let new = loop {
        match AuditFile::open(&path, options()) {
            Ok(new) => break new,
            Err(error) => assert!(error.is_busy(), "{error}"),
        }
        thread::yield_now();
    };
    new.record(record());
    old.record(record());
    new.close();
    // The takeover has failed, so the old process locks the file again.
    old.unshare();
    while AuditFile::open(&path, options()).is_ok() {
        thread::yield_now();
    }
    old.close();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 3, "{text}");
    text.lines().filter(|line| !line.is_empty()).for_each(assert_matches_schema);
}

#[test]
fn open_adds_a_newline_to_an_incomplete_last_line() {
    let (_directory, path) = log_path();
    for (before, after) in [("", ""), ("{}\n", "{}\n"), ("{}\n{\"ti", "{}\n{\"ti\n")] {
        fs::write(&path, before).unwrap();
        let file = AuditFile::open(&path, options()).unwrap();
        file.record(record("A"));
        file.close();
        let text = fs::read_to_string(&path).unwrap();
        let line = text.strip_prefix(after).unwrap();
        assert!(line.starts_with("{\"time\"") && line.lines().count() == 1, "{text}");
    }
}

/// Returns a queue and its writer, which does not run yet.
fn queue_and_writer(path: &Path, options: AuditFileOptions) -> (Queue, Writer) {
    let (queue, records) = Queue::new(options.queue);
    let shared = queue.shared.clone();
    (queue, Writer::open(path, options, records, shared).unwrap())
}

/// Closes the queue and runs the writer until the queue is empty.
fn close_and_run(queue: &Queue, writer: Writer) {
    queue.shared.closed.store(true, SeqCst);
    writer.run();
    assert_eq!(queue.shared.waiting.load(SeqCst), 0);
}

#[test]
fn records_beyond_the_queue_are_dropped_and_reported() {
    let (_directory, path) = log_path();
    let clock = Arc::new(ManualClock::new(TIME));
    let options = options().with_queue_capacity(NonZeroUsize::new(4).unwrap()).with_clock(clock);
    let (queue, writer) = queue_and_writer(&path, options);
    let put: Vec<_> = ["A", "B", "C", "D", "E", "F"].map(|name| queue.put(record(name))).into();
    let taken = Put::Taken;
    assert_eq!(put, [taken, Put::HalfFull, taken, taken, Put::Dropped, Put::Dropped]);
    close_and_run(&queue, writer);
    assert_eq!(logged(&path), ["A", "B", "C", "D", "2 dropped"]);
    assert_eq!(queue.shared.written.load(SeqCst), 4);
    assert_eq!(queue.shared.dropped.load(SeqCst), 2);
}

#[test]
fn full_files_are_rotated_and_the_oldest_file_is_deleted() {
    let (directory, path) = log_path();
    let line = record("A").to_json().len() as u64 + 1;
    let options =
        options().with_rotate_at(2 * line + 1).with_kept_files(NonZeroU32::new(2).unwrap());
    for names in [["A", "B"], ["C", "D"], ["E", "F"], ["G", "H"]] {
        let (queue, writer) = queue_and_writer(&path, options.clone());
        for name in names {
            queue.put(record(name));
        }
        close_and_run(&queue, writer);
    }
    let numbered = |number| directory.path().join(format!("audit.jsonl.{number}"));
    assert_eq!(logged(&path), ["G", "H"]);
    assert_eq!(logged(&numbered(1)), ["E", "F"]);
    assert_eq!(logged(&numbered(2)), ["C", "D"]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
}

/// The rotation fails, because a directory that is not empty already has the new name.
#[test]
fn a_failed_rotation_loses_no_record() {
    let (directory, path) = log_path();
    fs::create_dir_all(directory.path().join("audit.jsonl.1/x")).unwrap();
    fs::write(&path, "{}\n").unwrap();
    let (queue, writer) =
        queue_and_writer(&path, options().with_rotate_at(1).with_kept_files(NonZeroU32::MIN));
    queue.put(record("A"));
    queue.put(record("B"));
    close_and_run(&queue, writer);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    assert_eq!(queue.shared.written.load(SeqCst), 2);
    assert!(queue.shared.write_errors.load(SeqCst) > 0);
}

#[test]
fn each_record_of_many_threads_is_written_or_counted_as_dropped() {
    const THREADS: u64 = 8;
    const EACH: u64 = 10_000;
    let (directory, path) = log_path();
    let options = options().with_rotate_at(1 << 20).with_kept_files(NonZeroU32::new(1000).unwrap());
    let file = AuditFile::open(&path, options).unwrap();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..EACH).for_each(|_| file.record(record("A"))));
        }
    });
    file.close();
    let lines: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            assert!(fs::metadata(&path).unwrap().len() <= 1 << 20);
            let text = fs::read_to_string(path).unwrap();
            text.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<Value>>()
        })
        .collect();
    let gaps = lines.iter().filter(|line| line["event"] == "dropped");
    let (gap_lines, dropped) = gaps.fold((0, 0), |(lines, dropped), gap| {
        (lines + 1, dropped + gap["count"].as_u64().unwrap())
    });
    assert_eq!(lines.len() as u64 - gap_lines, file.written());
    assert_eq!(dropped, file.dropped());
    assert_eq!(file.written() + file.dropped(), THREADS * EACH);
    assert_eq!(file.write_errors(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_record_is_one_line_with_any_certificate_subject(subject in "\\PC{0,40}|[\\x00-\\x20\"\\\\]{0,40}") {
        let der = pki::self_signed(|params| {
            params.distinguished_name.push(rcgen::DnType::OrganizationName, subject);
        });
        let certificate = PeerCertificate::from_der(der).unwrap();
        let record = record("A").with_certificate(&certificate);
        let line = record.to_json();
        prop_assert!(!line.contains(['\n', '\r']));
        assert_matches_schema(&line);
    }
}

#[test]
fn requests_without_a_credential_are_counted_in_the_second_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    // The queue has room for all records.
    let options =
        AuditFileOptions::default().with_queue_capacity(NonZeroUsize::new(10_000).unwrap());
    let files = AuditFiles::open(path("a.jsonl"), path("u.jsonl"), options).unwrap();
    let user = AuditRecord::succeeded(Event::Authentication, TIME).with_user(user("USER"));
    files.record(user.clone());
    for number in 0..5000 {
        let uri = format!("/{number}").parse().unwrap();
        let service = if number % 5 == 0 { "a" } else { "b" };
        files.record(
            AuditRecord::failed(Event::Authentication, ReasonCode::NoCredential, TIME)
                .with_request(&Method::GET, &uri, &http::Extensions::new())
                .with_service(&ServiceId::new(service).unwrap()),
        );
    }
    files.record(user);
    let text = MetricRegistry::new().with(Arc::new(files)).expose();
    let lines = |name| fs::read_to_string(path(name)).unwrap();
    assert_eq!(lines("a.jsonl").lines().count(), 2);
    let sums = lines("u.jsonl");
    let mut counts = HashMap::<String, u64>::new();
    for line in sums.lines() {
        assert_matches_schema(line);
        let line: Value = serde_json::from_str(line).unwrap();
        let service = line["service"].as_str().unwrap().to_owned();
        *counts.entry(service).or_default() += line["count"].as_u64().unwrap();
    }
    assert_eq!(counts, HashMap::from([("a".to_owned(), 1000), ("b".to_owned(), 4000)]));
    assert!(sums.lines().count() < 20, "{sums}");
    let dropped = "passticket_audit_records_dropped_total{file=\"unauthenticated\"} 0\n";
    assert!(text.contains(dropped), "{text}");
}
