//! The names of the keys in Redis. [`Coordinator`](crate::cluster::coordinator::Coordinator) explains the data of a
//! site.

use super::settings::SiteName;
use crate::revocation::RecordKind;

/// The keys of a site.
///
/// The part in braces is the hash tag: Redis Cluster keeps keys with the same hash tag on the same server, so that a
/// script can use them together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SiteKeys<'a>(pub(super) &'a SiteName);

impl SiteKeys<'_> {
    /// Returns a key of the site, such as `tp:{prod}:log`.
    pub(crate) fn key(&self, name: &str) -> Vec<u8> {
        format!("tp:{{{}}}:{name}", self.0.as_str()).into_bytes()
    }

    pub(super) fn epoch(&self) -> Vec<u8> {
        self.key("epoch")
    }

    pub(super) fn version(&self) -> Vec<u8> {
        self.key("version")
    }

    /// Returns the key of the lease time of the nodes. Its value is in milliseconds.
    pub(super) fn lease_time(&self) -> Vec<u8> {
        self.key("lease-time")
    }

    pub(super) fn log(&self) -> Vec<u8> {
        self.key("log")
    }

    pub(super) fn leases(&self) -> Vec<u8> {
        self.key("leases")
    }

    /// Returns the key that the script `leases` writes before it reads the leases. So a server that accepts no writes
    /// refuses the script.
    pub(super) fn asked(&self) -> Vec<u8> {
        self.key("asked")
    }

    pub(super) fn image(&self, kind: RecordKind) -> Vec<u8> {
        self.key(&format!("image:{}", kind.letter()))
    }
}
