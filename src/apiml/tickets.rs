//! The endpoint of API ML (Zowe's API Mediation Layer) that makes PassTickets, the one-time passwords of z/OS
//! (`docs/reference/zowe-site.md#ticket-sources`, call A).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::auth::bearer;
use crate::{
    passticket::{
        Applid, GenerateError, GenerateFuture, NoTimeSlot, PassTicket, PassTicketGenerator, Replay,
        SafReturnCodes, UserId,
    },
    remote::{
        Address, CachePolicy, Client, Connect, RemoteError, Reply, SingleFlightCache, TokenSource,
        UserToken,
    },
};

/// If the application allows replay, the gateway uses a PassTicket again for this time after the call. A PassTicket is
/// valid for ten minutes.
const REUSE: Duration = Duration::from_secs(5);

/// The maximum number of pairs of user and APPLID (the name of a z/OS application) for which a PassTicket is cached.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(4_096).expect("should not be zero");

/// In one second of the z/OS clock, API ML answers all calls for a user and an APPLID with the same PassTicket. So the
/// next call begins at least this time after the end of the previous call, and gets another PassTicket.
const BETWEEN_CALLS: Duration = Duration::from_secs(1);

/// The maximum number of pairs of user and APPLID that have a running call, or a call that has ended within
/// [`BETWEEN_CALLS`].
const MAX_PAIRS: usize = 100_000;

/// Gets PassTickets from a running Zowe API ML.
///
/// API ML makes a PassTicket only for the user of a login token. By default, this is the token that the client has
/// sent. With [`with_minted_tokens`](Self::with_minted_tokens), the gateway signs a new token for the user. API ML also
/// requires a client certificate that it trusts. The connector of the [`Client`] must present this certificate.
///
/// - If an application has replay protection (the default), only one call for a user and this application runs at a
///   time. The next call may begin one second after the end of this call. If a request needs a PassTicket before this
///   time, it fails with [`NoTimeSlot`]. Each node (process of the gateway) counts only its own calls.
/// - If an application allows replay ([`with_replay`](Self::with_replay)), a PassTicket is used again for five seconds.
///   Concurrent requests of one user for this application share one call.
///
/// Clones share the PassTickets and the times of the calls.
///
/// ```no_run
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower_passticket::{
///     apiml::ApimlTickets,
///     layer::PassTicketScheme,
///     passticket::{Applid, Replay},
///     remote::{Client, ClientLimits},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // For TLS, use `tls::Connector` with `ConnectorBuilder::with_identity` instead of `HttpConnector`.
/// let client = Client::new(HttpConnector::new(), ClientLimits::default());
/// let applid = Applid::new("IZUDFLT")?;
/// let tickets = ApimlTickets::new(client, "http://localhost:7554".parse()?)
///     .with_replay(applid, Replay::Allowed);
/// let scheme = PassTicketScheme::new(applid, tickets);
/// # Ok(())
/// # }
/// ```
pub struct ApimlTickets<C> {
    client: Client<C>,
    address: Address,
    minted: Option<Arc<dyn TokenSource>>,
    replay: Arc<BTreeMap<Applid, Replay>>,
    kept: Arc<Kept>,
    calls: Arc<Calls>,
}

/// The PassTickets of applications that allow replay.
type Kept = SingleFlightCache<(UserId, Applid), Arc<Zeroizing<String>>, GenerateError>;

impl<C: Connect> ApimlTickets<C> {
    /// Calls API ML at `address` with `client`. `address` is the address of API ML's gateway, such as
    /// `https://zowe.example:7554`.
    pub fn new(client: Client<C>, address: Address) -> Self {
        let policy = CachePolicy::default()
            .with_entries(CAPACITY)
            .with_found(REUSE)
            .with_error(Duration::ZERO);
        Self {
            client,
            address,
            minted: None,
            replay: Arc::default(),
            kept: Arc::new(SingleFlightCache::new(policy)),
            calls: Arc::default(),
        }
    }

    /// Uses login tokens that `tokens` signs, instead of the tokens of clients. API ML accepts these tokens only if
    /// `tokens` signs them with API ML's own key. A program that has this key can act as any user.
    #[must_use]
    pub fn with_minted_tokens(self, tokens: impl TokenSource) -> Self {
        Self { minted: Some(Arc::new(tokens)), ..self }
    }

    /// Sets whether the application `applid` accepts a PassTicket in more than one request. Default:
    /// [`Replay::Protected`].
    #[must_use]
    pub fn with_replay(mut self, applid: Applid, replay: Replay) -> Self {
        Arc::make_mut(&mut self.replay).insert(applid, replay);
        self
    }
}

impl<C: Clone> Clone for ApimlTickets<C> {
    fn clone(&self) -> Self {
        let Self { client, address, minted, replay, kept, calls } = self;
        Self {
            client: client.clone(),
            address: address.clone(),
            minted: minted.clone(),
            replay: replay.clone(),
            kept: kept.clone(),
            calls: calls.clone(),
        }
    }
}

impl<C> fmt::Debug for ApimlTickets<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApimlTickets")
            .field("address", &self.address)
            .field("mints", &self.minted.is_some())
            .finish_non_exhaustive()
    }
}

