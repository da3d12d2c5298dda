//! The settings of the connections to Redis. The address of the primary is either configured, or comes from Sentinel,
//! the program that watches the servers of Redis.

use std::{fmt, net::IpAddr, sync::Arc};

use http::Uri;
use zeroize::Zeroizing;

use super::{settings_error::RedisSettingsError, tls::RedisTls};

/// The name of a site: 1–64 letters, digits, dots, hyphens and underscores. All nodes of a site use the same name.
/// Sites with different names can share one Redis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SiteName(Arc<str>);

impl SiteName {
    /// Creates a name.
    ///
    /// # Errors
    /// [`RedisSettingsError::Site`] if the text is not such a name.
    pub fn new(text: &str) -> Result<Self, RedisSettingsError> {
        if is_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(RedisSettingsError::Site(shorten(text)))
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The address of the primary of Redis, or the addresses of the Sentinels that know the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAddress {
    pub(super) source: Source,
    pub(super) user: Option<Arc<str>>,
    pub(super) database: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Server(Endpoint),
    Sentinel { master: Arc<str>, nodes: Vec<Endpoint>, user: Option<Arc<str>> },
}

/// The address of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    pub(super) is_encrypted: bool,
}

impl Endpoint {
    /// Creates an endpoint. Without TLS, the host must be `localhost` or a loopback address.
    pub(super) fn new(
        host: &str,
        port: u16,
        is_encrypted: bool,
    ) -> Result<Self, RedisSettingsError> {
        if !is_encrypted && !is_loopback(host) {
            return Err(RedisSettingsError::NotEncrypted(shorten(host)));
        }
        Ok(Self { host: host.into(), port, is_encrypted })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl RedisAddress {
    const MAX_SENTINELS: usize = 16;

    /// Reads the URL of the primary: `rediss://user@host:port/database`. The user and the database are optional.
    /// `redis://`, without TLS, is allowed only for a server on this machine.
    ///
    /// # Errors
    /// [`RedisSettingsError`] if `url` has another form, or if it contains a password.
    pub fn from_url(url: &str) -> Result<Self, RedisSettingsError> {
        let Url { endpoint, user, database } = Url::read(url)?;
        Ok(Self { source: Source::Server(endpoint), user, database: database.unwrap_or(0) })
    }

    /// Creates the address of a primary that Sentinel names. The node asks Sentinel each time that it opens a
    /// connection.
    ///
    /// `master` is the name of the primary in the configuration of Sentinel. `sentinels` are the URLs of the Sentinels,
    /// such as `rediss://host:26379`. These URLs can contain a user for Sentinel. All of them must have the same scheme
    /// and the same user. If the Sentinels use TLS, the primary must use TLS, too. `user` is the user for Redis.
    ///
    /// # Errors
    /// [`RedisSettingsError`] if an argument is malformed, if a URL contains a database or a password, if the URLs
    /// differ in their scheme or user, or if there are no URLs or more than 16.
    pub fn from_sentinel<'a>(
        master: &str,
        sentinels: impl IntoIterator<Item = &'a str>,
        user: Option<&str>,
        database: u16,
    ) -> Result<Self, RedisSettingsError> {
        if !is_name(master) {
            return Err(RedisSettingsError::Master(shorten(master)));
        }
        let mut nodes: Vec<Endpoint> = Vec::new();
        let mut sentinel_user = None;
        for url in sentinels {
            let Url { endpoint, user, database } = Url::read(url)?;
            let is_other = |first: &Endpoint| first.is_encrypted != endpoint.is_encrypted;
            let is_other_user = !nodes.is_empty() && sentinel_user != user;
            if database.is_some() || is_other_user || nodes.first().is_some_and(is_other) {
                return Err(RedisSettingsError::Sentinels);
            }
            sentinel_user = user;
            nodes.push(endpoint);
        }
        if nodes.is_empty() || nodes.len() > Self::MAX_SENTINELS {
            return Err(RedisSettingsError::Sentinels);
        }
        let user = user.map(read_user).transpose()?;
        let source = Source::Sentinel { master: master.into(), nodes, user: sentinel_user };
        Ok(Self { source, user, database })
    }

    /// Returns the user of Redis. `None` means Redis's user `default`.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(super) fn is_encrypted(&self) -> bool {
        match &self.source {
            Source::Server(endpoint) => endpoint.is_encrypted,
            Source::Sentinel { nodes, .. } => nodes.iter().any(|node| node.is_encrypted),
        }
    }
}

/// Writes the address for messages.
impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Server(endpoint) => write!(f, "Redis at {endpoint}"),
            Source::Sentinel { master, nodes, .. } => {
                write!(f, "Redis {master} (Sentinel at ")?;
                for (index, node) in nodes.iter().enumerate() {
                    write!(f, "{}{node}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
        }
    }
}

/// The settings of a [`RedisPlace`](super::RedisPlace).
#[derive(Clone)]
#[must_use]
pub struct RedisSettings {
    pub(super) site: SiteName,
    pub(super) address: RedisAddress,
    pub(super) password: Option<Arc<Zeroizing<Vec<u8>>>>,
    pub(super) sentinel_password: Option<Arc<Zeroizing<Vec<u8>>>>,
    pub(super) tls: Option<RedisTls>,
}

impl RedisSettings {
    /// Creates settings for the data of `site`.
    pub fn new(site: SiteName, address: RedisAddress) -> Self {
        Self { site, address, password: None, sentinel_password: None, tls: None }
    }

