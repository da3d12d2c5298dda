//! Reads answers of Redis. The answers are untrusted bytes.

use std::{collections::HashMap, num::NonZeroU64, sync::Arc};

use redis::Value;

use super::failure::text_of;
use crate::{
    cluster::coordinator::{Followed, LeaseRecord, LogEntry, LogPosition, NodeName, Renewed},
    revocation::{Record, RecordKind, RecordParts},
};

/// The maximum number of lines of an answer to `INFO`.
const MAX_INFO_LINES: usize = 2000;

/// The answer to `INFO`.
#[derive(Debug, Default)]
pub(super) struct Info(HashMap<String, String>);

impl Info {
    /// Reads the lines `name:value`, and ignores other lines.
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
    /// The number of the failover that made this server the primary. A later failover has a higher number.
    pub(super) epoch: u64,
    /// If the primary has not answered for this number of milliseconds, this Sentinel treats it as failed.
    pub(super) down_after: Option<u64>,
    /// The number of replicas that this Sentinel knows, including those that it cannot reach.
    pub(super) replicas: Option<u64>,
}

impl SentinelMaster {
    /// Reads the answer to `SENTINEL MASTER`: a list in which each name is followed by its value.
    pub(super) fn read(answer: &Value) -> Option<Self> {
        let Value::Array(parts) = answer else { return None };
        let field = |name: &str| {
            let mut pairs = parts.chunks_exact(2);
            let pair = pairs.find(|pair| bytes(&pair[0]) == Some(name.as_bytes()))?;
            std::str::from_utf8(bytes(&pair[1])?).ok()
        };
        let host = field("ip").filter(|host| !host.is_empty() && host.len() <= 253)?.to_owned();
        let port = field("port")?.parse().ok().filter(|port| *port > 0)?;
        Some(Self {
            host,
            port,
            epoch: field("config-epoch")?.parse().ok()?,
            down_after: field("down-after-milliseconds").and_then(decimal),
            replicas: field("num-slaves").and_then(decimal),
        })
    }
}

/// Returns whether the answer to `ROLE` comes from a primary.
pub(super) fn is_primary(answer: &Value) -> bool {
    let Value::Array(parts) = answer else { return false };
    parts.first().and_then(bytes) == Some(b"master")
}

/// Reads the seconds of the answer to `TIME`.
pub(super) fn seconds(answer: &Value) -> Option<u64> {
    let Value::Array(parts) = answer else { return None };
    std::str::from_utf8(bytes(parts.first()?)?).ok()?.parse().ok()
}

/// Reads the answer to `TIME`, which has seconds and microseconds, and returns milliseconds.
pub(super) fn millis(answer: &Value) -> Option<u64> {
    let Value::Array(parts) = answer else { return None };
    let micros: u64 = std::str::from_utf8(bytes(parts.get(1)?)?).ok()?.parse().ok()?;
    seconds(answer)?.checked_mul(1000)?.checked_add(micros / 1000)
}

/// Reads a number, such as the answer to `MEMORY USAGE`. Returns 0 if the number is negative, or if the answer is not a
/// number. For a key that does not exist, the answer is nil.
pub(super) fn size(answer: &Value) -> u64 {
    match answer {
        Value::Int(bytes) => u64::try_from(*bytes).unwrap_or(0),
        _ => 0,
    }
}

/// Reads the value of the setting `name` in the answer to `CONFIG GET`, if the value is a number.
pub(super) fn setting(answer: &Value, name: &str) -> Option<u64> {
    let Value::Array(parts) = answer else { return None };
    let mut pairs = parts.chunks_exact(2);
    text(&pairs.find(|pair| text(&pair[0]) == Some(name))?[1]).and_then(decimal)
}

/// Reads the id of a server process or of its data: 40 hexadecimal digits.
pub(super) fn server_id(text: &str) -> Option<Arc<str>> {
    let is_id = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| text.into())
}

pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.as_bytes()),
        Value::Okay => Some(b"OK"),
        _ => None,
    }
}

/// Says which part of an answer is malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem(pub(super) String);

