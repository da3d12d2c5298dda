//! Counts in Redis the PassTickets that services have refused to all nodes of a site.

use std::time::Duration;

use redis::Value;
use tokio::runtime::Handle;

use super::{
    keys::SiteKeys,
    place::RedisPlace,
    reply::{bytes, decimal, number, text},
    script::Script,
};
use crate::{
    clock::Timestamp,
    cluster::coordinator::{CoordinatorError, CoordinatorFuture},
    log_limit::log_limited,
    passticket::{Applid, UserId},
    ticket_breaker::{
        Reserved, SharedOutcome, SharedRefusal, SharedRefusals, SharedRefusalsError,
        SharedRefusalsFuture, SharedTicket,
    },
};

static COUNT: Script = Script::new("ticket_refusals", include_str!("ticket_refusals.lua"));

/// The maximum number of pairs of user and APPLID with refusals.
const MAX_PAIRS: &str = "10000";

/// A reserved ticket blocks other tickets of the same user and APPLID until the node reports the answer of the service.
/// If the node does not report an answer, the block ends after this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Counts the refused PassTickets of all nodes of a site. Clones share the counts.
///
/// Redis stores the ids of users whose tickets were refused, and of users with a ticket whose answer is not known yet.
#[derive(Clone, Debug)]
pub struct RedisRefusals {
    place: RedisPlace,
}

impl RedisRefusals {
    /// Keeps the counts in `place`.
    pub fn new(place: RedisPlace) -> Self {
        Self { place }
    }

    fn invoke(
        &self,
        operation: &str,
        applid: Option<Applid>,
        user: Option<UserId>,
        paths: u64,
        more: &[String],
    ) -> CoordinatorFuture<Value> {
        let site = SiteKeys(&self.place.shared.settings.site);
        let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
        let (applid, user) =
            (applid.as_ref().map(Applid::as_str), user.as_ref().map(UserId::as_str));
        let keys = vec![
            site.key("tickets"),
            site.key("tickets:times"),
            site.key(&format!("tickets:waiting:{}", applid.unwrap_or_default())),
        ];
        let fixed = [
            operation.to_owned(),
            name(applid),
            name(user),
            paths.to_string(),
            MAX_PAIRS.to_owned(),
        ];
        let args = fixed.iter().chain(more).map(|it| it.clone().into_bytes());
        self.place.invoke(&COUNT, keys, args.collect())
    }

    /// Calls Redis in a task, without waiting for the answer. The number of these tasks is small. Each request of an
    /// administrator starts one. The change of a key starts one for each user for whom the gateway had stopped to make
    /// PassTickets.
    fn send(&self, call: CoordinatorFuture<Value>) {
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = call.await {
                log_limited!(
                    warn,
                    "tickets not resumed at other nodes",
                    { %error },
                    "the other nodes do not know that PassTickets were resumed; resume the PassTickets again when Redis can be reached"
                );
            }
        });
    }

    fn malformed(&self) -> SharedRefusalsError {
        let place = self.place.name().into();
        let reason = "the answer of the script for refused tickets".into();
        error(&CoordinatorError::Malformed { place, reason })
    }
}

fn error(error: &CoordinatorError) -> SharedRefusalsError {
    SharedRefusalsError(error.to_string().into())
}

impl SharedRefusals for RedisRefusals {
    fn reserve(
        &self,
        ticket: SharedTicket,
        known: u8,
        max_users: Option<u8>,
    ) -> SharedRefusalsFuture<Reserved> {
        let SharedTicket { user, applid, paths, .. } = ticket;
        let more = [
            known.to_string(),
            max_users.unwrap_or(0).to_string(),
            ANSWER_WITHIN.as_millis().to_string(),
        ];
        let call = self.invoke("reserve", Some(applid), Some(user), paths, &more);
        let this = self.clone();
        Box::pin(async move {
            let answer = call.await.map_err(|it| error(&it))?;
            read_reserved(&answer, ticket).ok_or_else(|| this.malformed())
        })
    }

    fn settle(&self, ticket: SharedTicket, outcome: SharedOutcome) -> SharedRefusalsFuture<()> {
        let operation = match outcome {
            SharedOutcome::Accepted => "accepted",
            SharedOutcome::Refused => "refused",
            SharedOutcome::Withdrawn => "withdrawn",
        };
        let SharedTicket { user, applid, paths, .. } = ticket;
        let call = self.invoke(operation, Some(applid), Some(user), paths, &[]);
        Box::pin(async move { call.await.map(drop).map_err(|it| error(&it)) })
    }