    /// Sets the password of the user in the address. If the address has no user, Redis uses its user `default`.
    pub fn with_password(self, password: Zeroizing<Vec<u8>>) -> Self {
        Self { password: Some(Arc::new(password)), ..self }
    }

    /// Sets the password for Sentinel.
    pub fn with_sentinel_password(self, password: Zeroizing<Vec<u8>>) -> Self {
        Self { sentinel_password: Some(Arc::new(password)), ..self }
    }

    /// Sets the certificates for `rediss://`.
    pub fn with_tls(self, tls: RedisTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Checks that each user has a password, and that there are certificates exactly if the address uses TLS.
    pub(super) fn check(&self) -> Result<(), RedisSettingsError> {
        if self.address.is_encrypted() != self.tls.is_some() {
            return Err(RedisSettingsError::Tls);
        }
        if self.address.user.is_some() && self.password.is_none() {
            return Err(RedisSettingsError::PasswordMissing);
        }
        let sentinel_user = match &self.address.source {
            Source::Sentinel { user, .. } => user.as_ref(),
            Source::Server(_) => None,
        };
        if sentinel_user.is_some() && self.sentinel_password.is_none() {
            return Err(RedisSettingsError::PasswordMissing);
        }
        Ok(())
    }
}

/// Shows the settings without the passwords.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { site, address, password, sentinel_password: _, tls } = self;
        f.debug_struct("RedisSettings")
            .field("site", site)
            .field("address", address)
            .field("has_password", &password.is_some())
            .field("tls", tls)
            .finish_non_exhaustive()
    }
}

struct Url {
    endpoint: Endpoint,
    user: Option<Arc<str>>,
    database: Option<u16>,
}

impl Url {
    fn read(url: &str) -> Result<Self, RedisSettingsError> {
        const ERROR: RedisSettingsError = RedisSettingsError::Url;
        // The check for a password comes before the parser of URLs. Otherwise, if the parser refuses the URL for
        // another reason, the error does not mention the password.
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        if user.is_some_and(|user| user.contains(':')) {
            return Err(RedisSettingsError::PasswordInUrl);
        }
        let user = user.filter(|user| !user.is_empty()).map(read_user).transpose()?;
        let uri: Uri = url.parse().map_err(|_| ERROR)?;
        let is_encrypted = match uri.scheme_str() {
            Some("rediss") => true,
            Some("redis") => false,
            _ => return Err(ERROR),
        };
        let host = uri.host().ok_or(ERROR)?;
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        // The parser of URLs ignores a port that is too large. So this function parses the port itself.
        let port = match authority.rsplit_once('@').map_or(authority, |(_, rest)| rest) {
            text if Some(text) == uri.host() => 6379,
            text => {
                let port = text.rsplit_once(':').map_or("", |(_, port)| port);
                let is_decimal = port.bytes().all(|byte| byte.is_ascii_digit());
                port.parse().ok().filter(|port| is_decimal && *port > 0).ok_or(ERROR)?
            }
        };
        let database = match uri.path().strip_prefix('/').unwrap_or_default() {
            "" => None,
            text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(text.parse().map_err(|_| ERROR)?)
            }
            _ => return Err(ERROR),
        };
        if host.is_empty() || uri.query().is_some() || url.contains('#') {
            return Err(ERROR);
        }
        Ok(Self { endpoint: Endpoint::new(host, port, is_encrypted)?, user, database })
    }
}

