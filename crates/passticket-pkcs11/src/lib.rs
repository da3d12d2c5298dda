//! Keys of z/OS PassTickets in a PKCS#11 token.
//!
//! A PassTicket is a short-lived password of z/OS for one user and one application. A person who has the key of an
//! application can log on to this application as any user. With this crate, the key stays in a hardware security module
//! (HSM) or another token with a PKCS#11 module. The token computes HMAC-SHA-512, and the key never leaves the token.
//!
//! ```no_run
//! use std::path::Path;
//! use passticket::{Applid, EnhancedType, KeyProfile, KeyProfiles, LocalGenerator};
//! use passticket_pkcs11::{KeyLabel, Pin, Pkcs11Key, Token, TokenKey, TokenLabel};
//!
//! let pin = Pin::parse(&std::fs::read("/etc/gateway/hsm.pin")?)?;
//! let module = Path::new("/usr/lib/softhsm/libsofthsm2.so");
//! let token = Token::new(module, TokenLabel::new("PTKT")?, pin);
//! let key = TokenKey::new(token, KeyLabel::new("IZUDFLT")?);
//! key.check()?;
//! let key = Pkcs11Key::new(key, EnhancedType::Mixed);
//! let profile = KeyProfile::from_source(Applid::new("IZUDFLT")?, key);
//! let generator = LocalGenerator::new(KeyProfiles::new([profile])?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Threads
//! Each [`Token`] has up to four threads, and uses up to four sessions for PassTickets. The generator of the crate
//! `passticket` makes a PassTicket on one of these threads. At most 256 PassTickets wait for a thread, and each of them
//! for at most 5 seconds. If a limit is exceeded or the token does not work, the generator returns an error for which
//! [`is_unavailable`](passticket::GenerateError::is_unavailable) returns `true`. The futures of the generator need a
//! Tokio runtime with a timer.
//!
//! # A removed token
//! After an error of the token, its sessions are closed, and a new session is opened with a new login. If a new session
//! fails, all PassTickets of the token fail immediately for one second. If only one key is wrong, only the PassTickets
//! of this key fail. When no session uses a module any more, this crate finalizes the module, unless other code has
//! initialized it. Only after this does the next session find a token that has replaced the old one. After a token has
//! refused the PIN, no PassTicket of this [`Token`] tries the PIN again, because more wrong PINs would lock the token.
//!
//! # The end of the process
//! Call [`end`] before the process exits. Otherwise an exit handler of the module may wait for ever for a thread that
//! uses the module.
//!
//! # C
//! The crate compiles no C. It loads the module of the vendor at run time, so the program must be linked dynamically.

mod calls;
mod error;
mod key;
mod module;
mod names;
mod new_key;
mod session;
mod threads;
mod token;

pub use calls::end;
pub use error::{KeyFault, Pkcs11Error, ReturnCode};
pub use key::{Pkcs11Key, TokenKey};
pub use names::{KeyLabel, LabelError, Pin, PinError, TokenLabel};
pub use new_key::KeyValue;
pub use token::Token;
