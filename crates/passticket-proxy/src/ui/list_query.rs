//! The filters and the order of the list of tokens. They are in the URL of the page.

use std::cmp::Reverse;

use super::{
    auth_client::{Token, TokenFilter},
    form::{Form, query},
    texts::tokens as texts,
};

/// The maximum length of the name to look for, in characters. No name is longer.
pub(super) const MAX_NAME: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListQuery {
    pub(super) state: State,
    pub(super) sort: Sort,
    pub(super) name: String,
    /// The start of the page. Only a list in the order `newest`, which is the order of the registry, has several pages.
    pub(super) cursor: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Active,
    Expired,
    Revoked,
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Newest,
    Name,
    Expiry,
    LastUse,
}

impl State {
    pub(super) const ALL: [Self; 4] = [Self::Active, Self::Expired, Self::Revoked, Self::All];

    /// Returns the value in the URL of the page.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::All => "all",
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Active => texts::ACTIVE,
            Self::Expired => texts::EXPIRED,
            Self::Revoked => texts::REVOKED,
            Self::All => texts::ALL,
        }
    }
}

impl Sort {
    pub(super) const ALL: [Self; 4] = [Self::Newest, Self::Name, Self::Expiry, Self::LastUse];

    /// Returns the value in the URL of the page.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Name => "name",
            Self::Expiry => "expiry",
            Self::LastUse => "use",
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Newest => texts::BY_CREATED,
            Self::Name => texts::BY_NAME,
            Self::Expiry => texts::BY_EXPIRY,
            Self::LastUse => texts::BY_USE,
        }
    }

    /// Sorts tokens. The registry lists the newest first.
    pub(super) fn apply(self, tokens: &mut [Token]) {
        match self {
            Self::Newest => {}
            Self::Name => tokens.sort_by_cached_key(|token| {
                token
                    .name
                    .as_ref()
                    .map_or((true, String::new()), |name| (false, name.to_lowercase()))
            }),
            // All times are in RFC 3339 and have the same length, so comparing the texts compares the times.
            Self::Expiry => tokens.sort_by(|a, b| a.expires_at.cmp(&b.expires_at)),
            Self::LastUse => tokens.sort_by_key(|token| Reverse(token.last_used_at.clone())),
        }
    }
}

impl ListQuery {
    /// Reads the query of a URL. Unknown words mean the default, because an old bookmark should work.
    pub(super) fn of(form: &Form) -> Self {
        let state = State::ALL.into_iter().find(|state| state.word() == form.get("state"));
        let sort = Sort::ALL.into_iter().find(|sort| sort.word() == form.get("sort"));
        let (state, sort) = (state.unwrap_or_default(), sort.unwrap_or_default());
        let name = form.get("name").trim().chars().take(MAX_NAME).collect();
        let cursor = if sort == Sort::Newest { form.get("cursor") } else { "" };
        Self { state, sort, name, cursor: cursor.to_owned() }
    }

    pub(super) fn filter(&self) -> TokenFilter {
        let state = if self.state == State::All { "" } else { self.state.word() };
        TokenFilter { state, name: self.name.clone() }
    }

    /// Returns whether the list shows the first page of all active tokens, as it does by default.
    pub(super) fn is_default(&self) -> bool {
        self.state == State::Active && self.name.is_empty() && self.cursor.is_empty()
    }

    pub(super) fn at(&self, cursor: &str) -> String {
        let state = if self.state == State::Active { "" } else { self.state.word() };
        let sort = if self.sort == Sort::Newest { "" } else { self.sort.word() };
        query(&[("state", state), ("sort", sort), ("name", &self.name), ("cursor", cursor)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> ListQuery {
        ListQuery::of(&Form::parse(query.as_bytes()).unwrap())
    }

    #[test]
    fn queries_are_read_and_written() {
        assert!(parse("").is_default());
        assert_eq!(parse("state=x&sort=y"), parse(""));
        let query = parse("state=all&sort=name&name=+a+b+&cursor=5");
        assert_eq!((query.state, query.sort, query.name.as_str()), (State::All, Sort::Name, "a b"));
        // With another order than `newest`, the list has no pages, so the cursor is dropped.
        assert_eq!((query.cursor.as_str(), query.filter().state), ("", ""));
        assert_eq!(query.at(""), "?state=all&sort=name&name=a%20b");
        assert_eq!(parse("cursor=5").at("6"), "?cursor=6");
        assert_eq!(parse(&format!("name={}", "\u{e4}".repeat(99))).name.chars().count(), MAX_NAME);
    }

    #[test]
    fn tokens_are_sorted() {
        let token = |name: Option<&str>, expires: &str, used: Option<&str>| {
            let token = serde_json::json!({
                "id": "", "user": "", "name": name, "description": "", "scopes": [], "createdAt": "", "expiresAt": expires,
                "lastUsedAt": used, "lastUsedFrom": null, "lastUsedService": null, "state": "active",
            });
            serde_json::from_value::<Token>(token).unwrap()
        };
        let tokens = [
            token(Some("b"), "2027-03-01", None),
            token(None, "2027-01-01", Some("2026-02-01")),
            token(Some("A"), "2027-02-01", Some("2026-03-01")),
        ];
        for (sort, want) in [
            (Sort::Newest, [Some("b"), None, Some("A")]),
            (Sort::Name, [Some("A"), Some("b"), None]),
            (Sort::Expiry, [None, Some("A"), Some("b")]),
            (Sort::LastUse, [Some("A"), None, Some("b")]),
        ] {
            let mut sorted = tokens.clone();
            sort.apply(&mut sorted);
            let names: Vec<_> = sorted.iter().map(|token| token.name.as_deref()).collect();
            assert_eq!(names, want, "{sort:?}");
        }
    }
}
