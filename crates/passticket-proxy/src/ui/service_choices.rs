//! The services that a user chooses for a new token, and what the token may do with each service.
//!
//! The form has three fields for each service: the checkbox `service`, whose value is the id, and the fields
//! `access-<id>` and `path-<id>`.

use std::collections::BTreeMap;

use tower_passticket::token::{Scope, ScopePath};

use super::{
    access::Access,
    fault::Fault,
    form::Form,
    services::{Service, Services},
    texts::{access as texts, create},
};

/// The name of the checkboxes.
pub(super) const SERVICE: &str = "service";

const ACCESS: &str = "access-";
const PATH: &str = "path-";

/// Returns the name of the field in which the user chooses what the token may do. It is also the id of the element.
pub(super) fn access_field(service: &str) -> String {
    format!("{ACCESS}{service}")
}

/// Returns the name of the field with the path. It is also the id of the element.
pub(super) fn path_field(service: &str) -> String {
    format!("{PATH}{service}")
}

/// The choices of the user for one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceChoice {
    pub(super) is_chosen: bool,
    /// The value of an [`Access`], or another text.
    pub(super) access: String,
    pub(super) path: String,
}

/// The choices of the user for all services, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceChoices(BTreeMap<String, ServiceChoice>);

impl ServiceChoices {
    pub(super) fn of(form: &Form) -> Self {
        let mut choices = BTreeMap::<_, ServiceChoice>::new();
        let mut choice = |id: &str, set: &dyn Fn(&mut ServiceChoice)| {
            set(choices.entry(id.to_owned()).or_default());
        };
        for id in form.all(SERVICE) {
            choice(id, &|choice| choice.is_chosen = true);
        }
        for (id, access) in form.below(ACCESS) {
            choice(id, &|choice| access.clone_into(&mut choice.access));
        }
        for (id, path) in form.below(PATH) {
            choice(id, &|choice| path.trim().clone_into(&mut choice.path));
        }
        Self(choices)
    }

    pub(super) fn get(&self, id: &str) -> Option<&ServiceChoice> {
        self.0.get(id)
    }

    /// Returns the scopes of the new token, in the order of `services`.
    ///
    /// # Errors
    /// All faults that this check finds, in the order of the fields. The auth API may find other faults.
    pub(super) fn scopes(&self, services: &Services) -> Result<Vec<String>, Vec<Fault>> {
        let (mut scopes, mut faults) = (Vec::new(), Vec::new());
        let mut chosen = self.0.iter().filter(|(_, choice)| choice.is_chosen).peekable();
        if chosen.peek().is_none() {
            faults.push(Fault::new("services", create::SERVICES_MISSING));
        } else if chosen.any(|(id, _)| !services.find(id).is_some_and(Service::is_offered)) {
            faults.push(Fault::new("services", create::SERVICE_UNKNOWN));
        }
        for service in services.offered() {
            match self.get(&service.id).map_or(Ok(None), |choice| choice.scope(service)) {
                Ok(scope) => scopes.extend(scope),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(scopes) } else { Err(faults) }
    }
}

impl ServiceChoice {
    /// Returns the scope, or `None` if the service is not chosen.
    fn scope(&self, service: &Service) -> Result<Option<String>, Fault> {
        let id = &service.id;
        let wrong_path = |text: &str| Fault::new(path_field(id), text);
        if !self.is_chosen {
            let is_blank = self.path.is_empty();
            return if is_blank { Ok(None) } else { Err(wrong_path(texts::SERVICE_NOT_CHOSEN)) };
        }
        let access = Access::of(&self.access);
        let access = access.filter(|access| service.allowed.accesses().contains(access));
        let access = access.ok_or_else(|| Fault::new(access_field(id), texts::NOT_POSSIBLE))?;
        match access {
            Access::All | Access::Read if !self.path.is_empty() => {
                return Err(wrong_path(texts::PATH_NOT_CHOSEN));
            }
            Access::All => return Ok(Some(id.clone())),
            Access::Read => return Ok(Some(format!("{id}:read"))),
            Access::Path if self.path.is_empty() => return Err(wrong_path(texts::PATH_MISSING)),
            Access::Path => {}
        }
        ScopePath::new(&self.path).map_err(|error| wrong_path(texts::wrong_path(error)))?;
        let text = format!("{id}:{}", self.path);
        // A path that is valid makes a valid scope.
        let is_allowed = Scope::new(&text).is_ok_and(|scope| service.allowed.covers(&scope));
        if is_allowed {
            Ok(Some(text))
        } else {
            Err(wrong_path(&texts::path_not_allowed(&service.allowed.paths())))
        }
    }
}

#[cfg(test)]
mod tests {
    use tower_passticket::{
        api::{ListedService, SharedServices},
        token::{Scopes, ServiceId},
    };

