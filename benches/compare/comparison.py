"""The proxies of the comparison, a check of their answers, and the subjects that are measured."""

import base64
import contextlib
import http.client
import re

from goals import GOALS, Subject
from machine import fail, free_port
from testbed import CONNECTIONS, Testbed


FORWARD = """
  upstream service {{
    server 127.0.0.1:{upstream};
    keepalive {connections};
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
  }}
  upstream two {{
    server 127.0.0.1:{upstream};
    server 127.0.0.1:{second};
    keepalive {connections};
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
  }}
  upstream calls {{
    server 127.0.0.1:{calls};
    keepalive {connections};
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
  }}
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://service; }}
    location /two/ {{ proxy_pass http://two/; }}
    location /socket/ {{
      proxy_pass http://127.0.0.1:{socket}/;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_read_timeout 3600s;
    }}
  }}
  ssl_certificate {demo}/certs/localhost.pem;
  ssl_certificate_key {demo}/certs/localhost.key;
  ssl_protocols TLSv1.3;
  ssl_ecdh_curve X25519;
  ssl_session_tickets on;
  server {{
    listen 127.0.0.1:{grpc} ssl http2 backlog=4096;
    http2_max_concurrent_streams 1000;
    location / {{ grpc_pass grpc://calls; }}
  }}
  server {{
    listen 127.0.0.1:{tls} ssl backlog=4096;
    location / {{ proxy_pass http://service; }}
    location = /application/health {{ return 200 '{{"status":"UP"}}'; }}
  }}
  server {{
    listen 127.0.0.1:{mutual} ssl backlog=4096;
    ssl_client_certificate {demo}/certs/ca.pem;
    ssl_verify_client on;
    location / {{ proxy_pass http://service; }}
    location = /application/health {{ return 200 '{{"status":"UP"}}'; }}
  }}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
frontend clients
  bind 127.0.0.1:{port} backlog 4096 {bind}
{rules}
  default_backend service
backend service
{servers}
"""

# HAProxy verifies the JWT like the gateway, then sends a fixed Basic header.
VERIFY = """
  http-request set-var(txn.jwt) req.cook(apimlAuthenticationToken)
  http-request deny unless { var(txn.jwt),jwt_header_query('$.alg') -m str RS256 }
  http-request deny unless { var(txn.jwt),jwt_verify("RS256","PUBLIC") -m int 1 }
  http-request set-var(txn.exp) var(txn.jwt),jwt_payload_query('$.exp','int')
  http-request set-var(txn.left) date(),neg,add(txn.exp)
  http-request deny unless { var(txn.left) -m int gt 0 }
  http-request del-header Cookie
  http-request set-header Authorization "Basic VVNFUjpBQkNERUZHSA=="
"""


def get(port, path, headers, context=None, post=None):
    """Sends a GET request, or a POST request with the body `post`. Returns status and body."""
    if context:
        connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET" if post is None else "POST", path, post, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def expect_ticket(what, response):
    """Checks that the upstream received a Basic header for the user, and no cookie.

    The upstream answers /check with the Authorization and Cookie headers that it received."""
    status, body = response
    authorization, cookie = (body + "\n\n").split("\n")[:2]
    user_and_ticket = ""
    if authorization.startswith("Basic "):
        user_and_ticket = base64.b64decode(authorization[6:]).decode()
    if status != 200 or not re.fullmatch(r"USER:[A-Z0-9_a-z]{8}", user_and_ticket) or cookie:
        fail(f"{what}: expected a PassTicket at the upstream, got {status} {body[:200]!r}")


def expect_cookie(what, response, cookie):
    """Checks that the upstream received this cookie, and no Authorization header. If `cookie` is empty, checks
    that the upstream received no cookie."""
    if response != (200, f"\n{cookie}\n"):
        fail(f"{what}: expected the cookie {cookie!r} and no Authorization at the upstream, got {response}")