fn read_user(user: &str) -> Result<Arc<str>, RedisSettingsError> {
    if is_name(user) { Ok(user.into()) } else { Err(RedisSettingsError::Url) }
}

fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_allowed)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_redis_are_read_strictly() {
        let read = |url| RedisAddress::from_url(url).map(|address| address.to_string());
        let database = |url| RedisAddress::from_url(url).unwrap().database;
        assert_eq!(
            read("rediss://tp@redis.example.com:6380").unwrap(),
            "Redis at redis.example.com:6380"
        );
        assert_eq!(read("rediss://redis.example.com").unwrap(), "Redis at redis.example.com:6379");
        assert_eq!(
            read("rediss://tp@[2001:db8::1]:6380/2").unwrap(),
            "Redis at [2001:db8::1]:6380"
        );
        assert_eq!(read("redis://127.0.0.1:6379").unwrap(), "Redis at 127.0.0.1:6379");
        assert_eq!(database("rediss://tp@a/2"), 2);
        assert_eq!(database("rediss://tp@a/"), 0);

        for secret in
            ["rediss://tp:secret@a", "rediss://:secret@a", "rediss://a:b:c@d", "tp:secret@a"]
        {
            assert_eq!(read(secret), Err(RedisSettingsError::PasswordInUrl), "{secret}");
            assert!(!read(secret).unwrap_err().to_string().contains("secret@"));
        }
        for host in ["redis://redis.example.com", "redis://10.0.0.1:6379", "redis://localhost.evil"]
        {
            assert!(matches!(read(host), Err(RedisSettingsError::NotEncrypted(_))), "{host}");
        }
        for wrong in [
            "",
            "a",
            "http://a",
            "rediss://",
            "rediss://a:0",
            "rediss://a:",
            "rediss://a:+1",
            "rediss://[::1]:x",
            "rediss://a:70000",
            "rediss://a/x",
            "rediss://a/65536",
            "rediss://a/1/2",
            "rediss://a?x=1",
            "rediss://t p@a",
            "rediss://a#b",
        ] {
            assert_eq!(read(wrong), Err(RedisSettingsError::Url), "{wrong}");
        }
    }

    #[test]
    fn sentinels_have_one_scheme_and_user() {
        let read = |master, nodes: &[&str]| {
            RedisAddress::from_sentinel(master, nodes.iter().copied(), Some("tp"), 0)
        };
        let two = read("main", &["rediss://a:26379", "rediss://b:26379"]).unwrap();
        assert_eq!(two.to_string(), "Redis main (Sentinel at a:26379, b:26379)");
        assert!(two.is_encrypted());
        for nodes in [
            &[][..],
            &["rediss://a", "redis://127.0.0.1"],
            &["rediss://x@a", "rediss://y@b"],
            &["rediss://a/1"],
        ] {
            assert_eq!(read("main", nodes), Err(RedisSettingsError::Sentinels), "{nodes:?}");
        }
        assert!(read("main", &["redis://10.0.0.1"]).is_err());
        assert!(read("a b", &["rediss://a"]).is_err());
    }

    #[test]
    fn the_parts_of_the_settings_fit_together() {
        let settings = |url| {
            let address = RedisAddress::from_url(url).unwrap();
            RedisSettings::new(SiteName::new("prod").unwrap(), address)
        };
        let password = || Zeroizing::new(b"secret".to_vec());
        assert_eq!(settings("redis://localhost").check(), Ok(()));
        assert_eq!(settings("rediss://a").check(), Err(RedisSettingsError::Tls));
        assert_eq!(
            settings("redis://tp@localhost").check(),
            Err(RedisSettingsError::PasswordMissing)
        );
        let right = settings("redis://tp@localhost").with_password(password());
        assert_eq!(right.check(), Ok(()));
        assert!(!format!("{right:?}").contains("secret"));
        assert!(SiteName::new("a{b}").is_err());
    }
}
