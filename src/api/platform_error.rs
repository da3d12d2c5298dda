//! The errors of password checks by SAF, the z/OS interface to the security product.

use std::fmt;

use http::StatusCode;

use crate::{
    audit::ReasonCode,
    messages::{self, ApiMessage, Template},
};

/// The reason why z/OS refuses a login or could not check the password
/// (`docs/reference/error-messages.md#password-errors`). The z/OS function `__passwd` (BPX4PWD) defines the names and
/// numbers of these errors.
///
/// If z/OS refuses only a new password (EMVSPASSWORD), a provider must return
/// [`LoginError::NewPasswordRefused`](super::LoginError::NewPasswordRefused) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlatformError {
    /// EACCES: the password is wrong.
    WrongPassword,
    /// EINVAL: the user name or the password is malformed.
    Malformed,
    /// ESRCH: the user does not exist.
    UnknownUser,
    /// EMVSEXPIRE: the password has expired.
    PasswordExpired,
    /// EMVSSAFEXTRERR: the user is revoked.
    UserRevoked,
    /// EMVSSAF2ERR: an error in the security product.
    SecurityProduct,
    /// EMVSERR: an error in the environment of the operating system.
    Environment,
    /// ENOSYS: the system does not have the function.
    NotSupported,
    /// EPERM: the server that checks passwords has no permission to check them.
    NotPermitted,
    /// Any other error.
    Unknown,
}

impl PlatformError {
    /// Returns the error with this number. Returns `None` for the number of EMVSPASSWORD, which is about a new
    /// password.
    pub fn from_errno(errno: u32) -> Option<Self> {
        Some(match errno {
            111 => Self::WrongPassword,
            121 => Self::Malformed,
            143 => Self::UnknownUser,
            168 => Self::PasswordExpired,
            163 => Self::UserRevoked,
            164 => Self::SecurityProduct,
            157 => Self::Environment,
            134 => Self::NotSupported,
            139 => Self::NotPermitted,
            169 => return None,
            _ => Self::Unknown,
        })
    }

    /// Returns whether the login may have been a guess. It was no guess if the password was right but has expired, or
    /// if the password was not checked.
    pub(super) fn is_guess(self) -> bool {
        match self {
            Self::WrongPassword
            | Self::Malformed
            | Self::UnknownUser
            | Self::UserRevoked
            | Self::SecurityProduct => true,
            Self::PasswordExpired
            | Self::Environment
            | Self::NotSupported
            | Self::NotPermitted
            | Self::Unknown => false,
        }
    }

    pub(super) fn reason(self) -> ReasonCode {
        match self {
            Self::WrongPassword | Self::Malformed | Self::UnknownUser | Self::SecurityProduct => {
                ReasonCode::WrongPassword
            }
            Self::PasswordExpired => ReasonCode::PasswordExpired,
            Self::UserRevoked => ReasonCode::UserRevoked,
            Self::Environment | Self::NotSupported | Self::NotPermitted | Self::Unknown => {
                ReasonCode::LoginUnavailable
            }
        }
    }

    /// Returns the status and the message of API ML (Zowe's API Mediation Layer).
    pub(super) fn message(self) -> (StatusCode, ApiMessage) {
        let (refused, failed) = (StatusCode::UNAUTHORIZED, StatusCode::INTERNAL_SERVER_ERROR);
        let (status, template): (_, &'static Template) = match self {
            Self::WrongPassword => (refused, &messages::PLATFORM_WRONG_PASSWORD),
            Self::Malformed => (refused, &messages::PLATFORM_MALFORMED),
            Self::UnknownUser => (refused, &messages::PLATFORM_UNKNOWN_USER),
            Self::PasswordExpired => (refused, &messages::PLATFORM_PASSWORD_EXPIRED),
            Self::UserRevoked => (refused, &messages::PLATFORM_USER_REVOKED),
            Self::SecurityProduct => (refused, &messages::PLATFORM_ERROR),
            Self::Environment | Self::NotSupported | Self::NotPermitted => {
                (failed, &messages::PLATFORM_ERROR)
            }
            Self::Unknown => (failed, &messages::PLATFORM_UNKNOWN),
        };
        (status, ApiMessage::with(template, &[&self.to_string()]))
    }

    fn name_and_text(self) -> (&'static str, &'static str) {
        match self {
            Self::WrongPassword => {
                ("EACCES", "Permission is denied; the specified password is incorrect")
            }
            Self::Malformed => ("EINVAL", "Invalid user name or password is invalid"),
            Self::UnknownUser => {
                ("ESRCH", "The identity that was specified is not defined to the security product")
            }
            Self::PasswordExpired => {
                ("EMVSEXPIRE", "The password for the specified identity has expired")
            }
            Self::UserRevoked => ("EMVSSAFEXTRERR", "The username access has been revoked"),
            Self::SecurityProduct => ("EMVSSAF2ERR", "An error occurred in the security product"),
            Self::Environment => ("EMVSERR", "An MVS environmental error has been detected"),
            Self::NotSupported => ("ENOSYS", "The function is not supported on this system"),
            Self::NotPermitted => (
                "EPERM",
                "The calling address space is not authorized to use this service or a load from a \
                 not program-controlled library was done in the address space",
            ),
            Self::Unknown => ("UNKNOWN", "Unknown error"),
        }
    }
}

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, text) = self.name_and_text();
        write!(f, "{name}: {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_the_status_and_number_of_api_ml() {
        for (errno, status, number, name) in [
            (111, 401, "ZWEAT410E", "EACCES"),
            (121, 401, "ZWEAT416E", "EINVAL"),
            (143, 401, "ZWEAT415E", "ESRCH"),
            (168, 401, "ZWEAT412E", "EMVSEXPIRE"),
            (163, 401, "ZWEAT414E", "EMVSSAFEXTRERR"),
            (164, 401, "ZWEAT411E", "EMVSSAF2ERR"),
            (157, 500, "ZWEAT411E", "EMVSERR"),
            (134, 500, "ZWEAT411E", "ENOSYS"),
            (139, 500, "ZWEAT411E", "EPERM"),
            (0, 500, "ZWEAT409E", "UNKNOWN"),
            (4711, 500, "ZWEAT409E", "UNKNOWN"),
        ] {
            let error = PlatformError::from_errno(errno).unwrap();
            let (got, message) = error.message();
            assert_eq!((got.as_u16(), message.number()), (status, number), "{errno}");
            let start = format!("{number} The platform returned error: {name}: ");
            assert!(message.line().starts_with(&start), "{}", message.line());
            assert!(status == 401 || !error.is_guess(), "{errno}");
            let is_failure = error.reason() == ReasonCode::LoginUnavailable;
            assert_eq!(is_failure, status == 500, "{errno}");
        }
        assert_eq!(PlatformError::from_errno(169), None);
        assert!(!PlatformError::PasswordExpired.is_guess());
    }
}
