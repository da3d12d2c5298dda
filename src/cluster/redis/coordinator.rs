//! Implements [`Coordinator`] with Redis: the records, the log, the leases and the term of a site are in Redis.

use std::{sync::Arc, time::Duration};

use redis::{RedisError, Value};
use uuid::Uuid;

use super::{
    failure::Failure,
    keys::SiteKeys,
    place::{RedisPlace, Server},
    primary::Primary,
    reply::{self, Problem, Renewal},
    script::Script,
};
use crate::{
    clock::Timestamp,
    cluster::coordinator::{
        Coordinator, CoordinatorError, CoordinatorFuture, Followed, ImageCursor, ImagePart,
        Incarnation, Joined, LeaseRecord, LogPosition, MAX_PUBLISHED, NodeName, PROTOCOL_VERSION,
        Renewed, Term,
    },
    revocation::{KEPT_AFTER_EXPIRY, Merge, Record, RecordKind},
    token::Validity,
};

/// The maximum number of entries in one answer of the log.
const MAX_ENTRIES: usize = 1000;

/// Returns about how many records the script `image` or `evict` reads in one call. For PATs, it reads fewer records,
/// because the record of a PAT can have thousands of services.
fn image_part(kind: RecordKind) -> u16 {
    match kind {
        RecordKind::Issued | RecordKind::AccessToken => 200,
        _ => 1000,
    }
}

/// About how many records one `HSCAN` outside of a script reads, for the kinds of records whose values are short.
const SCANNED: u16 = 5000;

/// The maximum time that a call waits for new entries.
const MAX_WAIT: Duration = Duration::from_secs(30);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Records are removed when they have not been needed for this time. The script `evict` uses the earlier of the node's
/// time and Redis's time. So a record is removed too early only if both clocks are ahead by more than this time. Even
/// then, a node whose clock is right keeps its copy.
const EVICTION_MARGIN: Duration = DAY.saturating_mul(7);

/// Makes the script `$name`. The parts that the script uses come before its own code.
macro_rules! script {
    ($name:literal, $($part:literal),*) => {
        Script::new($name, concat!($(include_str!(concat!($part, ".lua")),)* include_str!(concat!($name, ".lua"))))
    };
}

static JOIN: Script = script!("join", "last");
static PUBLISH: Script = script!("publish", "term", "last");
static FOLLOW: Script = script!("follow", "term", "last");
static TERM: Script = Script::new("term", include_str!("term.lua"));
static IMAGE: Script = script!("image", "term");
static RENEW: Script = script!("renew", "term", "last", "leases_of");
static LEASES: Script = script!("leases", "term", "leases_of");
static REMOVE: Script = script!("remove", "term");
static EVICT: Script = script!("evict", "term");
pub(super) static INSPECT: Script = script!("inspect", "leases_of");

/// The parts of a [`Term`]. The epoch identifies the data, and changes if the data was removed. The run id identifies
/// the process of Redis, because a restart may lose data. Redis changes the replication id when a replica becomes the
/// primary.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TermParts {
    epoch: Arc<str>,
    run_id: Arc<str>,
    replication_id: Arc<str>,
}

impl TermParts {
    fn read(term: &Term) -> Option<Self> {
        let mut parts = term.as_str().split('.');
        let epoch = reply::read_epoch(parts.next()?)?;
        let run_id = reply::server_id(parts.next()?)?;
        let replication_id = reply::server_id(parts.next()?)?;
        parts.next().is_none().then_some(Self { epoch, run_id, replication_id })
    }

    fn term(&self) -> Term {
        Term::new(&format!("{}.{}.{}", self.epoch, self.run_id, self.replication_id))
    }
}

