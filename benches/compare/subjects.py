"""The subjects of the comparison: what the load generator sends, and to which proxy."""

import dataclasses

from testbed import CONNECTIONS, HANDSHAKING, IDLE_CONNECTIONS


@dataclasses.dataclass(frozen=True)
class Subject:
    """A subject is measured with the load generator, in the mode `mode` with the file `request` and the files `tls`.
    The load generator sends requests to the port `server` of the testbed. Subjects of one `group` are in one table of
    the report. While a group is measured, `idle` other connections to the server are open."""

    key: str
    title: str
    group: str
    server: str
    request: object
    tls: list = ()
    mode: str = "closed"
    connections: int = CONNECTIONS
    # The number of concurrent requests on each connection, for HTTP/2.
    streams: int = 0
    idle: int = 0


def all_subjects(testbed):
    cookie = f"Cookie: apimlAuthenticationToken={testbed.jwt}"
    ticket = testbed.request("ticket", "/ticket/api/v1/kib", cookie)
    bypass = testbed.request("bypass", "/bypass/api/v1/kib", cookie)
    peer = testbed.request("peer", "/peered/api/v1/kib", cookie)
    pat = testbed.request("pat", "/ticket/api/v1/kib", f"PRIVATE-TOKEN: {testbed.pat}")
    bare = testbed.request("bare", "/ticket/api/v1/kib")
    scheme = testbed.request("scheme", "/zaas/scheme/ticket", cookie, "X-Service-Id: ticket",
                             "Content-Type: application/json", method="POST", body='{"applicationName":"ZOWEAPPL"}')
    health = testbed.request("health", "/application/health", "Connection: close")
    behind = testbed.request("behind", "/behind/api/v1/kib", cookie)
    behind_bypass = testbed.request("behind_bypass", "/behindbypass/api/v1/kib", cookie)
    behind_peer = testbed.request("behind_peer", "/behind/peered/kib", cookie)
    download = testbed.request("download", "/ticket/api/v1/file", cookie)
    download_peer = testbed.request("download_peer", "/file", cookie)
    upload = testbed.request("upload", "/upload/api/v1/file", cookie, method="POST", body="x" * testbed.FILE_SIZE)
    two = testbed.request("two", "/two/api/v1/kib", cookie)
    two_peer = testbed.request("two_peer", "/two/peer/api/kib", cookie)
    # The handshake that benches/compare/echo.rs expects.
    socket = testbed.request("socket", "/socket/api/v1/x", cookie, "Connection: Upgrade", "Upgrade: websocket",
                             "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    call = testbed.request("call", "/grpc/api/v1/test.Echo/Unary", f"Authorization: Bearer {testbed.jwt}",
                           method="POST")
    server, mutual = testbed.server_tls(), testbed.mutual_tls()
    jwt, forwards = "JWT → PassTicket", "nginx, forwards"
    handshake = {"mode": "handshake", "connections": HANDSHAKING}
    http2 = {"mode": "http2", "connections": 16, "streams": 8}
    grpc = {"mode": "grpc", "connections": 8, "streams": 8}
    transfer = {"connections": 4}
    transfer_http2 = {"mode": "http2", "connections": 4, "streams": 1}
    idle = {"idle": IDLE_CONNECTIONS}
    return [
        Subject("jwt", jwt, "plain", "plain", ticket),
        Subject("jwt_audit", f"{jwt}, audit", "plain", "audit", ticket),
        Subject("bypass", "bypass", "plain", "plain", bypass),
        Subject("cargo_jwt", f"{jwt}, as cargo builds it", "plain", "cargo", ticket),
        Subject("cargo_bypass", "bypass, as cargo builds it", "plain", "cargo", bypass),
        Subject("minimal", "minimal hyper proxy", "plain", "minimal", peer),
        Subject("nginx", forwards, "plain", "nginx", peer),
        Subject("haproxy", "HAProxy, forwards", "plain", "haproxy", peer),
        Subject("haproxy_jwt", "HAProxy, verifies JWT", "plain", "haproxy_jwt", peer),
        Subject("pat", "PAT → PassTicket, 10 rules", "plain", "plain", pat),
        Subject("pat_million", "PAT → PassTicket, 1,000,000 rules", "plain", "million", pat),
        Subject("jwt_two", f"{jwt}, two instances", "plain", "plain", two),
        Subject("nginx_two", "nginx, forwards to two servers", "plain", "nginx", two_peer),
        Subject("haproxy_two", "HAProxy, forwards to two servers", "plain", "haproxy_two", two_peer),
        Subject("tls_jwt", jwt, "tls", "tls", ticket, server),
        Subject("tls_certificate", "certificate → PassTicket", "tls", "tls", bare, mutual),
        Subject("tls_bypass", "bypass", "tls", "tls", bypass, server),
        Subject("zaas", "as ZAAS: PassTicket for a gateway of API ML", "tls", "zaas", scheme, mutual),
        Subject("tls_nginx", forwards, "tls", "nginx_tls", peer, server),
        Subject("crowded_jwt", f"{jwt}, {IDLE_CONNECTIONS:,} idle connections", "tls", "crowded", ticket, server,
                **idle),
        Subject("crowded_nginx", f"{forwards}, {IDLE_CONNECTIONS:,} idle connections", "tls", "nginx_crowded", peer,
                server, **idle),
        Subject("http2_jwt", jwt, "http2", "tls", ticket, server, **http2),
        Subject("http2_bypass", "bypass", "http2", "tls", bypass, server, **http2),
        Subject("http2_nginx", forwards, "http2", "nginx_http2", peer, server, **http2),
        Subject("http2_haproxy", "HAProxy, forwards", "http2", "haproxy_http2", peer, server, **http2),
        Subject("behind_jwt", jwt, "tls_service", "plain", behind),
        Subject("behind_bypass", "bypass", "tls_service", "plain", behind_bypass),
        Subject("behind_nginx", forwards, "tls_service", "nginx", behind_peer),
        Subject("behind_haproxy", "HAProxy, forwards", "tls_service", "haproxy_behind", behind_peer),
        Subject("download", f"download, {jwt}", "transfers", "plain", download, **transfer),
        Subject("download_nginx", "download, nginx", "transfers", "nginx", download_peer, **transfer),
        Subject("download_haproxy", "download, HAProxy", "transfers", "haproxy", download_peer, **transfer),
        Subject("download_http2", f"download over HTTP/2 + TLS, {jwt}", "transfers", "tls", download, server,
                **transfer_http2),
        Subject("download_http2_nginx", "download over HTTP/2 + TLS, nginx", "transfers", "nginx_http2",
                download_peer, server, **transfer_http2),
        Subject("download_http2_haproxy", "download over HTTP/2 + TLS, HAProxy", "transfers", "haproxy_http2",
                download_peer, server, **transfer_http2),
        Subject("upload", f"upload, {jwt}", "transfers", "plain", upload, **transfer),
        Subject("upload_nginx", "upload, nginx", "transfers", "nginx", upload, **transfer),
        Subject("upload_haproxy", "upload, HAProxy", "transfers", "haproxy_upload", upload, **transfer),
        Subject("handshake", "ours", "handshakes", "tls", health, server, **handshake),
        Subject("handshake_nginx", "nginx", "handshakes", "nginx_tls", health, server, **handshake),
        Subject("mutual", "ours, mutual", "handshakes", "tls", health, mutual, **handshake),
        Subject("mutual_nginx", "nginx, mutual", "handshakes", "nginx_mutual", health, mutual, **handshake),
        Subject("socket", "ours", "websocket", "plain", socket, mode="websocket"),
        Subject("socket_nginx", "nginx", "websocket", "nginx", socket, mode="websocket"),
        Subject("socket_haproxy", "HAProxy", "websocket", "haproxy_socket", socket, mode="websocket"),
        Subject("grpc", jwt, "grpc", "tls", call, server, **grpc),
        Subject("grpc_nginx", forwards, "grpc", "nginx_grpc", call, server, **grpc),
        Subject("grpc_haproxy", "HAProxy, forwards", "grpc", "haproxy_grpc", call, server, **grpc),
        Subject("latency_jwt", jwt, "latency", "plain", ticket, mode="open"),
        Subject("latency_audit", f"{jwt}, audit", "latency", "audit", ticket, mode="open"),
        Subject("latency_bypass", "bypass", "latency", "plain", bypass, mode="open"),
    ]


def needed_subjects(testbed, goals):
    """Returns the subjects of these goals."""
    needed = {key for goal in goals for key in (goal.numerator, goal.denominator)}
    if any(goal.row == "latency" for goal in goals):
        # This row sends requests at a fraction of the rate of "jwt", so the script also measures "jwt".
        needed.add("jwt")
    return [subject for subject in all_subjects(testbed) if subject.key in needed]
