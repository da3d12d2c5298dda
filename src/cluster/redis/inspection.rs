//! Checks how Redis and Sentinel are set up. Sentinel is the program that watches the servers of Redis.

use std::fmt;

use redis::RedisError;

use super::{
    coordinator::INSPECT,
    failure::{Failure, text_of},
    place::{ANSWER_LIMIT, RedisPlace},
    primary::{self, Primary},
    reply::{self, Info},
    settings::Source,
};
use crate::{
    clock::Clock,
    cluster::coordinator::{CoordinatorError, CoordinatorFuture, LeaseRecord},
    revocation::RecordKind,
};

/// The lowest version that supports all needed commands. `XRANGE` with an exclusive start is new in 6.2.
const MIN_VERSION: (u32, u32) = (6, 2);

/// The maximum value of `min-replicas-max-lag`: the seconds for which a primary accepts writes after it has lost its
/// replicas.
const MAX_LAG: u64 = 2;

/// Before Sentinel replaces a primary, it must wait for `min-replicas-max-lag` plus this number of seconds. The margin
/// has three parts of one second each. The primary counts the lag in whole seconds. It checks the lag only once a second.
/// Sentinel measures its waiting time from the last answer of the primary to a ping, and it sends a ping once a second,
/// so its waiting time may begin a second before the connection is lost.
const SENTINEL_MARGIN: u64 = 3;

/// The maximum difference of the clocks of Redis and of this machine, in milliseconds. PassTickets of replay-protected
/// services use the clock of Redis.
const MAX_CLOCK_DIFFERENCE: u64 = 1000;

/// The setup of Redis, and the settings that must be changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The host and port of the primary.
    pub primary: String,
    /// The version of Redis.
    pub version: String,
    /// The number of connected replicas.
    pub replicas: u64,
    /// The time of Redis minus the time of this machine, in milliseconds. 0 if the answer of Redis has no time.
    pub clock_difference: i64,
    /// The number of records of the site.
    pub records: u64,
    /// The memory for the records, the log and the leases of the site in bytes. `None` if `MEMORY USAGE` fails, for
    /// example because the node's Redis user may not run it.
    pub memory: Option<u64>,
    /// The leases in Redis. The node of a lease may have ended.
    pub leases: Vec<LeaseRecord>,
    /// The problems of the setup, and the settings that could not be checked.
    pub findings: Vec<Finding>,
}

/// The severity of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Revocations can be lost, or calls will fail.
    Error,
    /// The setting should be corrected.
    Warning,
    /// The setting could not be checked.
    NotKnown,
}

/// A problem of the setup of Redis, or a setting that could not be checked. `Display` writes the problem and the
/// remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The version is too old.
    OldVersion(String),
    /// Redis removes keys when its memory is full.
    Evicts(String),
    /// There are replicas or Sentinels, but `min-replicas-to-write` or `min-replicas-max-lag` is 0. So a primary that
    /// has lost its replicas still accepts writes.
    WritesWithoutReplica,
    /// A primary that has lost some of its replicas still accepts writes, although one of the lost replicas may already
    /// be the new primary.
    WritesWithSomeReplicas {
        /// `min-replicas-to-write`.
        needed: u64,
        /// The number of replicas.
        replicas: u64,
    },
    /// A primary that has lost its replicas accepts writes for this number of seconds.
    LongLag(u64),
    /// Sentinel replaces a primary so early that the old primary may still accept writes.
    EarlyFailover {
        /// The lowest `down-after-milliseconds` of the Sentinels.
        down_after: u64,
        /// The lowest permitted `down-after-milliseconds`.
        at_least: u64,
    },
    /// Redis has no append-only file, so a restart may lose data.
    NotPersistent,
    /// The clock of Redis differs from the clock of this machine by this number of milliseconds.
    ClockDiffers(i64),
    /// The node has no password for Redis.
    NoPassword,
    /// A setting or a value could not be read. In most cases, the node's Redis user may not run the command.
    NotKnown {
        /// The name of the setting or value that is not known.
        what: &'static str,
        /// The command for which the node's Redis user needs the permission.
        command: &'static str,
    },
}

