//! The search of an administrator among the tokens of all users. It is in the URL of the page.

use tower_passticket::{passticket::UserId, token::ServiceId};

use super::{
    auth_client::{TokenFilter, UsersTokenFilter},
    fault::Fault,
    form::{Form, query},
    list_query::{MAX_NAME, State},
    texts::admin as texts,
};

/// A search. The texts are as the administrator has entered them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SearchQuery {
    pub(super) user: String,
    pub(super) name: String,
    pub(super) service: String,
    pub(super) state: State,
    pub(super) cursor: String,
}

impl SearchQuery {
    pub(super) fn of(form: &Form) -> Self {
        let text = |name: &str| form.get(name).trim().chars().take(MAX_NAME).collect();
        let state = State::ALL.into_iter().find(|state| state.word() == form.get("state"));
        Self {
            user: text("user"),
            name: text("name"),
            service: text("service"),
            state: state.unwrap_or_default(),
            cursor: form.get("cursor").to_owned(),
        }
    }

    /// Returns the filter for the auth API.
    ///
    /// # Errors
    /// The fields that do not contain a user id or a service id.
    pub(super) fn filter(&self) -> Result<UsersTokenFilter, Vec<Fault>> {
        let mut faults = Vec::new();
        if !self.user.is_empty() && UserId::new(&self.user).is_err() {
            faults.push(Fault::new("user", texts::USER_INVALID));
        }
        if !self.service.is_empty() && ServiceId::new(&self.service).is_err() {
            faults.push(Fault::new("service", texts::SERVICE_INVALID));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let state = if self.state == State::All { "" } else { self.state.word() };
        let of = TokenFilter { state, name: self.name.clone() };
        Ok(UsersTokenFilter { user: self.user.clone(), service: self.service.clone(), of })
    }

    pub(super) fn at(&self, cursor: &str) -> String {
        let state = if self.state == State::Active { "" } else { self.state.word() };
        query(&[
            ("user", &self.user),
            ("name", &self.name),
            ("service", &self.service),
            ("state", state),
            ("cursor", cursor),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> SearchQuery {
        SearchQuery::of(&Form::parse(query.as_bytes()).unwrap())
    }

    #[test]
    fn searches_are_read_checked_and_written() {
        let query = parse("user=+ibm%23user+&name=a+b&service=Files&state=revoked&cursor=5");
        assert_eq!(
            query.at("6"),
            "?user=ibm%23user&name=a%20b&service=Files&state=revoked&cursor=6"
        );
        assert_eq!(parse("state=x"), SearchQuery::default());
        for (query, want) in [
            ("", Ok(("", "", "active", ""))),
            ("user=a%23b&state=all", Ok(("a#b", "", "", ""))),
            ("service=files&name=x", Ok(("", "files", "active", "x"))),
            ("user=a.b", Err(vec!["user"])),
            ("user=toolongid&service=a/b", Err(vec!["user", "service"])),
        ] {
            let got = parse(query).filter();
            match (got, want) {
                (Ok(got), Ok(want)) => {
                    let got = (&*got.user, &*got.service, got.of.state, &*got.of.name);
                    assert_eq!(got, want, "{query}");
                }
                (Err(faults), Err(want)) => {
                    let fields: Vec<_> = faults.iter().map(|fault| &*fault.field).collect();
                    assert_eq!(fields, want, "{query}");
                }
                (got, want) => panic!("{query}: {got:?}, not {want:?}"),
            }
        }
    }
}
