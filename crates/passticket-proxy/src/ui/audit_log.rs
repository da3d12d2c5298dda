//! Reads the last records of an audit file for administrators.
//!
//! The file may be large, and other threads append to it. So a read has limits: it begins at most [`WINDOW`] bytes
//! before the end of the file, and returns at most [`MAX_RECORDS`] records. At most [`MAX_READS`] reads run at a time.
//! They run on threads for blocking work, so they do not block the worker threads.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{sync::Semaphore, task::spawn_blocking};
use tower_passticket::audit::{Event, Outcome};

use super::form::Form;

const WINDOW: u64 = 2 * 1024 * 1024;

/// The maximum number of records on the page.
pub(super) const MAX_RECORDS: usize = 200;

/// The maximum number of reads that run at a time.
const MAX_READS: usize = 2;

/// The maximum length of the user id to look for, in characters. No user id is longer.
pub(super) const MAX_USER: usize = 8;

/// The destination of the audit records of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuditLog {
    Off,
    Files {
        /// The file with the decisions about users.
        decisions: PathBuf,
        /// The file with the requests that were not authenticated.
        unauthenticated: PathBuf,
    },
}

#[derive(Debug)]
pub(super) struct AuditReader {
    log: AuditLog,
    /// Each read holds a permit until the read has ended, even if the client no longer waits for the result.
    reads: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the audit log is off")]
    Off,
    #[error("the lines of the audit log are in the Common Event Format")]
    Cef,
    #[error("other administrators are reading the audit log")]
    Busy,
    #[error("{path} cannot be read: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AuditFileKind {
    #[default]
    Decisions,
    Unauthenticated,
}

impl AuditFileKind {
    pub(super) const ALL: [Self; 2] = [Self::Decisions, Self::Unauthenticated];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Decisions => "decisions",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AuditQuery {
    pub(super) file: AuditFileKind,
    /// The user or the target of the records. If it is empty, the records of all users are shown.
    pub(super) user: String,
    pub(super) events: Events,
    pub(super) outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Events {
    /// All events, except successful authentications, PassTickets and schemes. Each request causes such successes, so
    /// their records would hide all other records.
    #[default]
    Notable,
    All,
    Only(Event),
}

impl Events {
    /// The value for all events in the URL of the page.
    pub(super) const ALL: &str = "all";

    fn of(word: &str) -> Self {
        match Event::ALL.iter().find(|event| event.as_str() == word) {
            Some(event) => Self::Only(*event),
            None if word == Self::ALL => Self::All,
            None => Self::Notable,
        }
    }

    fn accept(self, record: &Record) -> bool {
        let routine = [Event::Authentication, Event::Ticket, Event::Scheme];
        match self {
            Self::All => true,
            Self::Only(event) => record.event == event.as_str(),
            Self::Notable => {
                record.outcome.as_deref() != Some(Outcome::Success.as_str())
                    || routine.iter().all(|event| event.as_str() != record.event)
            }
        }
    }
}

/// A record. Its texts may come from clients.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    pub(super) time: String,
    pub(super) event: String,
    pub(super) outcome: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) user: Option<String>,
    pub(super) target: Option<String>,
    pub(super) service: Option<String>,
    pub(super) applid: Option<String>,
    pub(super) client: Option<String>,
    pub(super) peer: Option<String>,
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) request_id: Option<String>,
    /// The number of requests that the record stands for, or the number of lost records.
    pub(super) count: Option<NonZeroU64>,
    /// The other fields.
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// The newest records of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    /// Whether the file has older records that were not searched.
    pub(super) has_older: bool,
    /// The number of lines that are no records, for example because a crash has cut them off.
    pub(super) unreadable: usize,
}

