//! The settings that decide who a client is and what it may do.

use super::{
    DefaultValue::{Nothing, Required, Rule, Value},
    Setting,
    ValueKind::{Boolean, List, Mapping, Number, Path, Text, Words},
    table,
};

const AUTHORIZATION: &str = "operating/authorization.md";
const EXCHANGE: &str = "operating/token-exchange.md";
const FORWARDED: &str = "operating/forwarded-certificates.md";
const LOGINS: &str = "operating/logins.md";
const PROVIDERS: &str = "operating/identity-providers.md";
const REVOCATIONS: &str = "operating/zowe-revocations.md";
const SITE_TOKENS: &str = "operating/site-tokens.md";
const THROTTLE: &str = "operating/configuration.md#login-throttle";
const TOKENS: &str = "operating/user-tokens.md";
const ZOWE: &str = "operating/schemes.md#zowe-tickets";

pub(super) const SETTINGS: &[Setting] = table! {
    "users": Path("a file with users and password hashes"), Nothing, LOGINS
        => "The users whose passwords the gateway checks itself. `passwd USER` prints a line for this file.";
    "zss": Mapping, Nothing, LOGINS
        => "ZSS, a server of Zowe on z/OS.";
    "zss.url": Text("URL"), Nothing, LOGINS
        => "The address of ZSS. It checks passwords with `auth.provider: saf`, and makes the tokens of the scheme `safIdt`.";
    "gatewayUser": Text("user id"), Value("ZWESVUSR"), AUTHORIZATION
        => "The gateway's own user id in the security product. It needs UPDATE on `IRRPTAUTH.APPLID.USER`.";
    "saf": Path("a file with permissions, as Zowe's saf.yml"), Nothing, AUTHORIZATION
        => "The permissions of users and of the gateway. Without this file, the gateway makes no PassTickets itself.";
    "identities": Path("a file that maps certificates and names to user ids"), Nothing, AUTHORIZATION
        => "The user ids of client certificates, e-mail addresses and users of identity providers.";
    "technicalUsers": Path("a file with rules"), Nothing, "operating/technical-users.md"
        => "The rules by which users of identity providers use services through a technical user.";
    "certificateMapping": Words(&["common-name", "file", "zss"]), Value("common-name"), AUTHORIZATION
        => "Where the user id of a client certificate comes from: its common name, the file of `identities`, or ZSS.";
    "forwarders": Mapping, Nothing, FORWARDED
        => "The proxies that may send client certificates in the header `Client-Cert`.";
    "forwarders.certificates": List(&Path("a PEM file with certificates")), Nothing, FORWARDED
        => "The certificates that these proxies present to the gateway.";

    "oidc": List(&Mapping), Nothing, PROVIDERS
        => "The identity providers whose tokens the gateway accepts.";
    "oidc[].issuer": Text("issuer of the tokens"), Required, PROVIDERS
        => "The claim `iss`, exactly as the provider writes it.";
    "oidc[].jwksUri": Text("https URL"), Required, PROVIDERS
        => "The address of the provider's keys.";
    "oidc[].audience": List(&Text("client id or name of an API")), Required, PROVIDERS
        => "The accepted values of the claim `aud`.";
    "oidc[].authorizedParties": List(&Text("client id")), Nothing, PROVIDERS
        => "The accepted values of the claim `azp`. If the key is present, each token needs this claim.";
    "oidc[].algorithms": List(&Words(&["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"])),
        Value("RS256"), PROVIDERS
        => "The accepted signature algorithms.";
    "oidc[].userIdField": List(&Text("name of a claim")), Value("sub"), PROVIDERS
        => "The claims that can name the user. The first one that the token contains counts.";
    "oidc[].registry": Text("name of a registry"), Rule("Zowe's `oidc.registry`, else required"), PROVIDERS
        => "The registry under which the users of this provider are mapped to user ids.";
    "oidc[].refreshMinutes": Number(1..=1_440, "minutes"), Value("10"), PROVIDERS
        => "The time between two fetches of the keys.";
    "oidc[].certificateAuthorities": List(&Path("a PEM file with certificates")), Rule("the authorities for services"),
        PROVIDERS
        => "The certificate authorities of the server at `jwksUri`.";
    "resourceMetadata": Boolean, Rule("true if `oidc` is present, but false with `compatibility: zowe-v3`"),
        "operating/token-exchange.md#metadata"
        => "Whether a 401 of the gateway names the identity providers (RFC 9728).";

    "zowe": Mapping, Nothing, SITE_TOKENS
        => "A running Zowe API ML, whose tokens the gateway accepts.";
    "zowe.url": Text("https URL"), Required, SITE_TOKENS
        => "The address of API ML's gateway.";
    "zowe.checkLogout": Words(&["query", "off"]), Value("query"), SITE_TOKENS
        => "Whether the gateway asks API ML if a token of API ML is still valid.";
    "zowe.checkLogoutSeconds": Number(0..=300, "seconds"), Value("60"), SITE_TOKENS
        => "For how long the gateway remembers API ML's answer about a token.";
    "zowe.clientCertificate": Mapping, Nothing, ZOWE
        => "The client certificate that the gateway presents to API ML.";
    "zowe.clientCertificate.certificate": Path("a PEM file with the certificate"), Required, ZOWE
        => "The certificate with its intermediate certificates.";
    "zowe.clientCertificate.key": Path("a PEM file with the key of the certificate"), Required, ZOWE
        => "The unencrypted private key of the certificate.";
    "zowe.mint": Boolean, Value("false"), ZOWE
        => "Whether the gateway signs a login token for each PassTicket from API ML, in place of sending the user's token. `signingKey` must be API ML's key.";
    "zowe.revocations": Mapping, Nothing, REVOCATIONS
        => "The revocations that the gateway shares with API ML. `zowe.clientCertificate` must then be present.";
    "zowe.revocations.mode": Words(&["index", "query"]), Required, REVOCATIONS
        => "Whether the gateway reads all revocations at an interval, or those of one token when the token is used.";
    "zowe.revocations.write": Boolean, Value("false"), REVOCATIONS
        => "Whether the gateway also writes its own revocations to API ML's store.";
    "zowe.revocations.createSalt": Boolean, Value("false"), REVOCATIONS
        => "Whether the gateway creates the salt of the store if it is missing. Remove the key after the first start.";
    "zowe.revocations.seconds": Number(0..=60, "seconds, at least 1 with `mode: index`"), Value("2"), REVOCATIONS
        => "The interval of reading with `mode: index`, or the age up to which an answer counts with `mode: query`.";

    "delegation": Mapping, Nothing, AUTHORIZATION
        => "Limits of PassTickets for other users, whom the caller names by e-mail address.";
    "delegation.protectedUsers": List(&Text("user id")), Nothing, AUTHORIZATION
        => "Users for whom no caller gets a PassTicket. `gatewayUser` is always protected.";
    "delegation.callsPerMinute": Number(1..=60_000, "calls"), Value("60"), AUTHORIZATION
        => "The limit of calls for each caller.";
    "delegation.callers": List(&Mapping), Rule("each caller that `saf` permits"), AUTHORIZATION
        => "The callers that are permitted. A blank value or an empty list permits no caller.";
    "delegation.callers[].user": Text("user id"), Nothing, AUTHORIZATION
        => "The user id of the caller's certificate. An item has either `user` or `certificate`.";
    "delegation.callers[].certificate": Mapping, Nothing, AUTHORIZATION
        => "The caller's certificate: either `sha256`, or `subject`, `issuer` or both.";
    "delegation.callers[].certificate.sha256": Text("SHA-256 fingerprint"), Nothing, AUTHORIZATION
        => "The fingerprint of the certificate.";
    "delegation.callers[].certificate.subject": Text("distinguished name"), Nothing, AUTHORIZATION
        => "The subject of the certificate.";
    "delegation.callers[].certificate.issuer": Text("distinguished name"), Nothing, AUTHORIZATION
        => "The issuer of the certificate.";
    "delegation.callers[].applids": List(&Text("APPLID, or \"*\" alone for all")), Required, AUTHORIZATION
        => "The APPLIDs for which the caller may get PassTickets.";
    "delegation.callers[].users": List(&Text("user id, or \"*\" alone for all")), Required, AUTHORIZATION
        => "The users for whom the caller may get PassTickets.";

    "tokenExchange": Mapping, Nothing, EXCHANGE
        => "PassTickets in exchange for tokens (RFC 8693). The audit log must be on.";
    "tokenExchange.enabled": Boolean, Value("false"), EXCHANGE
        => "Whether the gateway exchanges tokens.";
    "tokenExchange.callsPerMinute": Number(1..=60_000, "calls"), Value("60"), EXCHANGE
        => "The limit of exchanges for each actor, or for each user without an actor.";
    "tokenExchange.bearerApplids": List(&Text("APPLID")), Nothing, EXCHANGE
        => "The APPLIDs for which the token of a user is enough, without an actor.";
    "tokenExchange.callers": List(&Mapping), Nothing, EXCHANGE
        => "The actors: programs that may exchange the tokens of users.";
    "tokenExchange.callers[].user": Text("user id"), Nothing, EXCHANGE
        => "The user id of the actor. An item has either `user` or `certificate`.";
    "tokenExchange.callers[].certificate": Mapping, Nothing, EXCHANGE
        => "The actor's certificate: either `sha256`, or `subject`, `issuer` or both.";
    "tokenExchange.callers[].certificate.sha256": Text("SHA-256 fingerprint"), Nothing, EXCHANGE
        => "The fingerprint of the certificate.";
    "tokenExchange.callers[].certificate.subject": Text("distinguished name"), Nothing, EXCHANGE
        => "The subject of the certificate.";
    "tokenExchange.callers[].certificate.issuer": Text("distinguished name"), Nothing, EXCHANGE
        => "The issuer of the certificate.";
    "tokenExchange.callers[].applids": List(&Text("APPLID, or \"*\" alone for all")), Required, EXCHANGE
        => "The APPLIDs for which the actor may get PassTickets.";
    "tokenExchange.callers[].users": List(&Text("user id, or \"*\" alone for all")), Required, EXCHANGE
        => "The users for whom the actor may get PassTickets.";

    "personalAccessToken": Mapping, Nothing, TOKENS
        => "Personal Access Tokens. Zowe's `personalAccessToken.enabled` switches them on.";
    "personalAccessToken.maximumValidityDays": Number(1..=90, "days"), Value("90"), TOKENS
        => "The maximum lifetime of a new token.";
    "personalAccessToken.evictEveryHours": Number(1..=8_760, "hours"), Value("24"), "operating/configuration.md#revocation-file"
        => "The interval at which the gateway removes expired revocations.";
    "personalAccessToken.maximumPerUser": Number(1..=1_000, "tokens"), Value("50"), TOKENS
        => "The maximum number of active tokens of a user.";
    "personalAccessToken.revokeIdleDays": Number(0..=90, "days"), Value("0"), TOKENS
        => "The gateway revokes tokens that were not used for this time. With 0, it does not.";
    "personalAccessToken.allowedScopes": List(&Text("scope, or \"*\" alone for all")), Value("\"*\""), TOKENS
        => "The scopes that new tokens may have. A blank value is an error.";
    "personalAccessToken.prefix": Boolean, Value("false"), "operating/secret-scanners.md"
        => "Whether new tokens begin with `zowepat_` and end with a checksum, so that secret scanners find them.";

    "loginThrottle": Mapping, Nothing, THROTTLE
        => "The waits after wrong passwords.";
    "loginThrottle.userAndNetwork": Mapping, Nothing, THROTTLE
        => "Failures of one user from one network.";
    "loginThrottle.userAndNetwork.free": Number(1..=1_000_000, "failures"), Value("4"), THROTTLE
        => "The number of failures that cause no wait.";
    "loginThrottle.userAndNetwork.longestWaitSeconds": Number(1..=86_400, "seconds"), Value("3600"), THROTTLE
        => "The longest wait.";
    "loginThrottle.user": Mapping, Nothing, THROTTLE
        => "Failures of one user from all networks. The user waits only in networks that are not known.";
    "loginThrottle.user.free": Number(1..=1_000_000, "failures"), Value("16"), THROTTLE
        => "The number of failures that cause no wait.";
    "loginThrottle.user.longestWaitSeconds": Number(1..=86_400, "seconds"), Value("3600"), THROTTLE
        => "The longest wait.";
    "loginThrottle.network": Mapping, Nothing, THROTTLE
        => "Failures of all users from one network within an hour.";
    "loginThrottle.network.free": Number(1..=1_000_000, "failures"), Value("100"), THROTTLE
        => "The number of failures that cause no wait.";
    "loginThrottle.network.longestWaitSeconds": Number(1..=86_400, "seconds"), Value("60"), THROTTLE
        => "The longest wait.";
    "loginThrottle.knownNetworkDays": Number(1..=90, "days"), Value("30"), THROTTLE
        => "For how long a network is known for a user after a login.";
    "loginThrottle.exempt": List(&Text("network or IP address")), Nothing, THROTTLE
        => "Networks whose failed logins are neither counted nor refused.";
};
