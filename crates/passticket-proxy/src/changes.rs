//! What a new configuration changes, for the log and for the answer of `POST /reload`.

use std::{collections::BTreeSet, path::Path};

use passticket_proxy::config::{AuditSettings, Config, ConfiguredRoute};

/// At most this many routes are named.
const MAX_ROUTES: usize = 20;

/// Describes what `new` changes.
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
    add(old.client_identities != new.client_identities, "client certificates of the gateway");
    let keys = |config: &Config| {
        let retained = config.retained_keys.iter().cloned();
        [config.signing_key.verifying_key()].into_iter().chain(retained).collect::<Vec<_>>()
    };
    let (old_keys, new_keys) = (keys(old), keys(new));
    let are_same_keys = old_keys.len() == new_keys.len()
        && old_keys.iter().zip(&new_keys).all(|(one, other)| one.is_same_key(other));
    add(!are_same_keys, "signing keys");
    let users = |config: &Config| {
        let users = config.logins.users().iter();
        users.map(|(user, hash)| (*user, hash.expose().to_owned())).collect::<Vec<_>>()
    };
    add(users(old) != users(new), "users");
    add(old.oidc != new.oidc, "identity providers");
    add(old.limits != new.limits, "limits");
    add(old.timeouts != new.timeouts, "timeouts");
    add(old.log_level != new.log_level, "level of the log");
    changes.extend(changed_routes(old, new));
    changes
}

fn changed_routes(old: &Config, new: &Config) -> Vec<String> {
    let prefixes = |config: &Config| {
        config.routes.iter().map(ConfiguredRoute::prefix).map(str::to_owned).collect::<BTreeSet<_>>()
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

/// The changed settings that need a restart. The gateway continues with their old values.
pub(crate) fn need_restart(file: &Path, running: &Config, new: &Config) -> Vec<String> {
    let mut texts = Vec::new();
    let mut add = |is_changed: bool, place: &dyn std::fmt::Display, what: &str, running: String| {
        if is_changed {
            texts.push(format!(
                "{place}: {what} changes only when the program is restarted; the gateway continues with {running}"
            ));
        }
    };
    let listen = &new.listen;
    add(
        running.listen.address != listen.address,
        if running.listen.address.port() == listen.address.port() {
            &listen.host_at
        } else {
            &listen.port_at
        },
        "the address of the gateway",
        running.listen.address.to_string(),
    );
    let file = file.display();
    let admin = |config: &Config| config.admin.as_ref().map(|admin| admin.address);
    let (old_admin, new_admin) = (admin(running), admin(new));
    add(
        old_admin != new_admin,
        &format_args!("{file}: components.passticket-proxy.admin"),
        "the admin port",
        old_admin.map_or("no admin port".to_owned(), |address| address.to_string()),
    );
    add(
        running.revocations != new.revocations,
        &format_args!("{file}: components.passticket-proxy.revocations"),
        "the file of revocations",
        running.revocations.display().to_string(),
    );
    let audit = |audit: &Option<AuditSettings>| {
        audit.as_ref().map_or("no audit file".to_owned(), |audit| audit.file.display().to_string())
    };
    add(
        // The options have a clock, which cannot be compared.
        format!("{:?}", running.audit) != format!("{:?}", new.audit),
        &format_args!("{file}: components.passticket-proxy.audit"),
        "the audit log",
        audit(&running.audit),
    );
    texts
}
