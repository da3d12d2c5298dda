//! Tasks that need a permission of the security product (RACF, ACF2 or Top Secret), and the resources
//! that guard these tasks.

use std::sync::Arc;

use crate::saf::AccessLevel;

/// A task for which a caller needs a permission in the security product (docs/decisions.md#d1, docs/decisions.md#d12,
/// docs/reference/auth-endpoints.md#saf-resources).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardedTask {
    /// Revoke tokens of other users.
    #[error("revoke tokens of others")]
    Revoke,
    /// See and revoke Personal Access Tokens of other users in the registry.
    #[error("see and revoke tokens of others")]
    ManageTokens,
    /// Remove expired revocations.
    #[error("remove expired revocations")]
    Evict,
    /// Obtain a PassTicket (a one-time password of z/OS) for another user.
    #[error("obtain PassTickets for others")]
    Delegate,
    /// List the services of the gateway.
    #[error("list the services")]
    ListServices,
}

/// The resources in the security product that guard the tasks. A caller may perform a task if the caller has the
/// [`Permission`] that the task needs.
///
/// The names of the resources begin with a prefix. In Zowe, `resourceClass` and `resourceNamePrefix` under
/// `apiml.security.authorization` set the class and the prefix, and so do `serviceResourceClass` and
/// `serviceResourceNamePrefix` under `apiml.security.saf`. The defaults are `ZOWE` and `APIML.`.
///
/// ```
/// use tower_passticket::api::{GuardedTask, GuardingResources};
///
/// let resources = GuardingResources::new("ZOWE", "APIML.");
/// let permission = resources.permission(GuardedTask::Revoke);
/// assert_eq!(permission.to_string(), "READ on APIML.SERVICES in class ZOWE");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardingResources {
    class: Arc<str>,
    prefix: Arc<str>,
}

impl Default for GuardingResources {
    fn default() -> Self {
        Self::new("ZOWE", "APIML.")
    }
}

impl GuardingResources {
    /// Uses the resources of `class` whose names begin with `prefix`. `prefix` must include the final period.
    pub fn new(class: &str, prefix: &str) -> Self {
        Self { class: class.into(), prefix: prefix.into() }
    }

    /// Returns the class of the resources.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Returns the permission that `task` needs.
    pub fn permission(&self, task: GuardedTask) -> Permission {
        let (level, name) = match task {
            GuardedTask::Revoke | GuardedTask::ManageTokens | GuardedTask::ListServices => {
                (AccessLevel::Read, "SERVICES")
            }
            GuardedTask::Evict => (AccessLevel::Update, "SERVICES"),
            GuardedTask::Delegate => (AccessLevel::Read, "DELEGATE.PASSTICKET"),
        };
        let resource = format!("{}{name}", self.prefix);
        Permission { task, level, class: self.class.clone(), resource }
    }
}

/// A permission: an access level on a resource of a class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{level} on {resource} in class {class}")]
pub struct Permission {
    task: GuardedTask,
    level: AccessLevel,
    class: Arc<str>,
    resource: String,
}

impl Permission {
    /// Returns the task that needs this permission.
    pub fn task(&self) -> GuardedTask {
        self.task
    }

    /// Returns the access level.
    pub fn level(&self) -> AccessLevel {
        self.level
    }

    /// Returns the class of the resource.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Returns the name of the resource.
    pub fn resource(&self) -> &str {
        &self.resource
    }
}
