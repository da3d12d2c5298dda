//! PassTickets: generating and evaluating them.
//!
//! A PassTicket is a one-time password of z/OS. It has eight characters, is good for one user, one
//! application and a few minutes, and any system that has the application's key can make one: that
//! is how a gateway logs a user on to a service without ever knowing the password. The service
//! passes it to the security product (RACF, ACF2, Top Secret) where a password is expected.
//!
//! What goes in:
//!
//! - a [`UserId`] and an [`Applid`], the name that the application goes by;
//! - the time, in whole seconds since 1970-01-01 00:00 UTC;
//! - a secret key, kept for each application in a profile of class `PTKTDATA`; here a
//!   [`KeyProfile`].
//!
//! The same four give the same ticket. Who evaluates a ticket needs the same key, and accepts it if
//! its time is within a window around the present, [`DEFAULT_WINDOW`] either way.
//!
//! # Algorithms
//!
//! IBM publishes two, in *z/OS Security Server RACF Macros and Interfaces*. [`Algorithm`] names
//! them.
//!
//! | | legacy | enhanced |
//! |---|---|---|
//! | built on | DES | HMAC-SHA-512 |
//! | key | 8 bytes, [`LegacyKey`] | 32 to 256 bytes, [`EnhancedKey`] |
//! | characters | `A-Z 0-9` | `0-9 A-Z`, or also `a-z - _` ([`EnhancedType`]) |
//! | time | 32 bits, wraps in 2106 | 41 or 48 bits |
//! | cost | 8 DES blocks | 7 HMACs |
//!
//! Prefer the enhanced one where the service's system has it. A DES key has 56 bits, and a few
//! tickets are enough to find it by trying them all.
//!
//! Both mix the time with what user, APPLID and key give, and send it through six Feistel rounds.
//! Those run backwards too, so evaluating costs as much as generating: the ticket's own second
//! comes out, and its age is known, without trying the 1201 seconds of the window. Neither
//! allocates. A quarter of the DES blocks and one of the HMACs depend on the user alone;
//! [`KeyProfile::for_user`] keeps them.
//!
//! # Secrets
//!
//! Keys and tickets are wiped when dropped, and no `Debug`, `Display` or error shows them. The one
//! way out is [`PassTicket::expose`].
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use passticket::{
//!     clock::Timestamp,
//!     Applid, EnhancedKey, EnhancedType, KeyProfile, PassTicket, Refusal, UserId,
//! };
//!
//! let key = EnhancedKey::from_hex(
//!     "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
//! )?;
//! let profile = KeyProfile::enhanced(Applid::new("IZUDFLT")?, EnhancedType::Mixed, &key);
//! let user = UserId::new("ibmuser")?;
//!
//! // The gateway makes a ticket ...
//! let noon = Timestamp::from_secs(1_767_268_800);
//! let password = profile.generate(&user, noon)?.expose().to_owned();
//!
//! // ... and two minutes later the service checks it.
//! let ticket = PassTicket::parse(&password)?;
//! let evaluated = profile.evaluate(&user, &ticket, noon.plus(Duration::from_secs(120)))?;
//! assert_eq!(evaluated.generated_at(), noon);
//! assert_eq!(evaluated.age_secs(), 120);
//!
//! let too_late = noon.plus(Duration::from_secs(601));
//! let refusal = profile.evaluate(&user, &ticket, too_late).unwrap_err();
//! assert!(matches!(refusal, Refusal::OutsideWindow { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What needs tickets does not care where they come from: it takes a [`PassTicketGenerator`], which
//! is a [`LocalGenerator`] or one of your own.

pub mod clock;
mod enhanced;
mod generate;
mod key;
mod key_source;
mod legacy;
mod names;
mod profile;
mod ticket;
mod ticket_cache;
mod time_slots;

pub use enhanced::EnhancedType;
pub use generate::{
    GenerateError, GenerateFuture, LocalGenerator, PassTicketGenerator, SafReturnCodes,
};
pub use key::{EnhancedKey, KeyError, LegacyKey};
pub use key_source::{KeySource, KeySourceError};
pub use names::{Applid, NameError, NameRule, UserId};
pub use profile::{
    Algorithm, AlgorithmError, DEFAULT_WINDOW, DuplicateApplid, Evaluated, KeyProfile, KeyProfiles,
    Refusal, Replay, UserTickets,
};
pub use ticket::{PassTicket, PassTicketError};
pub use time_slots::NoTimeSlot;
