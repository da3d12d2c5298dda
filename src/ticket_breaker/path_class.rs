//! Classes of paths: all paths that begin in the same way are one class.

/// The paths of a route that begin in the same way. Two paths have the same class if their first segments after the
/// prefix of the route begin with the same eight bytes. Segments of fewer than eight bytes must be equal. For example,
/// with the prefix `/svc/api/v1`, the paths `/svc/api/v1/jobs/1` and `/svc/api/v1/jobs/2` have the same class. The path
/// `/svc/api/v1/files` has another class.
///
/// A service may check PassTickets on some paths only. So if a service accepts a PassTicket on a path, this success
/// counts only for the class of this path. Single paths are not recorded, because a client can invent any number of
/// paths.
///
/// All nodes and all versions of the program compute the same number for the same class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PathClass(u64);

/// The part of a [`PathClass`] that is the same for all paths of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteSeed(u64);

impl RouteSeed {
    /// `prefix` is the prefix of the route, such as `/svc/api/v1`.
    pub(crate) fn new(prefix: &str) -> Self {
        // FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/. The operator chooses the prefixes, so no attacker can
        // choose two prefixes with the same hash.
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(prefix.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

impl PathClass {
    /// Returns the class of a path below the prefix of its route, such as `/jobs/1`.
    #[inline]
    pub(crate) fn of(route: RouteSeed, below: &str) -> Self {
        let below = below.strip_prefix('/').unwrap_or(below).as_bytes();
        let mut first = match below.first_chunk() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => {
                let mut padded = [b'/'; 8];
                padded[..below.len()].copy_from_slice(below);
                u64::from_le_bytes(padded)
            }
        };
        // Finds the first byte that is `/`: https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord
        const ONES: u64 = u64::from_le_bytes([1; 8]);
        let slashes = first ^ (ONES * b'/' as u64);
        let zeros = slashes.wrapping_sub(ONES) & !slashes & (ONES << 7);
        if zeros != 0 {
            let bits = zeros.trailing_zeros() & !7;
            first &= (1_u64 << bits) - 1;
        }
        Self(first.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32) ^ route.0)
    }

    #[cfg(feature = "remote")]
    /// The class of tickets that the gateway sends in its own requests, such as a login at z/OSMF. These requests have
    /// no path of a client.
    pub(crate) fn own(purpose: &str) -> Self {
        Self(RouteSeed::new(purpose).0)
    }

    /// Returns the class of the same paths for the method `OPTIONS`.
    #[cold]
    pub(super) const fn of_options(self) -> Self {
        Self(!self.0)
    }

    /// Different classes may have the same bit.
    #[inline]
    pub(super) const fn bit(self) -> u64 {
        1 << (self.0 >> 58)
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_eight_bytes_of_the_first_segment_make_the_class() {
        let class = |below| PathClass::of(RouteSeed::new("/svc/api/v1"), below);
        for (one, other, is_same) in [
            ("/jobs/1", "/jobs/2", true),
            ("/jobs", "/jobs/", true),
            ("jobs", "/jobs/x", true),
            ("/jobs", "/files", false),
            ("/jobs", "/job", false),
            ("/restjobs/a", "/restjobs/b", true),
            ("/restjobsX", "/restjobsY", true),
            ("/restfiles", "/restjobs", false),
            ("", "/", true),
            ("/", "//x", true),
            ("/a", "/", false),
            ("/a/bcdefgh", "/a/xyz", true),
            ("/ab", "/a/b", false),
        ] {
            assert_eq!(class(one) == class(other), is_same, "{one} {other}");
        }
        assert_ne!(class("/jobs"), PathClass::of(RouteSeed::new("/other/api/v1"), "/jobs"));
    }

    #[test]
    fn the_number_is_the_same_in_all_processes() {
        let class = PathClass::of(RouteSeed::new("/svc/api/v1"), "/jobs");
        assert_eq!(class.to_bits(), CLASS_OF_JOBS);
    }

    const CLASS_OF_JOBS: u64 = 0x16B0710E08170E89;
}