impl AuditQuery {
    /// Reads the query of a URL. An unknown word counts as absent.
    pub(super) fn of(form: &Form) -> Self {
        let find = |name: &str| form.get(name).trim();
        let file = AuditFileKind::ALL.into_iter().find(|file| file.word() == find("file"));
        Self {
            file: file.unwrap_or_default(),
            user: find("user").chars().take(MAX_USER).collect::<String>().to_uppercase(),
            events: Events::of(find("event")),
            outcome: Outcome::ALL.iter().copied().find(|it| it.as_str() == find("outcome")),
        }
    }

    fn accepts(&self, record: &Record) -> bool {
        let is_user = |user: &Option<String>| user.as_deref() == Some(&*self.user);
        (self.user.is_empty() || is_user(&record.user) || is_user(&record.target))
            && self.events.accept(record)
            && self.outcome.is_none_or(|it| Some(it.as_str()) == record.outcome.as_deref())
    }
}

impl AuditReader {
    pub(super) fn new(log: AuditLog) -> Self {
        Self { log, reads: Arc::new(Semaphore::new(MAX_READS)) }
    }

    /// Finds the newest records.
    ///
    /// # Errors
    /// [`ReadError`] if there is no audit log, if its lines are in the Common Event Format, if too many reads run, or
    /// if the file cannot be read.
    pub(super) async fn find(&self, query: AuditQuery) -> Result<Found, ReadError> {
        let path = match (&self.log, query.file) {
            (AuditLog::Off, _) => return Err(ReadError::Off),
            (AuditLog::Files { decisions, .. }, AuditFileKind::Decisions) => decisions,
            (AuditLog::Files { unauthenticated, .. }, AuditFileKind::Unauthenticated) => {
                unauthenticated
            }
        };
        let path = path.clone();
        let permit = self.reads.clone().try_acquire_owned().map_err(|_| ReadError::Busy)?;
        let failed = path.clone();
        let read = spawn_blocking(move || {
            let _permit = permit;
            let tail = tail(&path, WINDOW)?;
            Ok((!tail.is_cef()).then(|| search(&tail, &query)))
        });
        // If the thread has panicked or was cancelled, the read has failed.
        let read = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let found = read.map_err(|source| ReadError::File { path: failed, source })?;
        found.ok_or(ReadError::Cef)
    }
}

struct Tail {
    bytes: Vec<u8>,
    /// Whether the file begins before these bytes.
    is_cut: bool,
}

impl Tail {
    /// Returns whether the last line is in the Common Event Format. The last line decides, because a file may also
    /// contain older lines in another format.
    fn is_cef(&self) -> bool {
        let lines = self.bytes.rsplit(|byte| *byte == b'\n');
        lines.filter(|line| !line.is_empty()).take(1).any(|line| line.starts_with(b"CEF:"))
    }
}

fn tail(path: &Path, window: u64) -> io::Result<Tail> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let start = len.saturating_sub(window);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    // The file may have grown since its length was read.
    file.take(window).read_to_end(&mut bytes)?;
    Ok(Tail { bytes, is_cut: start > 0 })
}