    use super::*;
    use crate::ui::services::RoutePaths;

    /// Returns the scopes, or the fields with faults. The services are `a`, `b` and `c.d`.
    fn scopes(query: &str, allowed: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let services = ["a", "b", "c.d"].map(|id| ListedService::new(ServiceId::new(id).unwrap()));
        let allowed = (!allowed.is_empty()).then(|| Scopes::parse(allowed).unwrap());
        let shared = SharedServices::new(services);
        let services = Services::current(&shared, &RoutePaths::new(), allowed.as_ref());
        let choices = ServiceChoices::of(&Form::parse(query.as_bytes()).unwrap());
        let fields =
            |faults: Vec<Fault>| faults.into_iter().map(|it| it.field.into_owned()).collect();
        choices.scopes(&services).map_err(fields)
    }

    #[test]
    fn choices_become_scopes() {
        for (query, want) in [
            ("service=a", &["a"][..]),
            ("service=b&service=a&service=b", &["a", "b"]),
            ("service=a&access-a=all&path-a=", &["a"]),
            ("service=a&access-a=read", &["a:read"]),
            ("service=a&access-a=path&path-a=+%2FX%2Fy+", &["a:/X/y"]),
            ("service=a&access-a=path&path-a=%2Fx%252Cy", &["a:/x%2Cy"]),
            ("service=c.d&access-c.d=path&path-c.d=/", &["c.d:/"]),
            ("service=a&access-a=read&service=b&access-b=path&path-b=/x", &["a:read", "b:/x"]),
            // For a service that is not chosen, the choice of an access is ignored. For an unknown service, all fields
            // are ignored.
            ("service=a&access-a=all&access-b=read&access-x=read&path-x=/", &["a"]),
        ] {
            let want = want.iter().map(ToString::to_string).collect();
            assert_eq!(scopes(query, &[]), Ok(want), "{query}");
        }
    }

    #[test]
    fn each_fault_is_at_its_field() {
        let long = format!("service=a&access-a=path&path-a=/{}", "x".repeat(256));
        for (query, want) in [
            ("", &["services"][..]),
            ("access-a=read", &["services"]),
            ("service=x", &["services"]),
            ("service=a,b", &["services"]),
            ("service=a:read", &["services"]),
            ("service=a&access-a=write", &["access-a"]),
            ("service=a&access-a=READ", &["access-a"]),
            ("service=a&path-a=/x", &["path-a"]),
            ("service=a&access-a=all&path-a=/x", &["path-a"]),
            ("service=a&access-a=read&path-a=/x", &["path-a"]),
            ("service=a&path-b=/x", &["path-b"]),
            ("service=a&access-b=path&path-b=/x", &["path-b"]),
            ("service=a&access-a=path", &["path-a"]),
            ("service=a&access-a=path&path-a=++", &["path-a"]),
            ("service=a&access-a=path&path-a=x", &["path-a"]),
            ("service=a&access-a=path&path-a=/x,b", &["path-a"]),
            ("service=a&access-a=path&path-a=/x/../y", &["path-a"]),
            ("service=a&access-a=path&path-a=/x%0Ay", &["path-a"]),
            ("service=a&access-a=path&path-a=/%25", &["path-a"]),
            (&long, &["path-a"]),
            (
                "service=x&service=a&access-a=path&service=b&access-b=x",
                &["services", "path-a", "access-b"],
            ),
        ] {
            let want = want.iter().map(ToString::to_string).collect();
            assert_eq!(scopes(query, &[]), Err(want), "{query}");
        }
    }

    #[test]
    fn what_the_administrator_does_not_allow_is_a_fault() {
        let allowed = ["a:read", "b:/x"];
        for (query, want) in [
            ("service=a&access-a=read", Ok("a:read")),
            ("service=a&access-a=all", Err("access-a")),
            ("service=a", Err("access-a")),
            ("service=a&access-a=path&path-a=/x", Err("access-a")),
            ("service=b&access-b=path&path-b=/x/y", Ok("b:/x/y")),
            ("service=b&access-b=path&path-b=/y", Err("path-b")),
            ("service=b&access-b=read", Err("access-b")),
            ("service=c.d&access-c.d=read", Err("services")),
        ] {
            let want = want.map(|it| vec![it.to_owned()]).map_err(|it| vec![it.to_owned()]);
            assert_eq!(scopes(query, &allowed), want, "{query}");
        }
    }
}