impl Finding {
    /// Returns the severity.
    pub fn severity(&self) -> Severity {
        match self {
            Self::OldVersion(_)
            | Self::Evicts(_)
            | Self::WritesWithoutReplica
            | Self::WritesWithSomeReplicas { .. }
            | Self::EarlyFailover { .. } => Severity::Error,
            Self::LongLag(_) | Self::NotPersistent | Self::ClockDiffers(_) | Self::NoPassword => {
                Severity::Warning
            }
            Self::NotKnown { .. } => Severity::NotKnown,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldVersion(version) => {
                let (major, minor) = MIN_VERSION;
                write!(f, "Redis has version {version}; use {major}.{minor} or later")
            }
            Self::Evicts(policy) => write!(
                f,
                "maxmemory-policy is {policy}, so Redis removes data when its memory is full, and a new node would \
                 lack revocations; set maxmemory-policy noeviction"
            ),
            Self::WritesWithoutReplica => f.write_str(
                "after a failover, the old primary may still accept writes, which are then lost; on each server, set \
                 min-replicas-to-write to the number of replicas, and min-replicas-max-lag to 2",
            ),
            Self::WritesWithSomeReplicas { needed, replicas } => write!(
                f,
                "there are {replicas} replicas, but min-replicas-to-write is {needed}. After a failover, an old \
                 primary that still has {needed} of its replicas may accept writes, which are then lost. Set \
                 min-replicas-to-write to {replicas} on each server (SENTINEL RESET makes a Sentinel forget replicas \
                 that no longer exist)"
            ),
            Self::EarlyFailover { down_after, at_least } => write!(
                f,
                "Sentinel replaces a primary that has not answered for {down_after} ms, although the old primary may \
                 then still accept writes; set down-after-milliseconds to {at_least} or more on each Sentinel"
            ),
            Self::LongLag(seconds) => write!(
                f,
                "a primary that has lost its replicas accepts writes for another {seconds} s; set \
                 min-replicas-max-lag to {MAX_LAG}"
            ),
            Self::NotPersistent => f.write_str(
                "Redis has no append-only file, so a restart may lose data; set appendonly yes",
            ),
            Self::ClockDiffers(millis) => write!(
                f,
                "the clock of Redis differs by {millis} ms from the clock of this machine; synchronize the clocks (NTP)"
            ),
            Self::NoPassword => f.write_str(
                "the node logs in to Redis without a password, so any program that reaches Redis can change the \
                 data; create a user with the command below, and set this user (in redis.url, or \
                 redis.sentinel.user) and redis.passwordFile",
            ),
            Self::NotKnown { what, command } => {
                write!(
                    f,
                    "{what} could not be read, because the node's Redis user may not run {command}"
                )
            }
        }
    }
}

