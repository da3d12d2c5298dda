//! Rules that map the person of a token to a technical user.

use std::{collections::HashMap, sync::Arc};

use crate::{
    identity::MapError,
    passticket::UserId,
    token::{ExternalToken, serde_json::Value},
};

/// A rule: if a token of `issuer` has the value `value` in the claim `claim`, its person acts through the technical
/// user `user`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TechnicalUserRule {
    issuer: Arc<str>,
    claim: Arc<str>,
    value: Arc<str>,
    user: UserId,
}

impl TechnicalUserRule {
    /// The maximum length of the name of a claim, in bytes.
    pub const MAX_CLAIM: usize = 128;
    /// The maximum length of a value, in bytes.
    pub const MAX_VALUE: usize = 256;

    /// Creates a rule. `issuer` is the claim `iss` of the tokens. `claim` is the name of a claim that the verifier
    /// keeps ([`ExternalToken::claim`]). `value` is the whole value of this claim. If the claim is a list, `value` is a
    /// whole item. All three texts are case-sensitive.
    ///
    /// # Errors
    /// [`TechnicalUserError::Text`] if `claim` or `value` is empty or too long, has a control character, or begins or
    /// ends with a blank.
    pub fn new(
        issuer: &str,
        claim: &str,
        value: &str,
        user: UserId,
    ) -> Result<Self, TechnicalUserError> {
        check("the claim", claim, Self::MAX_CLAIM)?;
        check("the value", value, Self::MAX_VALUE)?;
        Ok(Self { issuer: issuer.into(), claim: claim.into(), value: value.into(), user })
    }

    /// Returns the issuer of the tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the name of the claim.
    pub fn claim(&self) -> &Arc<str> {
        &self.claim
    }

    /// Returns the value that the claim must have or contain.
    pub fn value(&self) -> &Arc<str> {
        &self.value
    }

    /// Returns the technical user.
    pub fn user(&self) -> UserId {
        self.user
    }
}

fn check(what: &'static str, text: &str, max: usize) -> Result<(), TechnicalUserError> {
    let rule = if text.is_empty() {
        "is empty; write a text".to_owned()
    } else if text.len() > max {
        format!("has {} bytes; write at most {max}", text.len())
    } else if text.contains(char::is_control) {
        "has a control character; remove it".to_owned()
    } else if text.trim().len() < text.len() {
        "begins or ends with a blank; remove the blank".to_owned()
    } else {
        return Ok(());
    };
    Err(TechnicalUserError::Text { what, rule })
}

/// A rule or a set of rules is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TechnicalUserError {
    /// The name of a claim or a value is not valid.
    #[error("{what} {rule}")]
    Text {
        /// The claim or the value.
        what: &'static str,
        /// The violated rule, and the remedy.
        rule: String,
    },
    /// Two rules have the same issuer, claim and value.
    #[error(
        "the claim {} has the value {:?} in two rules for the issuer {}; keep one of them",
        .0.claim, .0.value, .0.issuer
    )]
    Duplicate(TechnicalUserRule),
    /// The rules for one issuer name too many claims.
    #[error(
        "the rules for the issuer {issuer} name more than {} claims; use fewer claims",
        TechnicalUsers::MAX_CLAIMS
    )]
    TooManyClaims {
        /// The issuer.
        issuer: String,
    },
}

