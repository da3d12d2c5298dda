//! Reads the settings of a node of a cluster: `components.passticket-proxy.cluster` (docs/operating/nodes.md). A site
//! is the set of nodes that share revocations. Each node holds a lease in Redis: as long as the lease is valid, the
//! node knows all revocations.

use std::{fmt, time::Duration};

use tower_passticket::cluster::{
    Confirm,
    coordinator::NodeName,
    redis::{RedisAddress, RedisPlace, RedisSettings, RedisSettingsError, RedisTls, SiteName},
};
use zeroize::Zeroizing;

use super::{
    client_identity::{self, ClientIdentity},
    passwords,
    reader::{Field, Section},
    tls_files::concatenate,
};

const LEASE_SECONDS: u64 = 3;

/// A node of a cluster: `components.passticket-proxy.cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterSettings {
    /// The site: `name`. All nodes of a site share revocations.
    pub site: SiteName,
    /// The name of this node: `node`.
    pub node: NodeName,
    /// The servers through which the nodes share revocations: `redis`.
    pub redis: RedisServers,
    /// How long the node may serve requests after its last contact with Redis: `leaseSeconds`.
    pub lease: Duration,
    /// The condition under which a revocation is reported as successful: `confirm`.
    pub confirm: Confirm,
    /// How long the node continues to serve requests after its lease has ended: `serveWithoutLeaseSeconds`.
    pub serve_without_lease: Duration,
}

impl ClusterSettings {
    /// Returns the store in which the nodes share revocations. The store
    /// connects when one of its methods is called for the first time.
    ///
    /// # Errors
    /// [`RedisSettingsError`] if the files of [`RedisServers`] cannot be used together.
    /// [`Config::load`](super::Config::load) has already checked this.
    pub fn place(&self) -> Result<RedisPlace, RedisSettingsError> {
        self.redis.place(&self.site)
    }
}

/// Redis or Valkey: `components.passticket-proxy.cluster.redis`. `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisServers {
    /// The address of the servers: `url`, or `sentinel`.
    pub address: RedisAddress,
    /// The password: the content of `passwordFile`.
    password: Option<Password>,
    /// The password for Sentinel: the content of `sentinel.passwordFile`.
    sentinel_password: Option<Password>,
    /// The certificate authorities (CAs) of the servers, in PEM: `certificateAuthorities`.
    authorities: Option<Vec<u8>>,
    /// The client certificate that the gateway presents to the servers: `certificate` and `key`.
    identity: Option<ClientIdentity>,
}