impl<C: Connect> PassTicketGenerator for ApimlTickets<C> {
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
        self.generate_with_token(user, applid, None)
    }

    fn generate_with_token(
        &self,
        user: &UserId,
        applid: &Applid,
        token: Option<&str>,
    ) -> GenerateFuture {
        let (this, user, applid) = (self.clone(), *user, *applid);
        let token = token.map(|token| Zeroizing::new(token.to_owned()));
        Box::pin(async move {
            let token = this.token(&user, &applid, token)?;
            match PassTicketGenerator::replay(&this, &applid) {
                Replay::Protected => {
                    let _call = this.calls.begin(user, applid)?;
                    this.ask(user, applid, &token).await
                }
                Replay::Allowed => {
                    let ask = async {
                        let ticket = this.ask(user, applid, &token).await?;
                        Ok(Some(Arc::new(Zeroizing::new(ticket.expose().to_owned()))))
                    };
                    let kept = this.kept.get(&(user, applid), ask).await?;
                    let ticket = kept.and_then(|ticket| PassTicket::parse(&ticket).ok());
                    ticket.ok_or_else(|| internal(user, applid, "the PassTicket was lost"))
                }
            }
        })
    }

    fn needs_token(&self) -> bool {
        self.minted.is_none()
    }

    fn replay(&self, applid: &Applid) -> Replay {
        self.replay.get(applid).copied().unwrap_or(Replay::Protected)
    }
}

impl<C: Connect> ApimlTickets<C> {
    fn token(
        &self,
        user: &UserId,
        applid: &Applid,
        token: Option<Zeroizing<String>>,
    ) -> Result<UserToken, GenerateError> {
        let token = match (&self.minted, token) {
            (Some(minted), _) => minted.token(user),
            (None, Some(token)) => UserToken::new(token.as_str()),
            (None, None) => {
                return Err(GenerateError::not_authenticated(*user, *applid).with_reason(
                    "Zowe makes PassTickets only for users with a login token, and this user has authenticated with \
                     another credential; let the user log in, or set zowe.mint: true",
                ));
            }
        };
        token.map_err(|error| internal(*user, *applid, error.to_string()))
    }

    async fn ask(
        &self,
        user: UserId,
        applid: Applid,
        token: &UserToken,
    ) -> Result<PassTicket, GenerateError> {
        let request = request(&self.address, &applid, token)
            .map_err(|error| internal(user, applid, error.to_string()))?;
        match self.client.call(request).await {
            Ok(reply) => decide(&reply, user, applid),
            Err(RemoteError::Unavailable(why)) => Err(unavailable(user, applid, why)),
            Err(error @ RemoteError::Answer(_)) => Err(internal(user, applid, error.to_string())),
        }
        .map_err(|error| match error.reason() {
            Some(reason) => {
                let reason = format!("Zowe at {}: {reason}", self.address);
                error.with_reason(reason)
            }
            None => error,
        })
    }
}

fn internal(user: UserId, applid: Applid, reason: impl Into<Arc<str>>) -> GenerateError {
    GenerateError::new(user, applid, SafReturnCodes::INTERNAL).with_reason(reason)
}

fn unavailable(user: UserId, applid: Applid, reason: impl Into<Arc<str>>) -> GenerateError {
    GenerateError::unavailable(user, applid, None).with_reason(reason)
}

