//! Generate and evaluate z/OS PassTickets.
//!
//! A PassTicket is a one-time password of z/OS. It has eight characters, and is valid for one user, one application and
//! a few minutes. Any system that has the application's key can make tickets for this application. So a gateway can log
//! a user on to a service without the user's password. The service passes the ticket to the security product (RACF,
//! ACF2, Top Secret) instead of a password.
//!
//! ```
//! use passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, Replay, UserId};
//!
//! let applid = Applid::new("IZUDFLT")?;
//! let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "0123456789ABCDEF")?
//!     .with_replay(Replay::Allowed);
//! let generator = LocalGenerator::new(KeyProfiles::new([profile])?);
//! let ticket = generator.generate_now(&UserId::new("ibmuser")?, &applid)?;
//! assert_eq!(ticket.expose().len(), 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate does no I/O, needs no async runtime, and compiles no C.
//!
//! # Inputs
//!
//! - a [`UserId`];
//! - an [`Applid`], the name of the application in the security product;
//! - the time, in whole seconds since 1970-01-01 00:00 UTC;
//! - a secret key. z/OS keeps the key of each application in a profile of class `PTKTDATA`. This crate keeps the key in
//!   a [`KeyProfile`].
//!
//! The same inputs give the same ticket. The system that evaluates (checks) a ticket has the same key. This system
//! compares the time of the ticket with its own clock. By default, it accepts a ticket if the time of the ticket is at
//! most [`DEFAULT_WINDOW`] (or [`DEFAULT_ENHANCED_WINDOW`]) earlier or later than its clock.
//!
//! # Algorithms
//!
//! IBM publishes two algorithms in *z/OS Security Server RACF Macros and Interfaces*. [`Algorithm`]
//! names them.
//!
//! | | legacy | enhanced |
//! |---|---|---|
//! | built on | DES | HMAC-SHA-512 |
//! | key | 8 bytes, [`LegacyKey`] | 32 to 256 bytes, [`EnhancedKey`] |
//! | characters | `A-Z 0-9` | `0-9 A-Z` or `0-9 A-Z a-z - _` ([`EnhancedType`]) |
//! | time | 32 bits, wraps in 2106 | 41 or 48 bits |
//! | default window | 600 s, fixed in RACF | 60 s, at most 600 s in RACF (`TIMEOUT`) |
//! | cost of a ticket | 8 DES blocks | 7 HMACs |
//!
//! Prefer the enhanced algorithm if the system of the service supports it. A DES key has only 56 bits. An attacker who
//! has a few tickets can find the key by trying all keys.
//!
//! Both algorithms combine the time with a value that depends on the user, the APPLID and the key. Then they run six
//! Feistel rounds on the result. The rounds can run backwards. So the evaluation computes the time of the ticket, and
//! need not try each of the 1201 seconds of the default window. It costs as much as generating a ticket. The algorithms
//! allocate no memory.
//!
//! Two of the DES blocks, or one of the HMACs, do not depend on the time.
//! [`KeyProfile::for_user`] computes them once for several tickets of a user.
//!
//! # Secrets
//!
//! Keys and tickets are wiped from memory when they are dropped. `Debug`, `Display` and errors never show them. Only
//! [`PassTicket::expose`] and [`PassTicket::expose_bytes`] give the characters of a ticket. A key can also stay in a
//! hardware security module, see [`KeySource`].
//!
//! # Evaluating a ticket
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
//! // The gateway makes a ticket.
//! let noon = Timestamp::from_secs(1_767_268_800);
//! let password = profile.generate(&user, noon)?.expose().to_owned();
//!
//! // Half a minute later the service checks it.
//! let ticket = PassTicket::parse(&password)?;
//! let evaluated = profile.evaluate(&user, &ticket, noon.plus(Duration::from_secs(30)))?;
//! assert_eq!(evaluated.generated_at(), noon);
//! assert_eq!(evaluated.age_secs(), 30);
//!
//! let too_late = noon.plus(Duration::from_secs(61));
//! let refusal = profile.evaluate(&user, &ticket, too_late).unwrap_err();
//! assert!(matches!(refusal, Refusal::OutsideWindow { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Other generators
//!
//! [`PassTicketGenerator`] is the trait of all generators. [`LocalGenerator`] implements the trait
//! with the keys of [`KeyProfiles`]. Implement the trait yourself to ask another system for tickets.
//!
//! # Features
//!
//! The feature `serde` adds `Serialize` and `Deserialize` for [`UserId`] and [`Applid`].

mod algorithm;
pub mod clock;
mod enhanced;
mod generate;
mod key;
mod key_source;
mod legacy;
mod names;
mod profile;
mod profiles;
mod qualifier;
mod shared_time_slots;
mod ticket;
mod ticket_cache;
mod time_slots;
mod used_time_slots;

pub use algorithm::{Algorithm, AlgorithmError};
pub use enhanced::EnhancedType;
pub use generate::{
    GenerateError, GenerateFuture, LocalGenerator, PassTicketGenerator, SafReturnCodes,
};
pub use key::{EnhancedKey, KeyError, LegacyKey};
pub use key_source::{KeySource, KeySourceError, KeyThreads, KeyWork, KeyWorkFuture};
pub use names::{Applid, GroupName, NameError, NameRule, UserId};
pub use profile::{
    DEFAULT_ENHANCED_WINDOW, DEFAULT_WINDOW, Evaluated, KeyProfile, MAX_WINDOW, Refusal, Replay,
    UserTickets,
};
pub use profiles::{KeyProfiles, ProfileConflict};
pub use qualifier::Qualifier;
pub use shared_time_slots::{
    SharedSlot, SharedSlotError, SharedTimeSlots, SlotFuture, SlotRequest,
};
pub use ticket::{PassTicket, PassTicketError};
pub use time_slots::NoTimeSlot;
pub use used_time_slots::{UsedTimeSlots, UsedTimeSlotsError};
