//! The error of the settings for Redis.

/// The settings for Redis are wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisSettingsError {
    /// The name of the site is not valid.
    #[error(
        "{0:?} is not the name of a site; use 1 to 64 letters, digits, dots, hyphens and underscores"
    )]
    Site(String),
    /// The name of the primary in Sentinel is not valid.
    #[error("{0:?} is not the name of a primary in Sentinel; use the name of `sentinel monitor`")]
    Master(String),
    /// The text is not a URL of Redis, or the name of a user is malformed.
    #[error(
        "the URL of Redis is malformed; write rediss://user@host:port or rediss://user@host:port/database"
    )]
    Url,
    /// The URL contains a password.
    #[error(
        "the URL of Redis contains a password; write the password to a file, and set redis.passwordFile (for Sentinel: \
         redis.sentinel.passwordFile)"
    )]
    PasswordInUrl,
    /// The URL names another machine and does not use TLS.
    #[error(
        "the connection to Redis at {0:?} would not be encrypted; use rediss://, or redis:// with an address of this \
         machine, such as 127.0.0.1"
    )]
    NotEncrypted(String),
    /// The list of Sentinels is not valid.
    #[error(
        "the list of Sentinels is wrong; it needs 1 to 16 URLs, all with the same scheme and user, and without a \
         database"
    )]
    Sentinels,
    /// The settings have certificates without `rediss://`, or `rediss://` without certificates.
    #[error(
        "rediss:// needs certificateAuthorities (the CA certificates for the certificate of Redis), and redis:// must \
         not have certificates"
    )]
    Tls,
    /// A user has no password.
    #[error(
        "a user of Redis or Sentinel is set, but no password; set redis.passwordFile (for Sentinel: \
         redis.sentinel.passwordFile)"
    )]
    PasswordMissing,
    /// A certificate or a key is missing or malformed.
    #[error("the {0} for Redis cannot be read; it must be in PEM format")]
    Pem(&'static str),
    /// The client certificate cannot be used, for example because the key belongs to another certificate.
    #[error("the client certificate for Redis cannot be used: {0}")]
    ClientCertificate(String),
}
