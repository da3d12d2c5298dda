//! Checks passwords with z/OSMF.

use std::fmt;

use super::provider::{LoginError, LoginFuture, LoginProvider, Password};
use crate::{
    log_limit::log_limited,
    passticket::UserId,
    remote::Connect,
    zosmf::{Zosmf, ZosmfError, ZosmfSessions},
};

/// A login provider that checks passwords with z/OSMF, IBM's management server on z/OS ([`Zosmf`]).
///
/// [`ZosmfSessions`] stores the tokens that z/OSMF issues at a login, one session for each user. At the next login of
/// the user, z/OSMF may issue other tokens. This provider then ends the earlier session at z/OSMF. At a logout, it ends
/// the current session.
///
/// z/OSMF does not say why it refuses a login. So the error for an expired password or a revoked user is also
/// [`LoginError::WrongCredentials`], as in API ML (Zowe's API Mediation Layer). If z/OSMF cannot be reached, or if
/// its response is neither a login nor a refusal, the error is [`LoginError::Unavailable`].
pub struct ZosmfLogin<C> {
    zosmf: Zosmf<C>,
    sessions: ZosmfSessions,
}

impl<C> ZosmfLogin<C> {
    /// Logs users in at `zosmf`, and keeps their sessions in `sessions`.
    pub fn new(zosmf: Zosmf<C>, sessions: ZosmfSessions) -> Self {
        Self { zosmf, sessions }
    }
}

impl<C> fmt::Debug for ZosmfLogin<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZosmfLogin").field("zosmf", &self.zosmf).finish_non_exhaustive()
    }
}

impl<C: Connect> LoginProvider for ZosmfLogin<C> {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        let (zosmf, sessions) = (self.zosmf.clone(), self.sessions.clone());
        Box::pin(async move {
            let result = zosmf.log_in(&user, password.expose(), &sessions).await;
            result.map(|()| user).map_err(|error| login_error(&zosmf, error))
        })
    }

    fn change_password(
        &self,
        user: UserId,
        password: Password,
        new: Password,
    ) -> Option<LoginFuture> {
        let (zosmf, sessions) = (self.zosmf.clone(), self.sessions.clone());
        Some(Box::pin(async move {
            // JSON can contain only Unicode text.
            let text =
                |password| str::from_utf8(password).map_err(|_| LoginError::WrongCredentials);
            let (old, new) = (text(password.expose())?, text(new.expose())?);
            zosmf
                .change_password(&user, old, new)
                .await
                .map_err(|error| login_error(&zosmf, error))?;
            tracing::info!(%user, "password changed at z/OSMF");
            // A password change does not show that the user may log in. So the provider also logs the user in.
            let result = zosmf.log_in(&user, new.as_bytes(), &sessions).await;
            result.map(|()| user).map_err(|error| login_error(&zosmf, error))
        }))
    }

    fn logged_out(&self, user: UserId) {
        if let Some(session) = self.sessions.take(&user) {
            self.zosmf.end(user, session);
        }
    }
}

fn login_error<C>(zosmf: &Zosmf<C>, error: ZosmfError) -> LoginError {
    match error {
        ZosmfError::Refused => LoginError::WrongCredentials,
        error => {
            let address = zosmf.address();
            log_limited!(warn, ("z/OSMF login", address), { %address, %error }, "login at z/OSMF failed");
            LoginError::Unavailable
        }
    }
}