/// The rules of one service.
///
/// A technical user is a z/OS user id through which many persons act. Rules match only [tokens](ExternalToken) of
/// identity providers. Login tokens, Personal Access Tokens, certificates and passwords never match a rule.
///
/// - If no rule matches, the person acts with their own user id, if they have one.
/// - If all matching rules name the same user, the person acts through this user.
/// - If matching rules name different users, this is an error. Otherwise, a person could get another user by joining
///   another group.
///
/// A look-up does not take longer with more rules for the same claims.
///
/// ```
/// use tower_passticket::{
///     clock::Timestamp,
///     identity::DistributedIdentity,
///     layer::{TechnicalUserRule, TechnicalUsers},
///     passticket::UserId,
///     token::{ExternalClaims, VerifiedToken, serde_json::json},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = "https://idp.example.com";
/// let rule = TechnicalUserRule::new(issuer, "groups", "zos-batch", UserId::new("BATCHUSR")?)?;
/// let rules = TechnicalUsers::new([rule])?;
///
/// let jane = DistributedIdentity::new("jane@example.com", issuer)?;
/// let claims = ExternalClaims::new(jane, issuer, Timestamp::from_secs(1_900_000_000))
///     .with_claim("groups", json!(["staff", "zos-batch"]));
/// let VerifiedToken::External(token) = VerifiedToken::external(b"token", claims) else {
///     unreachable!("the token was made above")
/// };
/// assert_eq!(rules.find(&token)?.unwrap().user().as_str(), "BATCHUSR");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TechnicalUsers(HashMap<Arc<str>, Vec<ClaimRules>>);

/// The rules for one claim of the tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ClaimRules {
    claim: Arc<str>,
    by_value: HashMap<Arc<str>, Arc<TechnicalUserRule>>,
}

impl TechnicalUsers {
    /// The maximum number of claims for one issuer.
    pub const MAX_CLAIMS: usize = 8;

    /// Creates the rules of a service.
    ///
    /// # Errors
    /// [`TechnicalUserError`] if two rules have the same issuer, claim and value, or if the rules for one issuer name
    /// too many claims.
    pub fn new(
        rules: impl IntoIterator<Item = TechnicalUserRule>,
    ) -> Result<Self, TechnicalUserError> {
        let mut issuers = HashMap::<Arc<str>, Vec<ClaimRules>>::new();
        for rule in rules {
            let claims = issuers.entry(rule.issuer.clone()).or_default();
            let at = match claims.iter().position(|known| known.claim == rule.claim) {
                Some(at) => at,
                None if claims.len() == Self::MAX_CLAIMS => {
                    let issuer = rule.issuer.to_string();
                    return Err(TechnicalUserError::TooManyClaims { issuer });
                }
                None => {
                    claims.push(ClaimRules { claim: rule.claim.clone(), by_value: HashMap::new() });
                    claims.len() - 1
                }
            };
            let by_value = &mut claims[at].by_value;
            if by_value.contains_key(&rule.value) {
                return Err(TechnicalUserError::Duplicate(rule));
            }
            by_value.insert(rule.value.clone(), Arc::new(rule));
        }
        Ok(Self(issuers))
    }

    /// Returns the rule that matches a token. If several rules match and all of them name the same user, returns the
    /// rule for the claim that comes first in the list of rules. If several rules for this claim match, returns the rule
    /// for the value that comes first in the token.
    ///
    /// # Errors
    /// [`MapError::Ambiguous`] if rules with different users match.
    pub fn find(&self, token: &ExternalToken) -> Result<Option<&Arc<TechnicalUserRule>>, MapError> {
        let Some(claims) = self.0.get(token.issuer()) else { return Ok(None) };
        let mut found: Option<&Arc<TechnicalUserRule>> = None;
        for ClaimRules { claim, by_value } in claims {
            let values = token.claim(claim).map(texts).unwrap_or_default();
            for rule in values.iter().filter_map(|value| by_value.get(*value)) {
                match found {
                    Some(first) if first.user != rule.user => {
                        return Err(MapError::Ambiguous { first: first.user, second: rule.user });
                    }
                    Some(_) => {}
                    None => found = Some(rule),
                }
            }
        }
        Ok(found)
    }
}