fn search(tail: &Tail, query: &AuditQuery) -> Found {
    let mut lines: Vec<_> = tail.bytes.split(|byte| *byte == b'\n').collect();
    // The text after the last line feed is empty, or a line that is being written.
    lines.pop();
    let first = usize::from(tail.is_cut).min(lines.len());
    let mut found = Found { has_older: tail.is_cut, ..Found::default() };
    for line in lines[first..].iter().rev().filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<Record>(line) {
            Ok(record) if query.accepts(&record) => {
                if found.records.len() == MAX_RECORDS {
                    found.has_older = true;
                    return found;
                }
                found.records.push(record);
            }
            Ok(_) => {}
            Err(_) => found.unreadable += 1,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> AuditQuery {
        AuditQuery::of(&Form::parse(text.as_bytes()).unwrap())
    }

    fn users(text: &str, is_cut: bool, filter: &str) -> Vec<String> {
        let tail = Tail { bytes: text.as_bytes().to_vec(), is_cut };
        let found = search(&tail, &query(filter));
        found.records.into_iter().map(|record| record.user.unwrap_or_default()).collect()
    }

    const LINES: &str = r#"{"time":"1","event":"login","outcome":"success","user":"A"}
{"time":"2","event":"login","outcome":"refused","user":"B","reason":"wrong-password"}
{"time":"3","event":"rule-made","outcome":"success","user":"C","target":"A","rule":{"kind":"user"}}
cut off
{"time":"3","event":"authentication","outcome":"success","user":"D"}
{"time":"4","event":"dropped","count":5}
{"time":"5","event":"login","outc"#;

    #[test]
    fn the_newest_records_are_first_and_filters_apply() {
        for (filter, want) in [
            ("", &["", "C", "B", "A"][..]),
            ("user=a", &["C", "A"]),
            ("event=login", &["B", "A"]),
            ("event=login&outcome=refused", &["B"]),
            ("event=all", &["", "D", "C", "B", "A"]),
            ("event=authentication", &["D"]),
            ("event=x&outcome=y&file=z", &["", "C", "B", "A"]),
            ("user=NOBODY", &[]),
        ] {
            assert_eq!(users(LINES, false, filter), want, "{filter}");
        }
        // If the file is cut, the first line may be only the end of a line.
        assert_eq!(users(LINES, true, ""), ["", "C", "B"]);
        let tail = Tail { bytes: LINES.as_bytes().to_vec(), is_cut: true };
        let found = search(&tail, &query(""));
        assert_eq!((found.has_older, found.unreadable), (true, 1));
        assert_eq!(found.records[1].more["rule"]["kind"], "user");
        let many = "{\"time\":\"1\",\"event\":\"login\"}\n".repeat(MAX_RECORDS + 1);
        let found = search(&Tail { bytes: many.into_bytes(), is_cut: false }, &query(""));
        assert_eq!((found.records.len(), found.has_older), (MAX_RECORDS, true));
    }

    #[test]
    fn only_the_end_of_a_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        std::fs::write(&path, "a\nb\nc\n").unwrap();
        for (window, bytes, is_cut) in [(100, "a\nb\nc\n", false), (3, "\nc\n", true)] {
            let tail = tail(&path, window).unwrap();
            assert_eq!((tail.bytes, tail.is_cut), (bytes.as_bytes().to_vec(), is_cut));
        }
        assert!(tail(&directory.path().join("missing"), 1).is_err());
    }

    #[tokio::test]
    async fn concurrent_reads_are_limited() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.jsonl");
        std::fs::write(&file, LINES).unwrap();
        let log = AuditLog::Files { decisions: file.clone(), unauthenticated: "missing".into() };
        let reader = AuditReader::new(log);
        assert_eq!(reader.find(query("")).await.unwrap().records.len(), 4);
        let error = reader.find(query("file=unauthenticated")).await.unwrap_err();
        assert!(error.to_string().starts_with("missing cannot be read: "), "{error}");
        let permits = reader.reads.acquire_many(2).await.unwrap();
        assert!(matches!(reader.find(query("")).await, Err(ReadError::Busy)));
        drop(permits);
        assert!(reader.find(query("")).await.is_ok());
        std::fs::write(&file, "CEF:0|a\n").unwrap();
        assert!(matches!(reader.find(query("")).await, Err(ReadError::Cef)));
        std::fs::write(&file, "").unwrap();
        assert_eq!(reader.find(query("")).await.unwrap(), Found::default());
        let off = AuditReader::new(AuditLog::Off);
        assert!(matches!(off.find(query("")).await, Err(ReadError::Off)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_search_never_panics(text in "[{}\":,a-z0-9\\[\\]\n]{0,80}|\\PC{0,40}", is_cut: bool) {
            let tail = Tail { bytes: text.into_bytes(), is_cut };
            let _ = search(&tail, &AuditQuery::default());
        }
    }
}
