//! Describes the changes of a new configuration, for the log and for the answer of `POST /reload`.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use passticket_proxy::config::{
    AuditSettings, ClientIdentity, ClusterSettings, Config, ConfiguredRoute,
};
use tower_passticket::{
    passticket::{KeyProfile, Replay},
    remote::Address,
    revocation::CachingServiceSettings,
};

const MAX_ROUTES: usize = 20;

/// Describes what `new` changes. This function does not compare all settings.
pub(crate) fn describe(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    let mut add = |is_changed: bool, text: &str| {
        if is_changed {
            changes.push(text.to_owned());
        }
    };
    let (old_tls, new_tls) = (&old.tls, &new.tls);
    let has_new_certificate =
        old_tls.certificate != new_tls.certificate || old_tls.key != new_tls.key;
    add(has_new_certificate, "certificate");
    add(
        old_tls.authorities != new_tls.authorities
            || old.client_certificates != new.client_certificates,
        "authorities of clients",
    );
    add(old_tls.service_authorities != new_tls.service_authorities, "authorities of services");
    add(old_tls.revocation_lists != new_tls.revocation_lists, "revocation lists");
    let identities = |config: &Config| {
        let identities = &config.client_identities;
        (identities.default.clone(), identities.services.clone())
    };
    add(identities(old) != identities(new), "client certificates of the gateway");
    let keys = |config: &Config| {
        let retained = config.retained_keys.iter().cloned();
        [config.signing_key.verifying_key()].into_iter().chain(retained).collect::<Vec<_>>()
    };
    let (old_keys, new_keys) = (keys(old), keys(new));
    let are_same_keys = old_keys.len() == new_keys.len()
        && old_keys.iter().zip(&new_keys).all(|(one, other)| one.is_same_key(other));
    add(!are_same_keys, "signing keys");
    // The settings of PassTicket keys are compared. If only the value of a key changes, this code does not notice it,
    // because `KeyProfile` does not compare the values of keys.
    let tickets = |config: &Config| -> BTreeSet<_> {
        let settings = |it: &KeyProfile| (it.algorithm().as_str(), it.window(), it.reuse());
        let profiles = config.profiles.iter();
        let replay = |it: &KeyProfile| it.replay() == Replay::Allowed;
        let next = |it: &KeyProfile| it.next_key().map(|(next, from)| (settings(next), from));
        profiles.map(|it| (it.name(), settings(it), replay(it), next(it))).collect()
    };
    add(tickets(old) != tickets(new), "settings of PassTicket keys");
    let users = |config: &Config| {
        let users = config.logins.users().iter();
        users.map(|(user, hash)| (*user, hash.expose())).collect::<Vec<_>>()
    };
    add(users(old) != users(new), "users");
    add(old.oidc != new.oidc, "identity providers");
    // A reload changes which gateways are trusted. It neither opens nor closes the listener for API ML's gateways.
    let gateways = |config: &Config| config.zaas.as_ref().map(|zaas| zaas.gateways.clone());
    add(
        old.zaas.is_some() && new.zaas.is_some() && gateways(old) != gateways(new),
        "API ML gateways",
    );
    add(old.technical_users != new.technical_users, "technical users");
    add(old.limits != new.limits, "limits");
    add(old.timeouts != new.timeouts, "timeouts");
    add(old.log_level != new.log_level, "level of the log");
    add(old.log_format != new.log_format, "format of the log");
    add(old.access_log != new.access_log, "access log");
    changes.extend(changed_routes(old, new));
    changes
}