impl Problem {
    fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The answer of the script `join`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joining {
    pub(super) is_new: bool,
    pub(super) epoch: Arc<str>,
    pub(super) replication_id: Arc<str>,
    pub(super) last: LogPosition,
}

pub(super) fn joining(answer: &Value) -> Result<Joining, Problem> {
    let [is_new, epoch, replication_id, last] = array(answer)?;
    let replication_id = text(replication_id).and_then(server_id);
    Ok(Joining {
        is_new: flag(is_new)?,
        epoch: text(epoch).and_then(read_epoch).ok_or_else(|| Problem::new("the key epoch"))?,
        replication_id: replication_id.ok_or_else(|| Problem::new("the replication id"))?,
        last: position(last)?,
    })
}

/// Reads an epoch: 32 hexadecimal digits.
pub(super) fn read_epoch(text: &str) -> Option<Arc<str>> {
    let is_epoch = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_epoch.then(|| text.into())
}

/// Reads a position in the log.
pub(super) fn position(answer: &Value) -> Result<LogPosition, Problem> {
    let position = text(answer).and_then(|text| text.parse().ok());
    position.ok_or_else(|| Problem::new("a position in the log"))
}

/// The answer of the script `follow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Following {
    pub(super) last: LogPosition,
    pub(super) followed: Followed,
}

pub(super) fn following(answer: &Value) -> Result<Following, Problem> {
    let [last, gap, entries] = array(answer)?;
    let last = position(last)?;
    if flag(gap)? {
        return Ok(Following { last, followed: Followed::Gap });
    }
    let entries = elements(entries)?.iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Following { last, followed: Followed::Entries(entries) })
}

fn entry(answer: &Value) -> Result<LogEntry, Problem> {
    let [id, fields] = array(answer)?;
    let position = position(id)?;
    let problem = || Problem(format!("the entry {position} of the key log"));
    let fields = elements(fields)?;
    let mut pairs = fields.chunks_exact(2);
    let mut next = |name: &[u8]| {
        let [key, value] = pairs.next()? else { return None };
        bytes(value).filter(|_| bytes(key) == Some(name))
    };
    let read = (|| {
        let kind = RecordKind::from_letter(next(b"k")?)?;
        let (key, value) = (next(b"id")?.to_vec(), next(b"v")?.to_vec());
        let is_of_now = match next(b"now")? {
            b"0" => false,
            b"1" => true,
            _ => return None,
        };
        let from = NodeName::new(std::str::from_utf8(next(b"from")?).ok()?).ok()?;
        let record = Record::from_parts(&RecordParts { kind, key, value, is_of_now }).ok()?;
        Some(LogEntry { position, from, record })
    })();
    read.filter(|_| fields.len() == 10).ok_or_else(problem)
}

/// Reads the answer of the script `image`, or of `HSCAN`. All records of this answer have the kind `kind`. Returns the
/// next cursor and the records.
pub(super) fn image(kind: RecordKind, answer: &Value) -> Result<(u64, Vec<Record>), Problem> {
    let [cursor, fields] = array(answer)?;
    let cursor = self::cursor(cursor)?;
    let fields = elements(fields)?;
    let record = |pair: &[Value]| {
        let [key, value] = pair else { return None };
        let (key, value) = (bytes(key)?.to_vec(), bytes(value)?.to_vec());
        Record::from_parts(&RecordParts { kind, key, value, is_of_now: false }).ok()
    };
    let records = fields.chunks(2).map(|pair| {
        record(pair).ok_or_else(|| {
            let field = pair.first().and_then(bytes).unwrap_or_default();
            let field = text_of(&field.escape_ascii().take(40).collect::<Vec<_>>());
            Problem(format!("the field {field} of the key image:{}; remove it", kind.letter()))
        })
    });
    Ok((cursor, records.collect::<Result<_, _>>()?))
}

/// Reads a cursor of `HSCAN`.
pub(super) fn cursor(answer: &Value) -> Result<u64, Problem> {
    text(answer).and_then(decimal).ok_or_else(|| Problem::new("a cursor"))
}