fn request(
    address: &Address,
    applid: &Applid,
    token: &UserToken,
) -> Result<Request<Full<Bytes>>, RemoteError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        application_name: &'a str,
    }

    let uri = address.endpoint(&["gateway", "api", "v1", "auth", "ticket"])?;
    let body = serde_json::to_vec(&Body { application_name: applid.as_str() })
        .map_err(|error| RemoteError::Answer(format!("cannot encode as JSON: {error}")))?;
    let mut request = Request::new(Full::from(body));
    (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri);
    let json = HeaderValue::from_static("application/json");
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, bearer(token.expose())?);
    headers.insert(CONTENT_TYPE, json.clone());
    headers.insert(ACCEPT, json);
    Ok(request)
}

/// Reads the PassTicket or the error in a response (`docs/reference/zowe-site.md#remote-ticket-errors`).
fn decide(reply: &Reply, user: UserId, applid: Applid) -> Result<PassTicket, GenerateError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Made {
        user_id: String,
        ticket: Zeroizing<String>,
    }

    let internal = |reason: String| Err(internal(user, applid, reason));
    let status = reply.status();
    match status {
        StatusCode::OK => match reply.json::<Made>() {
            Ok(made) if UserId::new(&made.user_id).ok() != Some(user) => {
                internal("the PassTicket is for another user, and is not used".to_owned())
            }
            Ok(made) => PassTicket::parse(&made.ticket)
                .or_else(|_| internal("the response has no PassTicket of 8 characters".to_owned())),
            Err(error) => internal(error.to_string()),
        },
        StatusCode::UNAUTHORIZED => Err(GenerateError::not_authenticated(user, applid).with_reason(
            "status 401: Zowe does not accept the token of the user; if the gateway has issued this token, the gateway and \
             Zowe need the same signing key",
        )),
        StatusCode::FORBIDDEN => internal(
            "status 403: Zowe does not accept the client certificate of the gateway; check zowe.clientCertificate"
                .to_owned(),
        ),
        StatusCode::NOT_FOUND => {
            internal("status 404: the ticket endpoint does not exist; check zowe.url".to_owned())
        }
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            Err(unavailable(user, applid, format!("status {}", status.as_u16())))
        }
        StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR => match refusal(reply) {
            Some(codes) => Err(GenerateError::new(user, applid, codes)
                .with_reason(format!("status {}", status.as_u16()))),
            None => internal(format!("status {}, without known return codes", status.as_u16())),
        },
        _ => internal(format!("status {}", status.as_u16())),
    }
}

/// Returns the return codes for a message `ZWEAG141E`. The message does not contain the codes, so this function derives
/// them from the text of the message. Returns `None` if there is no such message, or if its text is not known.
fn refusal(reply: &Reply) -> Option<SafReturnCodes> {
    #[derive(Deserialize)]
    struct Document {
        messages: Vec<Message>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        message_number: String,
        message_content: String,
    }

    let Document { messages } = reply.json().ok()?;
    let message = messages.into_iter().find(|message| message.message_number == "ZWEAG141E")?;
    let (_, reason) = message.message_content.split_once("Reason: ")?;
    // API ML escapes the characters of its texts for HTML.
    let reason = reason.replace("&#39;", "'").replace("&quot;", "\"").replace("&amp;", "&");
    SafReturnCodes::from_text(reason.trim())
}

/// The calls for applications with replay protection.
#[derive(Default)]
struct Calls {
    /// While a call runs, the value is `None`. After the call, the value is the time at which the next call may begin.
    next: Mutex<HashMap<(UserId, Applid), Option<Instant>>>,
}

