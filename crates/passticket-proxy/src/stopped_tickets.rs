//! The file that records for which users and keys the gateway has stopped making PassTickets. It is beside the
//! revocation file (docs/decisions.md#d42).

use std::{ffi::OsString, fs, io, path::PathBuf};

use passticket_proxy::config::Config;
use tower_passticket::ticket_breaker::TicketBreaker;

/// The maximum length of the file in bytes. This program never writes a longer file.
const MAX_LEN: u64 = 16 * 1024 * 1024;

pub(crate) fn file(config: &Config) -> PathBuf {
    let mut file = OsString::from(&config.revocations);
    file.push(".stopped-tickets");
    file.into()
}

/// Makes the breaker. After a service has refused PassTickets, the breaker stops the making of PassTickets for a user,
/// for a class of paths or for all users of a key. The breaker reads from the file what the previous process has
/// stopped, and keeps it stopped.
///
/// If the file cannot be read, the gateway starts nevertheless. For each key, the breaker then tries one PassTicket of
/// one user at a time, until a service accepts one. After refusals for three users, the breaker stops the making of
/// PassTickets with this key. So with a wrong key, z/OS counts wrong passwords for only three users.
pub(crate) fn breaker(config: &Config) -> TicketBreaker {
    let breaker = TicketBreaker::new(config.profiles.clone(), config.ticket_limits.clone());
    let path = file(config);
    let read = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return breaker,
        Ok(metadata) if metadata.len() > MAX_LEN => Err("is too long".to_owned()),
        Ok(_) => fs::read_to_string(&path).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let restored = read.and_then(|text| breaker.restore(&text).map_err(|error| error.to_string()));
    if let Err(error) = restored {
        let file = path.display();
        tracing::error!(%file, %error, "the stopped PassTickets cannot be read, and are forgotten; for each APPLID, one PassTicket at a time is tried until a service accepts one");
        breaker.begin_without_state();
    }
    breaker
}
