use tower_passticket::passticket::{Algorithm, Applid, KeyError, KeyProfile};

/// The cryptography that the program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CryptoPolicy {
    /// All algorithms.
    Any,
    /// Only algorithms that FIPS 140-3 permits. Legacy PassTickets use DES, which is not one of them.
    Fips,
}

impl CryptoPolicy {
    pub(super) const LEGACY_REFUSED: &str = "is legacy, which uses DES. This program was built with FIPS cryptography, which has \
         no DES; change the profile in the security product to an enhanced key, and write enhanced-upper or enhanced-mixed with \
         this key";

    /// Returns the policy of this program.
    pub const fn of_this_program() -> Self {
        if cfg!(passticket_fips) { Self::Fips } else { Self::Any }
    }

    /// Returns whether PassTickets of this algorithm may be made.
    pub(super) fn permits(self, algorithm: Algorithm) -> bool {
        self == Self::Any || algorithm != Algorithm::Legacy
    }

    pub(super) fn profile(
        self,
        applid: Applid,
        algorithm: Algorithm,
        key: &str,
    ) -> Result<KeyProfile, KeyError> {
        let profile = KeyProfile::from_hex(applid, algorithm, key)?;
        #[cfg(passticket_fips)]
        if let Some(source) = super::fips_key::FipsKey::from_hex(algorithm, key) {
            return Ok(KeyProfile::from_source(applid, source));
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fips_permits_no_des() {
        use Algorithm::{EnhancedMixed, EnhancedUpper, Legacy};
        for (policy, algorithm, want) in [
            (CryptoPolicy::Any, Legacy, true),
            (CryptoPolicy::Any, EnhancedUpper, true),
            (CryptoPolicy::Fips, Legacy, false),
            (CryptoPolicy::Fips, EnhancedUpper, true),
            (CryptoPolicy::Fips, EnhancedMixed, true),
        ] {
            assert_eq!(policy.permits(algorithm), want, "{policy:?} {algorithm}");
        }
    }
}
