"""The ratios that are compared with goals.

"ours" is passticket-proxy. "bypass" is a request on a route without authentication. "rules" are revocations in the
store. "forwards" is a proxy that only forwards."""

import collections

# With fewer undisturbed rounds than this, the report does not say whether a goal is met.
MIN_ROUNDS = 5

# `numerator` and `denominator` are keys of subjects (see comparison.py). The ratio is the `metric` of the one divided
# by the `metric` of the other. The goal is that the ratio is `sign` (≤ or ≥) `bound`. `row` is the number in the report.
Goal = collections.namedtuple("Goal", "row what numerator denominator metric sign bound")

GOALS = [
    Goal(1, "JWT → PassTicket / bypass", "jwt", "bypass", "cpu", "≤", 1.08),
    Goal(1, "JWT → PassTicket, audit (default) / bypass", "jwt_audit", "bypass", "cpu", "≤", 1.08),
    # Both programs are built by cargo, without a profile-guided build.
    Goal(2, "bypass / minimal hyper proxy", "cargo_bypass", "minimal", "cpu", "≤", 1.05),
    Goal(3, "HAProxy, verifies JWT / JWT → PassTicket", "haproxy_jwt", "jwt", "cpu", "≥", 3.5),
    Goal(3, "HAProxy, verifies JWT / JWT → PassTicket, audit (default)", "haproxy_jwt", "jwt_audit", "cpu", "≥", 3.5),
    Goal(4, "JWT → PassTicket / HAProxy, forwards", "jwt", "haproxy", "cpu", "≤", 1.08),
    Goal(4, "JWT → PassTicket, as cargo builds it / HAProxy, forwards", "cargo_jwt", "haproxy", "cpu", "≤",
         1.08),
    Goal(4, "JWT → PassTicket / nginx, forwards", "jwt", "nginx", "cpu", "≤", 1.18),
    Goal(4, "JWT → PassTicket, as cargo builds it / nginx, forwards", "cargo_jwt", "nginx", "cpu", "≤", 1.18),
    Goal(5, "PAT, 10 rules / JWT", "pat", "jwt", "cpu", "≤", 1.03),
    Goal(5, "PAT, 1,000,000 rules / JWT", "pat_million", "jwt", "cpu", "≤", 1.03),
    Goal(6, "TLS: client certificate / JWT", "tls_certificate", "tls_jwt", "cpu", "≤", 1.03),
    Goal(7, "TLS: JWT → PassTicket / nginx, forwards", "tls_jwt", "tls_nginx", "cpu", "≤", 1.0),
    Goal(7, "TLS: bypass / nginx, forwards", "tls_bypass", "tls_nginx", "cpu", "≤", 1.0),
    Goal(7, "full handshakes per core: ours / nginx", "handshake_nginx", "handshake", "cpu", "≥", 2.0),
    Goal(7, "mutual TLS: ours / nginx", "mutual_nginx", "mutual", "cpu", "≥", 3.5),
    Goal(7, "as ZAAS: PassTicket for a gateway of API ML / JWT → PassTicket", "zaas", "tls_jwt", "cpu", "≤", 1.5),
    Goal(9, "p99 at 70 %: JWT → PassTicket / bypass", "latency_jwt", "latency_bypass", "p99", "≤", 1.3),
    Goal(9, "p99 at 70 %: JWT → PassTicket, audit (default) / bypass", "latency_audit", "latency_bypass", "p99", "≤", 1.3),
    Goal(10, "JWT → PassTicket: two instances / one", "jwt_two", "jwt", "cpu", "≤", 1.02),
    Goal(10, "two instances: JWT → PassTicket / HAProxy, forwards", "jwt_two", "haproxy_two", "cpu", "≤", 1.08),
    Goal(10, "two instances: JWT → PassTicket / nginx, forwards", "jwt_two", "nginx_two", "cpu", "≤", 1.18),
    Goal(11, "WebSocket message and echo: ours / HAProxy", "socket", "socket_haproxy", "cpu", "≤", 1.2),
    Goal(11, "WebSocket message and echo: ours / nginx", "socket", "socket_nginx", "cpu", "≤", 1.2),
    Goal(12, "gRPC unary: JWT → PassTicket / HAProxy, forwards", "grpc", "grpc_haproxy", "cpu", "≤", 1.3),
    Goal(12, "gRPC unary: JWT → PassTicket / nginx, forwards", "grpc", "grpc_nginx", "cpu", "≤", 1.3),
]

# A subject is measured with the load generator, with the arguments `mode`, `request` and `tls`. The load generator
# sends requests to `port` of the process `server`. Subjects of one `group` are in one table of the report.
Subject = collections.namedtuple("Subject", "key title group mode server port request tls")