impl RedisPlace {
    pub(crate) fn keys(&self) -> SiteKeys<'_> {
        SiteKeys(&self.shared.settings.site)
    }

    /// Runs a script that begins with `term.lua`.
    fn in_term(
        &self,
        script: &'static Script,
        keys: Vec<Vec<u8>>,
        term: &Term,
        args: Vec<Vec<u8>>,
    ) -> CoordinatorFuture<Value> {
        let (name, term) = (self.shared.name.clone(), TermParts::read(term));
        let mut all_keys = vec![self.keys().epoch()];
        all_keys.extend(keys);
        let other_term = CoordinatorError::OtherTerm { place: name };
        self.invoke_at(script, all_keys, move |server| {
            with_term(server, term, args).ok_or(other_term)
        })
    }

    /// Reads a part of the image, for a kind of records whose values are short. Calls `HSCAN` directly: a script would
    /// take many times as long, because it copies each value twice.
    fn scan_in_term(&self, kind: RecordKind, term: &Term, cursor: u64) -> CoordinatorFuture<Value> {
        let (shared, term) = (self.shared.clone(), TermParts::read(term));
        let keys = vec![self.keys().epoch()];
        let mut scan = redis::cmd("HSCAN");
        scan.arg(self.keys().image(kind)).arg(cursor).arg("COUNT").arg(SCANNED);
        Box::pin(async move {
            let failure = |error: RedisError| Failure::new(&shared.name, &error);
            let call = async |primary: &Primary| {
                let args = with_term(&primary.server(), term, Vec::new()).ok_or_else(|| {
                    let error = CoordinatorError::OtherTerm { place: shared.name.clone() };
                    Failure { error, is_of_connection: true }
                })?;
                // Redis runs the script after `HSCAN`. A term that has ended never comes back. So if the term is
                // current when the script runs, it was also current when Redis read the records.
                let (part, checked) = tokio::join!(
                    primary.connection.command(&scan),
                    primary.connection.run(&TERM, &keys, &args)
                );
                checked.and(part).map_err(failure)
            };
            shared.call(&shared.calls, shared.answer_limit(), call).await
        })
    }

    fn malformed(&self) -> impl Fn(Problem) -> CoordinatorError + use<> {
        let place = self.shared.name.clone();
        move |Problem(reason)| {
            let place = place.clone();
            CoordinatorError::Malformed { place, reason: reason.into() }
        }
    }
}

/// Returns the arguments of a script that begins with `term.lua`. Returns `None` if `term` is `None`, or is a term of
/// another server.
fn with_term(
    server: &Server<'_>,
    term: Option<TermParts>,
    args: Vec<Vec<u8>>,
) -> Option<Vec<Vec<u8>>> {
    let TermParts { epoch, run_id, replication_id } = term?;
    let mut all = vec![epoch.as_bytes().to_vec(), replication_id.as_bytes().to_vec()];
    all.extend(args);
    (*run_id == *server.run_id).then_some(all)
}

impl Coordinator for RedisPlace {
    fn join(&self, lease: Duration) -> CoordinatorFuture<Joined> {
        self.shared.set_lease(lease);
        let site = self.keys();
        let keys = vec![site.epoch(), site.version(), site.log(), site.lease_time()];
        let lease_key: Arc<str> = String::from_utf8_lossy(&site.lease_time()).into();
        let epoch = Uuid::new_v4().simple().to_string();
        let (version, lease_time) = (PROTOCOL_VERSION.to_string(), lease.as_millis().to_string());
        let args = vec![epoch.into_bytes(), version.into_bytes(), lease_time.into_bytes()];
        let (shared, malformed) = (self.shared.clone(), self.malformed());
        Box::pin(async move {
            let call = async |primary: &Primary| {
                let answer = primary.connection.run(&JOIN, &keys, &args).await;
                let answer = answer.map_err(|error| Failure::new(&shared.name, &error))?;
                Ok((primary.run_id.clone(), answer))
            };
            let joined = shared.call(&shared.calls, shared.answer_limit(), call).await;
            let (run_id, answer) = joined.map_err(|error| match error {
                CoordinatorError::OtherLease { place, found, .. } => {
                    CoordinatorError::OtherLease { place, key: lease_key, found, own: lease }
                }
                error => error,
            })?;
            let reply::Joining { is_new, epoch, replication_id, last } =
                reply::joining(&answer).map_err(malformed)?;
            let term = TermParts { epoch, run_id, replication_id }.term();
            Ok(Joined { term, last, is_new })
        })
    }

    fn publish(
        &self,
        term: Term,
        from: NodeName,
        records: Vec<Record>,
    ) -> CoordinatorFuture<LogPosition> {
        debug_assert!(records.len() <= MAX_PUBLISHED, "the caller splits its records");
        let mut keys = vec![self.keys().log()];
        keys.extend(RecordKind::ALL.map(|kind| self.keys().image(kind)));
        let mut args = Vec::with_capacity(1 + 5 * records.len());
        args.push(from.as_str().into());
        for record in records {
            let parts = record.parts();
            let merge: &[u8] = match parts.kind.merge() {
                Merge::Larger => b"larger",
                Merge::First => b"first",
                Merge::Newest => b"newest",
            };
            let is_always_appended: &[u8] = if parts.is_of_now { b"1" } else { b"0" };
            let kind = parts.kind.letter().into();
            args.extend([
                kind,
                merge.to_vec(),
                parts.key,
                parts.value,
                is_always_appended.to_vec(),
            ]);
        }
        let (answer, malformed) = (self.in_term(&PUBLISH, keys, &term, args), self.malformed());
        Box::pin(async move { reply::position(&answer.await?).map_err(malformed) })
    }