/// The answer of the script `renew`. `Stored` means that Redis has stored the lease. `Taken` means that another process
/// has a lease with the name of this node, and contains that lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    Stored(Renewed),
    Taken(LeaseRecord),
}

pub(super) fn renewal(node: &NodeName, answer: &Value) -> Result<Renewal, Problem> {
    let parts = elements(answer)?;
    match parts.first() {
        Some(Value::Int(1)) => {
            let [_, last, leases] = array(answer)?;
            let renewed = Renewed { last: position(last)?, leases: self::leases(leases)? };
            Ok(Renewal::Stored(renewed))
        }
        Some(Value::Int(0)) => {
            let [_, lease] = array(answer)?;
            Ok(Renewal::Taken(read_lease(node.clone(), lease)?))
        }
        _ => Err(Problem::new("the answer to a renewal")),
    }
}

pub(super) fn leases(answer: &Value) -> Result<Vec<LeaseRecord>, Problem> {
    let lease = |pair: &[Value]| {
        let [node, lease] = pair else { return Err(Problem::new("the key leases")) };
        let node = text(node).and_then(|name| NodeName::new(name).ok());
        read_lease(node.ok_or_else(|| Problem::new("a name in the key leases"))?, lease)
    };
    elements(answer)?.chunks(2).map(lease).collect()
}

/// Reads the answer of the script `inspect`. Returns the number of records and the leases.
pub(super) fn contents(answer: &Value) -> Result<(u64, Vec<LeaseRecord>), Problem> {
    let [records, leases] = array(answer)?;
    Ok((size(records), self::leases(leases)?))
}

/// Reads a lease from the text `incarnation number applied`.
fn read_lease(node: NodeName, answer: &Value) -> Result<LeaseRecord, Problem> {
    let read = || {
        let mut parts = text(answer)?.split(' ');
        let incarnation = parts.next().filter(|it| read_epoch(it).is_some())?.parse().ok()?;
        let number = NonZeroU64::new(decimal(parts.next()?)?)?;
        let applied = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some((incarnation, number, applied))
    };
    let Some((incarnation, number, applied)) = read() else {
        return Err(Problem(format!("the field {node} of the key leases; remove it")));
    };
    Ok(LeaseRecord { node, incarnation, number, applied })
}

fn array<const N: usize>(answer: &Value) -> Result<&[Value; N], Problem> {
    elements(answer)?.try_into().map_err(|_| Problem::new("the answer to a script"))
}

fn elements(answer: &Value) -> Result<&[Value], Problem> {
    match answer {
        Value::Array(elements) => Ok(elements),
        _ => Err(Problem::new("the answer to a script")),
    }
}

fn flag(answer: &Value) -> Result<bool, Problem> {
    match answer {
        Value::Int(0) => Ok(false),
        Value::Int(1) => Ok(true),
        _ => Err(Problem::new("the answer to a script")),
    }
}

/// Reads a number. A sign is an error.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal)
}

pub(super) fn text(answer: &Value) -> Option<&str> {
    std::str::from_utf8(bytes(answer)?).ok()
}