impl RedisServers {
    fn place(&self, site: &SiteName) -> Result<RedisPlace, RedisSettingsError> {
        let mut settings = RedisSettings::new(site.clone(), self.address.clone());
        let bytes = |password: &Password| Zeroizing::new(password.0.as_bytes().to_vec());
        if let Some(password) = &self.password {
            settings = settings.with_password(bytes(password));
        }
        if let Some(password) = &self.sentinel_password {
            settings = settings.with_sentinel_password(bytes(password));
        }
        if let Some(authorities) = &self.authorities {
            settings = settings.with_tls(match &self.identity {
                Some(ClientIdentity { certificate, key }) => {
                    RedisTls::with_client_certificate(authorities, certificate, key)?
                }
                None => RedisTls::new(authorities)?,
            });
        }
        RedisPlace::new(settings)
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Password(Zeroizing<String>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Reads the section. Returns `None` if the section is absent or empty, or after reporting a problem.
pub(super) fn read(mut section: Section<'_>) -> Option<ClusterSettings> {
    if section.fields().is_empty() {
        return None;
    }
    let site = section.required("name", "the name of the site, the same on all nodes");
    let node = section.required("node", "the name of this node, such as ${HOSTNAME}");
    let redis = section.section("redis");
    let redis_at = redis.at.clone();
    let redis = read_redis(redis);
    let lease = section.optional("leaseSeconds");
    let confirm = section.optional("confirm").map(|field| field.read(read_confirm));
    let serve = section.optional("serveWithoutLeaseSeconds");
    section.finish();
    let site = site.and_then(|field| field.read(SiteName::new));
    let node = node.and_then(|field| field.read(NodeName::new));
    let seconds = |field: Option<&Field<'_>>, allowed, default| match field {
        None => Some(default),
        Some(field) => field.number(allowed),
    };
    let lease = seconds(lease.as_ref(), 1..=60, LEASE_SECONDS).map(Duration::from_secs);
    let without = seconds(serve.as_ref(), 0..=3_600, 0).map(Duration::from_secs);
    if let (Some(field), Some(without)) = (&serve, without)
        && !without.is_zero()
    {
        field.at.warning(format_args!(
            "makes this node serve for up to {} s while it cannot reach Redis: a token that another node has revoked \
             may work for this time; write 0, unless you want this",
            without.as_secs()
        ));
    }
    let (site, redis) = (site?, redis?);
    if let Err(error) = redis.place(&site) {
        redis_at.error(error);
        return None;
    }
    Some(ClusterSettings {
        site,
        node: node?,
        redis,
        lease: lease?,
        confirm: confirm.unwrap_or(Some(Confirm::Everywhere))?,
        serve_without_lease: without?,
    })
}

fn read_confirm(text: &str) -> Result<Confirm, &'static str> {
    match text {
        "everywhere" => Ok(Confirm::Everywhere),
        "local" => Ok(Confirm::Local),
        _ => Err("is unknown; write everywhere or local"),
    }
}

fn read_redis(mut section: Section<'_>) -> Option<RedisServers> {
    let at = section.at.clone();
    let url = section.optional("url");
    let has_sentinel = section.optional("sentinel");
    let sentinel = section.section("sentinel");
    let password = section.optional("passwordFile");
    let authorities = section.optional("certificateAuthorities");
    let certificate = section.optional("certificate");
    let key = section.optional("key");
    let is_broken = section.is_broken();
    section.finish();
    // Each file is read, so that the problems of all files are reported.
    let password = read_password(password.as_ref());
    let authorities = match &authorities {
        None => Some(None),
        Some(field) => concatenate(field).map(Some),
    };
    let identity = match (&certificate, &key) {
        (None, None) => Some(None),
        (Some(_), Some(_)) => {
            client_identity::of_files(certificate.as_ref(), key.as_ref()).map(Some)
        }
        (Some(_), None) => {
            at.missing("key", "the path of a PEM file with the key of the certificate");
            None
        }
        (None, Some(_)) => {
            at.missing("certificate", "the path of a PEM file with the certificate of the key");
            None
        }
    };
    let (address, sentinel_password) = match (&url, &has_sentinel) {
        (Some(url), None) => (url.read(RedisAddress::from_url), None),
        (None, Some(_)) => read_sentinel(sentinel)?,
        (None, None) => {
            if !is_broken {
                at.error("names no server; write url, or sentinel with master and nodes");
            }
            return None;
        }
        (Some(_), Some(field)) => {
            field.at.error("is present, and so is url; remove one of them");
            return None;
        }
    };
    let (authorities, identity) = (authorities?, identity?);
    if let (Some(field), None) = (&certificate, &authorities) {
        field.at.error(
            "needs certificateAuthorities; add it, with the path of a PEM file with the certificate authorities (CAs) of \
             Redis",
        );
        return None;
    }
    Some(RedisServers {
        address: address?,
        password: password?,
        sentinel_password,
        authorities,
        identity,
    })
}

/// Reads the addresses of Sentinel, and the password for them.
fn read_sentinel(mut section: Section<'_>) -> Option<(Option<RedisAddress>, Option<Password>)> {
    let at = section.at.clone();
    let master =
        section.required("master", "the name of the primary in Sentinel, such as mymaster");
    let nodes = section.required("nodes", "the URLs of Sentinel, such as [rediss://HOST:26379]");
    let user = section.optional("user");
    let password = section.optional("passwordFile");
    section.finish();
    let password = read_password(password.as_ref());
    let nodes = nodes?.one_or_more();
    let urls: Option<Vec<_>> = nodes.iter().map(Field::text).collect();
    let user = match &user {
        None => None,
        Some(field) => Some(field.text()?),
    };
    let (master, urls) = (master?.text()?.to_owned(), urls?);
    let address = RedisAddress::from_sentinel(&master, urls, user, 0);
    Some((address.map_err(|error| at.error(error)).ok(), password?))
}

fn read_password(field: Option<&Field<'_>>) -> Option<Option<Password>> {
    let Some(field) = field else { return Some(None) };
    let password = passwords::from_file(field)?;
    Some(Some(Password(Zeroizing::new(password.expose().to_owned()))))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use tempfile::TempDir;
    use test_support::pki;

    use super::*;
    use crate::config::{own_section, problem::Report, reader::Document};

    /// Returns a directory with a password, a certificate and the key of the certificate.
    fn directory() -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("password", b"secretPassword\n");
        write("open", b"secretPassword\n");
        fs::set_permissions(directory.path().join("open"), fs::Permissions::from_mode(0o644))
            .unwrap();
        write("ca.pem", pki::USER.certificate.as_bytes());
        write("gw.pem", pki::SERVER.certificate.as_bytes());
        write("gw.key", pki::SERVER.key.as_bytes());
        directory
    }

