//! `POST ticket` (zowe-endpoints §1.5).

use bytes::Bytes;
use http::{HeaderValue, Response, header::CACHE_CONTROL, request::Parts};
use http_body::Body;
use http_body_util::Full;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    audit::note,
    body::{self, BodyProblem},
    error::ApiError,
    service::{AuthApi, json},
};
use crate::{
    layer::login_token,
    passticket::{Applid, PassTicketGenerator},
    revocation::RevocationStore,
};

/// Nothing here is for logs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TicketResponse<'a> {
    token: &'a str,
    user_id: &'a str,
    application_name: &'a str,
    ticket: &'a str,
}

impl<L, R: RevocationStore, S, G: PassTicketGenerator, M> AuthApi<L, R, S, G, M> {
    /// Answers with a PassTicket for the caller, who has shown a client certificate and a login
    /// token. These are judged before the body, as in the reference.
    pub(super) async fn ticket<B: Body>(
        &self,
        request: &Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        self.require_certificate(request)?;
        let jwt = self.login_token(request).await?;
        let body = body::read(body).await?;
        let (name, applid) = parse_ticket_body(&body).map_err(ApiError::InvalidTicketBody)?;
        note(request, |record| record.applid = Some(applid));
        let (url, user) = (request.uri.path(), jwt.user());
        let tickets = &self.shared.tickets;
        let generated = match tickets.try_generate_now(user, &applid) {
            Some(generated) => generated,
            None => tickets.generate(user, &applid).await,
        };
        let ticket = generated.inspect_err(|error| tracing::warn!(url, %error, "no PassTicket"))?;
        tracing::info!(url, %user, %applid, "issued a PassTicket");
        let token = login_token(&request.headers, &self.cookies).unwrap_or_default();
        let mut response = json(&TicketResponse {
            // It has been verified, so it is text.
            token: str::from_utf8(token).unwrap_or_default(),
            user_id: user.as_str(),
            application_name: &name,
            ticket: ticket.expose(),
        })?;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// Reads `{"applicationName"}`; other fields are ignored. Gives the name as it was written, and
/// the APPLID that it is.
fn parse_ticket_body(body: &[u8]) -> Result<(String, Applid), BodyProblem> {
    #[derive(Deserialize)]
    struct TicketBody {
        #[serde(rename = "applicationName", deserialize_with = "application_name")]
        names: (String, Applid),
    }

    fn application_name<'de, D: Deserializer<'de>>(d: D) -> Result<(String, Applid), D::Error> {
        let name = String::deserialize(d)?;
        let no_applid = "`applicationName` is no APPLID of 1 to 8 characters of A-Z 0-9 # @ $";
        let applid = Applid::new(name.trim()).map_err(|_| D::Error::custom(no_applid))?;
        Ok((name, applid))
    }

    body::object(body).map(|TicketBody { names }| names)
}
