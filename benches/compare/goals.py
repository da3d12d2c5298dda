"""The rows of the comparison: which ratios and values are compared with goals.

"ours" is passticket-proxy. "bypass" is a request on a route without authentication. "rules" are revocations in the
store. "forwards" is a proxy that only forwards."""

import collections

# What each row compares. The option --only takes these names.
ROWS = {
    "authentication": "a JWT, with and without audit, with a route without authentication",
    "minimal": "a route without authentication with a minimal proxy of the same HTTP library",
    "verifying": "HAProxy that verifies the JWT with ours",
    "forwarding": "a JWT with nginx and HAProxy, which only forward",
    "build": "the program that cargo builds with the profile-guided one",
    "revocations": "a PAT, with 10 and with 1,000,000 rules, with a JWT",
    "tls": "a JWT over TLS with nginx, which only forwards",
    "certificate": "a client certificate with a JWT",
    "handshakes": "full handshakes, with and without a client certificate, with nginx",
    "zaas": "a PassTicket for a gateway of API ML with a request on a route",
    "http2": "a JWT over HTTP/2 and TLS with nginx and HAProxy, which only forward",
    "tls-service": "a JWT for a service behind TLS with nginx and HAProxy, which only forward",
    "transfers": "downloads and uploads of 64 MiB with nginx and HAProxy",
    "idle-connections": "a JWT over TLS with and without 10,000 idle connections, and the memory of each of them",
    "footprint": "time to start, memory without connections, and memory of an idle TLS connection",
    "latency": "the 99th percentile at 70 % load with a route without authentication",
    "instances": "a service with two instances with one instance, nginx and HAProxy",
    "websocket": "a WebSocket message with nginx and HAProxy",
    "grpc": "a unary call with nginx and HAProxy",
}

# The rows of --quick.
QUICK = ("authentication", "forwarding", "tls", "http2", "tls-service", "transfers", "idle-connections")

# With fewer undisturbed rounds than this, the report does not say whether a goal is met.
MIN_ROUNDS = 5

# The spread of a ratio is half of the width of its middle half, divided by its median. If the spread is larger than
# this, the report does not say whether the goal is met. A 99th percentile has few samples in each round.
MAX_SPREAD = {"cpu": 0.03, "p99": 0.1}

# `numerator` and `denominator` are keys of subjects (see subjects.py). The ratio is the `metric` of the one divided
# by the `metric` of the other. The goal is that the ratio is `sign` (≤ or ≥) `bound`. Without a `bound`, the report
# only shows the ratio.
Goal = collections.namedtuple("Goal", "row what numerator denominator metric sign bound",
                              defaults=("cpu", "≤", None))