    /// Returns the settings, or the problems: errors, or warnings if there are no errors.
    fn read_in(directory: &TempDir, yaml: &str) -> (Option<ClusterSettings>, Vec<String>) {
        let report = Report::default();
        let text = format!("components: {{passticket-proxy: {{cluster: {yaml}}}}}\n");
        let file = directory.path().join("z");
        let document = Document::parse(file, text.as_bytes(), &report);
        let mut section = own_section::find(&mut document.section(&report));
        let settings = read(section.section("cluster"));
        let place =
            format!("{}/z:1: components.passticket-proxy.cluster", directory.path().display());
        let texts = |problem: String| problem.replace(&place, "C");
        match report.finish(Some(settings)) {
            Ok((settings, warnings)) => {
                (settings, warnings.iter().map(|it| texts(it.to_string())).collect())
            }
            Err(problems) => (None, problems.iter().map(|it| texts(it.to_string())).collect()),
        }
    }

    #[test]
    fn the_settings_have_defaults() {
        let directory = directory();
        for yaml in ["", "{}"] {
            assert_eq!(read_in(&directory, yaml), (None, Vec::new()));
        }
        let (settings, warnings) =
            read_in(&directory, "{name: prod, node: gw-1, redis: {url: 'redis://127.0.0.1'}}");
        let settings = settings.unwrap();
        assert_eq!(warnings, [""; 0]);
        assert_eq!((settings.site.as_str(), settings.node.as_str()), ("prod", "gw-1"));
        assert_eq!(settings.redis.address.to_string(), "Redis at 127.0.0.1:6379");
        assert_eq!(settings.lease, Duration::from_secs(3));
        assert_eq!(settings.confirm, Confirm::Everywhere);
        assert_eq!(settings.serve_without_lease, Duration::ZERO);
        let (settings, warnings) = read_in(
            &directory,
            "{name: prod, node: gw-1, leaseSeconds: 5, confirm: local, serveWithoutLeaseSeconds: 60, redis: {sentinel: \
             {master: mymaster, nodes: ['rediss://s1:26379', 'rediss://s2:26380'], user: tp}, passwordFile: password, \
             certificateAuthorities: ca.pem, certificate: gw.pem, key: gw.key}}",
        );
        let settings = settings.unwrap();
        assert!(
            matches!(&*warnings, [one] if one.starts_with("C.serveWithoutLeaseSeconds: makes this node serve"))
        );
        let address = settings.redis.address.to_string();
        assert_eq!(address, "Redis mymaster (Sentinel at s1:26379, s2:26380)");
        assert_eq!(*settings.redis.password.as_ref().unwrap().0, "secretPassword");
        assert!(settings.redis.authorities.is_some() && settings.redis.identity.is_some());
        assert!(!format!("{settings:?}").contains("secretPassword"));
        assert_eq!(settings.confirm, Confirm::Local);
        assert_eq!(
            (settings.lease, settings.serve_without_lease),
            (Duration::from_secs(5), Duration::from_secs(60))
        );
    }

