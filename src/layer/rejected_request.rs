//! Facts about a rejected request. Outer layers find them in the extensions of the response.

use std::sync::Arc;

use http::{Extensions, Response};

use super::{authentication::Authentication, routes::Route};
use crate::audit::CredentialKind;

/// The route and the kind of credential of a rejected request, if the layers have found them.
#[derive(Debug)]
pub(super) struct RejectedRequest {
    route: Option<Arc<Route>>,
    credential: Option<CredentialKind>,
}

impl RejectedRequest {
    #[cold]
    pub(super) fn of(extensions: &Extensions) -> Self {
        let credential = match extensions.get::<Authentication>() {
            Some(Authentication::Authenticated(authenticated)) => {
                Some(authenticated.proof().kind())
            }
            _ => extensions.get().copied(),
        };
        Self { route: extensions.get().cloned(), credential }
    }

    pub(super) fn add_to<B>(self, response: &mut Response<B>) {
        let extensions = response.extensions_mut();
        if let Some(route) = self.route {
            extensions.insert(route);
        }
        if let Some(credential) = self.credential {
            extensions.insert(credential);
        }
    }
}
