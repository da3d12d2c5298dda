//! What only some may do, and whom the security product lets do it.

use std::sync::Arc;

use http::request::Parts;

use super::{error::ApiError, provider::LoginProvider, service::AuthApi};
use crate::{
    identity::IdentityMapper,
    passticket::UserId,
    saf::{Access, AccessLevel, SafError, SafProvider},
};

/// What only some may do (design, decisions 1 and 12; zowe-endpoints §1.11 to §1.13, §1.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardedTask {
    /// Revoke tokens of others.
    #[error("revoke tokens of others")]
    Revoke,
    /// Evict what can hit no token any more.
    #[error("evict revocations")]
    Evict,
    /// Obtain a PassTicket for another user.
    #[error("obtain PassTickets for others")]
    Delegate,
}

/// The resources that guard the tasks.
///
/// Class and beginning of the names can be set in Zowe, as
/// `apiml.security.authorization.resourceClass` and `resourceNamePrefix`, or as
/// `apiml.security.saf.serviceResourceClass` and `serviceResourceNamePrefix`; they are `ZOWE` and
/// `APIML.` unless told otherwise.
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
    /// Resources of `class` whose names begin with `prefix`, its period included.
    pub fn new(class: &str, prefix: &str) -> Self {
        Self { class: class.into(), prefix: prefix.into() }
    }

    /// Their class.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// What it takes to do this.
    pub fn permission(&self, task: GuardedTask) -> Permission {
        let (level, name) = match task {
            GuardedTask::Revoke => (AccessLevel::Read, "SERVICES"),
            GuardedTask::Evict => (AccessLevel::Update, "SERVICES"),
            GuardedTask::Delegate => (AccessLevel::Read, "DELEGATE.PASSTICKET"),
        };
        let resource = format!("{}{name}", self.prefix);
        Permission { task, level, class: self.class.clone(), resource }
    }
}

/// What it takes to do something: access of a level to a resource of a class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{level} on {resource} in class {class}")]
pub struct Permission {
    task: GuardedTask,
    level: AccessLevel,
    class: Arc<str>,
    resource: String,
}

impl Permission {
    /// What it is for.
    pub fn task(&self) -> GuardedTask {
        self.task
    }
}

impl<L, R, S, G, M> AuthApi<L, R, S, G, M>
where
    L: LoginProvider,
    S: SafProvider,
    M: IdentityMapper,
{
    /// The caller, if SAF lets them do this.
    pub(super) async fn permitted_caller(
        &self,
        request: &Parts,
        task: GuardedTask,
    ) -> Result<UserId, ApiError> {
        let caller = self.caller(request).await?;
        self.permit(request, &caller, task).await?;
        Ok(caller)
    }
}

impl<L, R, S: SafProvider, G, M> AuthApi<L, R, S, G, M> {
    /// # Errors
    /// [`ApiError::NotPermitted`]; [`ApiError::Saf`] when nobody can say.
    pub(super) async fn permit(
        &self,
        request: &Parts,
        caller: &UserId,
        task: GuardedTask,
    ) -> Result<(), ApiError> {
        let url = request.uri.path();
        let permission = self.guards.permission(task);
        let Permission { level, class, resource, .. } = &permission;
        let access = match self.shared.saf.try_check_now(caller, class, resource, *level) {
            Some(access) => access,
            None => self.shared.saf.check(caller, class, resource, *level).await,
        };
        match access {
            Ok(Access::Granted) => Ok(()),
            Ok(Access::Refused) => {
                tracing::warn!(url, %caller, needed = %permission, "not permitted");
                Err(ApiError::NotPermitted(permission))
            }
            Err(error) => {
                match error {
                    SafError::Unavailable => {
                        tracing::warn!(url, %caller, %error, "nobody can say whether they may");
                    }
                    _ => tracing::error!(url, %caller, %error, "nobody can say whether they may"),
                }
                Err(ApiError::Saf(error))
            }
        }
    }
}