    fn list(&self) -> SharedRefusalsFuture<Vec<SharedRefusal>> {
        let call = self.invoke("list", None, None, 0, &[]);
        let this = self.clone();
        Box::pin(async move {
            let answer = call.await.map_err(|it| error(&it))?;
            read_list(&answer).ok_or_else(|| this.malformed())
        })
    }

    fn resume(&self, applid: Option<Applid>, user: Option<UserId>) {
        self.send(self.invoke("resume", applid, user, 0, &[]));
    }
}

/// Reads the answer of the script to `reserve`.
fn read_reserved(answer: &Value, ticket: SharedTicket) -> Option<Reserved> {
    let Value::Array(parts) = answer else { return None };
    match parts.as_slice() {
        [yes] if bytes(yes)? == b"yes" => Some(Reserved::Yes),
        [busy] if bytes(busy)? == b"busy" => Some(Reserved::Busy),
        [differs, refused, last, paths] if bytes(differs)? == b"differs" => {
            let refused = u8::try_from(number(refused)?).ok()?;
            let (last, paths) = (decimal(text(last)?)?, decimal(text(paths)?)?);
            let ticket = SharedTicket { paths, ..ticket };
            let last = Timestamp::from_millis(last);
            Some(Reserved::Differs(SharedRefusal::new(ticket, refused, last)))
        }
        _ => None,
    }
}

fn read_list(answer: &Value) -> Option<Vec<SharedRefusal>> {
    let Value::Array(parts) = answer else { return None };
    let pairs = parts.chunks(2).map(|pair| {
        let [field, value] = pair else { return None };
        let (applid, user) = text(field)?.split_once(' ')?;
        let (applid, user) = (Applid::new(applid).ok()?, UserId::new(user).ok()?);
        let mut numbers = text(value)?.split(' ').map(decimal);
        let (refused, last, paths) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let ticket = SharedTicket::new(user, applid, paths);
        let refused = u8::try_from(refused).ok()?;
        let is_complete = numbers.next().is_none();
        is_complete.then(|| SharedRefusal::new(ticket, refused, Timestamp::from_millis(last)))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn ticket(paths: u64) -> SharedTicket {
        let (user, applid) = (UserId::new("USER").unwrap(), Applid::new("APPL").unwrap());
        SharedTicket::new(user, applid, paths)
    }

    #[test]
    fn the_answer_to_a_reservation_is_read_strictly() {
        let refusal = SharedRefusal::new(ticket(7), 2, Timestamp::from_millis(5));
        for (answer, want) in [
            (vec![text("yes")], Some(Reserved::Yes)),
            (vec![text("busy")], Some(Reserved::Busy)),
            (
                vec![text("differs"), Value::Int(2), text("5"), text("7")],
                Some(Reserved::Differs(refusal)),
            ),
            (vec![text("differs"), Value::Int(-2), text("5"), text("7")], None),
            (vec![text("differs"), Value::Int(2), text("+5"), text("7")], None),
            (vec![text("no")], None),
            (vec![], None),
        ] {
            let got = read_reserved(&Value::Array(answer.clone()), ticket(1));
            assert_eq!(got, want, "{answer:?}");
        }
    }

    #[test]
    fn the_list_is_read_strictly() {
        let refusal = SharedRefusal::new(ticket(7), 2, Timestamp::from_millis(5));
        for (answer, want) in [
            (vec![], Some(vec![])),
            (vec![text("APPL USER"), text("2 5 7")], Some(vec![refusal])),
            (vec![text("APPL USER")], None),
            (vec![text("APPL"), text("2 5 7")], None),
            (vec![text("APPL USER"), text("2 5")], None),
            (vec![text("APPL USER"), text("2 5 7 8")], None),
            (vec![text("APPL USER"), text("300 5 7")], None),
            (vec![text("APPL US.R"), text("2 5 7")], None),
        ] {
            assert_eq!(read_list(&Value::Array(answer.clone())), want, "{answer:?}");
        }
        assert_eq!(read_list(&Value::Nil), None);
    }
}
