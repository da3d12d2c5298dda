//! Permissions that somebody has read from a file.

use std::{
    collections::HashMap,
    future::{Ready, ready},
    sync::Arc,
};

use super::{Access, AccessLevel, SafError, SafProvider};
use crate::passticket::UserId;

/// Permissions as Zowe's `saf.yml` lists them (zowe-endpoints §6.4): class, resource, level, user.
///
/// Class and resource are compared to the letter. The highest level of a user counts, and includes
/// the lower ones. What is not listed is refused; the default lists nothing.
#[derive(Clone, Debug, Default)]
pub struct FileSaf {
    classes: Arc<Classes>,
}

/// Class, resource, user.
type Classes = HashMap<String, HashMap<String, HashMap<UserId, AccessLevel>>>;

impl FileSaf {
    /// Takes permissions, in any order.
    pub fn new<C, R>(permissions: impl IntoIterator<Item = (C, R, AccessLevel, UserId)>) -> Self
    where
        C: Into<String>,
        R: Into<String>,
    {
        let mut classes = Classes::new();
        for (class, resource, level, user) in permissions {
            let users = classes.entry(class.into()).or_default().entry(resource.into());
            let highest = users.or_default().entry(user).or_insert(level);
            *highest = level.max(*highest);
        }
        Self { classes: Arc::new(classes) }
    }
}

impl SafProvider for FileSaf {
    type Future = Ready<Result<Access, SafError>>;

    fn check(
        &self,
        user: &UserId,
        class: &str,
        resource: &str,
        level: AccessLevel,
    ) -> Self::Future {
        let users = self.classes.get(class).and_then(|resources| resources.get(resource));
        ready(Ok(match users.and_then(|users| users.get(user)) {
            Some(granted) if *granted >= level => Access::Granted,
            _ => Access::Refused,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AccessLevel::{Alter, Control, Read, Update};

    #[test]
    fn the_highest_level_counts_and_names_are_exact() {
        let user = |name| UserId::new(name).unwrap();
        let services = "APIML.SERVICES";
        let saf = FileSaf::new([
            ("ZOWE", services, Update, user("A")),
            ("ZOWE", services, Read, user("A")),
            ("ZOWE", services, Read, user("B")),
            ("zowe", services, Alter, user("B")),
        ]);
        for (name, class, resource, level, want) in [
            ("A", "ZOWE", services, Read, Access::Granted),
            ("a", "ZOWE", services, Update, Access::Granted),
            ("A", "ZOWE", services, Control, Access::Refused),
            ("B", "ZOWE", services, Read, Access::Granted),
            ("B", "ZOWE", services, Update, Access::Refused),
            ("B", "zowe", services, Alter, Access::Granted),
            ("A", "zowe", services, Read, Access::Refused),
            ("A", "ZOWE", "APIML.SERVICE", Read, Access::Refused),
            ("A", "ZOWE", "apiml.services", Read, Access::Refused),
            ("A", "FACILITY", services, Read, Access::Refused),
            ("C", "ZOWE", services, Read, Access::Refused),
        ] {
            let got = saf.check(&user(name), class, resource, level).into_inner();
            assert_eq!(got, Ok(want), "{name} {class} {resource} {level}");
            let got = FileSaf::default().check(&user(name), class, resource, level).into_inner();
            assert_eq!(got, Ok(Access::Refused));
        }
    }
}
