//! The query of the endpoints `access-tokens`.

use super::{error::ApiError, rfc3339};
use crate::{
    clock::Timestamp,
    hexadecimal,
    passticket::UserId,
    revocation::{AccessTokenCursor, AccessTokenState, MAX_PAGE},
    token::ServiceId,
};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TokenQuery {
    pub(super) owner: Owner,
    pub(super) state: Option<AccessTokenState>,
    pub(super) service: Option<ServiceId>,
    pub(super) name: Option<String>,
    pub(super) cursor: Option<AccessTokenCursor>,
    pub(super) limit: Option<usize>,
}

/// The user whose tokens a request lists or changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Owner {
    /// The caller's own tokens.
    #[default]
    Caller,
    /// The tokens of this user.
    User(UserId),
    /// The tokens of all users.
    All,
}

/// The maximum length of the parameter `name`, in bytes.
const MAX_NAME: usize = 256;

impl TokenQuery {
    /// # Errors
    /// [`ApiError::InvalidQuery`] if the query is not correctly percent-encoded, if the query has both `user` and `all=true`, or
    /// if a parameter is unknown, occurs twice, or has a wrong value.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let (mut parsed, mut user, mut all) = (Self::default(), None, None);
        for (name, value) in parameters(query)? {
            match &*name {
                "state" => set(&mut parsed.state, state(&value)?)?,
                "service" => set(&mut parsed.service, service_id(&value)?)?,
                "name" if value.is_empty() || value.len() > MAX_NAME => {
                    return Err(wrong("`name` must have 1 to 256 bytes"));
                }
                "name" => set(&mut parsed.name, value)?,
                "cursor" => {
                    let cursor = value.parse();
                    let cursor = cursor.map_err(|_| {
                        wrong("`cursor` is not the value of `next` of an earlier page")
                    })?;
                    set(&mut parsed.cursor, cursor)?;
                }
                "limit" => set(&mut parsed.limit, limit(&value)?)?,
                "user" => set(&mut user, user_id(&value)?)?,
                "all" => set(&mut all, boolean(&value)?)?,
                _ => {
                    return Err(wrong(
                        "a parameter is unknown; use state, service, name, limit, cursor, user or all",
                    ));
                }
            }
        }
        parsed.owner = match (user, all.unwrap_or(false)) {
            (None, false) => Owner::Caller,
            (Some(user), false) => Owner::User(user),
            (None, true) => Owner::All,
            (Some(_), true) => return Err(wrong("`user` and `all` exclude each other")),
        };
        Ok(parsed)
    }
}

/// Parses the query of an endpoint that concerns one token. Returns the user in the parameter `user`, or the caller if
/// the query has no `user`.
///
/// # Errors
/// [`ApiError::InvalidQuery`] if the query is not correctly percent-encoded, if it has a parameter other than `user`, or if
/// `user` occurs twice or is not a user id.
pub(super) fn owner_of_one(query: Option<&str>) -> Result<Owner, ApiError> {
    let mut user = None;
    for (name, value) in parameters(query)? {
        match &*name {
            "user" => set(&mut user, user_id(&value)?)?,
            _ => return Err(wrong("a parameter is unknown; only user can be used")),
        }
    }
    Ok(user.map_or(Owner::Caller, Owner::User))
}

/// The tokens that one request revokes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RevokedGroup {
    OfCaller,
    OfUser(UserId),
    ForService(ServiceId),
}

impl RevokedGroup {
    /// Returns whether `caller` needs a permission to revoke these tokens.
    pub(super) fn needs_permission(&self, caller: &UserId) -> bool {
        match self {
            Self::OfCaller => false,
            Self::OfUser(user) => user != caller,
            Self::ForService(_) => true,
        }
    }
}

/// The query of the endpoint that revokes several tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupQuery {
    pub(super) group: RevokedGroup,
    /// The request revokes only tokens that were issued up to this time. `None` means the current time.
    pub(super) up_to: Option<Timestamp>,
}

impl GroupQuery {
    /// Parses the query.
    ///
    /// # Errors
    /// [`ApiError::InvalidQuery`] if the query is not correctly percent-encoded, if the query has both a user and a service, or
    /// if a parameter is unknown, occurs twice, or has a wrong value.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let (mut group, mut up_to) = (None, None);
        for (name, value) in parameters(query)? {
            match &*name {
                "user" => set(&mut group, RevokedGroup::OfUser(user_id(&value)?))?,
                "service" => set(&mut group, RevokedGroup::ForService(service_id(&value)?))?,
                "upTo" => {
                    let time = rfc3339::parse(&value);
                    let time =
                        time.ok_or(wrong("`upTo` is not a time such as 2027-01-15T08:00:00Z"))?;
                    set(&mut up_to, time)?;
                }
                _ => return Err(wrong("a parameter is unknown; use user, service or upTo")),
            }
        }
        Ok(Self { group: group.unwrap_or(RevokedGroup::OfCaller), up_to })
    }
}

