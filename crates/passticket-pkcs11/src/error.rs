//! The reasons why a key in a PKCS#11 token cannot be used.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cryptoki::{
    context::Function,
    error::{Error, RvError},
};
use passticket::KeySourceError;

use super::names::{KeyLabel, TokenLabel};

/// The reason why a key in a PKCS#11 token cannot be used. The text contains no PIN and no key. Most texts also say
/// what the operator must do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Pkcs11Error {
    /// The module of the token's vendor cannot be loaded or initialized.
    #[error(
        "the PKCS#11 module {} cannot be loaded: {reason}; write the path of the shared library of the token's vendor",
        path.display()
    )]
    #[non_exhaustive]
    Module {
        /// The shared library.
        path: PathBuf,
        /// The error of the operating system or of the module.
        reason: Arc<str>,
    },
    /// The module has no token with this label.
    #[error(
        "the PKCS#11 module {} has no token {token} (it has: {present}); connect the token, or correct its label",
        path.display()
    )]
    #[non_exhaustive]
    NoToken {
        /// The wanted token.
        token: TokenLabel,
        /// The shared library.
        path: PathBuf,
        /// The labels of the tokens that the module has.
        present: Arc<str>,
    },
    /// Several tokens have this label.
    #[error("{count} tokens have the label {token}; give each token a label of its own")]
    #[non_exhaustive]
    SeveralTokens {
        /// The label.
        token: TokenLabel,
        /// The number of tokens.
        count: usize,
    },
    /// The token does not accept the PIN. The PIN is not tried again, because more wrong PINs would lock the token.
    #[error(
        "the token {token} refuses the PIN ({code}). It is not tried again, because the token locks itself after some \
         wrong PINs; write the right PIN into the PIN file, and load the configuration again"
    )]
    #[non_exhaustive]
    PinRefused {
        /// The token.
        token: TokenLabel,
        /// The return code of the token.
        code: ReturnCode,
    },
    /// The token would lock itself after one more wrong PIN, so the PIN was not tried.
    #[error(
        "the token {token} would lock itself after one more wrong PIN, so the PIN was not tried; log in once with the \
         tool of the token's vendor, and write the same PIN into the PIN file"
    )]
    #[non_exhaustive]
    FinalPinTry {
        /// The token.
        token: TokenLabel,
    },
    /// The token has no key with this label.
    #[error(
        "the token {token} has no secret key with the label {key}; put one into it with: passticket-proxy pkcs11 import"
    )]
    #[non_exhaustive]
    NoKey {
        /// The token.
        token: TokenLabel,
        /// The label of the key.
        key: KeyLabel,
    },
    /// Several keys of the token have this label.
    #[error(
        "the token {token} has more than one secret key with the label {key}, so it is not clear which one makes \
         PassTickets; delete the others, or give them other labels"
    )]
    #[non_exhaustive]
    SeveralKeys {
        /// The token.
        token: TokenLabel,
        /// The label of the key.
        key: KeyLabel,
    },
    /// A new key cannot have this label, because another key has it.
    #[error(
        "the token {token} already has a secret key with the label {key}; choose another label, or delete the key"
    )]
    #[non_exhaustive]
    LabelTaken {
        /// The token.
        token: TokenLabel,
        /// The label of the key.
        key: KeyLabel,
    },
    /// The key is not protected, or cannot make PassTickets.
    #[error("the key {key} of the token {token} {fault}")]
    #[non_exhaustive]
    WrongKey {
        /// The token.
        token: TokenLabel,
        /// The label of the key.
        key: KeyLabel,
        /// The fault of the key.
        fault: KeyFault,
    },
    /// The token cannot compute HMAC-SHA-512.
    #[error(
        "the token {token} cannot make enhanced PassTickets, because it does not offer CKM_SHA512_HMAC for signatures; use \
         another token"
    )]
    #[non_exhaustive]
    NoMechanism {
        /// The token.
        token: TokenLabel,
    },
    /// The token does not accept a key of this length.
    #[error(
        "the token {token} takes keys of {min} to {max} bytes for CKM_SHA512_HMAC, but this key has {len}; make a key of 64 \
         bytes"
    )]
    #[non_exhaustive]
    KeyLength {
        /// The token.
        token: TokenLabel,
        /// The minimum length of a key that the token accepts, in bytes.
        min: usize,
        /// The maximum length, in bytes. 0 if the token states no maximum.
        max: usize,
        /// The length of the key, in bytes.
        len: usize,
    },
    /// A call of the module has failed.
    #[error("the token {token} does not work: {function} returned {code}")]
    #[non_exhaustive]
    Call {
        /// The token.
        token: TokenLabel,
        /// The function of the module.
        function: Arc<str>,
        /// The return code.
        code: ReturnCode,
    },
    /// The token has not answered in time, or the computation has panicked.
    #[error(
        "the token {token} has not answered within {} s; check the token and its connection",
        after.as_secs()
    )]
    #[non_exhaustive]
    TimedOut {
        /// The token.
        token: TokenLabel,
        /// The time limit.
        after: Duration,
    },
    /// Too much work waits for the token.
    #[error("the token {token} is overloaded: {waiting} PassTickets wait for it")]
    #[non_exhaustive]
    QueueFull {
        /// The token.
        token: TokenLabel,
        /// The maximum number of jobs that may wait for the token.
        waiting: usize,
    },
    /// The process exits, so no token is used any more.
    #[error("the process exits, so the token {token} is not used any more")]
    #[non_exhaustive]
    Ended {
        /// The token.
        token: TokenLabel,
    },
    /// The operating system has started no thread for the token.
    #[error(
        "no thread could be started for the token {token}; raise the limit of threads of this process"
    )]
    #[non_exhaustive]
    NoThread {
        /// The token.
        token: TokenLabel,
    },
}