impl Calls {
    /// Begins a call, which ends when the result is dropped.
    fn begin(&self, user: UserId, applid: Applid) -> Result<Call<'_>, GenerateError> {
        let now = Instant::now();
        let pair = (user, applid);
        let mut next = self.lock();
        if let Some(at) = next.get(&pair)
            && at.is_none_or(|at| now < at)
        {
            let wait = at.map_or(BETWEEN_CALLS, |at| at - now);
            let why = NoTimeSlot::AllTaken { spare: Duration::ZERO, retry_after: wait };
            return Err(GenerateError::no_slot(user, applid, why));
        }
        if next.len() >= MAX_PAIRS {
            next.retain(|_, at| at.is_none_or(|at| now < at));
            if next.len() >= MAX_PAIRS {
                let reason = "too many users have requested PassTickets in the last second";
                return Err(GenerateError::unavailable(user, applid, Some(BETWEEN_CALLS))
                    .with_reason(reason));
            }
        }
        next.insert(pair, None);
        Ok(Call { calls: self, pair })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(UserId, Applid), Option<Instant>>> {
        // After a panic, the data is still valid.
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Call<'a> {
    calls: &'a Calls,
    pair: (UserId, Applid),
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.lock().insert(self.pair, Some(Instant::now() + BETWEEN_CALLS));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use test_support::tickets::{applid, user};

    use super::*;

    fn message(number: &str, text: &str) -> String {
        json!({"messages": [{"messageNumber": number, "messageContent": text}]}).to_string()
    }

    #[test]
    fn each_answer_of_api_ml_becomes_a_ticket_or_an_error() {
        let (user, applid) = (user("USER"), applid("ZOWEAPPL"));
        let failed = |text: &str| {
            let text = format!("The generation of the PassTicket failed. Reason: {text}");
            message("ZWEAG141E", &text)
        };
        let no_profile = failed(&SafReturnCodes::NO_PROFILE.text().replace('\'', "&#39;"));
        let refused = failed(&SafReturnCodes::NOT_AUTHORIZED.text());
        let made = |user: &str, ticket: &str| {
            json!({"token": "x", "userId": user, "applicationName": "ZOWEAPPL", "ticket": ticket})
                .to_string()
        };
        for (status, body, want) in [
            (200, made("USER", "QHOAH1TV"), "ticket"),
            (200, made("user", "QHOAH1TV"), "ticket"),
            (200, made("OTHER", "QHOAH1TV"), "8/8/8 another user"),
            (200, made("USER", "QHOAH1T"), "8/8/8 no PassTicket"),
            (200, "{}".to_owned(), "8/8/8 not the expected JSON"),
            (200, "<html>".to_owned(), "8/8/8 not the expected JSON"),
            (204, String::new(), "8/8/8 status 204"),
            (302, String::new(), "8/8/8 status 302"),
            (400, no_profile.clone(), "8/16/28 status 400"),
            (500, no_profile, "8/16/28 status 500"),
            (500, refused, "8/8/16 status 500"),
            (500, failed("Something else"), "8/8/8 without known return codes"),
            (400, message("ZWEAG140E", "x"), "8/8/8 without known return codes"),
            (401, message("ZWEAG130E", "x"), "credential same signing key"),
            (403, String::new(), "8/8/8 zowe.clientCertificate"),
            (404, String::new(), "8/8/8 zowe.url"),
            (405, String::new(), "8/8/8 status 405"),
            (429, String::new(), "later status 429"),
            (502, String::new(), "later status 502"),
            (503, String::new(), "later status 503"),
            (504, String::new(), "later status 504"),
        ] {
            let reply = Reply::new(StatusCode::from_u16(status).unwrap(), &body);
            let got = match decide(&reply, user, applid) {
                Ok(_) => "ticket".to_owned(),
                Err(error) => {
                    let kind = match (error.is_unavailable(), error.is_not_authenticated()) {
                        (true, _) => "later".to_owned(),
                        (_, true) => "credential".to_owned(),
                        _ => error.codes().to_string(),
                    };
                    format!("{kind} {}", error.reason().unwrap_or_default())
                }
            };
            let (kind, text) = want.split_once(' ').unwrap_or((want, ""));
            assert!(got.starts_with(kind) && got.contains(text), "{status} {body}: {got}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_for_one_user_and_applid_are_a_second_apart() {
        let calls = Calls::default();
        let retry = |user_id, applid_id| {
            let result = calls.begin(user(user_id), applid(applid_id));
            result.err().and_then(|error| error.retry_after())
        };
        let call = calls.begin(user("A"), applid("X")).unwrap();
        assert_eq!(retry("A", "X"), Some(BETWEEN_CALLS));
        assert_eq!((retry("B", "X"), retry("A", "Y")), (None, None));
        drop(call);
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(retry("A", "X"), Some(Duration::from_millis(600)));
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(retry("A", "X"), None);
    }
}