GOALS = [
    Goal("authentication", "JWT → PassTicket / bypass", "jwt", "bypass", bound=1.08),
    Goal("authentication", "JWT → PassTicket, audit (default) / bypass", "jwt_audit", "bypass", bound=1.08),
    Goal("authentication", "JWT → PassTicket: audit (default) / no audit", "jwt_audit", "jwt", bound=1.05),
    # Both programs are built by cargo, without a profile-guided build.
    Goal("minimal", "bypass / minimal hyper proxy", "cargo_bypass", "minimal", bound=1.05),
    Goal("verifying", "HAProxy, verifies JWT / JWT → PassTicket", "haproxy_jwt", "jwt", sign="≥", bound=3.5),
    Goal("verifying", "HAProxy, verifies JWT / JWT → PassTicket, audit (default)", "haproxy_jwt", "jwt_audit",
         sign="≥", bound=3.5),
    Goal("forwarding", "JWT → PassTicket / HAProxy, forwards", "jwt", "haproxy", bound=1.0),
    Goal("forwarding", "JWT → PassTicket / nginx, forwards", "jwt", "nginx", bound=1.12),
    Goal("build", "JWT → PassTicket: as cargo builds it / profile-guided", "cargo_jwt", "jwt", bound=1.05),
    Goal("build", "JWT → PassTicket, as cargo builds it / HAProxy, forwards", "cargo_jwt", "haproxy", bound=1.08),
    Goal("build", "JWT → PassTicket, as cargo builds it / nginx, forwards", "cargo_jwt", "nginx", bound=1.18),
    Goal("revocations", "PAT, 10 rules / JWT", "pat", "jwt", bound=1.03),
    Goal("revocations", "PAT, 1,000,000 rules / JWT", "pat_million", "jwt", bound=1.03),
    Goal("certificate", "TLS: client certificate / JWT", "tls_certificate", "tls_jwt", bound=1.03),
    Goal("tls", "TLS: JWT → PassTicket / nginx, forwards", "tls_jwt", "tls_nginx", bound=0.85),
    Goal("tls", "TLS: bypass / nginx, forwards", "tls_bypass", "tls_nginx", bound=0.85),
    Goal("handshakes", "full handshakes per core: ours / nginx", "handshake_nginx", "handshake", sign="≥", bound=2.5),
    Goal("handshakes", "mutual TLS: ours / nginx", "mutual_nginx", "mutual", sign="≥", bound=5.3),
    Goal("zaas", "as ZAAS: PassTicket for a gateway of API ML / JWT → PassTicket", "zaas", "tls_jwt", bound=1.5),
    Goal("http2", "HTTP/2 + TLS: JWT → PassTicket / nginx, forwards", "http2_jwt", "http2_nginx", bound=1.0),
    Goal("http2", "HTTP/2 + TLS: JWT → PassTicket / HAProxy, forwards", "http2_jwt", "http2_haproxy", bound=1.0),
    Goal("http2", "HTTP/2 + TLS: bypass / nginx, forwards", "http2_bypass", "http2_nginx", bound=1.0),
    Goal("tls-service", "service behind TLS: JWT → PassTicket / nginx, forwards", "behind_jwt", "behind_nginx",
         bound=0.95),
    Goal("tls-service", "service behind TLS: JWT → PassTicket / HAProxy, forwards", "behind_jwt", "behind_haproxy",
         bound=0.95),
    Goal("tls-service", "service behind TLS: bypass / nginx, forwards", "behind_bypass", "behind_nginx", bound=0.95),
    Goal("transfers", "download: ours / nginx", "download", "download_nginx", bound=0.38),
    Goal("transfers", "download: ours / HAProxy", "download", "download_haproxy", bound=0.54),
    Goal("transfers", "download, HTTP/2 + TLS: ours / nginx", "download_http2", "download_http2_nginx", bound=0.5),
    Goal("transfers", "download, HTTP/2 + TLS: ours / HAProxy", "download_http2", "download_http2_haproxy",
         bound=0.54),
    Goal("transfers", "upload: ours / nginx", "upload", "upload_nginx", bound=0.74),
    Goal("transfers", "upload: ours / HAProxy", "upload", "upload_haproxy", bound=0.8),
    Goal("idle-connections", "TLS: JWT → PassTicket: with / without idle connections", "crowded_jwt", "tls_jwt"),
    Goal("idle-connections", "TLS: nginx, forwards: with / without idle connections", "crowded_nginx", "tls_nginx"),
    Goal("latency", "p99 at 70 %: JWT → PassTicket / bypass", "latency_jwt", "latency_bypass", "p99", bound=1.2),
    Goal("latency", "p99 at 70 %: JWT → PassTicket, audit (default) / bypass", "latency_audit", "latency_bypass",
         "p99", bound=1.2),
    Goal("instances", "JWT → PassTicket: two instances / one", "jwt_two", "jwt", bound=1.02),
    Goal("instances", "two instances: JWT → PassTicket / HAProxy, forwards", "jwt_two", "haproxy_two", bound=1.08),
    Goal("instances", "two instances: JWT → PassTicket / nginx, forwards", "jwt_two", "nginx_two", bound=1.18),
    Goal("websocket", "WebSocket message and echo: ours / HAProxy", "socket", "socket_haproxy", bound=1.2),
    Goal("websocket", "WebSocket message and echo: ours / nginx", "socket", "socket_nginx", bound=1.2),
    Goal("grpc", "gRPC unary: JWT → PassTicket / HAProxy, forwards", "grpc", "grpc_haproxy", bound=1.3),
    Goal("grpc", "gRPC unary: JWT → PassTicket / nginx, forwards", "grpc", "grpc_nginx", bound=1.3),
]

# A value that is not a ratio: the time to start, or a size in memory.
Value = collections.namedtuple("Value", "row what value unit")

# The goals for values: the maximum by the name of the value.
MAXIMA = {
    "start to first answer, 10 rules": 10,
    "start to first answer, 10 rules, TLS": 10,
    "start to first answer, 1,000,000 rules": 1000,
    "idle memory, 10 rules": 8,
    "idle memory, 10 rules, TLS": 8,
    "memory of an idle TLS connection, ours": 13,
}


def goals(rows, as_cargo_builds):
    """Returns the goals of these rows. If the measured program is the one that cargo builds, the ratio of both builds
    is left out."""
    return [goal for goal in GOALS if goal.row in rows
            and not (as_cargo_builds and (goal.numerator, goal.denominator) == ("cargo_jwt", "jwt"))]
