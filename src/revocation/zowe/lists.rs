//! Reads answers of Zowe's Caching Service. The answers contain entries of the three lists of revocations
//! (docs/reference/zowe-site.md#revocation-records).

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use super::{list::List, pat_hashes::PatHashes, salt::ItemHash};
use crate::{clock::Timestamp, revocation::RevokedBy};

/// The revocations of an answer. Other lists of the answer are ignored, because they belong to other programs.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Lists {
    #[serde(default, rename = "invalidTokens")]
    tokens: Tokens,
    #[serde(default, rename = "invalidUsers")]
    users: Rules,
    #[serde(default, rename = "invalidScopes")]
    services: Rules,
}

/// The hashes of revoked tokens. In the answer, each hash is a key with a value. Neither the gateway nor API ML reads
/// the value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens(HashSet<ItemHash>);

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    times: HashMap<ItemHash, Timestamp>,
    /// The number of rules whose time cannot be read. Such a rule revokes all PATs of its user or service.
    unreadable: usize,
}

impl Lists {
    /// Returns the kind of revocation that revokes a PAT with the issue time `issued_at`. `None` if no revocation does.
    pub(super) fn decide(&self, pat: &PatHashes, issued_at: Timestamp) -> Option<RevokedBy> {
        let is_hit = |rules: &Rules, hashes: &[ItemHash]| {
            hashes.iter().any(|hash| rules.times.get(hash).is_some_and(|up_to| issued_at <= *up_to))
        };
        if pat.tokens.iter().any(|hash| self.tokens.0.contains(hash)) {
            Some(RevokedBy::Token)
        } else if is_hit(&self.users, &pat.users) {
            Some(RevokedBy::UserRule)
        } else if is_hit(&self.services, &pat.services) {
            Some(RevokedBy::ServiceRule)
        } else {
            None
        }
    }

    /// Returns the time of a rule, or [`END_OF_TIME`] for a revoked token. Returns `None` if there is no such entry.
    pub(super) fn time_of(&self, list: List, hash: &ItemHash) -> Option<Timestamp> {
        match list {
            List::Tokens => self.tokens.0.contains(hash).then_some(END_OF_TIME),
            List::Users => self.users.times.get(hash).copied(),
            List::Services => self.services.times.get(hash).copied(),
        }
    }

    /// Reads the answer for one list. Returns `None` if it is not a JSON object.
    pub(super) fn of(list: List, json: &[u8]) -> Option<Self> {
        let mut lists = Self::default();
        match list {
            List::Tokens => lists.tokens = serde_json::from_slice(json).ok()?,
            List::Users => lists.users = serde_json::from_slice(json).ok()?,
            List::Services => lists.services = serde_json::from_slice(json).ok()?,
        }
        Some(lists)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.tokens.0.extend(other.tokens.0);
        for (ours, theirs) in [(&mut self.users, other.users), (&mut self.services, other.services)]
        {
            ours.times.extend(theirs.times);
            ours.unreadable += theirs.unreadable;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts() == (0, 0, 0)
    }

    /// Returns the numbers of tokens, of rules for users and of rules for services.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.tokens.0.len(), self.users.times.len(), self.services.times.len())
    }

    pub(super) fn unreadable(&self) -> usize {
        self.users.unreadable + self.services.unreadable
    }
}

/// The time of a rule that revokes all tokens.
pub(super) const END_OF_TIME: Timestamp = Timestamp::from_millis(u64::MAX);

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut tokens = HashSet::new();
        let entry = |hash, _: IgnoredAny| {
            tokens.insert(hash);
        };
        deserializer.deserialize_map(Entries(entry, std::marker::PhantomData))?;
        Ok(Self(tokens))
    }
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut rules = Self::default();
        let entry = |hash, RuleTime(time): RuleTime| {
            rules.unreadable += usize::from(time.is_none());
            let time = time.unwrap_or(END_OF_TIME);
            let kept = rules.times.entry(hash).or_insert(time);
            *kept = time.max(*kept);
        };
        deserializer.deserialize_map(Entries(entry, std::marker::PhantomData))?;
        Ok(rules)
    }
}