const fn wrong(problem: &'static str) -> ApiError {
    ApiError::InvalidQuery(problem)
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), ApiError> {
    if slot.is_some() {
        return Err(wrong("a parameter occurs twice, or two parameters exclude each other"));
    }
    *slot = Some(value);
    Ok(())
}

fn state(text: &str) -> Result<AccessTokenState, ApiError> {
    match text {
        "active" => Ok(AccessTokenState::Active),
        "expired" => Ok(AccessTokenState::Expired),
        "revoked" => Ok(AccessTokenState::Revoked),
        _ => Err(wrong("`state` must be active, expired or revoked")),
    }
}

fn limit(text: &str) -> Result<usize, ApiError> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|limit| is_number && (1..=MAX_PAGE).contains(limit));
    limit.ok_or(wrong("`limit` must be a number from 1 to 100"))
}

fn user_id(text: &str) -> Result<UserId, ApiError> {
    UserId::new(text).map_err(|_| wrong("`user` is not a user id of 1 to 8 characters"))
}

fn service_id(text: &str) -> Result<ServiceId, ApiError> {
    ServiceId::new(text).map_err(|_| wrong("`service` is not a service id"))
}

fn boolean(text: &str) -> Result<bool, ApiError> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong("`all` must be true or false")),
    }
}

fn parameters(query: Option<&str>) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            decode(name).zip(decode(value)).ok_or(wrong("it is not correctly percent-encoded"))
        })
        .collect()
}

/// Decodes form encoding: `+` is a blank, and `%` begins an encoded byte.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hexadecimal::byte(rest.next()?, rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries_are_parsed_or_refused() {
        let parse = |query| TokenQuery::parse(Some(query));
        let user = UserId::new("OTHER").unwrap();
        for (query, want) in [
            ("", TokenQuery::default()),
            ("all=false", TokenQuery::default()),
            ("user=other", TokenQuery { owner: Owner::User(user), ..TokenQuery::default() }),
            ("all=true&", TokenQuery { owner: Owner::All, ..TokenQuery::default() }),
            ("limit=100", TokenQuery { limit: Some(100), ..TokenQuery::default() }),
            (
                "state=revoked&service=ZOSMF&name=a+b%2B%C3%A4",
                TokenQuery {
                    state: Some(AccessTokenState::Revoked),
                    service: ServiceId::new("zosmf").ok(),
                    name: Some("a b+ä".to_owned()),
                    ..TokenQuery::default()
                },
            ),
        ] {
            assert_eq!(parse(query), Ok(want), "{query}");
        }
        for wrong in [
            "x=1",
            "state=Active",
            "state=",
            "service=",
            "service=a%20b",
            "name=",
            "limit=0",
            "limit=101",
            "limit=+5",
            "limit=x",
            "cursor=x",
            "user=",
            "user=toolongid",
            "all=1",
            "user=a&all=true",
            "state=active&state=active",
            "name=%",
            "name=%4",
            "name=%zz",
            "name=%ff",
        ] {
            let error = parse(wrong);
            assert!(matches!(error, Err(ApiError::InvalidQuery(_))), "{wrong}: {error:?}");
        }
        assert_eq!(owner_of_one(None), Ok(Owner::Caller));
        assert_eq!(owner_of_one(Some("user=other")), Ok(Owner::User(user)));
        assert!(owner_of_one(Some("all=true")).is_err());
    }

    #[test]
    fn a_query_names_the_tokens_to_revoke() {
        let (caller, other) = (UserId::new("USER").unwrap(), UserId::new("OTHER").unwrap());
        for (query, want, needs_permission) in [
            (None, RevokedGroup::OfCaller, false),
            (Some("user=user"), RevokedGroup::OfUser(caller), false),
            (Some("user=other"), RevokedGroup::OfUser(other), true),
            (
                Some("service=ZOSMF"),
                RevokedGroup::ForService(ServiceId::new("zosmf").unwrap()),
                true,
            ),
        ] {
            let GroupQuery { group, up_to } = GroupQuery::parse(query).unwrap();
            assert_eq!(up_to, None);
            assert_eq!((group.needs_permission(&caller), group), (needs_permission, want));
        }
        let query = GroupQuery::parse(Some("user=a&upTo=2027-01-15T08:00:00.5Z")).unwrap();
        assert_eq!(query.up_to, Some(Timestamp::from_millis(1_800_000_000_500)));
        for wrong in [
            "all=true",
            "user=",
            "service=",
            "user=a&service=b",
            "user=a&user=a",
            "x",
            "upTo=",
            "upTo=1800000000000",
            "upTo=2027-01-15",
        ] {
            assert!(GroupQuery::parse(Some(wrong)).is_err(), "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_never_panics(query in "(state|service|name|limit|cursor|user|all|upTo|&|=|%|\\PC){0,30}") {
            let _ = TokenQuery::parse(Some(&query));
            let _ = GroupQuery::parse(Some(&query));
        }
    }
}