impl RedisPlace {
    /// Checks how Redis is set up, and changes nothing.
    ///
    /// # Errors
    /// [`CoordinatorError`], for example if Redis cannot be reached, or if the user does not have the permissions of
    /// [`acl_command`](super::acl_command).
    pub fn inspect(&self, clock: impl Clock) -> CoordinatorFuture<Inspection> {
        let shared = self.shared.clone();
        let mut keys = vec![self.keys().leases()];
        keys.extend(RecordKind::ALL.map(|kind| self.keys().image(kind)));
        let log = self.keys().log();
        Box::pin(async move {
            let call = async |primary: &Primary| {
                let failure = |error: RedisError| Failure::new(&shared.name, &error);
                let connection = &primary.connection;
                let server = connection.info("server").await.map_err(failure)?;
                let replication = connection.info("replication").await.map_err(failure)?;
                let memory = connection.info("memory").await.map_err(failure)?;
                let persistence = connection.info("persistence").await.map_err(failure)?;
                let time = connection.command(&redis::cmd("TIME")).await.map_err(failure)?;
                let now = clock.now();
                let contents = connection.run(&INSPECT, &keys, &[]).await.map_err(failure)?;
                let (records, leases) = reply::contents(&contents).map_err(|problem| {
                    let (place, reason) = (shared.name.clone(), problem.0.into());
                    let error = CoordinatorError::Malformed { place, reason };
                    Failure { error, is_of_connection: false }
                })?;

                let mut used = Some(0);
                for key in keys.iter().chain([&log]) {
                    let usage =
                        connection.command(redis::cmd("MEMORY").arg("USAGE").arg(key)).await;
                    used =
                        used.zip(usage.ok().map(|it| reply::size(&it))).map(|(sum, it)| sum + it);
                }
                let config = connection
                    .command(redis::cmd("CONFIG").arg("GET").arg("min-replicas-*"))
                    .await
                    .ok();
                let config = |name| config.as_ref().and_then(|answer| reply::setting(answer, name));
                let sentinels = primary::ask_sentinels(&shared.name, &shared.settings).await;
                let sentinels: Vec<_> = sentinels.into_iter().flatten().collect();

                let millis = reply::millis(&time).and_then(|it| i64::try_from(it).ok());
                let here = i64::try_from(now.as_millis()).ok();
                let mut inspection = Inspection {
                    primary: connection.endpoint().to_string(),
                    version: text_of(server.get("redis_version").unwrap_or_default().as_bytes()),
                    replicas: field(&replication, "connected_slaves").unwrap_or(0),
                    clock_difference: millis.zip(here).map_or(0, |(there, here)| there - here),
                    records,
                    memory: used,
                    leases,
                    findings: Vec::new(),
                };
                let settings = Settings {
                    policy: memory.get("maxmemory_policy").map(|it| text_of(it.as_bytes())),
                    waits_for_replicas: replication.get("min_slaves_good_slaves").is_some(),
                    needed_replicas: config("min-replicas-to-write"),
                    lag: config("min-replicas-max-lag"),
                    replicas_at_sentinel: sentinels.iter().filter_map(|it| it.replicas).max(),
                    down_after: sentinels.iter().filter_map(|it| it.down_after).min(),
                    is_persistent: persistence.get("aof_enabled") == Some("1"),
                    has_sentinel: matches!(shared.settings.address.source, Source::Sentinel { .. }),
                    has_password: shared.settings.password.is_some(),
                };
                inspection.findings = findings(&inspection, &settings);
                Ok(inspection)
            };
            shared.call(&shared.calls, ANSWER_LIMIT, call).await
        })
    }
}

struct Settings {
    policy: Option<String>,
    waits_for_replicas: bool,
    needed_replicas: Option<u64>,
    lag: Option<u64>,
    replicas_at_sentinel: Option<u64>,
    down_after: Option<u64>,
    is_persistent: bool,
    has_sentinel: bool,
    has_password: bool,
}

fn findings(inspection: &Inspection, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |finding, is_found| {
        if is_found {
            findings.push(finding);
        }
    };
    let version = &inspection.version;
    let mut numbers = version.split('.').map(|it| it.parse::<u32>().unwrap_or(0));
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    add(Finding::OldVersion(version.clone()), number < MIN_VERSION);
    match &settings.policy {
        Some(policy) => add(Finding::Evicts(policy.clone()), policy != "noeviction"),
        None => add(Finding::NotKnown { what: "maxmemory-policy", command: "INFO memory" }, true),
    }
    let has_replicas = settings.has_sentinel || inspection.replicas > 0;
    if has_replicas && settings.waits_for_replicas {
        match settings.lag {
            Some(lag) => add(Finding::LongLag(lag), lag > MAX_LAG),
            None => {
                let what = "min-replicas-max-lag";
                add(Finding::NotKnown { what, command: "CONFIG GET" }, true);
            }
        }
        let replicas = inspection.replicas.max(settings.replicas_at_sentinel.unwrap_or(0));
        match settings.needed_replicas {
            Some(needed) => {
                add(Finding::WritesWithSomeReplicas { needed, replicas }, needed < replicas);
            }
            None => {
                let what = "min-replicas-to-write";
                add(Finding::NotKnown { what, command: "CONFIG GET" }, replicas > 1);
            }
        }
    }
    if let Some(down_after) = settings.down_after {
        let at_least = settings.lag.unwrap_or(MAX_LAG).saturating_add(SENTINEL_MARGIN);
        let at_least = at_least.saturating_mul(1000);
        add(Finding::EarlyFailover { down_after, at_least }, down_after < at_least);
    }
    add(Finding::WritesWithoutReplica, has_replicas && !settings.waits_for_replicas);
    add(Finding::NotPersistent, !settings.is_persistent);
    let difference = inspection.clock_difference;
    add(Finding::ClockDiffers(difference), difference.unsigned_abs() > MAX_CLOCK_DIFFERENCE);
    add(Finding::NoPassword, !settings.has_password);
    let what = "the memory for the data of the site";
    add(Finding::NotKnown { what, command: "MEMORY USAGE" }, inspection.memory.is_none());
    findings
}

