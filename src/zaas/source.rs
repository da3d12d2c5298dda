//! The schemes that a gateway of API ML (Zowe's API Mediation Layer) can ask for.

use std::sync::Arc;

use crate::{layer::Scheme, passticket::Applid, token::ServiceId};

/// The credential for which a gateway of API ML asks in one request. The service receives this credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchemeTarget {
    /// A PassTicket (a one-time password of z/OS) for an application. `POST /zaas/scheme/ticket`.
    PassTicket {
        /// The application, as the gateway has named it.
        applid: Applid,
    },
    /// A login token. `POST /zaas/scheme/zoweJwt`.
    ZoweJwt,
    /// A token of z/OSMF, IBM's management server on z/OS. `POST /zaas/scheme/zosmf`.
    Zosmf,
    /// A SAF identity token (a JWT that the security product of z/OS issues) for an application.
    /// `POST /zaas/scheme/safIdt`.
    SafIdt {
        /// The application, as the gateway has named it.
        applid: Applid,
    },
}

/// Makes the schemes for [`SchemeEndpoints`](super::SchemeEndpoints). A closure with these parameters is also a source.
///
/// ```
/// use std::sync::Arc;
/// use tower_passticket::{
///     layer::{PassTicketScheme, Scheme},
///     passticket::{KeyProfiles, LocalGenerator},
///     token::ServiceId,
///     zaas::{SchemeSource, SchemeTarget},
/// };
///
/// struct OnlyPassTickets(LocalGenerator);
///
/// impl SchemeSource for OnlyPassTickets {
///     fn scheme(&self, target: &SchemeTarget, _: Option<&ServiceId>) -> Option<Arc<dyn Scheme>> {
///         match target {
///             SchemeTarget::PassTicket { applid } => {
///                 Some(Arc::new(PassTicketScheme::new(*applid, self.0.clone())))
///             }
///             _ => None,
///         }
///     }
/// }
/// # let _ = OnlyPassTickets(LocalGenerator::new(KeyProfiles::default()));
/// ```
pub trait SchemeSource: Send + Sync + 'static {
    /// Returns the scheme for requests to `service`. Returns `None` if there is no such scheme, for example because no
    /// z/OSMF is configured.
    ///
    /// `service` is `None` if the gateway has named no service. A gateway may name any application in `target`.
    /// [`SchemeEndpoints`](super::SchemeEndpoints) keeps up to 1,000 schemes, and calls this function again for a
    /// scheme that it no longer keeps. So if a scheme keeps tokens, return clones of one scheme, which share the
    /// tokens. A `None` is not kept: the next request calls this function again. This function must not block.
    ///
    /// The endpoints do not see the answers of services. So do not use
    /// [`PassTicketScheme::with_breaker`](crate::layer::PassTicketScheme::with_breaker), which waits for the answers.
    fn scheme(&self, target: &SchemeTarget, service: Option<&ServiceId>)
    -> Option<Arc<dyn Scheme>>;
}

impl<F> SchemeSource for F
where
    F: Fn(&SchemeTarget, Option<&ServiceId>) -> Option<Arc<dyn Scheme>> + Send + Sync + 'static,
{
    fn scheme(
        &self,
        target: &SchemeTarget,
        service: Option<&ServiceId>,
    ) -> Option<Arc<dyn Scheme>> {
        self(target, service)
    }
}
