//! The limits and the times of the whole gateway.

use super::{
    DefaultValue::{Nothing, Rule, Value},
    Setting,
    ValueKind::{Mapping, Number},
    table,
};

const LIMITS: &str = "operating/configuration.md#limits";
const WEBSOCKET: &str = "operating/websocket.md";

pub(super) const SETTINGS: &[Setting] = table! {
    "limits": Mapping, Nothing, LIMITS
        => "Limits of memory, connections and requests.";
    "limits.connections": Number(1..=1_000_000, "connections"), Value("10000"), LIMITS
        => "The maximum number of connections of clients.";
    "limits.connectionsPerAddress": Number(1..=1_000_000, "connections"), Rule("half of `limits.connections`"), LIMITS
        => "The maximum number of connections of one client address. It does not limit trusted proxies.";
    "limits.requestsPerAddress": Number(1..=1_000_000, "requests"), Value("256"), LIMITS
        => "The maximum number of requests in flight of one client address.";
    "limits.connectionsPerInstance": Number(1..=1_000_000, "connections"), Value("256"), LIMITS
        => "The maximum number of connections to one instance of a service. Further requests wait for `timeouts.queueSeconds`.";
    "limits.http2StreamsPerConnection": Number(1..=1_000, "requests"), Value("100"), "operating/http2-services.md"
        => "The maximum number of requests in flight on one HTTP/2 connection to a service.";
    "limits.tunnelsPerUser": Number(1..=1_000_000, "WebSockets"), Value("100"), WEBSOCKET
        => "The maximum number of open WebSockets of one user.";
    "limits.headerMegabytes": Number(1..=1_000_000, "MiB"), Value("256"), "operating/configuration.md#header-memory"
        => "The maximum memory for the headers of all requests in flight.";
    "limits.cachedTokens": Number(100..=1_000_000, "tokens"), Value("10000"), LIMITS
        => "The number of verified tokens in the cache, about 400 bytes each.";
    "limits.rememberedTickets": Number(100..=1_000_000, "PassTickets"), Value("4096"), LIMITS
        => "The number of PassTickets in the cache, about 100 bytes each.";
    "limits.rateLimitedClients": Number(100..=1_000_000, "counts"), Value("100000"), "operating/limits.md#rate"
        => "The number of counts for the rate limits of all services, one for each client and service.";
    "limits.zoweRevocationMegabytes": Number(1..=1_000_000, "MiB"), Value("32"), "operating/zowe-revocations.md"
        => "The maximum size of all revocations of API ML in one answer of its Caching Service.";

    "timeouts": Mapping, Nothing, LIMITS
        => "Times after which the gateway no longer waits.";
    "timeouts.handshakeSeconds": Number(1..=86_400, "seconds"), Value("10"), LIMITS
        => "How long the TLS handshake of a client may take.";
    "timeouts.idleSeconds": Number(1..=86_400, "seconds"), Value("75"), LIMITS
        => "How long a connection of a client may be without a request.";
    "timeouts.receiveSeconds": Number(1..=86_400, "seconds"), Value("60"), LIMITS
        => "The time in which a client must send 4 KiB of the body of a request.";
    "timeouts.sendSeconds": Number(1..=86_400, "seconds"), Value("60"), "operating/configuration.md#slow-clients"
        => "The time in which a client must take 4 KiB of the response that waits for it.";
    "timeouts.queueSeconds": Number(0..=86_400, "seconds"), Value("5"), LIMITS
        => "How long a request waits at the limit `limits.connectionsPerInstance`.";
    "timeouts.serviceBodySeconds": Number(1..=86_400, "seconds"), Value("300"), LIMITS
        => "The longest pause of a service in the body of an answer.";
    "timeouts.http2PingSeconds": Number(0..=86_400, "seconds"), Value("320"), "operating/http2-services.md"
        => "How long a service may send nothing on an HTTP/2 connection with open requests before the gateway sends a ping. With 0, it sends none.";
    "timeouts.providerSeconds": Number(1..=86_400, "seconds"), Value("5"), LIMITS
        => "How long the gateway waits for servers that check passwords, tokens, permissions or identities.";
    "timeouts.drainSeconds": Number(0..=86_400, "seconds"), Value("30"), "operating/configuration.md#stop"
        => "How long requests in flight may continue when the gateway stops.";
    "timeouts.tunnelDrainSeconds": Number(0..=86_400, "seconds"), Value("0"), WEBSOCKET
        => "How long WebSockets may continue when the gateway stops.";
};
