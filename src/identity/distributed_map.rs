//! Maps distributed identities (names in registries outside z/OS) to user ids by a table.

use std::{collections::HashMap, fmt, future::ready, sync::Arc};

use super::{
    distinguished_name::DistinguishedName,
    distributed::{DistributedIdentity, EmailAddress},
    mapper::{DistributedMapper, MapError, MapFuture},
    unique::insert_unique,
};
use crate::passticket::UserId;

/// Maps distributed identities (names in registries outside z/OS) to user ids by a table.
///
/// The case of registries and names matters. But if a name is an [`EmailAddress`] and not a [`DistinguishedName`], the
/// case of its ASCII letters does not matter. So the name `Jane.Doe@Example.com` of an identity provider matches the
/// entry `jane.doe@example.com`.
///
/// If two addresses of one registry in the table differ only in the case of ASCII letters, this is an error. RFC 5321
/// §2.4 permits mail systems to distinguish upper and lower case before the `@`, but in practice they do not. For
/// letters that are not ASCII, systems have different rules. So the case of these letters matters.
///
/// ```
/// use tower_passticket::{
///     identity::{DistributedIdentity, DistributedMap, DistributedMapper},
///     passticket::UserId,
/// };
///
/// # tokio_test::block_on(async {
/// let registry = "ldaps://us.example.com";
/// let jane = DistributedIdentity::new("jane.doe@example.com", registry)?;
/// let map = DistributedMap::new([(jane, UserId::new("JANE")?)])?;
///
/// let from_provider = DistributedIdentity::new("Jane.Doe@Example.com", registry)?;
/// assert_eq!(map.map_identity(&from_provider).await?, UserId::new("JANE")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct DistributedMap(Arc<HashMap<DistributedIdentity, UserId>>);

impl DistributedMap {
    /// Makes a table of identities. The order of `entries` makes no difference.
    ///
    /// # Errors
    /// [`DuplicateIdentity`] if an identity occurs twice. The error names the identity and both users.
    pub fn new(
        entries: impl IntoIterator<Item = (DistributedIdentity, UserId)>,
    ) -> Result<Self, DuplicateIdentity> {
        let mut users = HashMap::new();
        for (identity, user) in entries {
            insert_unique(&mut users, comparison_key(&identity), user)
                .map_err(|first| DuplicateIdentity { identity, first, second: user })?;
        }
        Ok(Self(Arc::new(users)))
    }

    fn map(&self, identity: &DistributedIdentity) -> Result<UserId, MapError> {
        self.0.get(&comparison_key(identity)).copied().ok_or(MapError::NotMapped)
    }
}

/// Returns the key of an identity in the table. In an e-mail address, ASCII letters become lower case.
fn comparison_key(identity: &DistributedIdentity) -> DistributedIdentity {
    let name = identity.name();
    if EmailAddress::new(name).is_ok() && name.parse::<DistinguishedName>().is_err() {
        identity.to_ascii_lowercase_name()
    } else {
        identity.clone()
    }
}

impl fmt::Debug for DistributedMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistributedMap").field("identities", &self.0.len()).finish()
    }
}

impl DistributedMapper for DistributedMap {
    fn map_identity(&self, identity: &DistributedIdentity) -> MapFuture {
        Box::pin(ready(self.map(identity)))
    }
}

/// An identity occurs twice in a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the identity {identity} occurs twice, for user {first} and user {second}; keep one of them"
)]
#[non_exhaustive]
pub struct DuplicateIdentity {
    /// The identity in the second entry.
    pub identity: DistributedIdentity,
    /// The user of the first entry.
    pub first: UserId,
    /// The user of the second entry.
    pub second: UserId,
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;

    fn identity(name: &str, registry: &str) -> DistributedIdentity {
        DistributedIdentity::new(name, registry).unwrap()
    }

    #[test]
    fn the_case_of_ascii_letters_is_ignored_only_in_email_addresses() {
        let map = DistributedMap::new([
            (identity("Jane.Doe@example.com", "R"), user("JANE")),
            (identity("kim@example.com", "R"), user("KIM")),
            (identity("\u{c4}@example.com", "R"), user("UMLAUT")),
            (identity("CN=Jane@Example.com,O=x", "R"), user("DN")),
            (identity("Subject-1", "R"), user("SUB")),
            (identity("jane.doe@example.com", "S"), user("OTHER")),
        ])
        .unwrap();
        for (name, registry, want) in [
            ("jane.doe@EXAMPLE.com", "R", Some("JANE")),
            ("JANE.DOE@example.com", "S", Some("OTHER")),
            ("jane.doe@example.com", "r", None),
            ("jane.doe@example.org", "R", None),
            ("\u{c4}@Example.com", "R", Some("UMLAUT")),
            ("\u{e4}@example.com", "R", None),
            // In Unicode, the lower case of U+212A (Kelvin sign) is k. But U+212A is not ASCII.
            ("Kim@example.com", "R", Some("KIM")),
            ("\u{212a}im@example.com", "R", None),
            ("CN=Jane@Example.com,O=x", "R", Some("DN")),
            ("cn=jane@example.com,o=x", "R", None),
            ("Subject-1", "R", Some("SUB")),
            ("subject-1", "R", None),
        ] {
            let got = map.map(&identity(name, registry));
            assert_eq!(got, want.map(user).ok_or(MapError::NotMapped), "{name} {registry}");
        }
    }

    #[test]
    fn an_identity_that_occurs_twice_is_an_error() {
        let map_of = |first, second| {
            DistributedMap::new([
                (identity(first, "R"), user("A")),
                (identity(second, "R"), user("B")),
            ])
        };
        let error = map_of("a@b.example", "A@b.example").unwrap_err();
        let identity = identity("A@b.example", "R");
        assert_eq!(error, DuplicateIdentity { identity, first: user("A"), second: user("B") });
        assert!(map_of("x", "x").is_err());
        assert!(map_of("x", "X").is_ok());
    }
}