/// A fault of a key in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// The value of the key can be read.
    #[error(
        "can be read (CKA_SENSITIVE is false), so it is no safer than a key in a file; make a new key with: \
             passticket-proxy pkcs11 import"
    )]
    NotSensitive,
    /// The key can leave the token, encrypted by another key.
    #[error(
        "can leave the token (CKA_EXTRACTABLE is true); set CKA_EXTRACTABLE to false with the tool of the vendor, or make \
             a new key with: passticket-proxy pkcs11 import"
    )]
    Extractable,
    /// The key cannot be used for HMAC.
    #[error(
        "cannot be used for signatures (CKA_SIGN is false); make a new key with: passticket-proxy pkcs11 import"
    )]
    CannotSign,
    /// The MAC of the key does not have 64 bytes.
    #[error(
        "makes MACs that are too short for PassTickets; the module does not compute HMAC-SHA-512"
    )]
    ShortMac,
    /// After the import, the MAC of the token differed from the MAC that this program computed with the same key.
    #[error(
        "makes other MACs than the same key in memory, so it was deleted again; the module does not compute HMAC-SHA-512 \
             correctly"
    )]
    OtherMac,
}

/// A return code of PKCS#11, such as `CKR_TOKEN_NOT_PRESENT`, or the text of another error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReturnCode(Arc<str>);

/// What an error of the module means for the session with the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The token refuses the PIN.
    PinRefused,
    /// The session may be unusable. A new session may work.
    Lost,
}

/// Classifies an error of the module. The codes for a removed token differ between modules. So every code that is not
/// about the PIN counts as a lost connection.
pub(super) fn meaning(error: &Error) -> Meaning {
    match error {
        Error::Pkcs11(
            RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked
            | RvError::UserPinNotInitialized,
            _,
        ) => Meaning::PinRefused,
        _ => Meaning::Lost,
    }
}

impl ReturnCode {
    pub(super) fn of(error: &Error) -> Self {
        let text = match error {
            Error::Pkcs11(code, _) => constant_name(&format!("{code:?}")),
            other => other.to_string(),
        };
        Self(text.into())
    }
}

/// Returns the name of the constant in the standard, such as `CKR_PIN_INCORRECT` for `PinIncorrect`.
fn constant_name(variant: &str) -> String {
    let mut name = "CKR".to_owned();
    for c in variant.chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

impl Pkcs11Error {
    /// Creates the error for a failed call with a token.
    pub(super) fn call(token: &TokenLabel, error: &Error) -> Self {
        let token = token.clone();
        let code = ReturnCode::of(error);
        match (meaning(error), error) {
            (Meaning::PinRefused, _) => Self::PinRefused { token, code },
            (Meaning::Lost, Error::Pkcs11(_, function)) => {
                Self::Call { token, function: function_name(*function).into(), code }
            }
            (Meaning::Lost, _) => Self::Call { token, function: "the module".into(), code },
        }
    }

    /// Returns whether the error is about one key. Other keys of the token may work.
    pub(super) fn is_about_a_key(&self) -> bool {
        matches!(self, Self::NoKey { .. } | Self::SeveralKeys { .. } | Self::WrongKey { .. })
    }

    /// Returns `false` for an error about the PIN. After such an error, only a reload of the configuration tries the
    /// PIN again, because more wrong PINs would lock the token.
    pub(super) fn is_temporary(&self) -> bool {
        !matches!(self, Self::PinRefused { .. } | Self::FinalPinTry { .. })
    }
}

fn function_name(function: Function) -> String {
    format!("C_{function:?}")
}

/// The time after which a key or a token that does not work is tried again.
pub(super) const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl From<Pkcs11Error> for KeySourceError {
    fn from(error: Pkcs11Error) -> Self {
        let made = Self::new(error.to_string());
        if error.is_temporary() { made.with_retry_after(TRY_AGAIN_AFTER) } else { made }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_codes_have_the_names_of_the_standard() {
        for (code, want) in [
            (RvError::PinIncorrect, "CKR_PIN_INCORRECT"),
            (RvError::DeviceRemoved, "CKR_DEVICE_REMOVED"),
            (RvError::KeyHandleInvalid, "CKR_KEY_HANDLE_INVALID"),
        ] {
            let error = Error::Pkcs11(code, Function::Sign);
            assert_eq!(ReturnCode::of(&error).to_string(), want);
        }
    }

    #[test]
    fn only_errors_about_the_pin_are_permanent() {
        let token = TokenLabel::new("T").unwrap();
        for (code, is_temporary) in [
            (RvError::PinIncorrect, false),
            (RvError::PinLocked, false),
            (RvError::DeviceRemoved, true),
            (RvError::GeneralError, true),
            (RvError::UserNotLoggedIn, true),
        ] {
            let error = Pkcs11Error::call(&token, &Error::Pkcs11(code, Function::Login));
            assert_eq!(error.is_temporary(), is_temporary, "{error}");
            let error = KeySourceError::from(error);
            assert_eq!(error.retry_after().is_some(), is_temporary, "{error}");
        }
    }
}