/// Returns the text of a claim, or the texts of a list.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;
    use crate::{
        clock::Timestamp,
        identity::DistributedIdentity,
        token::{ExternalClaims, VerifiedToken, serde_json::json},
    };

    const ISSUER: &str = "https://idp.example.com";

    fn rule(issuer: &str, claim: &str, value: &str, name: &str) -> TechnicalUserRule {
        TechnicalUserRule::new(issuer, claim, value, user(name)).unwrap()
    }

    fn token(issuer: &str, claims: &Value) -> ExternalToken {
        let jane = DistributedIdentity::new("jane", "registry").unwrap();
        let all = claims.as_object().unwrap().clone();
        let claims = ExternalClaims::new(jane, issuer, Timestamp::from_secs(1)).with_claims(all);
        match VerifiedToken::external(b"x", claims) {
            VerifiedToken::External(token) => token,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rule_matches_whole_values_and_matching_rules_with_different_users_are_an_error() {
        let rules = TechnicalUsers::new([
            rule(ISSUER, "groups", "batch", "BATCH"),
            rule(ISSUER, "groups", "cics", "CICS"),
            rule(ISSUER, "role", "nightly", "BATCH"),
            rule("https://other.example.com", "groups", "staff", "OTHER"),
        ])
        .unwrap();
        let ambiguous =
            |first, second| Err(MapError::Ambiguous { first: user(first), second: user(second) });
        for (issuer, claims, want) in [
            (ISSUER, json!({}), Ok(None)),
            (ISSUER, json!({"groups": "batch"}), Ok(Some("BATCH"))),
            (ISSUER, json!({"groups": ["staff", "batch"]}), Ok(Some("BATCH"))),
            // Both matching rules name the same user.
            (ISSUER, json!({"groups": ["batch", "batch"], "role": "nightly"}), Ok(Some("BATCH"))),
            (ISSUER, json!({"groups": ["cics", "batch"]}), ambiguous("CICS", "BATCH")),
            (ISSUER, json!({"role": "nightly", "groups": "cics"}), ambiguous("CICS", "BATCH")),
            // The issuer, the claim or the value differs from the rule. A value also differs if it has another case, or
            // if the value of the rule is only a part of it. One of the rows matches a rule for another issuer.
            (ISSUER, json!({"groups": "batch cics"}), Ok(None)),
            (ISSUER, json!({"groups": ["Batch", " batch", "batch2", ""]}), Ok(None)),
            (ISSUER, json!({"Groups": "batch", "role": "batch"}), Ok(None)),
            (ISSUER, json!({"groups": "staff"}), Ok(None)),
            ("https://other.example.com", json!({"groups": ["batch", "staff"]}), Ok(Some("OTHER"))),
            ("https://idp.example.com/", json!({"groups": "batch"}), Ok(None)),
            // Only texts match.
            (ISSUER, json!({"groups": {"batch": true}}), Ok(None)),
            (ISSUER, json!({"groups": [["batch"], 1, null]}), Ok(None)),
            (ISSUER, json!({"groups": null}), Ok(None)),
        ] {
            let found = rules.find(&token(issuer, &claims));
            let found = found.map(|rule| rule.map(|rule| rule.user().to_string()));
            assert_eq!(found, want.map(|user| user.map(str::to_owned)), "{issuer} {claims}");
        }
    }

    #[test]
    fn wrong_rules_are_errors_that_name_the_remedy() {
        let long = "x".repeat(257);
        for (claim, value, want) in [
            ("", "a", "the claim is empty; write a text"),
            (&long[..129], "a", "the claim has 129 bytes; write at most 128"),
            ("a", "", "the value is empty; write a text"),
            ("a", &long, "the value has 257 bytes; write at most 256"),
            ("a", "b\n", "the value has a control character; remove it"),
            ("a", " b", "the value begins or ends with a blank; remove the blank"),
        ] {
            let error = TechnicalUserRule::new(ISSUER, claim, value, user("A")).unwrap_err();
            assert_eq!(error.to_string(), want);
        }
        let twice = [rule(ISSUER, "a", "b", "A"), rule(ISSUER, "a", "b", "B")];
        let error = TechnicalUsers::new(twice).unwrap_err().to_string();
        assert!(error.contains("has the value \"b\" in two rules"), "{error}");
        let claims = |n| (0..n).map(|i| rule(ISSUER, &format!("c{i}"), "b", "A"));
        assert!(TechnicalUsers::new(claims(8)).is_ok());
        let error = TechnicalUsers::new(claims(9)).unwrap_err().to_string();
        assert!(error.contains("more than 8 claims"), "{error}");
    }
}