    fn follow(
        &self,
        term: Term,
        after: LogPosition,
        wait: Duration,
    ) -> CoordinatorFuture<Followed> {
        let wait = wait.clamp(Duration::from_millis(1), MAX_WAIT);
        let after_text = after.to_string();
        let mut waiting = redis::cmd("XREAD");
        // This `XREAD` only waits for an entry. Its answer does not say whether the term is still current, so the
        // script reads the entries again.
        waiting.arg("COUNT").arg(1).arg("BLOCK").arg(wait.as_millis().to_string());
        waiting.arg("STREAMS").arg(self.keys().log()).arg(&after_text);
        let keys = vec![self.keys().epoch(), self.keys().log()];
        let args = vec![after_text.into_bytes(), MAX_ENTRIES.to_string().into_bytes()];
        let (shared, malformed) = (self.shared.clone(), self.malformed());
        let term = TermParts::read(&term);
        Box::pin(async move {
            let other_term = || CoordinatorError::OtherTerm { place: shared.name.clone() };
            let failure = |error: RedisError| Failure::new(&shared.name, &error);
            let read = |answer: &Value| {
                reply::following(answer).map_err(|problem| Failure {
                    error: malformed(problem),
                    is_of_connection: false,
                })
            };
            let call = async |primary: &Primary| {
                let args = with_term(&primary.server(), term, args)
                    .ok_or_else(|| Failure { error: other_term(), is_of_connection: true })?;
                let follow = || primary.connection.run(&FOLLOW, &keys, &args);
                let following = read(&follow().await.map_err(failure)?)?;
                let is_empty = following.followed == Followed::Entries(Vec::new());
                if !is_empty || after > following.last {
                    return Ok(following);
                }
                // Redis runs the script when `XREAD` has ended.
                let (waited, answer) = tokio::join!(primary.connection.command(&waiting), follow());
                read(&waited.and(answer).map_err(failure)?)
            };
            let following =
                shared.call(&shared.waiting, shared.answer_limit() + wait, call).await?;
            if after > following.last { Err(other_term()) } else { Ok(following.followed) }
        })
    }

    fn image(&self, term: Term, cursor: Option<ImageCursor>) -> CoordinatorFuture<ImagePart> {
        let malformed = self.malformed();
        let Some((kind, cursor)) = read_cursor(cursor) else {
            let problem = Problem("the cursor is not one of this program, such as t:5".to_owned());
            return Box::pin(async move { Err(malformed(problem)) });
        };
        let answer = match kind {
            RecordKind::Issued | RecordKind::AccessToken => {
                let numbers = [cursor, image_part(kind).into()];
                let args = numbers.map(|number| number.to_string().into_bytes()).into();
                self.in_term(&IMAGE, vec![self.keys().image(kind)], &term, args)
            }
            _ => self.scan_in_term(kind, &term, cursor),
        };
        Box::pin(async move {
            let (cursor, records) = reply::image(kind, &answer.await?).map_err(malformed)?;
            Ok(ImagePart { records, next: next_cursor(kind, cursor) })
        })
    }

    fn renew(
        &self,
        term: Term,
        lease: LeaseRecord,
        replaced: Option<Incarnation>,
    ) -> CoordinatorFuture<Renewed> {
        let LeaseRecord { node, incarnation, number, applied } = lease;
        let args = vec![
            node.as_str().into(),
            incarnation.to_string().into_bytes(),
            format!("{number} {applied}").into_bytes(),
            replaced.map(|replaced| replaced.to_string()).unwrap_or_default().into_bytes(),
        ];
        let keys = vec![self.keys().log(), self.keys().leases()];
        let (answer, malformed) = (self.in_term(&RENEW, keys, &term, args), self.malformed());
        Box::pin(async move {
            match reply::renewal(&node, &answer.await?).map_err(malformed)? {
                Renewal::Stored(renewed) => Ok(renewed),
                Renewal::Taken(lease) => Err(CoordinatorError::NameTaken { name: node, lease }),
            }
        })
    }

