//! The settings of services.

use super::{
    DefaultValue::{Nothing, Required, Rule, Value},
    Setting,
    ValueKind::{Boolean, List, Mapping, Number, Path, Text, Words},
    table,
};

const CORS: &str = "operating/cors.md";
const DISCOVERY: &str = "operating/discovery.md";
const HEADERS: &str = "operating/configuration.md#request-headers";
const LIMITS: &str = "operating/limits.md";
const ON_FAILURE: &str = "operating/configuration.md#on-failure";
const OVERRIDES: &str = "operating/service-definitions.md#overrides";
const RATE: &str = "operating/limits.md#rate";
const TRUST: &str = "operating/discovery.md#trust";

const SCHEMES: &[&str] = &["bypass", "httpBasicPassTicket", "safIdt", "x509", "zosmf", "zoweJwt"];

const CERTIFICATE_HEADER: &str =
    "X-Certificate-Public, X-Certificate-DistinguishedName or X-Certificate-CommonName";

pub(super) const SETTINGS: &[Setting] = table! {
    "apiDefs": List(&Path("a static definition of Zowe, or a directory of them")), Nothing,
        "operating/service-definitions.md"
        => "The definitions of services.";
    "onFailure": Words(&["forward", "forward-unchanged", "reject"]), Value("forward"), ON_FAILURE
        => "What happens to a routed request if the authentication or the scheme fails.";

    "services": Mapping, Nothing, OVERRIDES
        => "Settings of single services. They replace those of the definitions.";
    "services.ID": Mapping, Nothing, OVERRIDES
        => "The settings of the service with this id.";
    "services.ID.scheme": Words(SCHEMES), Rule("the scheme of the definition"), OVERRIDES
        => "What the service receives in place of the client's credential.";
    "services.ID.applid": Text("APPLID"), Rule("the APPLID of the definition"), OVERRIDES
        => "The APPLID for PassTickets.";
    "services.ID.headers": List(&Text(CERTIFICATE_HEADER)), Rule("those of the definition"), OVERRIDES
        => "The headers that the scheme `x509` sends.";
    "services.ID.applids": Mapping, Nothing, OVERRIDES
        => "Other APPLIDs for paths of the service.";
    "services.ID.applids.PATH": Text("APPLID"), Nothing, OVERRIDES
        => "The APPLID for this path below a `gatewayUrl` of the service, such as `api/v1/admin`.";
    "services.ID.clientBasic": Words(&["strip", "verify", "forward"]), Value("strip"),
        "operating/passwords-on-routes.md#client-basic"
        => "What happens to a user name and password in the header `Authorization` of a client.";
    "services.ID.onFailure": Words(&["forward", "forward-unchanged", "reject"]), Rule("`onFailure`"), ON_FAILURE
        => "What happens to a request for this service if the authentication or the scheme fails.";
    "services.ID.mode": Words(&["enforce", "observe"]), Value("enforce"), "operating/configuration.md#observe"
        => "Whether the gateway enforces its decisions. With `observe`, it only logs and counts them, and the service receives the credentials of the client.";
    "services.ID.http": Words(&["auto", "http1", "h2c"]), Value("auto"), "operating/http2-services.md"
        => "Which version of HTTP the gateway uses with the service.";
    "services.ID.clientCertificate": Mapping, Rule("`clientCertificate`"), "operating/schemes.md#client-certificates"
        => "The client certificate that the gateway presents to this service.";
    "services.ID.clientCertificate.certificate": Path("a PEM file with the certificate"), Required,
        "operating/schemes.md#client-certificates"
        => "The certificate with its intermediate certificates.";
    "services.ID.clientCertificate.key": Path("a PEM file with the key of the certificate"), Required,
        "operating/schemes.md#client-certificates"
        => "The unencrypted private key of the certificate.";
    "services.ID.refusedStatuses": Text("none, or one or more statuses from 400 to 599"), Value("401"),
        "operating/refused-tickets.md"
        => "The statuses by which the service refuses a PassTicket.";
    "services.ID.requestHeaders": Mapping, Nothing, HEADERS
        => "Changes of the table of headers that clients may not send.";
    "services.ID.requestHeaders.remove": List(&Text("name of a header")), Nothing, HEADERS
        => "Further headers that the gateway removes from requests.";
    "services.ID.requestHeaders.keep": List(&Text("name of a header")), Nothing, HEADERS
        => "Headers of the table that the gateway does not remove.";
    "services.ID.addSecurityHeaders": Boolean, Value("true"), "operating/configuration.md#response-headers"
        => "Whether answers to authenticated requests get `no-store` and `nosniff`, unless the service has set these headers.";
    "services.ID.cors": Mapping, Nothing, CORS
        => "The web pages of other origins that may use the service.";
    "services.ID.cors.allowedOrigins": List(&Text("origin, or \"*\" alone for all")), Rule("the metadata of the service"), CORS
        => "The origins of the web pages that may use the service. An empty list allows no page.";
    "services.ID.cors.allowedMethods": List(&Text("method, in upper case")), Rule("the metadata of the service, else Zowe's `corsAllowedMethods`"), CORS
        => "The methods that web pages of other origins may use.";

    "services.ID.connectSeconds": Number(1..=10, "seconds"), Rule("the metadata `connect-timeout`, else Zowe's `connection.timeout`"), LIMITS
        => "How long connecting to the service may take.";
    "services.ID.responseSeconds": Number(1..=86_400, "seconds"), Rule("the metadata `response-timeout`, else Zowe's `connection.timeout`"), LIMITS
        => "How long the gateway waits until the answer of the service begins.";
    "services.ID.serviceBodySeconds": Number(1..=86_400, "seconds"), Rule("`timeouts.serviceBodySeconds`"), LIMITS
        => "The longest pause of the service in the body of an answer.";
    "services.ID.methods": List(&Text("method, in upper case")), Nothing, LIMITS
        => "The methods that requests may have. GET also allows HEAD.";
    "services.ID.paths": List(&Text("path below /ID/")), Nothing, "operating/limits.md#paths"
        => "The paths that requests may have. A path also allows the paths below it.";
    "services.ID.bodyMegabytes": Number(1..=1_000_000, "MiB"), Nothing, LIMITS
        => "The maximum size of the body of a request.";
    "services.ID.headerKilobytes": Number(1..=64, "KiB"), Nothing, LIMITS
        => "The maximum size of the headers of a request.";
    "services.ID.rateLimit": Mapping, Rule("Zowe's rate limit"), RATE
        => "The number of requests that each client may send.";
    "services.ID.rateLimit.enabled": Boolean, Value("true"), RATE
        => "Whether the service has a rate limit. With `false`, it has none, whatever the settings of Zowe say.";
    "services.ID.rateLimit.requests": Number(1..=1_000_000, "requests"), Rule("required, unless `enabled` is `false`"), RATE
        => "The number of requests in each period of `seconds`.";
    "services.ID.rateLimit.seconds": Number(1..=86_400, "seconds"), Value("1"), RATE
        => "The length of the period.";
    "services.ID.rateLimit.burst": Number(1..=1_000_000, "requests"), Rule("`requests`"), RATE
        => "The number of requests that a client may send immediately one after the other after a pause.";
    "services.ID.routes": Mapping, Nothing, LIMITS
        => "Limits of single routes. They replace the same limits of the service.";
    "services.ID.routes.URL": Mapping, Nothing, LIMITS
        => "The limits of the route with this `gatewayUrl`, such as `api/v1`.";
    "services.ID.routes.URL.methods": List(&Text("method, in upper case")), Rule("`methods` of the service"), LIMITS
        => "The methods that requests may have.";
    "services.ID.routes.URL.paths": List(&Text("path below /ID/")), Rule("`paths` of the service"), "operating/limits.md#paths"
        => "The paths that requests may have.";
    "services.ID.routes.URL.bodyMegabytes": Number(1..=1_000_000, "MiB"), Rule("that of the service"), LIMITS
        => "The maximum size of the body of a request.";
    "services.ID.routes.URL.headerKilobytes": Number(1..=64, "KiB"), Rule("that of the service"), LIMITS
        => "The maximum size of the headers of a request.";
    "services.ID.routes.URL.responseSeconds": Number(1..=86_400, "seconds"), Rule("that of the service"), LIMITS
        => "How long the gateway waits until the answer of the service begins.";
    "services.ID.routes.URL.serviceBodySeconds": Number(1..=86_400, "seconds"), Rule("that of the service"), LIMITS
        => "The longest pause of the service in the body of an answer.";

    "healthChecks": Mapping, Nothing, "operating/instances.md#health"
        => "The health checks of services that have several instances and a `healthCheckRelativeUrl`.";
    "healthChecks.enabled": Boolean, Value("true"), "operating/instances.md#health"
        => "Whether the gateway checks instances.";
    "healthChecks.intervalSeconds": Number(1..=86_400, "seconds"), Value("10"), "operating/instances.md#health"
        => "The time between the beginnings of two checks of an instance.";
    "healthChecks.timeoutSeconds": Number(1..=86_400, "seconds"), Value("5"), "operating/instances.md#health"
        => "How long a check may take.";

    "discovery": Mapping, Nothing, DISCOVERY
        => "Services that the gateway finds in Eureka, the registry of API ML.";
    "discovery.eureka": List(&Text("https URL")), Required, DISCOVERY
        => "The addresses of Eureka.";
    "discovery.intervalSeconds": Number(1..=3_600, "seconds"), Value("30"), DISCOVERY
        => "The time between two fetches of the registry.";
    "discovery.clientCertificate": Mapping, Rule("the certificate of the gateway"), DISCOVERY
        => "The client certificate that the gateway presents to Eureka.";
    "discovery.clientCertificate.certificate": Path("a PEM file with the certificate"), Required, DISCOVERY
        => "The certificate with its intermediate certificates.";
    "discovery.clientCertificate.key": Path("a PEM file with the key of the certificate"), Required, DISCOVERY
        => "The unencrypted private key of the certificate.";
    "discovery.services": Mapping, Nothing, TRUST
        => "The services in the registry that may receive credentials.";
    "discovery.services.ID": Mapping, Nothing, TRUST
        => "The conditions for the service with this id.";
    "discovery.services.ID.hosts": List(&Text("host name, IP address, or *.DOMAIN")), Required, TRUST
        => "The hosts on which instances may run.";
    "discovery.services.ID.ports": List(&Number(1..=65_535, "port")), Rule("each port"), TRUST
        => "The ports on which instances may run.";
    "discovery.services.ID.schemes": List(&Words(SCHEMES)), Required, TRUST
        => "The schemes that the service may have.";
    "discovery.services.ID.applid": Text("APPLID"), Rule("required for `httpBasicPassTicket` and `safIdt`"), TRUST
        => "The APPLID that the service must have.";
    "discovery.services.ID.headers": List(&Text(CERTIFICATE_HEADER)), Rule("required for `x509`"), TRUST
        => "The headers that the scheme `x509` sends.";
    "discovery.services.ID.plainHttp": Boolean, Value("false"), TRUST
        => "Whether instances may have no TLS.";
    "discovery.others": Words(&["ignore", "bypass"]), Value("ignore"), DISCOVERY
        => "What happens to services that `discovery.services` does not name: no routes, or routes without authentication.";
    "discovery.otherHosts": List(&Text("host name, IP address, or *.DOMAIN")), Rule("required with `others: bypass`"), DISCOVERY
        => "The hosts on which these services may run.";
    "discovery.limits": Mapping, Nothing, DISCOVERY
        => "The limits for what the gateway takes from the registry.";
    "discovery.limits.otherServices": Number(1..=10_000, "services"), Value("200"), DISCOVERY
        => "The maximum number of services that `discovery.services` does not name.";
    "discovery.limits.instancesPerService": Number(1..=10_000, "instances"), Value("32"), DISCOVERY
        => "The maximum number of instances of a service.";
    "discovery.limits.routesPerService": Number(1..=10_000, "routes"), Value("64"), DISCOVERY
        => "The maximum number of routes of a service.";
    "discovery.limits.routes": Number(1..=10_000, "routes"), Value("2000"), DISCOVERY
        => "The maximum number of routes of all services, without those of definitions.";
};
