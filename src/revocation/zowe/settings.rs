//! The settings for the Caching Service, and the facts that the gateway finds out about it at the start.

use std::{fmt, time::Duration};

use super::salt::SaltSpelling;

/// How revocations are read from Zowe's Caching Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadMode {
    /// All revocations are read regularly. A check reads memory only.
    Index {
        /// The time from the beginning of one call to the beginning of the next call.
        every: Duration,
    },
    /// The gateway asks the service about a PAT when a client uses the PAT. This needs API ML 3.6 or later.
    Query {
        /// How long the gateway reuses an answer. With 0, the gateway asks the service each time.
        memory: Duration,
    },
}

/// The settings of a [`CachingService`](super::CachingService).
///
/// ```
/// use std::time::Duration;
/// use tower_passticket::revocation::{CachingServiceSettings, ReadMode};
///
/// let mode = ReadMode::Index { every: Duration::from_secs(2) };
/// let settings = CachingServiceSettings::new(mode).with_writes();
/// assert!(settings.writes());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachingServiceSettings {
    mode: ReadMode,
    writes: bool,
    creates_salt: bool,
}

impl CachingServiceSettings {
    /// Creates settings with which the gateway reads revocations, and writes nothing.
    pub fn new(mode: ReadMode) -> Self {
        Self { mode, writes: false, creates_salt: false }
    }

    /// Makes the gateway also write its own revocations of PATs to the service, so that API ML applies them.
    #[must_use]
    pub fn with_writes(self) -> Self {
        Self { writes: true, ..self }
    }

    /// Makes the gateway create a salt if the service has none. API ML and the gateway hash the salt and a token
    /// together, and store the revocation of the token under this hash. Use this only if API ML has never used a PAT,
    /// and if the client certificate of the gateway has the subject of API ML's certificate. With two salts, neither
    /// side sees the revocations of the other.
    #[must_use]
    pub fn with_salt_creation(self) -> Self {
        Self { creates_salt: true, ..self }
    }

    /// Returns how revocations are read.
    pub fn mode(&self) -> ReadMode {
        self.mode
    }

    /// Returns whether the gateway writes its own revocations.
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// Returns whether the gateway creates a salt if there is none.
    pub fn creates_salt(&self) -> bool {
        self.creates_salt
    }
}

/// How the service stores revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CachingServiceLayout {
    /// One cache entry for each list, as in releases before 3.6. The service has no `/cache-query`.
    OneMapPerList,
    /// One cache entry for each revocation, as in release 3.6 and later. The service has `/cache-query`.
    OneEntryPerRevocation,
}

impl fmt::Display for CachingServiceLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneMapPerList => "one map for each list (before 3.6)",
            Self::OneEntryPerRevocation => "one entry for each revocation (3.6 or later)",
        })
    }
}

/// The facts that the gateway found out about the Caching Service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachingServiceFound {
    /// The partition to which the client certificate of the gateway belongs: a distinguished name.
    pub partition: String,
    /// The spelling of the salt.
    pub spelling: SaltSpelling,
    /// Whether the gateway has created the salt.
    pub is_new_salt: bool,
    /// How the service stores revocations.
    pub layout: CachingServiceLayout,
}

impl fmt::Display for CachingServiceFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text comes from another program and appears on terminals and in logs, so control characters are removed,
        // and a long text is cut.
        let partition = self.partition.chars().filter(|c| !c.is_control()).take(200);
        let partition: String = partition.collect();
        let created = if self.is_new_salt { ", created now" } else { "" };
        write!(
            f,
            "partition \"{partition}\"; salt: {}{created}; layout: {}",
            self.spelling, self.layout
        )
    }
}
