//! Argon2 hashes of passwords (RFC 9106).

use std::{fmt, str::FromStr};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash};

use super::provider::Password;

/// The Argon2 hash of a password.
///
/// [`hash_password`] creates a hash. `parse` reads a stored hash, and refuses a hash against which no password can be
/// checked. The stored form is a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$…`, the format of the Password Hashing
/// Competition). `Debug` does not show the hash.
///
/// ```
/// use tower_passticket::api::{Password, PasswordHash, hash_password};
///
/// let hash = hash_password(&Password::new("validPassword"))?;
/// assert_eq!(format!("{hash:?}"), "PasswordHash(..)");
/// let stored = hash.expose();
/// assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
///
/// let read: PasswordHash = stored.parse()?;
/// assert_eq!(read.expose(), stored);
/// assert!("validPassword".parse::<PasswordHash>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct PasswordHash {
    hash: argon2::PasswordHash,
    /// The cost of one check: the memory in KiB, multiplied by the number of passes.
    cost: u64,
}

impl PasswordHash {
    /// Returns the PHC string. Store it in a file that only the gateway can read. Do not add it to logs or errors.
    pub fn expose(&self) -> String {
        self.hash.to_string()
    }

    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Checks `password`. The hashes are compared in constant time. With the default parameters, a check takes tens of
    /// milliseconds and 19 MiB of memory.
    ///
    /// # Errors
    /// [`password_hash::Error::PasswordInvalid`] if the password is wrong. Any other error means that
    /// the password could not be hashed.
    pub(super) fn verify(&self, password: &Password) -> Result<(), password_hash::Error> {
        Argon2::default().verify_password(password.expose(), &self.hash)
    }

    /// # Errors
    /// The error of the library if `hash` is not an Argon2 hash, or if a part of it is missing.
    fn new(hash: argon2::PasswordHash) -> Result<Self, password_hash::Error> {
        Algorithm::try_from(hash.algorithm.as_str())?;
        hash.version.map(Version::try_from).transpose()?;
        let params = Params::try_from(&hash)?;
        if hash.salt.is_none() {
            return Err(password_hash::Error::SaltInvalid);
        }
        if hash.hash.is_none() {
            return Err(password_hash::Error::OutputSize);
        }
        let cost = u64::from(params.m_cost()) * u64::from(params.t_cost());
        Ok(Self { hash, cost })
    }
}

impl FromStr for PasswordHash {
    type Err = PasswordHashError;

    fn from_str(phc: &str) -> Result<Self, PasswordHashError> {
        let hash = argon2::PasswordHash::new(phc).map_err(password_hash::Error::from);
        hash.and_then(Self::new).map_err(|error| PasswordHashError(error.to_string()))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// The text is not a complete and valid Argon2 hash. The error does not contain the text, which may be the password
/// itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Argon2 hash: {0}; use a PHC string that begins with $argon2id$")]
pub struct PasswordHashError(String);

/// Hashes a password with Argon2id, the default parameters and a random salt.
///
/// This function blocks for tens of milliseconds, so do not call it directly in an async task.
///
/// # Errors
/// [`HashError`] if there is not enough memory, or if the system provides no random bytes for the salt.
pub fn hash_password(password: &Password) -> Result<PasswordHash, HashError> {
    let hash = Argon2::default().hash_password(password.expose());
    hash.and_then(PasswordHash::new).map_err(HashError)
}

/// A password could not be hashed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the password cannot be hashed: {0}")]
pub struct HashError(#[source] password_hash::Error);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ$BDS4zUmOv7TxUDVpVjZ8Lg";

    #[test]
    fn hashes_that_are_incomplete_or_not_argon2_are_refused_and_not_shown() {
        let (without_hash, _) = GOOD.rsplit_once('$').unwrap();
        let (without_salt, _) = without_hash.rsplit_once('$').unwrap();
        assert_eq!(GOOD.parse::<PasswordHash>().unwrap().expose(), GOOD);
        for phc in [
            String::new(),
            "validPassword".to_owned(),
            "$2b$12$WApznUPhDubN0oeveSXHp.Rk0rMCDeOVzu4G1l3rnR6mQNEpnFgZe".to_owned(),
            GOOD.replace("argon2id", "scrypt"),
            GOOD.replace("v=19", "v=7"),
            GOOD.replace("m=16", "m=1"),
            GOOD.replace("t=2", "t=0"),
            without_hash.to_owned(),
            without_salt.to_owned(),
        ] {
            let error = phc.parse::<PasswordHash>().unwrap_err().to_string();
            assert!(phc.is_empty() || !error.contains(&phc), "{error}");
        }
    }

    #[test]
    fn hash_password_makes_an_argon2id_hash_that_verifies() {
        let hash = hash_password(&Password::new("p\u{e4}ss")).unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(hash.verify(&Password::new("p\u{e4}ss")), Ok(()));
        let wrong = hash.verify(&Password::new("pass"));
        assert_eq!(wrong, Err(password_hash::Error::PasswordInvalid));
        assert_eq!(format!("{hash:?}"), "PasswordHash(..)");
    }
}
