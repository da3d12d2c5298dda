//! The endpoints that create revocation rules: `DELETE access-token/revoke/tokens` and the paths below it, and `DELETE
//! access-tokens`, which also accepts a login token. The endpoints that remove revocations whose tokens have all
//! expired: `DELETE access-token/evict` and `POST access-tokens/evict` (docs/reference/auth-endpoints.md#rules,
//! docs/decisions.md#d8).
//!
//! A revocation rule contains a time, and a user or a service. It revokes the Personal Access Tokens of the user, or
//! for the service, that were issued up to this time.

use http::{StatusCode, request::Parts};
use http_body::Body;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::{
    any_credential::AnyCredential,
    authenticate::Callers,
    authorize::Authorizer,
    body,
    compatibility::Compatibility,
    error::ApiError,
    permission::GuardedTask,
    record::add_to_record,
    response::{Answer, empty, json},
    revocations::Revocations,
    token_json::EvictedCounts,
    token_query::{GroupQuery, RevokedGroup},
};
use crate::{
    audit::{AuditRecord, Detail, RuleKind},
    clock::{Clock, Timestamp},
    passticket::UserId,
    revocation::{Evicted, Revocation},
    token::ServiceId,
};

#[derive(Clone, Copy)]
pub(super) struct RevocationRules<'a> {
    pub(super) callers: Callers<'a>,
    pub(super) authorizer: Authorizer<'a>,
    pub(super) revocations: &'a Revocations,
    pub(super) compatibility: Compatibility,
    pub(super) clock: &'a dyn Clock,
}

