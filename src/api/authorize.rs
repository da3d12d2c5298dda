//! Asks the security product whether a caller has a permission. SAF is the z/OS interface to the security product.

use std::mem::discriminant;

use http::request::Parts;

use super::{
    error::ApiError,
    permission::{GuardedTask, GuardingResources},
};
use crate::{
    log_limit::log_limited,
    passticket::UserId,
    saf::{Access, AccessLevel, SafError, SafProvider},
};

#[derive(Clone, Copy)]
pub(super) struct Authorizer<'a> {
    pub(super) saf: &'a dyn SafProvider,
    pub(super) resources: &'a GuardingResources,
}

impl Authorizer<'_> {
    /// Checks that `caller` has the permission that `task` needs.
    ///
    /// # Errors
    /// [`ApiError::NotPermitted`] if the caller does not have the permission. [`ApiError::Saf`] if the check failed.
    pub(super) async fn permit(
        self,
        request: &Parts,
        caller: &UserId,
        task: GuardedTask,
    ) -> Result<(), ApiError> {
        let url = request.uri.path();
        let permission = self.resources.permission(task);
        let (class, resource) = (permission.class(), permission.resource());
        match self.access(request, caller, class, resource, permission.level()).await? {
            Access::Granted => Ok(()),
            Access::Refused => {
                log_limited!(warn, ("refused", url, caller), { url, %caller, needed = %permission }, "the security product refused the permission");
                Err(ApiError::NotPermitted(permission))
            }
        }
    }

    /// # Errors
    /// [`ApiError::Saf`] if the check failed.
    pub(super) async fn access(
        self,
        request: &Parts,
        caller: &UserId,
        class: &str,
        resource: &str,
        level: AccessLevel,
    ) -> Result<Access, ApiError> {
        let url = request.uri.path();
        let access = match self.saf.try_check_now(caller, class, resource, level) {
            Some(access) => access,
            None => self.saf.check(caller, class, resource, level).await,
        };
        match access {
            Ok(access) => Ok(access),
            Err(error) => {
                let cause = ("SAF", discriminant(&error));
                match error {
                    SafError::Unavailable => {
                        log_limited!(warn, cause, { url, %caller, %error }, "SAF check failed; the request is refused");
                    }
                    _ => {
                        log_limited!(error, cause, { url, %caller, %error }, "SAF check failed; the request is refused");
                    }
                }
                Err(ApiError::Saf(error))
            }
        }
    }
}
