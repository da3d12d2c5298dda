//! `ticket generate` and `ticket evaluate`: make or evaluate a single PassTicket.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{
    fmt::Display,
    io::{self, Read},
    path::Path,
};

use passticket_proxy::{config::read_secret_file, instant::Instant};
use tower_passticket::{
    clock::{Clock, SystemClock, Timestamp},
    passticket::{Algorithm, Applid, KeyProfile, Refusal},
};
use zeroize::Zeroizing;

use crate::{
    cli::{Evaluate, Generate, TicketArgs},
    exit::Exit,
    terminal::print_line,
};

/// The maximum length of a key on standard input, in bytes. The longest key has 512 hex digits.
const MAX_KEY_TEXT: usize = 4096;

pub(crate) fn generate(Generate { ticket }: &Generate) -> Result<(), Exit> {
    let passticket = profile(ticket)?.generate(&ticket.user, time(ticket));
    print_line(passticket.map_err(Exit::runtime)?.expose());
    Ok(())
}

pub(crate) fn evaluate(args: &Evaluate) -> Result<(), Exit> {
    let Evaluate { ticket, passticket, window, .. } = args;
    let with_window = |profile: KeyProfile| match window {
        Some(window) => profile.with_window(*window),
        None => profile,
    };
    let current = with_window(profile(ticket)?);
    let profile = match (&args.next_key_file, args.next_algorithm, args.next_from) {
        (Some(file), Some(algorithm), Some(Instant(from))) => {
            let next = with_window(read_profile(ticket.applid, algorithm, file)?);
            current.with_next_key(next, from)
        }
        _ => current,
    };
    let refused = |reason: &dyn Display| Exit::Negative(format!("refused: {reason}"));
    let passticket = passticket.0.as_ref().map_err(|e| refused(e))?;
    let evaluated = profile.evaluate(&ticket.user, passticket, time(ticket));
    let evaluated = evaluated.map_err(|refusal| match refusal {
        // The ticket could not be evaluated. So the command fails and does not say whether the ticket is valid.
        Refusal::KeyUnavailable(error) => Exit::runtime(error),
        refusal => refused(&refusal),
    })?;
    let at = evaluated.generated_at().as_secs();
    print_line(&format!("good: made at {at}, age {} s", evaluated.age_secs()));
    Ok(())
}

/// Returns the time of `--at`. If the option is absent, returns the current time.
fn time(ticket: &TicketArgs) -> Timestamp {
    ticket.at.map_or_else(|| SystemClock.now(), Timestamp::from_secs)
}

fn profile(ticket: &TicketArgs) -> Result<KeyProfile, Exit> {
    read_profile(ticket.applid, ticket.algorithm, &ticket.key_file)
}

fn read_profile(applid: Applid, algorithm: Algorithm, file: &Path) -> Result<KeyProfile, Exit> {
    let key = read_key(file)?;
    let key = str::from_utf8(&key).unwrap_or_default();
    KeyProfile::from_hex(applid, algorithm, key)
        .map_err(|e| Exit::usage(format!("the key in {}: {e}", file.display())))
}

/// Reads the text of a key from a file, or from standard input if the name of the file is `-`.
pub(super) fn read_key(file: &Path) -> Result<Zeroizing<Vec<u8>>, Exit> {
    read_secret(file, MAX_KEY_TEXT, "the key")
}

/// Reads a secret from a file. If the name of the file is `-`, reads at most `limit` bytes from standard input. `what`
/// names the secret in an error.
pub(super) fn read_secret(
    file: &Path,
    limit: usize,
    what: &str,
) -> Result<Zeroizing<Vec<u8>>, Exit> {
    if file.as_os_str() != "-" {
        return read_secret_file(file).map_err(Exit::usage);
    }
    // The full size is allocated first, because a growing buffer would leave copies of the secret in memory.
    let mut secret = Zeroizing::new(Vec::with_capacity(limit));
    io::stdin()
        .take(limit as u64)
        .read_to_end(&mut secret)
        .map_err(|e| Exit::runtime(format!("cannot read {what} from standard input: {e}")))?;
    Ok(secret)
}