    fn leases(&self, term: Term) -> CoordinatorFuture<Vec<LeaseRecord>> {
        let keys = vec![self.keys().leases(), self.keys().asked()];
        let answer = self.in_term(&LEASES, keys, &term, Vec::new());
        let malformed = self.malformed();
        Box::pin(async move { reply::leases(&answer.await?).map_err(malformed) })
    }

    fn remove(&self, term: Term, lease: LeaseRecord) -> CoordinatorFuture<()> {
        let LeaseRecord { node, incarnation, number, applied } = lease;
        let value = format!("{incarnation} {number} {applied}").into_bytes();
        let args = vec![node.as_str().into(), value];
        let answer = self.in_term(&REMOVE, vec![self.keys().leases()], &term, args);
        Box::pin(async move { answer.await.map(|_| ()) })
    }

    fn evict(
        &self,
        term: Term,
        now: Timestamp,
        cursor: Option<ImageCursor>,
    ) -> CoordinatorFuture<Option<ImageCursor>> {
        let malformed = self.malformed();
        let Some((kind, cursor)) = read_cursor(cursor) else {
            let problem = Problem("the cursor is not one of this program, such as t:5".to_owned());
            return Box::pin(async move { Err(malformed(problem)) });
        };
        let Some(needed) = needed_for(kind) else {
            return Box::pin(async move { Ok(next_cursor(kind, 0)) });
        };
        let numbers = [cursor.into(), image_part(kind).into(), now.as_millis().into()];
        let numbers = numbers.into_iter().chain([needed.as_millis()]);
        let mut args = vec![kind.letter().into()];
        args.extend(numbers.map(|number| number.to_string().into_bytes()));
        let answer = self.in_term(&EVICT, vec![self.keys().image(kind)], &term, args);
        Box::pin(async move {
            let cursor = reply::cursor(&answer.await?).map_err(malformed)?;
            Ok(next_cursor(kind, cursor))
        })
    }
}

/// Returns how long Redis keeps a record of this kind after its time: the expiry of a token, or the time of a rule.
/// `None` means that the record is never removed.
fn needed_for(kind: RecordKind) -> Option<Duration> {
    let rule = DAY * u32::from(Validity::MAX.days());
    match kind {
        RecordKind::Token | RecordKind::Issued => Some(EVICTION_MARGIN),
        RecordKind::User | RecordKind::Service => Some(rule + EVICTION_MARGIN),
        RecordKind::AccessToken => Some(KEPT_AFTER_EXPIRY + EVICTION_MARGIN),
        RecordKind::Salt => None,
    }
}

/// Splits a cursor, such as `t:5`, into the kind of records and the cursor of Redis. If `cursor` is `None`, returns the
/// start of the first kind. Returns `None` if the text is not a cursor.
fn read_cursor(cursor: Option<ImageCursor>) -> Option<(RecordKind, u64)> {
    let Some(ImageCursor(text)) = cursor else { return Some((RecordKind::ALL[0], 0)) };
    let (letter, cursor) = text.split_once(':')?;
    Some((RecordKind::from_letter(letter.as_bytes())?, cursor.parse().ok()?))
}

fn next_cursor(kind: RecordKind, cursor: u64) -> Option<ImageCursor> {
    let kind = match cursor {
        0 => RecordKind::ALL.into_iter().skip_while(|other| *other != kind).nth(1)?,
        _ => kind,
    };
    Some(ImageCursor(format!("{}:{cursor}", kind.letter())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_read_kind_by_kind() {
        let (mut cursor, mut kinds) = (None, Vec::new());
        loop {
            let (kind, at) = read_cursor(cursor).unwrap();
            kinds.push((kind, at));
            match next_cursor(kind, if at == 0 && kind == RecordKind::User { 7 } else { 0 }) {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        let mut expected: Vec<_> = RecordKind::ALL.map(|kind| (kind, 0)).into();
        expected.insert(2, (RecordKind::User, 7));
        assert_eq!(kinds, expected);
        assert_eq!(read_cursor(Some(ImageCursor("y:0".to_owned()))), None);
        assert_eq!(read_cursor(Some(ImageCursor("t".to_owned()))), None);
    }

    #[test]
    fn a_term_has_three_parts() {
        let text = format!("{}.{}.{}", "a".repeat(32), "b".repeat(40), "c".repeat(40));
        let parts = TermParts::read(&Term::new(&text)).unwrap();
        assert_eq!(parts.term(), Term::new(&text));
        for wrong in ["", "a.b.c", &text[1..], &format!("{text}.x")] {
            assert_eq!(TermParts::read(&Term::new(wrong)), None, "{wrong}");
        }
    }
}
