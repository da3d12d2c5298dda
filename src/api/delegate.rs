//! `POST delegate/passticket` (docs/reference/auth-endpoints.md#delegated-passticket,
//! docs/decisions.md#d12).
//!
//! The endpoint issues PassTickets (one-time passwords of z/OS) for other users. A trusted caller sends the e-mail
//! address of a user, and an APPLID, which is the name of an application in the security product.

use std::mem::discriminant;

use http::request::Parts;
use http_body::Body;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    authorize::Authorizer,
    body,
    certificates::ClientCertificates,
    delegation::{Delegation, TicketCaller},
    error::ApiError,
    permission::GuardedTask,
    record::add_to_record,
    response::{Answer, json},
};
use crate::{
    audit::{Audit, Detail, ReasonCode},
    clock::Clock,
    identity::{EmailAddress, MapError},
    log_limit::log_limited,
    passticket::{Applid, PassTicketGenerator},
};

/// The body of the response. Do not log it, because it contains a secret.
#[derive(Serialize)]
struct DelegatedTicket<'a> {
    passticket: &'a str,
    #[serde(rename = "tsoUserid")]
    user: &'a str,
}

#[derive(Clone, Copy)]
pub(super) struct DelegatedTickets<'a> {
    pub(super) delegation: &'a Delegation,
    pub(super) certificates: ClientCertificates<'a>,
    pub(super) authorizer: Authorizer<'a>,
    pub(super) generator: &'a dyn PassTicketGenerator,
    pub(super) audit: &'a Audit,
    pub(super) clock: &'a dyn Clock,
}

impl DelegatedTickets<'_> {
    /// Answers with a PassTicket for the user to whom the e-mail address in the body is mapped. Reads the body only
    /// after the client certificate has authenticated the caller.
    pub(super) async fn issue<B: Body>(self, request: &Parts, body: B) -> Answer {
        let answer = self.delegate(request, body).await;
        let url = request.uri.path();
        match &answer {
            Ok(_) => tracing::info!(url, "issued a delegated PassTicket"),
            Err(reason) => {
                let cause = ("delegated PassTicket", discriminant(reason));
                log_limited!(warn, cause, { url, %reason }, "did not issue a delegated PassTicket");
            }
        }
        answer
    }

    async fn delegate<B: Body>(self, request: &Parts, body: B) -> Answer {
        // The audit log must record each delegated PassTicket. So the endpoint issues no PassTicket while the audit log
        // is not available.
        if !self.audit.is_available() {
            return Err(ApiError::AuditUnavailable);
        }
        let certificate = self.certificates.of(request).ok_or(ApiError::OnlyCertificate)?;
        let user = self.certificates.user(request).await?;
        self.delegation
            .count(&user, self.clock.now())
            .map_err(|retry_after| ApiError::TooManyCalls { retry_after })?;
        self.authorizer.permit(request, &user, GuardedTask::Delegate).await?;

        let body = body::read(body).await?;
        let DelegateBody { applid, email } =
            body::object(&body).map_err(ApiError::InvalidDelegateBody)?;
        add_to_record(request, |record| {
            record.applid = Some(applid);
            record.detail = Some(Detail::Delegation { email: email.clone() });
        });
        let caller = TicketCaller { user, certificate: Some(certificate) };
        self.delegation.check_applid(&caller, &applid)?;
        let target = self.delegation.user_of(&email).await.map_err(|error| match error {
            MapError::NotMapped => ApiError::NoUserOfEmail,
            error => {
                log_limited!(error, "e-mail mapping", { %error }, "the e-mail address could not be mapped to a user");
                add_to_record(request, |record| {
                    record.reason = Some(ReasonCode::MappingUnavailable);
                });
                ApiError::Unavailable
            }
        })?;
        add_to_record(request, |record| record.target = Some(target));
        self.delegation.check_target(&caller, &applid, &target)?;
        let ticket = match self.generator.try_generate_now(&target, &applid) {
            Some(generated) => generated?,
            None => self.generator.generate(&target, &applid).await?,
        };
        tracing::info!(caller = %user, %applid, %target, "generated a PassTicket for another user");
        json(&DelegatedTicket { passticket: ticket.expose(), user: target.as_str() })
    }
}

/// The body of the request. Unknown fields are ignored.
#[derive(Debug, Deserialize)]
struct DelegateBody {
    #[serde(rename = "applId", deserialize_with = "applid")]
    applid: Applid,
    #[serde(rename = "emailId", deserialize_with = "email")]
    email: EmailAddress,
}

fn applid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Applid, D::Error> {
    let text = String::deserialize(deserializer)?;
    let not_an_applid = "`applId` is not an APPLID of 1 to 8 characters of A-Z 0-9 # @ $";
    Applid::new(text.trim()).map_err(|_| D::Error::custom(not_an_applid))
}

fn email<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EmailAddress, D::Error> {
    let text = String::deserialize(deserializer)?;
    let not_an_address =
        "`emailId` is not an e-mail address of at most 246 bytes with one @ and no blanks";
    EmailAddress::new(text.trim()).map_err(|_| D::Error::custom(not_an_address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_parsed_or_refused_with_a_reason() {
        let long = format!(r#"{{"applId":"A","emailId":"{}@x.yz"}}"#, "a".repeat(242));
        for (body, want) in [
            (r#"{"applId":"izudflt","emailId":"a@b.c","more":1}"#, Ok(("IZUDFLT", "a@b.c"))),
            (r#"{"applId":" A ","emailId":" a@b.c "}"#, Ok(("A", "a@b.c"))),
            (r#"{"emailId":"a@b.c"}"#, Err("missing field `applId`")),
            (r#"{"applId":"A"}"#, Err("missing field `emailId`")),
            (r#"{"applId":"","emailId":"a@b.c"}"#, Err("`applId` is not an APPLID")),
            (r#"{"applId":"TOOLONGID","emailId":"a@b.c"}"#, Err("`applId` is not an APPLID")),
            (r#"{"applId":"A B","emailId":"a@b.c"}"#, Err("`applId` is not an APPLID")),
            (r#"{"applId":"A","emailId":" "}"#, Err("`emailId` is not an e-mail address")),
            (r#"{"applId":"A","emailId":"a"}"#, Err("`emailId` is not an e-mail address")),
            (r#"{"applId":"A","emailId":"a@b@c"}"#, Err("`emailId` is not an e-mail address")),
            (r#"{"applId":"A","emailId":"a\u0000@b"}"#, Err("`emailId` is not an e-mail address")),
            (&long, Err("`emailId` is not an e-mail address")),
            (r#"{"applId":1,"emailId":"a@b.c"}"#, Err("a value of the wrong type")),
            ("[]", Err("the JSON document is not an object")),
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
