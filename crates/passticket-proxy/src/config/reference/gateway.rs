//! The settings of the gateway itself: addresses, keys, logs, headers and pages.

use super::{
    DefaultValue::{Nothing, Required, Rule, Value},
    Setting,
    ValueKind::{Boolean, List, Mapping, Number, Path, Text, Words},
    table,
};

const ACCESS_LOG: &str = "operating/access-log.md";
const AUDIT: &str = "operating/audit.md";
const CONFIGURATION: &str = "operating/configuration.md";
const HEADERS: &str = "operating/configuration.md#response-headers";
const KEY_MATERIAL: &str = "operating/key-material.md";
const SIGNING_KEYS: &str = "operating/configuration.md#signing-keys";
const ZAAS: &str = "operating/as-zaas.md";

pub(super) const SETTINGS: &[Setting] = table! {
    "enabled": Boolean, Nothing, CONFIGURATION
        => "Has no effect. It is accepted because Zowe's schema has this key for each component.";

    "host": Text("IP address or host name"), Rule("Zowe's `listenAddresses` or `vipaIp`, else 0.0.0.0"),
        "reference/zowe-yaml-keys.md#components"
        => "The address on which the gateway listens. The port is `components.gateway.port`.";
    "trustedProxies": List(&Text("network or IP address")), Nothing,
        "operating/load-balancers.md#trusted-proxies"
        => "The proxies that may announce the addresses of their clients.";
    "proxyProtocol": Words(&["off", "required"]), Value("off"),
        "operating/load-balancers.md#proxy-protocol"
        => "With `required`, each connection must begin with a header of the PROXY protocol and come from one of `trustedProxies`.";

    "admin": Mapping, Nothing, "operating/metrics.md"
        => "The admin port, which serves metrics and health.";
    "admin.host": Text("loopback address, or a name of one"), Value("127.0.0.1"), "operating/metrics.md"
        => "The address of the admin port.";
    "admin.port": Number(0..=65_535, "port"), Nothing, "operating/metrics.md"
        => "The port number of the admin port. 0 selects a free port. Without it, there is no admin port.";

    "zaas": Mapping, Nothing, ZAAS
        => "The listener for gateways of API ML, which use this program as their ZAAS.";
    "zaas.enabled": Boolean, Value("false"), ZAAS
        => "Whether the program has this listener. AT-TLS must be off.";
    "zaas.host": Text("IP address or host name"), Rule("the address of the gateway"), ZAAS
        => "The address of the listener for gateways of API ML.";
    "zaas.port": Number(0..=65_535, "port"), Value("7558"), ZAAS
        => "The port number of the listener for gateways of API ML. 0 selects a free port.";
    "zaas.gateways": List(&Mapping), Rule("required with `enabled: true`"), ZAAS
        => "The API ML gateways that may speak for their clients. An item has either `sha256` or `subject`.";
    "zaas.gateways[].sha256": Text("SHA-256 fingerprint"), Nothing, ZAAS
        => "The fingerprint of the certificate that the gateway presents.";
    "zaas.gateways[].subject": Text("distinguished name"), Nothing, ZAAS
        => "The subject of this certificate. Each certificate of a client authority with this subject is accepted.";

    "signingKey": Path("a PEM file with an RSA private key"), Rule("required, unless `signingKeys` is present"),
        SIGNING_KEYS
        => "The key that signs login tokens and Personal Access Tokens.";
    "signingKeys": List(&Mapping), Nothing, SIGNING_KEYS
        => "Several keys, in place of `signingKey`, so that the signing key can be replaced.";
    "signingKeys[].file": Path("a PEM file with an RSA key"), Required, SIGNING_KEYS
        => "The file of the key. A public key is enough if the key does not sign.";
    "signingKeys[].kid": Text("id of the key"), Nothing, SIGNING_KEYS
        => "The `kid` in the header of tokens that this key signs.";
    "signingKeys[].signs": Boolean, Value("false"), SIGNING_KEYS
        => "Whether this key signs new tokens. Exactly one key of the list signs.";
    "signingKeys[].password": Mapping, Nothing, KEY_MATERIAL
        => "The password of the file, if the key is encrypted.";
    "signingKeys[].password.file": Path("a file with the password"), Nothing, KEY_MATERIAL
        => "The file that contains the password.";
    "signingKeys[].password.env": Text("name of an environment variable"), Nothing, KEY_MATERIAL
        => "The environment variable that contains the password, in place of `file`.";

    "passwords": Mapping, Nothing, KEY_MATERIAL
        => "The passwords of key files and key stores. Each of them has exactly one of the keys `file` and `env`.";
    "passwords.key": Mapping, Nothing, KEY_MATERIAL
        => "The password of `zowe.certificate.pem.key`.";
    "passwords.key.file": Path("a file with the password"), Nothing, KEY_MATERIAL
        => "The file that contains the password.";
    "passwords.key.env": Text("name of an environment variable"), Nothing, KEY_MATERIAL
        => "The environment variable that contains the password.";
    "passwords.keystore": Mapping, Nothing, KEY_MATERIAL
        => "The password of `zowe.certificate.keystore`.";
    "passwords.keystore.file": Path("a file with the password"), Nothing, KEY_MATERIAL
        => "The file that contains the password.";
    "passwords.keystore.env": Text("name of an environment variable"), Nothing, KEY_MATERIAL
        => "The environment variable that contains the password.";
    "passwords.truststore": Mapping, Nothing, KEY_MATERIAL
        => "The password of `zowe.certificate.truststore`.";
    "passwords.truststore.file": Path("a file with the password"), Nothing, KEY_MATERIAL
        => "The file that contains the password.";
    "passwords.truststore.env": Text("name of an environment variable"), Nothing, KEY_MATERIAL
        => "The environment variable that contains the password.";
    "passwords.signingKey": Mapping, Nothing, KEY_MATERIAL
        => "The password of `signingKey`.";
    "passwords.signingKey.file": Path("a file with the password"), Nothing, KEY_MATERIAL
        => "The file that contains the password.";
    "passwords.signingKey.env": Text("name of an environment variable"), Nothing, KEY_MATERIAL
        => "The environment variable that contains the password.";

    "serviceAuthorities": List(&Path("a PEM file with certificates")), Rule("the authorities for clients"),
        "operating/key-material.md#service-authorities"
        => "The certificate authorities of services and of other servers that the gateway calls.";
    "crls": List(&Path("a file with certificate revocation lists")), Nothing,
        "operating/key-material.md#revocation-lists"
        => "The revocation lists for client certificates. Each issuer then needs a current list.";
    "clientCertificate": Mapping, Nothing, "operating/schemes.md#client-certificates"
        => "The client certificate that the gateway presents to services for requests with an authorized user.";
    "clientCertificate.certificate": Path("a PEM file with the certificate"), Required,
        "operating/schemes.md#client-certificates"
        => "The certificate with its intermediate certificates.";
    "clientCertificate.key": Path("a PEM file with the key of the certificate"), Required,
        "operating/schemes.md#client-certificates"
        => "The unencrypted private key of the certificate.";

    "revocations": Path("the revocation file"), Rule("`revocations.redb` beside the zowe.yaml"),
        "operating/configuration.md#revocation-file"
        => "The file that stores revocations and issued tokens. `serve --new-store` creates it.";
    "takeoverSocket": Path("a socket"), Rule("`revocations` with `.takeover` appended"), "operating/restart.md"
        => "The socket through which `serve --takeover` takes over from a running gateway.";

    "compatibility": Words(&["documented", "zowe-v3"]), Value("documented"),
        "operating/beside-or-instead.md#differences"
        => "Whether the gateway answers as Zowe's documentation says, or as the running Zowe API ML version 3.";
    "errorPages": Boolean, Rule("true, or false with `compatibility: zowe-v3`"), "operating/configuration.md#error-pages"
        => "Whether browsers get errors of the gateway as HTML pages.";
    "strictTransportSecurity": Mapping, Nothing, HEADERS
        => "The header `Strict-Transport-Security` in answers. The linked page names the answers without it.";
    "strictTransportSecurity.enabled": Boolean, Value("true"), HEADERS
        => "Whether answers have the header.";
    "strictTransportSecurity.maxAge": Number(0..=315_360_000, "seconds"), Value("31536000"), HEADERS
        => "For how long browsers use only HTTPS for this host. With 0, browsers forget an earlier value.";
    "strictTransportSecurity.includeSubDomains": Boolean, Value("false"), HEADERS
        => "Whether browsers use only HTTPS for all subdomains, too.";
    "cors": Mapping, Nothing, "operating/cors.md"
        => "The web pages of other origins that may use the auth API. Zowe's `corsEnabled` must be `true`.";
    "cors.allowedOrigins": List(&Text("origin, such as https://app.example.com")), Nothing, "operating/cors.md"
        => "The origins of the web pages that may use the auth API.";
    "cors.maxAgeSeconds": Number(0..=86_400, "seconds"), Value("600"), "operating/cors.md"
        => "For how long browsers may remember the answer to a preflight request.";
    "ui": Mapping, Nothing, "operating/token-page.md"
        => "The web page on which users manage their Personal Access Tokens.";
    "ui.enabled": Boolean, Value("false"), "operating/token-page.md"
        => "Whether the gateway serves the page. Personal Access Tokens must be on.";
    "ui.path": Text("path that begins with /"), Value("/gateway/ui"), "operating/token-page.md"
        => "The path of the page.";

    "audit": Mapping, Nothing, AUDIT
        => "The audit log.";
    "audit.enabled": Boolean, Value("true"), AUDIT
        => "Whether the gateway writes an audit log.";
    "audit.file": Path("the audit file"), Rule("`audit.jsonl` beside the zowe.yaml, or `audit.cef` with `format: cef`"), AUDIT
        => "The file for the audit records.";
    "audit.unauthenticatedFile": Path("the second audit file"), Rule("beside the audit file, such as `audit.unauthenticated.jsonl`"),
        "operating/audit.md#unauthenticated"
        => "The file for the records of requests without a valid credential.";
    "audit.rotateAtMegabytes": Number(1..=1_000_000, "MiB"), Value("100"), AUDIT
        => "The size at which an audit file is rotated.";
    "audit.keep": Number(1..=1_000, "files"), Value("20"), AUDIT
        => "The number of full audit files that the gateway keeps.";
    "audit.fsync": Words(&["never", "every-second", "every-batch"]), Value("every-second"), AUDIT
        => "When the operating system must write the records to disk.";
    "audit.format": Words(&["json", "cef"]), Value("json"), "operating/audit.md#cef"
        => "The format of the records: JSON lines, or the Common Event Format.";
    "accessLog": Mapping, Nothing, ACCESS_LOG
        => "The access log.";
    "accessLog.file": Path("the access log"), Nothing, ACCESS_LOG
        => "The file for the access log. Without it, there is no access log.";
    "accessLog.format": Words(&["json", "combined"]), Value("json"), ACCESS_LOG
        => "The format of the lines: JSON lines, or the combined format of Apache with more fields.";
    "accessLog.rotateAtMegabytes": Number(1..=1_000_000, "MiB"), Value("100"), ACCESS_LOG
        => "The size at which the access log is rotated.";
    "accessLog.keep": Number(1..=1_000, "files"), Value("20"), ACCESS_LOG
        => "The number of full files that the gateway keeps.";
    "logFormat": Words(&["text", "json"]), Value("text"), CONFIGURATION
        => "The format of the log on standard error.";
    "logLevel": Text("level (error, warn, info, debug or trace) or MODULE=LEVEL, with commas between entries"),
        Rule("the environment variable `RUST_LOG`, else info"), CONFIGURATION
        => "The level of the log.";
};
