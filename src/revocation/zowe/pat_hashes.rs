//! The hashes under which a revocation of a PAT (Personal Access Token) may be stored.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::{
    list::List,
    salt::{ItemHash, Salt},
};
use crate::{
    passticket::UserId,
    token::{Pat, ServiceId},
};

/// The keys that revoke one PAT, for each list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PatHashes {
    pub(super) tokens: Vec<ItemHash>,
    pub(super) users: Vec<ItemHash>,
    pub(super) services: Vec<ItemHash>,
}

impl PatHashes {
    /// Hashes a PAT with each salt. Returns `None` if the verifier does not keep the text of PATs.
    pub(super) fn of(pat: &Pat, salts: &[Salt]) -> Option<Self> {
        let text = pat.expose()?;
        let users = user_spellings(pat.user(), subject(text).as_deref());
        let mut hashes = Self { tokens: Vec::new(), users: Vec::new(), services: Vec::new() };
        for salt in salts {
            hashes.tokens.push(salt.hash(text));
            hashes.users.extend(users.iter().map(|user| salt.hash(user)));
            let services = pat.scopes().services();
            hashes.services.extend(services.map(|service| salt.hash(service_spelling(service))));
        }
        Some(hashes)
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len() + self.users.len() + self.services.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (List, ItemHash)> {
        let in_list = |list| move |hash: &ItemHash| (list, *hash);
        let tokens = self.tokens.iter().map(in_list(List::Tokens));
        let users = self.users.iter().map(in_list(List::Users));
        tokens.chain(users).chain(self.services.iter().map(in_list(List::Services)))
    }
}

/// Returns the spellings of a user under which a rule may be stored. API ML 3.0 hashes the user id of a rule as the
/// caller wrote it, and looks a token up by its claim `sub`. Newer releases, such as 3.5, hash the user id in upper
/// case.
pub(super) fn user_spellings(user: &UserId, subject: Option<&str>) -> Vec<String> {
    let upper = user.as_str().to_uppercase();
    let mut all = vec![upper.to_lowercase(), upper];
    for subject in subject.into_iter().flat_map(|it| [it.to_owned(), it.trim().to_uppercase()]) {
        if !all.contains(&subject) {
            all.push(subject);
        }
    }
    all
}

/// Returns the text under which a rule for a service is stored. It is in lower case, because tokens have service ids in
/// lower case.
pub(super) fn service_spelling(service: &ServiceId) -> &str {
    service.as_str()
}

/// Returns the claim `sub` of a verified token, as it is written in the token.
fn subject(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok().map(|Claims { sub }| sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_every_spelling_that_a_release_hashes() {
        let user = UserId::new("user").unwrap();
        assert_eq!(user_spellings(&user, None), ["user", "USER"]);
        assert_eq!(user_spellings(&user, Some("USER")), ["user", "USER"]);
        assert_eq!(user_spellings(&user, Some("User ")), ["user", "USER", "User "]);
    }

    #[test]
    fn the_subject_is_read_as_written() {
        let token = |json: &str| format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(json));
        assert_eq!(subject(&token(r#"{"sub":"uSer","x":1}"#)).as_deref(), Some("uSer"));
        assert_eq!(subject(&token("[]")), None);
        assert_eq!(subject("no token"), None);
    }
}
