//! `POST ticket` (docs/reference/auth-endpoints.md#ticket).

use http::request::Parts;
use http_body::Body;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    body::{self, BodyProblem},
    certificates::ClientCertificates,
    error::ApiError,
    login_tokens::LoginTokens,
    record::add_to_record,
    response::{Answer, json},
};
use crate::{
    log_limit::log_limited,
    passticket::{Applid, PassTicketGenerator},
};

/// The body of the response. Do not log it, because it contains secrets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TicketResponse<'a> {
    token: &'a str,
    user_id: &'a str,
    application_name: &'a str,
    ticket: &'a str,
}

/// Answers with a PassTicket (a one-time password of z/OS) for the caller. As in API ML (Zowe's API Mediation Layer),
/// the certificate and the token are checked before the body.
pub(super) async fn ticket<B: Body>(
    request: &Parts,
    body: B,
    certificates: ClientCertificates<'_>,
    tokens: LoginTokens<'_>,
    generator: &dyn PassTicketGenerator,
) -> Answer {
    certificates.require(request)?;
    let jwt = tokens.require(request).await?;
    let body = body::read(body).await?;
    let (name, applid) = parse_ticket_body(&body).map_err(ApiError::InvalidTicketBody)?;
    add_to_record(request, |record| record.applid = Some(applid));
    let (url, user) = (request.uri.path(), jwt.user());
    let generated = match generator.try_generate_now(user, &applid) {
        Some(generated) => generated,
        None => {
            let token = tokens.text(request).and_then(|token| str::from_utf8(token).ok());
            generator.generate_with_token(user, &applid, token).await
        }
    };
    let ticket = generated.inspect_err(|error| {
        // The client chooses the APPLID. If the APPLID were part of `cause`, a client could cause any number of log
        // lines.
        let cause = ("ticket", error.codes());
        log_limited!(warn, cause, { url, %applid, %error }, "the PassTicket could not be generated");
    })?;
    tracing::info!(url, %user, %applid, "issued a PassTicket");
    let token = tokens.text(request).unwrap_or_default();
    json(&TicketResponse {
        // A verified token is ASCII.
        token: str::from_utf8(token).unwrap_or_default(),
        user_id: user.as_str(),
        application_name: &name,
        ticket: ticket.expose(),
    })
}

/// Parses `{"applicationName"}`. Unknown fields are ignored. Returns the name as the client wrote it, and the same name
/// as an APPLID (the name of an application in the security product).
fn parse_ticket_body(body: &[u8]) -> Result<(String, Applid), BodyProblem> {
    #[derive(Deserialize)]
    struct TicketBody {
        #[serde(rename = "applicationName", deserialize_with = "application_name")]
        name_and_applid: (String, Applid),
    }

    fn application_name<'de, D: Deserializer<'de>>(d: D) -> Result<(String, Applid), D::Error> {
        let name = String::deserialize(d)?;
        let not_an_applid =
            "`applicationName` is not an APPLID of 1 to 8 characters of A-Z 0-9 # @ $";
        let applid = Applid::new(name.trim()).map_err(|_| D::Error::custom(not_an_applid))?;
        Ok((name, applid))
    }

    body::object(body).map(|TicketBody { name_and_applid }| name_and_applid)
}
