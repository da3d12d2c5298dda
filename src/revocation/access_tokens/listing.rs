//! Lists the entries of the registry, page by page.

use std::{cmp::Reverse, fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{
    changes::{AccessToken, AccessTokenState, Entries},
    entry::Entry,
    id::AccessTokenId,
};
use crate::{clock::Timestamp, passticket::UserId, token::ServiceId};

/// The maximum number of tokens on one page.
pub const MAX_PAGE: usize = 100;

/// If a list contains the tokens of all users, its page ends early after this many entries were read. So the list does
/// not delay other work of the store.
const MAX_READ: usize = 2000;

/// Which tokens a list contains, and where its page begins. A field that is `None` selects all tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessTokenQuery {
    /// The user of the tokens. `None` lists the tokens of all users.
    pub user: Option<UserId>,
    /// Only tokens in this state.
    pub state: Option<AccessTokenState>,
    /// Only tokens for this service. The suffixes of their scopes do not matter.
    pub service: Option<ServiceId>,
    /// Only tokens whose name contains this text. Upper and lower case are not distinguished.
    pub name: Option<String>,
    /// Only tokens after this position.
    pub after: Option<AccessTokenCursor>,
    /// The maximum number of tokens on the page, from 1 to [`MAX_PAGE`]. 0 counts as 1. A number above [`MAX_PAGE`]
    /// counts as [`MAX_PAGE`].
    pub limit: usize,
}

impl AccessTokenQuery {
    /// Lists the first tokens of a user. `None` lists the tokens of all users.
    pub fn new(user: Option<UserId>) -> Self {
        Self { user, state: None, service: None, name: None, after: None, limit: MAX_PAGE }
    }
}

/// One page of a list. The order is by user, and for each user from the newest token to the oldest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessTokenPage {
    /// The tokens. The page may have fewer tokens than the limit, even if there are more pages.
    pub tokens: Vec<AccessToken>,
    /// Where the next page begins. `None` if this was the last page. The next page is empty if no remaining token fits
    /// the query.
    pub next: Option<AccessTokenCursor>,
}

/// A position in a list of tokens. `Display` and `FromStr` convert it to an opaque text and back. The position does not
/// decide which tokens a caller may see: the [query](AccessTokenQuery) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessTokenCursor {
    user: UserId,
    created_at: Timestamp,
    id: AccessTokenId,
}

impl AccessTokenCursor {
    fn of(entry: &Entry) -> Self {
        Self { user: entry.user, created_at: entry.issued_at, id: entry.id() }
    }
}

impl fmt::Display for AccessTokenCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, created_at, id } = self;
        let created_at = created_at.as_millis().to_be_bytes();
        let bytes = [&id.as_bytes()[..], &created_at, user.as_str().as_bytes()].concat();
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The text is not an [`AccessTokenCursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a position in a list of tokens; use the value of `next` of the previous page")]
pub struct AccessTokenCursorError;

impl FromStr for AccessTokenCursor {
    type Err = AccessTokenCursorError;

    fn from_str(text: &str) -> Result<Self, AccessTokenCursorError> {
        parse(text).ok_or(AccessTokenCursorError)
    }
}

fn parse(text: &str) -> Option<AccessTokenCursor> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (id, rest) = bytes.split_first_chunk()?;
    let (created_at, user) = rest.split_first_chunk()?;
    Some(AccessTokenCursor {
        user: UserId::new(std::str::from_utf8(user).ok()?).ok()?,
        created_at: Timestamp::from_millis(u64::from_be_bytes(*created_at)),
        id: AccessTokenId::from_bytes(*id),
    })
}

fn order(entry: &Entry) -> (Reverse<Timestamp>, AccessTokenId) {
    (Reverse(entry.issued_at), entry.id())
}

pub(in crate::revocation) fn list<E: Entries>(
    query: &AccessTokenQuery,
    now: Timestamp,
    entries: &E,
) -> Result<AccessTokenPage, E::Error> {
    let limit = query.limit.clamp(1, MAX_PAGE);
    let mut page = AccessTokenPage::default();
    let mut read = 0;
    let first = match (&query.user, &query.after) {
        (Some(user), _) => Some(*user),
        (None, Some(after)) => Some(after.user),
        (None, None) => entries.next_user(None)?,
    };
    let mut user = first;
    while let Some(current) = user {
        let mut of_user = entries.of_user(&current)?;
        read += of_user.len().max(1);
        if let Some(after) = query.after.filter(|after| after.user == current) {
            of_user.retain(|entry| order(entry) > (Reverse(after.created_at), after.id));
        }
        of_user.sort_unstable_by_key(order);
        for (index, entry) in of_user.iter().enumerate() {
            if !is_wanted(query, entry) {
                continue;
            }
            let token = entries.view(entry, now)?;
            if query.state.is_some_and(|state| state != token.state) {
                continue;
            }
            page.tokens.push(token);
            if page.tokens.len() == limit {
                let has_more = index + 1 < of_user.len()
                    || (query.user.is_none() && entries.next_user(Some(&current))?.is_some());
                page.next = has_more.then(|| AccessTokenCursor::of(entry));
                return Ok(page);
            }
        }
        user = match query.user {
            Some(_) => None,
            None => entries.next_user(Some(&current))?,
        };
        if user.is_some() && read >= MAX_READ {
            // The position is after the last entry of this user.
            let end = AccessTokenId::from_bytes([u8::MAX; AccessTokenId::LEN]);
            let created_at = Timestamp::from_millis(0);
            page.next = Some(AccessTokenCursor { user: current, created_at, id: end });
            return Ok(page);
        }
    }
    Ok(page)
}

fn is_wanted(query: &AccessTokenQuery, entry: &Entry) -> bool {
    let is_named = |text: &String| {
        let name = entry.label.name.as_ref().map(|name| name.as_str().to_lowercase());
        name.is_some_and(|name| name.contains(&text.to_lowercase()))
    };
    query.service.as_ref().is_none_or(|service| entry.scopes.names_service(service))
        && query.name.as_ref().is_none_or(is_named)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_cursor_is_read_back(millis: u64, id: [u8; 16]) {
            let cursor = AccessTokenCursor {
                user: UserId::new("USER").unwrap(),
                created_at: Timestamp::from_millis(millis),
                id: AccessTokenId::from_bytes(id),
            };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn the_parser_of_cursors_never_panics(text in "[A-Za-z0-9_-]{0,60}") {
            let _ = text.parse::<AccessTokenCursor>();
        }
    }
}