fn changed_routes(old: &Config, new: &Config) -> Vec<String> {
    let prefixes = |config: &Config| {
        config
            .routes
            .iter()
            .map(ConfiguredRoute::prefix)
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    let (old, new) = (prefixes(old), prefixes(new));
    let added = new.difference(&old).map(|prefix| format!("route {prefix} added"));
    let removed = old.difference(&new).map(|prefix| format!("route {prefix} removed"));
    let mut all: Vec<_> = added.chain(removed).collect();
    if all.len() > MAX_ROUTES {
        let others = all.len() - MAX_ROUTES;
        all.truncate(MAX_ROUTES);
        all.push(format!("{others} other routes added or removed"));
    }
    all
}

/// The settings that change only at a restart, with their values at the start of the program.
pub(crate) struct Started {
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    zaas: Option<SocketAddr>,
    revocations: PathBuf,
    cluster: Option<ClusterSettings>,
    takeover_socket: PathBuf,
    audit: Option<AuditSettings>,
    drain: Duration,
    tunnel_drain: Duration,
    zowe: Option<StoreOfZowe>,
}

/// The address, the client certificate and the settings of the Caching Service.
type StoreOfZowe = (Address, Option<ClientIdentity>, CachingServiceSettings);

impl Started {
    pub(crate) fn with(config: &Config) -> Self {
        Self {
            listen: config.listen.address,
            admin: config.admin.as_ref().map(|admin| admin.address),
            zaas: config.zaas.as_ref().map(|zaas| zaas.address),
            revocations: config.revocations.clone(),
            cluster: config.cluster.clone(),
            takeover_socket: config.takeover_socket.clone(),
            audit: config.audit.clone(),
            drain: config.timeouts.drain,
            tunnel_drain: config.timeouts.tunnel_drain,
            zowe: config.zowe.as_ref().and_then(|zowe| {
                Some((zowe.url.clone(), zowe.client_identity.clone(), zowe.revocations?))
            }),
        }
    }

    /// Returns a warning for each of these settings that has another value in `new`. The program continues with the
    /// value from its start.
    pub(crate) fn need_restart(&self, zowe_yaml: &Path, new: &Config) -> Vec<String> {
        let now = Self::with(new);
        let listen_at = match self.listen.port() == now.listen.port() {
            true => &new.listen.host_at,
            false => &new.listen.port_at,
        };
        let ours = |key| format!("{}: components.passticket-proxy.{key}", zowe_yaml.display());
        let zaas_at = match (&self.zaas, &new.zaas) {
            (Some(started), Some(zaas)) if started.port() == zaas.address.port() => {
                zaas.host_at.to_string()
            }
            (Some(_), Some(zaas)) => zaas.port_at.to_string(),
            _ => ours("zaas.enabled"),
        };
        // The options of the audit log contain a clock, which cannot be compared. So their `Debug` texts are compared.
        let audit = |started: &Self| format!("{:?}", started.audit);
        let settings = [
            (self.listen != now.listen, listen_at.to_string(), "the address of the gateway"),
            (self.admin != now.admin, ours("admin"), "the admin port"),
            (self.zaas != now.zaas, zaas_at, "the listener for API ML gateways"),
            (self.revocations != now.revocations, ours("revocations"), "the file of revocations"),
            (self.cluster != now.cluster, ours("cluster"), "the cluster"),
            (
                self.takeover_socket != now.takeover_socket,
                ours("takeoverSocket"),
                "the socket for a takeover",
            ),
            (audit(self) != audit(&now), ours("audit"), "the audit log"),
            (
                self.zowe != now.zowe,
                ours("zowe.revocations"),
                "the use of API ML's revocations, with their address and client certificate,",
            ),
            (self.drain != now.drain, ours("timeouts.drainSeconds"), "the drain timeout"),
            (
                self.tunnel_drain != now.tunnel_drain,
                ours("timeouts.tunnelDrainSeconds"),
                "the drain timeout of WebSockets",
            ),
        ];
        let changed = settings.into_iter().filter(|(is_changed, ..)| *is_changed);
        changed
            .map(|(_, place, what)| {
                format!(
                    "{place}: {what} changes only when the program is restarted; until then the old value applies"
                )
            })
            .collect()
    }
}
