//! `POST delegate/passticket` (spec 001, design decision 12).

use bytes::Bytes;
use http::{HeaderValue, Response, header::CACHE_CONTROL, request::Parts};
use http_body::Body;
use http_body_util::Full;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    audit::note,
    body,
    delegation::{Caller, Delegation},
    error::ApiError,
    permission::GuardedTask,
    service::{AuthApi, json},
};
use crate::{
    audit::{Detail, ReasonCode},
    identity::{EmailAddress, IdentityMapper, MapError, PeerCertificate},
    passticket::{Applid, PassTicketGenerator},
    saf::SafProvider,
};

/// Not for logs.
#[derive(Serialize)]
struct DelegatedTicket<'a> {
    passticket: &'a str,
    #[serde(rename = "tsoUserid")]
    user: &'a str,
}

impl<L, R, S, G, M> AuthApi<L, R, S, G, M>
where
    S: SafProvider,
    G: PassTicketGenerator,
    M: IdentityMapper,
{
    /// Answers with a PassTicket for the user whose e-mail address the body names. Who calls is
    /// judged before the body, and by the client certificate alone.
    pub(super) async fn delegated_ticket<B: Body>(
        &self,
        request: &Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        // The endpoint is there only with it.
        let delegation = self.delegation.as_deref().ok_or(ApiError::NotFound)?;
        let answer = self.delegate(delegation, request, body).await;
        let url = request.uri.path();
        match &answer {
            Ok(_) => tracing::info!(url, "issued a delegated PassTicket"),
            Err(reason) => tracing::warn!(url, %reason, "no delegated PassTicket"),
        }
        answer
    }

    async fn delegate<B: Body>(
        &self,
        delegation: &Delegation,
        request: &Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        // A PassTicket for another that nobody can look up later must not be.
        if !self.audit.is_available() {
            return Err(ApiError::AuditUnavailable);
        }
        let certificate = request.extensions.get::<PeerCertificate>();
        let certificate = certificate.filter(|_| self.mapper.is_some());
        let certificate = certificate.ok_or(ApiError::OnlyCertificate)?;
        let user = self.certificate_user(request).await?;
        delegation
            .count(&user, self.clock.now())
            .map_err(|retry_after| ApiError::TooManyCalls { retry_after })?;
        self.permit(request, &user, GuardedTask::Delegate).await?;

        let body = body::read(body).await?;
        let DelegateBody { applid, email } =
            body::object(&body).map_err(ApiError::InvalidDelegateBody)?;
        note(request, |record| {
            record.applid = Some(applid);
            record.detail = Some(Detail::Delegation { email: email.clone() });
        });
        let caller = Caller { user, certificate };
        delegation.check_applid(&caller, &applid)?;
        let target = delegation.user_of(&email).await.map_err(|error| match error {
            MapError::NotMapped => ApiError::NoUserOfEmail,
            error => {
                tracing::error!(%error, "nobody can say whose an e-mail address is");
                note(request, |record| record.reason = Some(ReasonCode::MappingUnavailable));
                ApiError::Unavailable
            }
        })?;
        note(request, |record| record.target = Some(target));
        delegation.check_target(&caller, &applid, &target)?;
        let tickets = &self.shared.tickets;
        let ticket = match tickets.try_generate_now(&target, &applid) {
            Some(generated) => generated?,
            None => tickets.generate(&target, &applid).await?,
        };
        tracing::info!(caller = %user, %applid, %target, "made a PassTicket for another");
        let mut response =
            json(&DelegatedTicket { passticket: ticket.expose(), user: target.as_str() })?;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// What a client asks for; other fields are ignored.
#[derive(Debug, Deserialize)]
struct DelegateBody {
    #[serde(rename = "applId", deserialize_with = "applid")]
    applid: Applid,
    #[serde(rename = "emailId", deserialize_with = "email")]
    email: EmailAddress,
}

fn applid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Applid, D::Error> {
    let text = String::deserialize(deserializer)?;
    let no_applid = "`applId` is no APPLID of 1 to 8 characters of A-Z 0-9 # @ $";
    Applid::new(text.trim()).map_err(|_| D::Error::custom(no_applid))
}

fn email<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EmailAddress, D::Error> {
    let text = String::deserialize(deserializer)?;
    let no_email = "`emailId` is no e-mail address of at most 246 bytes with one @ and no blanks";
    EmailAddress::new(text.trim()).map_err(|_| D::Error::custom(no_email))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_or_told_what_is_wrong() {
        let long = format!(r#"{{"applId":"A","emailId":"{}@x.yz"}}"#, "a".repeat(242));
        for (body, want) in [
            (r#"{"applId":"izudflt","emailId":"a@b.c","more":1}"#, Ok(("IZUDFLT", "a@b.c"))),
            (r#"{"applId":" A ","emailId":" a@b.c "}"#, Ok(("A", "a@b.c"))),
            (r#"{"emailId":"a@b.c"}"#, Err("missing field `applId`")),
            (r#"{"applId":"A"}"#, Err("missing field `emailId`")),
            (r#"{"applId":"","emailId":"a@b.c"}"#, Err("`applId` is no APPLID")),
            (r#"{"applId":"TOOLONGID","emailId":"a@b.c"}"#, Err("`applId` is no APPLID")),
            (r#"{"applId":"A B","emailId":"a@b.c"}"#, Err("`applId` is no APPLID")),
            (r#"{"applId":"A","emailId":" "}"#, Err("`emailId` is no e-mail address")),
            (r#"{"applId":"A","emailId":"a"}"#, Err("`emailId` is no e-mail address")),
            (r#"{"applId":"A","emailId":"a@b@c"}"#, Err("`emailId` is no e-mail address")),
            (r#"{"applId":"A","emailId":"a\u0000@b"}"#, Err("`emailId` is no e-mail address")),
            (&long, Err("`emailId` is no e-mail address")),
            (r#"{"applId":1,"emailId":"a@b.c"}"#, Err("a value of the wrong type")),
            ("[]", Err("the JSON document is no object")),
            ("", Err("EOF")),
        ] {
            let got = body::object::<DelegateBody>(body.as_bytes());
            match (&got, want) {
                (Ok(DelegateBody { applid, email }), Ok(want)) => {
                    assert_eq!((applid.as_str(), email.as_str()), want);
                }
                (Err(problem), Err(want)) => {
                    assert!(problem.to_string().contains(want), "{body}: {problem}");
                }
                _ => panic!("{body}: {got:?}"),
            }
        }
    }
}
