//! The lease that one process hands over to another process of the same node. The module [`cluster`](super) explains
//! leases.

use std::{fmt, str::FromStr};

use super::coordinator::Incarnation;

/// The version of the text form of [`HandedOverLease`].
const VERSION: &str = "1";

const MAX_LEN: usize = 100;

/// Identifies the lease of a node. The old process passes this value to the new process as text (`Display`, `FromStr`).
/// The new process then renews the same lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOverLease {
    pub(super) incarnation: Incarnation,
    pub(super) number: u64,
}

/// The text is not a [`HandedOverLease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is malformed, or has the format of a newer version of this program")]
pub struct HandedOverLeaseError;

impl fmt::Display for HandedOverLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION} {} {}", self.incarnation, self.number)
    }
}

impl FromStr for HandedOverLease {
    type Err = HandedOverLeaseError;

    fn from_str(text: &str) -> Result<Self, HandedOverLeaseError> {
        let text = text.get(..).filter(|text| text.len() <= MAX_LEN).ok_or(HandedOverLeaseError)?;
        let words: Vec<_> = text.split(' ').collect();
        let [VERSION, incarnation, number] = words[..] else { return Err(HandedOverLeaseError) };
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Self {
            incarnation: incarnation.parse().map_err(|_| HandedOverLeaseError)?,
            number: number.parse().ok().filter(|_| is_number).ok_or(HandedOverLeaseError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_back_and_other_texts_are_errors() {
        let lease = HandedOverLease { incarnation: Incarnation::new(), number: 42 };
        let text = lease.to_string();
        assert_eq!(text.parse(), Ok(lease));
        let of_version_2 = text.replacen('1', "2", 1);
        let long = format!("{text}{}", "0".repeat(100));
        for wrong in ["", "1", "1 x 5", &*of_version_2, &format!("{text} 1"), &long] {
            assert_eq!(wrong.parse::<HandedOverLease>(), Err(HandedOverLeaseError), "{wrong}");
        }
        assert!(text.replacen(" 42", " +42", 1).parse::<HandedOverLease>().is_err());
    }
}