/// A fuzz target: calls the readers of this module with an answer.
///
/// # Panics
/// If a value is written as text, and the text cannot be read back.
#[cfg(feature = "fuzzing")]
pub fn read_answers(answer: &[u8]) {
    let Ok(answer) = redis::parse_redis_value(answer) else { return };
    let same =
        |record: &Record| assert_eq!(Record::from_parts(&record.parts()).as_ref(), Ok(record));
    let info = Info::read(&answer);
    assert!(info.get("run_id").and_then(server_id).is_none_or(|id| id.len() == 40));
    is_primary(&answer);
    assert!(millis(&answer).is_none_or(|millis| Some(millis / 1000) >= seconds(&answer)));
    if let Some(master) = SentinelMaster::read(&answer) {
        assert!(master.port > 0 && !master.host.is_empty());
    }
    if let Ok(Joining { last, .. }) = joining(&answer) {
        assert_eq!(last.to_string().parse(), Ok(last));
    }
    if let Ok(Following { followed: Followed::Entries(entries), .. }) = following(&answer) {
        entries.iter().for_each(|entry| same(&entry.record));
    }
    for kind in RecordKind::ALL {
        if let Ok((_, records)) = image(kind, &answer) {
            records.iter().for_each(same);
        }
    }
    let all = leases(&answer).or_else(|_| contents(&answer).map(|(_, leases)| leases));
    let text = |lease: &LeaseRecord| {
        let LeaseRecord { incarnation, number, applied, .. } = lease;
        Value::BulkString(format!("{incarnation} {number} {applied}").into_bytes())
    };
    for lease in all.unwrap_or_default() {
        assert_eq!(read_lease(lease.node.clone(), &text(&lease)).as_ref(), Ok(&lease));
    }
    if let Ok(node) = NodeName::new("a") {
        let _ = renewal(&node, &answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn list<const N: usize>(parts: [Value; N]) -> Value {
        Value::Array(parts.into())
    }

    #[test]
    fn leases_are_read_strictly() {
        let incarnation = "0123456789abcdef0123456789abcdef";
        let read = |lease: &str| leases(&list([text("a"), text(lease)]));
        let right = read(&format!("{incarnation} 7 5-0")).unwrap();
        assert_eq!((right[0].number.get(), right[0].applied), (7, LogPosition::new(5, 0)));
        for wrong in [
            "",
            incarnation,
            &format!("{incarnation} 7"),
            &format!("{incarnation} 0 5-0"),
            &format!("{incarnation} +7 5-0"),
            &format!("{incarnation} 7 5"),
            &format!("{incarnation} 7 5-0 "),
            &format!("{incarnation}  7 5-0"),
            "0123456789abcdef 7 5-0",
            "{0123456789abcdef0123456789abcdef} 7 5-0",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(leases(&list([text("a")])).is_err());
        assert!(leases(&list([text("a b"), text("")])).is_err());
        assert!(leases(&Value::Nil).is_err());
    }

    #[test]
    fn entries_are_read_strictly() {
        let fields = ["k", "u", "id", "USER", "v", "5", "now", "1", "from", "a"];
        let entry = |fields: &[&str]| {
            let fields = Value::Array(fields.iter().map(|it| text(it)).collect());
            following(&list([text("9-0"), Value::Int(0), list([list([text("9-0"), fields])])]))
        };
        let Followed::Entries(entries) = entry(&fields).unwrap().followed else { panic!("a gap") };
        assert!(matches!(entries[0].record, Record::RuleOfNow(_)));
        for index in 0..fields.len() {
            let mut wrong = fields;
            wrong[index] = "?";
            assert!(entry(&wrong).is_err(), "{wrong:?}");
        }
        assert!(entry(&fields[..8]).is_err());
        assert!(entry(&[&fields[..], &["x", "y"]].concat()).is_err());
        let gap = following(&list([text("9-0"), Value::Int(1), list([])])).unwrap();
        assert_eq!(gap.followed, Followed::Gap);
        assert!(following(&list([text("9-0"), Value::Int(2), list([])])).is_err());
    }

    #[test]
    fn the_answer_of_a_sentinel_is_read_strictly() {
        let answer = |port: &str| {
            let fields = ["name", "main", "ip", "10.0.0.1", "port", port, "config-epoch", "3"];
            let more = ["num-slaves", "2", "down-after-milliseconds", "5000"];
            let fields = fields.into_iter().chain(more).collect::<Vec<_>>();
            SentinelMaster::read(&Value::Array(fields.iter().map(|it| text(it)).collect()))
        };
        let master = answer("6380").unwrap();
        assert_eq!((master.host.as_str(), master.port, master.epoch), ("10.0.0.1", 6380, 3));
        assert_eq!((master.replicas, master.down_after), (Some(2), Some(5000)));
        assert_eq!(answer("0"), None);
        assert_eq!(answer("x"), None);
        assert_eq!(SentinelMaster::read(&Value::Nil), None);
    }
}
