//! Builds the schemes of the routes. A scheme decides what a service receives in place of the client's credential.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use passticket_proxy::config::{Config, ConfiguredRoute, ServiceScheme};
use tower_passticket::{
    api::LogoutListener,
    layer::{
        Bypass, CustomHeaders, PassTicketScheme, Route, SafIdtScheme, Scheme, TechnicalUsers,
        X509Scheme, ZosmfScheme, ZoweJwtScheme,
    },
    passticket::{Applid, PassTicketGenerator},
    ticket_breaker::TicketBreaker,
    tls::Connector,
    token::{ServiceId, TokenIssuer},
    zaas::SchemeTarget,
    zosmf::{Zosmf, ZosmfSessions},
};

use crate::{
    providers::{DOMAIN, Remote},
    tickets::Tickets,
};

/// The maximum lifetime of the login tokens that the gateway issues for the scheme `zoweJwt`. It is short, because a
/// service can use such a token after the client's credential was revoked.
const ZOWE_JWT_LIFETIME: Duration = Duration::from_secs(15 * 60);

pub(crate) struct Schemes<G> {
    tickets: Tickets<G>,
    custom_headers: Option<CustomHeaders>,
    technical_users: BTreeMap<ServiceId, Arc<TechnicalUsers>>,
    zowe_jwt: ZoweJwtScheme,
    /// Sends the same tokens as `zowe_jwt`, but only in the cookie, even if `customAuthHeader` names a header. Gateways
    /// of API ML get this scheme.
    plain_jwt: ZoweJwtScheme,
    zosmf: Option<ZosmfScheme<Connector, Tickets<G>>>,
    saf_idt: BTreeMap<Applid, SafIdtScheme<Connector, Tickets<G>>>,
    breaker: TicketBreaker,
}

impl<G: PassTicketGenerator + Clone> Schemes<G> {
    /// Creates the schemes. `remote` makes the clients that send PassTickets to servers. `logins` contains the sessions
    /// at z/OSMF (IBM's management server on z/OS) of users who have logged in.
    pub(crate) fn new(
        config: &Config,
        remote: &Remote,
        tickets: &Tickets<G>,
        logins: &ZosmfSessions,
        breaker: &TicketBreaker,
    ) -> Self {
        let peers = &config.scheme_peers;
        let lifetime = config.token_lifetime.min(ZOWE_JWT_LIFETIME);
        let issuer = TokenIssuer::new(config.signing_key.clone()).with_lifetime(lifetime);
        let plain_jwt = ZoweJwtScheme::new(issuer, DOMAIN, config.cookies.clone());
        let mut zowe_jwt = plain_jwt.clone();
        if let Some(name) = peers.jwt_header.clone() {
            zowe_jwt = zowe_jwt.with_header(name);
        }
        let zosmf = peers.zosmf.as_ref().map(|settings| {
            let zosmf = Zosmf::new(remote.client(), settings.address.clone());
            let tickets = tickets.of(&settings.applid);
            ZosmfScheme::new(zosmf, tickets, settings.applid, logins.clone()).with_breaker(breaker)
        });
        let found = config.discovery.iter().flat_map(|discovery| &discovery.services);
        let found = found.flat_map(|service| &service.schemes);
        let applids = config.routes.iter().chain(found).filter_map(|route| match route.scheme() {
            ServiceScheme::SafIdt { applid } => Some(applid),
            _ => None,
        });
        // A gateway of API ML may ask for tokens for any APPLID.
        let profiles = config.profiles.iter().filter(|_| config.zaas.is_some());
        let applids = applids.chain(profiles.map(|profile| *profile.applid()));
        let saf_idt = peers.saf_tokens.as_ref().map(|address| {
            let scheme = |applid| {
                let client = remote.client();
                SafIdtScheme::new(client, address.clone(), tickets.of(&applid), applid)
                    .with_breaker(breaker)
            };
            applids.map(|applid| (applid, scheme(applid))).collect()
        });
        Self {
            tickets: tickets.clone(),
            custom_headers: config.custom_headers.clone(),
            technical_users: config.technical_users.clone(),
            zowe_jwt,
            plain_jwt,
            zosmf,
            saf_idt: saf_idt.unwrap_or_default(),
            breaker: breaker.clone(),
        }
    }