    #[test]
    fn problems_are_reported_at_their_keys_without_a_secret() {
        let directory = directory();
        let with = |redis: &str| format!("{{name: prod, node: gw-1, redis: {redis}}}");
        for (yaml, want) in [
            ("{node: a, redis: {url: 'redis://localhost'}}".to_owned(), "C.name: is missing; write the name of the site"),
            ("{name: a, redis: {url: 'redis://localhost'}}".to_owned(), "C.node: is missing; write the name of this node"),
            ("{name: a, node: b}".to_owned(), "C.redis: names no server; write url, or sentinel"),
            ("{name: 'a b', node: b, redis: {url: 'redis://localhost'}}".to_owned(), "C.name: \"a b\" is not the name of a site; use 1 to 64"),
            ("{name: a, node: 'b:c', redis: {url: 'redis://localhost'}}".to_owned(), "C.node: \"b:c\" is not the name of a node; use 1 to 64"),
            ("{name: a, node: b, instance: c, redis: {url: 'redis://localhost'}}".to_owned(), "C.instance: is an unknown key"),
            ("{name: a, node: b, leaseSeconds: 0, redis: {url: 'redis://localhost'}}".to_owned(), "C.leaseSeconds: \"0\" is not valid; write a number from 1 to 60"),
            ("{name: a, node: b, serveWithoutLeaseSeconds: 3601, redis: {url: 'redis://localhost'}}".to_owned(), "C.serveWithoutLeaseSeconds: \"3601\" is not valid"),
            ("{name: a, node: b, confirm: all, redis: {url: 'redis://localhost'}}".to_owned(), "C.confirm: is unknown; write everywhere or local"),
            (with("{url: 'redis://10.0.0.1'}"), "C.redis.url: the connection to Redis at \"10.0.0.1\" would not be encrypted"),
            (with("{url: 'rediss://tp:topSecret@h'}"), "C.redis.url: the URL of Redis contains a password; write the password to a file"),
            (with("{url: 'topSecret@h'}"), "C.redis.url: the URL of Redis is malformed"),
            (with("{url: 'redis://localhost', sentinel: {master: m, nodes: ['redis://localhost']}}"), "C.redis.sentinel: is present, and so is url; remove one"),
            (with("{sentinel: {nodes: ['redis://localhost']}}"), "C.redis.sentinel.master: is missing; write the name of the primary"),
            (with("{sentinel: {master: m}}"), "C.redis.sentinel.nodes: is missing; write the URLs of Sentinel"),
            (with("{sentinel: {master: m, nodes: ['redis://localhost', 'rediss://h']}}"), "C.redis.sentinel: the list of Sentinels is wrong"),
            (with("{url: 'redis://localhost', passwordFile: missing}"), "C.redis.passwordFile: cannot read"),
            (with("{url: 'redis://localhost', passwordFile: open}"), "C.redis.passwordFile: "),
            (with("{url: 'redis://tp@localhost'}"), "C.redis: a user of Redis or Sentinel is set, but no password"),
            (with("{url: 'rediss://h'}"), "C.redis: rediss:// needs certificateAuthorities"),
            (with("{url: 'redis://localhost', certificateAuthorities: ca.pem}"), "C.redis: rediss:// needs certificateAuthorities"),
            (with("{url: 'rediss://h', certificateAuthorities: ca.pem, certificate: gw.pem}"), "C.redis.key: is missing; write the path"),
            (with("{url: 'rediss://h', certificateAuthorities: ca.pem, key: gw.key}"), "C.redis.certificate: is missing; write the path"),
            (with("{url: 'rediss://h', certificateAuthorities: ca.pem, certificate: ca.pem, key: gw.key}"), "C.redis.key: is not the key of the certificate"),
            (with("{urls: 'redis://localhost'}"), "C.redis.urls: is an unknown key; did you mean url?"),
        ] {
            let (settings, problems) = read_in(&directory, &yaml);
            assert!(settings.is_none(), "{yaml}");
            assert!(problems.iter().any(|problem| problem.starts_with(want)), "{yaml}: {problems:?}");
            let all = problems.join("\n");
            assert!(!all.contains("topSecret") && !all.contains("secretPassword"), "{all}");
        }
    }
}
