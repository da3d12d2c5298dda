//! The form with which an administrator revokes the tokens of a user or for a service, and its preview.

use tower_passticket::{clock::Timestamp, passticket::UserId, token::ServiceId};

use super::{
    auth_client::{RuleTarget, Token},
    dates::{Date, rfc3339},
    fault::Fault,
    form::Form,
    texts::admin as texts,
};

/// The maximum length of a field, in characters. A service id has at most 64 characters.
const MAX_FIELD: usize = 64;

/// The word for the tokens of a user, in the field `of`.
pub(super) const OF_USER: &str = "user";
/// The word for the tokens for a service, in the field `of`.
pub(super) const OF_SERVICE: &str = "service";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleForm {
    pub(super) of: String,
    pub(super) user: String,
    pub(super) service: String,
    /// A time as `2027-01-15T08:00` in UTC, or nothing.
    pub(super) up_to: String,
}

/// The tokens to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) target: RuleTarget,
    /// The rule revokes only tokens that were issued up to this time. `None` means the time at which the rule is made.
    pub(super) up_to: Option<UpTo>,
}

/// The time of a rule, in the format of the auth API with milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpTo(String);

impl UpTo {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl RuleForm {
    pub(super) fn of(form: &Form) -> Self {
        let text = |name: &str| form.get(name).trim().chars().take(MAX_FIELD).collect::<String>();
        let (user, service) = (text("user"), text("service"));
        let of = match form.get("of") {
            OF_SERVICE => OF_SERVICE,
            OF_USER => OF_USER,
            // A link to the form may have the field `user` or `service` only, without the field `of`.
            _ if user.is_empty() && !service.is_empty() => OF_SERVICE,
            _ => OF_USER,
        };
        Self { of: of.to_owned(), user, service, up_to: text("up-to") }
    }

    /// Returns whether the administrator has not entered anything yet.
    pub(super) fn is_empty(form: &Form) -> bool {
        form.get("of").is_empty() && form.get("user").is_empty() && form.get("service").is_empty()
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// The faults, each with its field.
    pub(super) fn check(&self, now: Timestamp) -> Result<Rule, Vec<Fault>> {
        let mut faults = Vec::new();
        let target = if self.of == OF_SERVICE {
            let service = ServiceId::new(&self.service).map(RuleTarget::Service);
            service.map_err(|_| Fault::new("service", texts::SERVICE_INVALID))
        } else {
            let user = UserId::new(&self.user).map(RuleTarget::User);
            user.map_err(|_| Fault::new("user", texts::USER_INVALID))
        };
        let up_to = match &*self.up_to {
            "" => Ok(None),
            text => match parse_minute(text) {
                None => Err(Fault::new("up-to", texts::TIME_INVALID)),
                Some(time) if time > now => Err(Fault::new("up-to", texts::TIME_IN_FUTURE)),
                Some(time) => Ok(Some(UpTo(with_millis(time)))),
            },
        };
        match (target, up_to) {
            (Ok(target), Ok(up_to)) => Ok(Rule { target, up_to }),
            (target, up_to) => {
                faults.extend(target.err());
                faults.extend(up_to.err());
                Err(faults)
            }
        }
    }
}

impl Rule {
    /// Returns whether the rule revokes `token`. The caller passes only active tokens that `target` selects.
    pub(super) fn hits(&self, token: &Token) -> bool {
        // Both texts have the same length and the same offset from UTC, so comparing the texts compares the times.
        self.up_to.as_ref().is_none_or(|up_to| token.created_at.as_str() <= up_to.as_str())
    }
}

/// Reads the value of a field `datetime-local`: `2027-01-15T08:00`, perhaps with seconds.
fn parse_minute(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T')?;
    let date = Date::parse(date)?;
    let mut parts = time.split(':').map(|part| {
        let is_number = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u64>().ok().filter(|_| is_number)
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let is_time = hour < 24 && minute < 60 && second < 60 && parts.next().is_none();
    let seconds = hour * 3600 + minute * 60 + second;
    is_time.then(|| Timestamp::from_secs(date.start().as_secs() + seconds))
}

fn with_millis(time: Timestamp) -> String {
    let time = rfc3339(time);
    time.replace('Z', ".000Z")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn parse(query: &str) -> RuleForm {
        RuleForm::of(&Form::parse(query.as_bytes()).unwrap())
    }

    #[test]
    fn forms_are_checked() {
        let user = |user| RuleTarget::User(UserId::new(user).unwrap());
        let service = |service| RuleTarget::Service(ServiceId::new(service).unwrap());
        for (query, want) in [
            ("of=user&user=a%23b", Ok((user("A#B"), None))),
            ("user=a", Ok((user("A"), None))),
            ("service=Files", Ok((service("files"), None))),
            ("of=service&user=a&service=files", Ok((service("files"), None))),
            (
                "of=user&user=a&up-to=2027-01-15T08:00",
                Ok((user("A"), Some("2027-01-15T08:00:00.000Z"))),
            ),
            (
                "of=user&user=a&up-to=2027-01-15T07:59:59",
                Ok((user("A"), Some("2027-01-15T07:59:59.000Z"))),
            ),
            ("of=user&user=a&up-to=2027-01-15T08:01", Err(vec!["up-to"])),
            ("of=user&user=a&up-to=2027-01-15", Err(vec!["up-to"])),
            ("of=user&user=a&up-to=2027-01-15T24:00", Err(vec!["up-to"])),
            ("of=user&user=a&up-to=2027-01-15T1:00", Err(vec!["up-to"])),
            ("of=user&user=a&up-to=2027-01-15T01:00:00:00", Err(vec!["up-to"])),
            ("of=user", Err(vec!["user"])),
            ("of=service&service=a/b&up-to=x", Err(vec!["service", "up-to"])),
        ] {
            match (parse(query).check(NOW), want) {
                (Ok(rule), Ok((target, up_to))) => {
                    assert_eq!(rule.target, target, "{query}");
                    assert_eq!(rule.up_to.as_ref().map(UpTo::as_str), up_to, "{query}");
                }
                (Err(faults), Err(want)) => {
                    let fields: Vec<_> = faults.iter().map(|fault| &*fault.field).collect();
                    assert_eq!(fields, want, "{query}");
                }
                (got, want) => panic!("{query}: {got:?}, not {want:?}"),
            }
        }
        assert!(RuleForm::is_empty(&Form::default()));
    }

    #[test]
    fn a_rule_hits_tokens_that_were_issued_at_its_time_or_before() {
        let rule = parse("user=a&up-to=2027-01-15T07:00").check(NOW).unwrap();
        for (created, want) in [
            ("2027-01-15T07:00:00.000Z", true),
            ("2026-12-31T23:59:59.999Z", true),
            ("2027-01-15T07:00:00.001Z", false),
        ] {
            let token = serde_json::json!({
                "id": "", "user": "A", "name": null, "description": "", "scopes": [], "createdAt": created,
                "expiresAt": "", "lastUsedAt": null, "lastUsedFrom": null, "lastUsedService": null,
                "state": "active",
            });
            let token = serde_json::from_value::<Token>(token).unwrap();
            assert_eq!(rule.hits(&token), want, "{created}");
            assert!(parse("user=a").check(NOW).unwrap().hits(&token));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_never_panics(text in "[0-9T:-]{0,24}|\\PC{0,24}") {
            let _ = parse_minute(&text);
        }
    }
}