    pub(crate) fn route(&self, route: &ConfiguredRoute) -> Route {
        match route.scheme() {
            ServiceScheme::HttpBasicPassTicket { applid } => {
                // The source of PassTickets is chosen once for the route, and not for each request.
                match self.tickets.zowe(&applid) {
                    Some(zowe) => route.with_scheme(self.pass_ticket(route, applid, zowe.clone())),
                    None => {
                        let local = self.tickets.local().clone();
                        route.with_scheme(self.pass_ticket(route, applid, local))
                    }
                }
            }
            ServiceScheme::ZoweJwt => route.with_scheme(self.zowe_jwt.clone()),
            ServiceScheme::Zosmf => route.with_scheme(
                self.zosmf.clone().expect("the configuration has z/OSMF if a route needs it"),
            ),
            ServiceScheme::X509 { headers } => route.with_scheme(X509Scheme::new(headers.iter())),
            ServiceScheme::SafIdt { applid } => route.with_scheme(
                self.saf_idt
                    .get(&applid)
                    .expect("the configuration has ZSS if a route needs it")
                    .clone(),
            ),
            ServiceScheme::Bypass => route.with_scheme(Bypass),
        }
    }

    /// Returns the scheme that a gateway of API ML asks for. `service` receives the credential. Returns `None` if the
    /// configuration has no server that makes such a credential, or if this version does not know the kind of `target`.
    ///
    /// API ML's gateway does not report the answers of the service. So the breaker does not learn whether services have
    /// accepted these PassTickets. But if the breaker has stopped the making of PassTickets for a user or an APPLID,
    /// gateways of API ML get no such PassTickets either.
    pub(crate) fn of_gateways(
        &self,
        target: &SchemeTarget,
        service: Option<&ServiceId>,
    ) -> Option<Arc<dyn Scheme>> {
        match target {
            SchemeTarget::PassTicket { applid } => {
                let tickets = self.breaker.guard(self.tickets.of(applid));
                let scheme = PassTicketScheme::new(*applid, tickets);
                let rules = service.and_then(|service| self.technical_users.get(service));
                Some(match rules {
                    None => Arc::new(scheme),
                    Some(rules) => Arc::new(scheme.with_technical_users(rules.clone())),
                })
            }
            SchemeTarget::ZoweJwt => Some(Arc::new(self.plain_jwt.clone())),
            SchemeTarget::Zosmf => self.zosmf.clone().map(|scheme| Arc::new(scheme) as _),
            SchemeTarget::SafIdt { applid } => {
                self.saf_idt.get(applid).cloned().map(|scheme| Arc::new(scheme) as _)
            }
            _ => None,
        }
    }

    fn pass_ticket<T: PassTicketGenerator>(
        &self,
        route: &ConfiguredRoute,
        applid: Applid,
        tickets: T,
    ) -> PassTicketScheme<T> {
        let refused = route.refused_statuses();
        let scheme = PassTicketScheme::new(applid, tickets).with_breaker(
            &self.breaker,
            route.prefix(),
            refused,
        );
        let scheme = match self.technical_users.get(route.service()) {
            Some(rules) => scheme.with_technical_users(rules.clone()),
            None => scheme,
        };
        match self.custom_headers.clone() {
            None => scheme,
            Some(custom) => scheme.with_custom_headers(custom),
        }
    }

    /// Returns a listener that removes the tokens that the schemes keep for a user who has logged out.
    pub(crate) fn logout_listener(&self) -> impl LogoutListener {
        let mut schemes: Vec<Arc<dyn Scheme>> = vec![Arc::new(self.zowe_jwt.clone())];
        schemes.extend(self.zosmf.iter().map(|scheme| Arc::new(scheme.clone()) as _));
        schemes.extend(self.saf_idt.values().map(|scheme| Arc::new(scheme.clone()) as _));
        move |user| schemes.iter().for_each(|scheme| scheme.logged_out(&user))
    }
}