impl RevocationRules<'_> {
    pub(super) async fn revoke_own<B: Body>(self, request: &Parts, body: B) -> Answer {
        let caller = self.callers.require(request).await?;
        let body = body::read(body).await?;
        let OwnRule { timestamp } = if body.is_empty() {
            OwnRule { timestamp: None }
        } else {
            body::object(&body).map_err(ApiError::InvalidRuleBody)?
        };
        let rule = |up_to| Revocation::User { user: caller, up_to };
        self.make_rule(request, &caller, rule, timestamp).await
    }

    pub(super) async fn revoke_user<B: Body>(self, request: &Parts, body: B) -> Answer {
        let caller = self.permitted_caller(request, GuardedTask::Revoke).await?;
        let body = body::read(body).await?;
        let UserRule { user, timestamp } =
            body::object(&body).map_err(ApiError::InvalidRuleBody)?;
        let rule = |up_to| Revocation::User { user, up_to };
        self.make_rule(request, &caller, rule, timestamp).await
    }

    pub(super) async fn revoke_service<B: Body>(self, request: &Parts, body: B) -> Answer {
        let caller = self.permitted_caller(request, GuardedTask::Revoke).await?;
        let body = body::read(body).await?;
        let ServiceRule { service, timestamp } =
            body::object(&body).map_err(ApiError::InvalidRuleBody)?;
        let rule = |up_to| Revocation::Service { service, up_to };
        self.make_rule(request, &caller, rule, timestamp).await
    }

    /// Revokes the tokens of the user or for the service that the query names, or the caller's own tokens if the query
    /// names neither. Revokes the tokens that were issued up to the time in the query, or up to now if the query has no
    /// time.
    pub(super) async fn revoke_group(
        self,
        credentials: AnyCredential<'_>,
        request: &Parts,
    ) -> Answer {
        let caller = credentials.user(request).await?;
        let GroupQuery { group, up_to } = GroupQuery::parse(request.uri.query())?;
        // A rule with a time in the future would also revoke tokens that are issued after this request.
        if up_to.is_some_and(|up_to| up_to > self.clock.now()) {
            return Err(ApiError::InvalidQuery("`upTo` is in the future"));
        }
        if group.needs_permission(&caller) {
            self.authorizer.permit(request, &caller, GuardedTask::ManageTokens).await?;
        }
        let rule = |up_to| match group {
            RevokedGroup::OfCaller => Revocation::User { user: caller, up_to },
            RevokedGroup::OfUser(user) => Revocation::User { user, up_to },
            RevokedGroup::ForService(service) => Revocation::Service { service, up_to },
        };
        self.store_rule(request, &caller, rule, up_to).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(super) async fn evict(self, request: &Parts) -> Answer {
        let caller = self.permitted_caller(request, GuardedTask::Evict).await?;
        self.remove_expired(request, &caller).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Like [`evict`](Self::evict), but also accepts a login token, and answers with the numbers of removed
    /// revocations.
    pub(super) async fn evict_and_report(
        self,
        credentials: AnyCredential<'_>,
        request: &Parts,
    ) -> Answer {
        let caller = credentials.user(request).await?;
        self.authorizer.permit(request, &caller, GuardedTask::Evict).await?;
        let Evicted { tokens, users, services } = self.remove_expired(request, &caller).await?;
        json(&EvictedCounts { tokens, users, services })
    }

    async fn remove_expired(self, request: &Parts, caller: &UserId) -> Result<Evicted, ApiError> {
        let evicted = self.revocations.evict(self.clock.now()).await?;
        let Evicted { tokens, users, services } = evicted;
        tracing::info!(
            url = request.uri.path(), %caller, tokens, users, services, "removed expired revocations"
        );
        add_to_record(request, |record| record.detail = Some(Detail::Evicted(evicted)));
        Ok(evicted)
    }

    /// Authenticates the caller, and checks that the security product permits the caller to perform `task`.
    async fn permitted_caller(
        self,
        request: &Parts,
        task: GuardedTask,
    ) -> Result<UserId, ApiError> {
        let caller = self.callers.require(request).await?;
        self.authorizer.permit(request, &caller, task).await?;
        Ok(caller)
    }

    async fn make_rule(
        self,
        request: &Parts,
        caller: &UserId,
        rule: impl FnOnce(Timestamp) -> Revocation,
        timestamp: Option<Timestamp>,
    ) -> Answer {
        self.store_rule(request, caller, rule, timestamp).await?;
        Ok(empty(self.compatibility.success()))
    }

    /// Stores a rule with the time `timestamp`, or with the current time if `timestamp` is `None`.
    async fn store_rule(
        self,
        request: &Parts,
        caller: &UserId,
        rule: impl FnOnce(Timestamp) -> Revocation,
        timestamp: Option<Timestamp>,
    ) -> Result<(), ApiError> {
        let rule = rule(timestamp.unwrap_or_else(|| self.clock.now()));
        add_to_record(request, |record| add_rule(record, &rule));
        match timestamp {
            Some(_) => self.revocations.record(rule.clone()).await?,
            None => self.revocations.record_rule_of_now(rule.clone()).await?,
        }
        tracing::info!(url = request.uri.path(), %caller, ?rule, "made a revocation rule");
        Ok(())
    }
}

fn add_rule(record: &mut AuditRecord, rule: &Revocation) {
    let (kind, up_to) = match rule {
        Revocation::User { user, up_to } => {
            record.target = Some(*user);
            (RuleKind::User, *up_to)
        }
        Revocation::Service { service, up_to } => {
            record.service = Some(service.clone());
            (RuleKind::Service, *up_to)
        }
        // A revocation of one token is not a rule.
        Revocation::Token { .. } => return,
    };
    record.detail = Some(Detail::Rule { kind, up_to });
}

// The bodies of the three kinds of rules. As in API ML (Zowe's API Mediation Layer), the gateway ignores unknown fields
// and the fields of another kind of rule.

#[derive(Debug, Deserialize)]
struct OwnRule {
    #[serde(default, deserialize_with = "timestamp")]
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct UserRule {
    #[serde(rename = "userId", deserialize_with = "user_id")]
    user: UserId,
    #[serde(default, deserialize_with = "timestamp")]
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct ServiceRule {
    #[serde(rename = "serviceId", deserialize_with = "service_id")]
    service: ServiceId,
    #[serde(default, deserialize_with = "timestamp")]
    timestamp: Option<Timestamp>,
}

fn user_id<'de, D: Deserializer<'de>>(d: D) -> Result<UserId, D::Error> {
    let not_a_user_id = "`userId` is not a user id of 1 to 8 characters of A-Z 0-9 # @ $";
    UserId::new(String::deserialize(d)?.trim()).map_err(|_| D::Error::custom(not_a_user_id))
}

fn service_id<'de, D: Deserializer<'de>>(d: D) -> Result<ServiceId, D::Error> {
    let not_a_service_id = "`serviceId` is not a service id of 1 to 64 characters of a-z 0-9 - _ .";
    ServiceId::new(&String::deserialize(d)?).map_err(|_| D::Error::custom(not_a_service_id))
}

/// Deserializes milliseconds since 1970-01-01 from a number or a string of digits. Returns `None` for `null`, a blank
/// string and 0. `None` means the current time.
fn timestamp<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
    let millis = match Value::deserialize(d)? {
        Value::Null => Some(0),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => match text.trim() {
            "" => Some(0),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    let millis = millis.ok_or_else(|| {
        D::Error::custom("`timestamp` is not a number of milliseconds since 1970-01-01")
    })?;
    Ok((millis != 0).then_some(Timestamp::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_are_numbers_or_digits_and_zero_means_now() {
        let invalid = Err("`timestamp` is not a number of milliseconds since 1970-01-01");
        for (json, want) in [
            ("1582239600000", Ok(Some(1_582_239_600_000))),
            (r#""1582239600000""#, Ok(Some(1_582_239_600_000))),
            (r#"" 1 ""#, Ok(Some(1))),
            ("18446744073709551615", Ok(Some(u64::MAX))),
            ("null", Ok(None)),
            ("0", Ok(None)),
            (r#""0""#, Ok(None)),
            (r#""""#, Ok(None)),
            (r#"" ""#, Ok(None)),
            ("-1", invalid),
            (r#""-1""#, invalid),
            (r#""+1""#, invalid),
            ("1.5", invalid),
            ("1e12", invalid),
            (r#""abc""#, invalid),
            (r#""2026-01-01""#, invalid),
            (r#""18446744073709551616""#, invalid),
            ("18446744073709551616", invalid),
            ("true", invalid),
            ("[1]", invalid),
        ] {
            let body = format!(r#"{{"timestamp":{json},"x":[]}}"#);
            let got = body::object::<OwnRule>(body.as_bytes()).map(|rule| rule.timestamp);
            match (got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want.map(Timestamp::from_millis), "{json}"),
                (Err(got), Err(want)) => assert!(got.to_string().starts_with(want), "{json} {got}"),
                (got, want) => panic!("{json}: {got:?} instead of {want:?}"),
            }
        }
        assert_eq!(body::object::<OwnRule>(b"{}").unwrap().timestamp, None);
    }

    #[test]
    fn user_and_service_are_required_and_their_case_is_converted() {
        let user = |body: &str| body::object::<UserRule>(body.as_bytes()).map(|rule| rule.user);
        let service = |body: &str| body::object::<ServiceRule>(body.as_bytes());
        assert_eq!(user(r#"{"userId":"user","serviceId":5}"#).unwrap().as_str(), "USER");
        assert_eq!(service(r#"{"serviceId":" ZOSMF "}"#).unwrap().service.as_str(), "zosmf");
        for value in ["", "john.doe", "TOOLONGID"] {
            let error = user(&format!(r#"{{"userId":"{value}"}}"#)).unwrap_err().to_string();
            assert!(error.starts_with("`userId` is not a user id of 1 to 8"), "{error}");
        }
        for value in ["", "a b", ".."] {
            let error = service(&format!(r#"{{"serviceId":"{value}"}}"#)).unwrap_err().to_string();
            assert!(error.starts_with("`serviceId` is not a service id of 1"), "{error}");
        }
        for body in ["{}", r#"{"userId":null}"#, r#"{"userId":5}"#, "[]", "", "null"] {
            assert!(user(body).is_err() && service(body).is_err(), "{body}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            for start in ["", r#"{"timestamp":"#, r#"{"userId":"#, r#"{"serviceId":"#] {
                let body = [start.as_bytes(), bytes.as_slice()].concat();
                let _ = body::object::<OwnRule>(&body);
                let _ = body::object::<UserRule>(&body);
                let _ = body::object::<ServiceRule>(&body);
            }
        }
    }
}
