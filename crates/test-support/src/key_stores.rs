//! Key stores and encrypted keys. OpenSSL and keytool (a program of Java) made them, see `key-stores/README.md`.

/// The password of each file, except [`KEYTOOL_OPEN_TRUST`].
pub const PASSWORD: &str = "secret-of-the-tests";

macro_rules! files {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $($(#[$doc])* pub const $name: &[u8] = include_bytes!(concat!("../key-stores/", $file));)*
    };
}

files! {
    /// The key and the certificate chain of the server, made with OpenSSL. The alias is `localhost`.
    OPENSSL = "openssl.p12";
    /// The content of [`OPENSSL`], in the format of older versions of OpenSSL.
    OPENSSL_LEGACY = "openssl-legacy.p12";
    /// The certificate of the authority, made with OpenSSL. It lacks the attribute with which keytool marks trusted
    /// certificates.
    OPENSSL_TRUST = "openssl-trust.p12";
    /// The keys with the aliases `localhost` and `user`, made with keytool.
    KEYTOOL = "keytool.p12";
    /// The certificate of the authority, made with keytool, with the password [`PASSWORD`].
    KEYTOOL_TRUST = "keytool-trust.p12";
    /// The certificate of the authority, made with keytool, without a password.
    KEYTOOL_OPEN_TRUST = "keytool-open-trust.p12";
    /// The key of the server, encrypted with AES-256.
    AES256 = "aes256.key";
    /// The key of the server, encrypted with AES-128 and HMAC-SHA-512.
    AES128_SHA512 = "aes128-sha512.key";
    /// The key of the server, encrypted with 3DES and HMAC-SHA-1.
    DES3_SHA1 = "des3-sha1.key";
    /// The key of the server, encrypted with scrypt and AES-256.
    SCRYPT = "scrypt.key";
    /// The key of the server, encrypted with PBES1.
    PBES1 = "pbes1.key";
    /// The key of the server, encrypted with more than a million iterations.
    SLOW = "slow.key";
    /// The key that signs tokens, encrypted with AES-256.
    SIGNING = "signing.key";
    /// The key of the server, encrypted in the older format of OpenSSL.
    TRADITIONAL = "traditional.key";
}