fn field(info: &Info, name: &str) -> Option<u64> {
    info.get(name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            policy: Some("noeviction".to_owned()),
            waits_for_replicas: true,
            needed_replicas: Some(1),
            lag: Some(2),
            replicas_at_sentinel: Some(1),
            down_after: Some(5000),
            is_persistent: true,
            has_sentinel: true,
            has_password: true,
        }
    }

    fn inspection() -> Inspection {
        Inspection {
            primary: "a:6379".to_owned(),
            version: "6.2.0".to_owned(),
            replicas: 1,
            clock_difference: -1000,
            records: 0,
            memory: Some(0),
            leases: Vec::new(),
            findings: Vec::new(),
        }
    }

    #[test]
    fn each_wrong_setting_is_found() {
        assert_eq!(findings(&inspection(), &settings()), []);
        let single = Inspection { replicas: 0, ..inspection() };
        let has_sentinel = false;
        let alone = Settings {
            waits_for_replicas: false,
            needed_replicas: None,
            lag: None,
            replicas_at_sentinel: None,
            down_after: None,
            has_sentinel,
            ..settings()
        };
        assert_eq!(findings(&single, &alone), []);
        for version in ["6.0.16", "5.0.14", "", "x"] {
            let old = Inspection { version: version.to_owned(), ..inspection() };
            assert_eq!(findings(&old, &settings()), [Finding::OldVersion(version.to_owned())]);
        }
        let wrong = |change: fn(&mut Settings)| {
            let mut settings = settings();
            change(&mut settings);
            findings(&inspection(), &settings)
        };
        let lru = || "allkeys-lru".to_owned();
        assert_eq!(wrong(|it| it.policy = Some("allkeys-lru".into())), [Finding::Evicts(lru())]);
        assert_eq!(wrong(|it| it.waits_for_replicas = false), [Finding::WritesWithoutReplica]);
        let early = |down_after, at_least| Finding::EarlyFailover { down_after, at_least };
        assert_eq!(wrong(|it| it.lag = Some(10)), [Finding::LongLag(10), early(5000, 13_000)]);
        assert_eq!(wrong(|it| it.down_after = Some(4999)), [early(4999, 5000)]);
        // The arguments of `some` are `min-replicas-to-write` and the number of replicas. This is the larger of two
        // numbers: the connected replicas, and the replicas that a Sentinel knows.
        let some = |needed, replicas| Finding::WritesWithSomeReplicas { needed, replicas };
        assert_eq!(wrong(|it| it.replicas_at_sentinel = Some(2)), [some(1, 2)]);
        let three = Inspection { replicas: 3, ..inspection() };
        assert_eq!(findings(&three, &settings()), [some(1, 3)]);
        for (needed, expected) in [(2, vec![some(2, 3)]), (3, vec![]), (4, vec![])] {
            let settings = Settings { needed_replicas: Some(needed), ..settings() };
            assert_eq!(findings(&three, &settings), expected);
        }
        let unknown = findings(&three, &Settings { needed_replicas: None, ..settings() });
        let what = "min-replicas-to-write";
        assert_eq!(unknown, [Finding::NotKnown { what, command: "CONFIG GET" }]);
        assert_eq!(wrong(|it| it.is_persistent = false), [Finding::NotPersistent]);
        assert_eq!(wrong(|it| it.has_password = false), [Finding::NoPassword]);
        let lag = wrong(|it| it.lag = None);
        assert!(matches!(lag[..], [Finding::NotKnown { command: "CONFIG GET", .. }]), "{lag:?}");
        let late = Inspection { clock_difference: -1001, ..inspection() };
        assert_eq!(findings(&late, &settings()), [Finding::ClockDiffers(-1001)]);
    }
}