class Comparison(Testbed):
    """Starts nginx, HAProxy and the minimal proxy, and passticket-proxy in each configuration that is measured."""

    def __init__(self, harness, programs, rows):
        super().__init__(harness, programs)
        self.rows, self.subjects = rows, []
        self.peers()
        for name in ("ten", "cargo_ten", "audit_ten", "tls_ten", "zaas_ten"):
            self.make_revocations(name, 10)
        if self.rows & {5, 8}:
            self.make_revocations("million", 1_000_000)
        self.gateway("plain", "ten")
        self.gateway("cargo", "cargo_ten", program="cargo")
        self.gateway("audit", "audit_ten", audit="true")
        self.gateway("tls", "tls_ten", attls="false", x509="true")
        self.zaas("zaas", "zaas_ten")
        if 5 in self.rows:
            self.gateway("million", "million")
        self.check()
        self.list_subjects()

    def peers(self):
        tls, mutual = self.ports["nginx_tls"], self.ports["nginx_mutual"] = free_port(), free_port()
        port, grpc = free_port(), free_port()
        self.ports["nginx_grpc"] = grpc
        self.nginx("nginx", FORWARD.format(upstream=self.upstream, port=port, tls=tls, mutual=mutual,
                                           demo=self.demo, connections=CONNECTIONS, grpc=grpc,
                                           second=self.second, socket=self.ports["websocket"],
                                           calls=self.ports["grpc"]), port)
        self.haproxy("haproxy", "")
        if 10 in self.rows:
            self.haproxy("haproxy_two", "", ports=[self.upstream, self.second])
        if 11 in self.rows:
            self.haproxy("haproxy_socket", "", ports=[self.ports["websocket"]])
        if 12 in self.rows:
            pair = [(self.demo / f"certs/localhost.{kind}").read_text() for kind in ("pem", "key")]
            pem = self.harness.write("localhost-pair.pem", "".join(pair), mode=0o600)
            self.haproxy("haproxy_grpc", "", ports=[self.ports["grpc"]], options="proto h2",
                         bind=f"ssl crt {pem} alpn h2 curves X25519")
        public = self.harness.write("public.pem", self.public_key)
        self.haproxy("haproxy_jwt", VERIFY.replace("PUBLIC", str(public)))
        port = self.ports["minimal"] = free_port()
        args = [self.programs["minimal_proxy"], f"127.0.0.1:{port}", f"127.0.0.1:{self.upstream}"]
        self.servers["minimal"] = self.harness.start("minimal", args, port)

    def haproxy(self, name, rules, ports=None, bind="", options=""):
        port = self.ports[name] = free_port()
        servers = "\n".join(f"  server s{number} 127.0.0.1:{upstream} {options}"
                            for number, upstream in enumerate(ports or [self.upstream]))
        text = HAPROXY.format(port=port, rules=rules, servers=servers, bind=bind)
        args = [self.harness.tools["haproxy"], "-db", "-f", self.harness.write(f"{name}.cfg", text)]
        self.servers[name] = self.harness.start(name, args, port)

    def check(self):
        """Checks that each proxy forwards or refuses requests as expected."""
        cookie = f"apimlAuthenticationToken={self.jwt}"
        jwt, pat, ports = {"Cookie": cookie}, {"PRIVATE-TOKEN": self.pat}, self.ports
        forged = {"Cookie": cookie[:-20] + "A" * 20}
        context, certificate = self.tls_context(), self.tls_context("USER")
        ticket, bypass = "/ticket/api/v1/check", "/bypass/api/v1/check"
        for name in ("plain", "cargo", "audit"):
            expect_ticket(f"{name}, JWT", get(ports[name], ticket, jwt))
            expect_ticket(f"{name}, PAT", get(ports[name], ticket, pat))
            expect_cookie(f"{name}, forged", get(ports[name], ticket, forged), "")
        if "million" in ports:
            expect_ticket("million, PAT", get(ports["million"], ticket, pat))
        expect_cookie("bypass", get(ports["plain"], bypass, jwt), cookie)
        for name in ("nginx", "haproxy", "minimal"):
            expect_cookie(name, get(ports[name], "/check", jwt), cookie)
        expect_ticket("HAProxy, JWT", get(ports["haproxy_jwt"], "/check", jwt))
        if get(ports["haproxy_jwt"], "/check", forged)[0] != 403:
            fail("HAProxy accepts a forged JWT")
        expect_ticket("TLS, JWT", get(ports["tls"], ticket, jwt, context))
        expect_ticket("TLS, certificate", get(ports["tls"], ticket, {}, certificate))
        asked = get(ports["zaas"], "/zaas/scheme/ticket",
                    {**jwt, "X-Service-Id": "ticket", "Content-Type": "application/json"},
                    certificate, '{"applicationName":"ZOWEAPPL"}')
        if asked[0] != 200 or '"userId":"USER"' not in asked[1]:
            fail(f"ZAAS: no PassTicket: {asked}")
        expect_cookie("TLS, bypass", get(ports["tls"], bypass, jwt, context), cookie)
        expect_cookie("nginx, TLS", get(ports["nginx_tls"], "/check", jwt, context), cookie)
        if get(ports["nginx_mutual"], "/application/health", {}, certificate)[0] != 200:
            fail("nginx refuses a valid client certificate")
        if get(ports["nginx_mutual"], "/application/health", {}, context)[0] == 200:
            fail("nginx accepts a client without certificate")

    def list_subjects(self):
        cookie = f"Cookie: apimlAuthenticationToken={self.jwt}"
        ticket = self.request("ticket", "/ticket/api/v1/kib", cookie)
        bypass = self.request("bypass", "/bypass/api/v1/kib", cookie)
        peer = self.request("peer", "/peered/api/v1/kib", cookie)
        pat = self.request("pat", "/ticket/api/v1/kib", f"PRIVATE-TOKEN: {self.pat}")
        bare = self.request("bare", "/ticket/api/v1/kib")
        asked = self.request("asked", "/zaas/scheme/ticket", cookie, "X-Service-Id: ticket",
                             "Content-Type: application/json", method="POST",
                             body='{"applicationName":"ZOWEAPPL"}')
        health = self.request("health", "/application/health", "Connection: close")
        server, mutual = self.server_tls(), self.mutual_tls()
        # The handshake that benches/compare/echo.rs expects.
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        two = self.request("two", "/two/api/v1/kib", cookie)
        two_peer = self.request("two_peer", "/two/peer/api/kib", cookie)
        socket = self.request("socket", "/socket/api/v1/x", cookie, *upgrade)
        bearer = f"Authorization: Bearer {self.jwt}"
        call = self.request("call", "/grpc/api/v1/test.Echo/Unary", bearer, method="POST")
        subjects = [
            ("jwt", "JWT → PassTicket", "plain", "closed", "plain", ticket, []),
            ("jwt_audit", "JWT → PassTicket, audit", "plain", "closed", "audit", ticket, []),
            ("bypass", "bypass", "plain", "closed", "plain", bypass, []),
            ("cargo_jwt", "JWT → PassTicket, as cargo builds it", "plain", "closed", "cargo", ticket,
             []),
            ("cargo_bypass", "bypass, as cargo builds it", "plain", "closed", "cargo", bypass, []),
            ("minimal", "minimal hyper proxy", "plain", "closed", "minimal", peer, []),
            ("nginx", "nginx, forwards", "plain", "closed", "nginx", peer, []),
            ("haproxy", "HAProxy, forwards", "plain", "closed", "haproxy", peer, []),
            ("haproxy_jwt", "HAProxy, verifies JWT", "plain", "closed", "haproxy_jwt", peer, []),
            ("pat", "PAT → PassTicket, 10 rules", "plain", "closed", "plain", pat, []),
            ("pat_million", "PAT → PassTicket, 1,000,000 rules", "plain", "closed", "million", pat,
             []),
            ("tls_jwt", "JWT → PassTicket", "tls", "closed", "tls", ticket, server),
            ("tls_certificate", "certificate → PassTicket", "tls", "closed", "tls", bare, mutual),
            ("tls_bypass", "bypass", "tls", "closed", "tls", bypass, server),
            ("zaas", "as ZAAS: PassTicket for a gateway of API ML", "tls", "closed", "zaas", asked,
             mutual),
            ("tls_nginx", "nginx, forwards", "tls", "closed", "nginx_tls", peer, server),
            ("handshake", "ours", "handshakes", "handshake", "tls", health, server),
            ("handshake_nginx", "nginx", "handshakes", "handshake", "nginx_tls", health, server),
            ("mutual", "ours, mutual", "handshakes", "handshake", "tls", health, mutual),
            ("mutual_nginx", "nginx, mutual", "handshakes", "handshake", "nginx_mutual", health,
             mutual),
            ("jwt_two", "JWT → PassTicket, two instances", "plain", "closed", "plain", two, []),
            ("nginx_two", "nginx, forwards to two servers", "plain", "closed", "nginx", two_peer, []),
            ("haproxy_two", "HAProxy, forwards to two servers", "plain", "closed", "haproxy_two",
             two_peer, []),
            ("socket", "ours", "websocket", "websocket", "plain", socket, []),
            ("socket_nginx", "nginx", "websocket", "websocket", "nginx", socket, []),
            ("socket_haproxy", "HAProxy", "websocket", "websocket", "haproxy_socket", socket, []),
            ("grpc", "JWT → PassTicket", "grpc", "grpc", "tls", call, server),
            ("grpc_nginx", "nginx, forwards", "grpc", "grpc", "nginx_grpc", call, server),
            ("grpc_haproxy", "HAProxy, forwards", "grpc", "grpc", "haproxy_grpc", call, server),
            ("latency_jwt", "JWT → PassTicket", "latency", "open", "plain", ticket, []),
            ("latency_audit", "JWT → PassTicket, audit", "latency", "open", "audit", ticket, []),
            ("latency_bypass", "bypass", "latency", "open", "plain", bypass, []),
        ]
        wanted = {key for goal in GOALS if goal.row in self.rows for key in goal[2:4]}
        if 9 in self.rows:
            # Row 9 sends requests at a fraction of the rate of "jwt", so the script also measures "jwt".
            wanted.add("jwt")
        for key, title, group, mode, server, request, tls in subjects:
            if key in wanted:
                nginx = server.startswith("nginx_")
                process = self.servers["nginx" if nginx else server]
                self.subjects.append(
                    Subject(key, title, group, mode, process, self.ports[server], request, tls))