/// Reads a map from hashes to values. Keys that are not hashes are ignored, because they cannot match a token, a user
/// or a service.
struct Entries<F, V>(F, std::marker::PhantomData<V>);

impl<'de, F: FnMut(ItemHash, V), V: Deserialize<'de>> Visitor<'de> for Entries<F, V> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<(), A::Error> {
        while let Some(key) = access.next_key::<Key>()? {
            match key.0 {
                Some(hash) => (self.0)(hash, access.next_value()?),
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Key(Option<ItemHash>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
                Ok(Key(ItemHash::parse(text)))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// The time of a rule in epoch milliseconds: an integer, as a number or as a decimal text. `None` if the value is
/// anything else, or does not fit into an `i64`.
struct RuleTime(Option<Timestamp>);

impl<'de> Deserialize<'de> for RuleTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let millis = match &value {
            serde_json::Value::String(text) => text.trim().parse::<i64>().ok(),
            value => value.as_i64(),
        };
        // A rule with a time before 1970 revokes nothing.
        let millis = millis.map(|millis| u64::try_from(millis).unwrap_or(0));
        Ok(Self(millis.map(Timestamp::from_millis)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::salt::Salt, *};

    fn hash(value: &str) -> ItemHash {
        Salt::parse("salt!").unwrap().hash(value)
    }

    fn pat() -> PatHashes {
        PatHashes {
            tokens: vec![hash("jwt")],
            users: vec![hash("user"), hash("USER")],
            services: vec![hash("a"), hash("b")],
        }
    }

    #[test]
    fn a_revocation_hits_by_token_user_or_service() {
        let issued = Timestamp::from_millis(5_000);
        let (by_user, by_service) = (Some(RevokedBy::UserRule), Some(RevokedBy::ServiceRule));
        for (list, key, value, want) in [
            ("invalidTokens", "jwt", json!("any text"), Some(RevokedBy::Token)),
            ("invalidTokens", "jwt", json!(null), Some(RevokedBy::Token)),
            ("invalidTokens", "other", json!("{}"), None),
            ("invalidUsers", "USER", json!("5000"), by_user),
            ("invalidUsers", "user", json!("5001"), by_user),
            ("invalidUsers", "USER", json!(5000), by_user),
            ("invalidUsers", "USER", json!("4999"), None),
            ("invalidUsers", "USER", json!("-1"), None),
            ("invalidUsers", "OTHER", json!("9000"), None),
            ("invalidScopes", "b", json!("5000"), by_service),
            ("invalidScopes", "c", json!("5000"), None),
            // A rule whose time cannot be read revokes all tokens.
            ("invalidScopes", "a", json!("soon"), by_service),
            ("invalidUsers", "USER", json!({}), by_user),
            // This list belongs to another program.
            ("invalidTokenRules", "jwt", json!("x"), None),
        ] {
            // The key `other` belongs to another program.
            let answer = json!({ list: { hash(key).to_string(): value, "other": [1] } });
            let lists: Lists = serde_json::from_value(answer.clone()).unwrap();
            assert_eq!(lists.decide(&pat(), issued), want, "{answer}");
            let text: Lists = serde_json::from_str(&answer.to_string()).unwrap();
            assert_eq!(text, lists);
        }
    }

    #[test]
    fn malformed_json_a_list_that_is_no_map_and_a_repeated_list_are_errors() {
        for bad in [
            "",
            "null",
            r#"{"invalidTokens":null}"#,
            r#"{"invalidUsers":[]}"#,
            r#"{"invalidScopes":"x"}"#,
            r#"{"invalidUsers":{},"invalidUsers":{}}"#,
            "{\"invalidUsers\":{}",
        ] {
            assert!(serde_json::from_str::<Lists>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Lists>("{}").unwrap(), Lists::default());
    }
}
