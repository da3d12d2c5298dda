"""nginx, HAProxy and the minimal proxy: their configurations, and how they start."""

from machine import free_port
from testbed import KEPT_UPSTREAM_CONNECTIONS

FORWARD = """
  upstream service {{ server 127.0.0.1:{upstream}; {keep} }}
  upstream two {{ server 127.0.0.1:{upstream}; server 127.0.0.1:{second}; {keep} }}
  upstream behind {{ server 127.0.0.1:{secure}; {keep} }}
  upstream calls {{ server 127.0.0.1:{calls}; {keep} }}
  upstream uploads {{ server 127.0.0.1:{uploads}; {keep} }}
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  # A body passes through memory only, as in the other proxies.
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_max_temp_file_size 0;
  proxy_ssl_name localhost;
  proxy_ssl_verify on;
  proxy_ssl_trusted_certificate {demo}/certs/ca.pem;
  proxy_ssl_protocols TLSv1.3;
  server {{
    listen 127.0.0.1:{plain} backlog=4096;
    location / {{ proxy_pass http://service; }}
    location /two/ {{ proxy_pass http://two/; }}
    location /behind/ {{ proxy_pass https://behind/; }}
    location /upload/ {{ proxy_pass http://uploads/; }}
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
    listen 127.0.0.1:{http2} ssl http2 backlog=4096;
    location / {{ proxy_pass http://service; }}
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

KEEP = f"keepalive {KEPT_UPSTREAM_CONNECTIONS}; keepalive_requests 1000000000; keepalive_timeout 3600s;"

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
  http-request deny unless {{ var(txn.jwt),jwt_header_query('$.alg') -m str RS256 }}
  http-request deny unless {{ var(txn.jwt),jwt_verify("RS256","{public_key}") -m int 1 }}
  http-request set-var(txn.exp) var(txn.jwt),jwt_payload_query('$.exp','int')
  http-request set-var(txn.left) date(),neg,add(txn.exp)
  http-request deny unless {{ var(txn.left) -m int gt 0 }}
  http-request del-header Cookie
  http-request set-header Authorization "Basic VVNFUjpBQkNERUZHSA=="
"""


def start_peers(testbed, needed):
    """Starts nginx, and those of the other proxies that are needed."""
    nginx(testbed, "nginx", {"plain": "nginx", **{kind: f"nginx_{kind}" for kind in ("tls", "mutual", "grpc", "http2")}})
    if "nginx_crowded" in needed:
        nginx(testbed, "nginx_crowded", {"tls": "nginx_crowded"})
    public_key = testbed.harness.write("public.pem", testbed.public_key)
    pair = "".join((testbed.demo / f"certs/localhost.{kind}").read_text() for kind in ("pem", "key"))
    pair = testbed.harness.write("localhost-pair.pem", pair, mode=0o600)
    http2 = f"ssl crt {pair} alpn h2 curves X25519"
    verified = f"ssl verify required ca-file {testbed.demo / 'certs/ca.pem'} sni str(localhost)"
    for name, upstreams, settings in (
            ("haproxy", ["upstream"], {}),
            ("haproxy_jwt", ["upstream"], {"rules": VERIFY.format(public_key=public_key)}),
            ("haproxy_two", ["upstream", "second"], {}),
            ("haproxy_http2", ["upstream"], {"bind": http2}),
            ("haproxy_behind", ["secure"], {"options": verified}),
            ("haproxy_upload", ["upload"], {}),
            ("haproxy_socket", ["websocket"], {}),
            ("haproxy_grpc", ["grpc"], {"bind": http2, "options": "proto h2"})):
        if name in needed:
            haproxy(testbed, name, [testbed.ports[upstream] for upstream in upstreams], **settings)
    if "minimal" in needed:
        port = free_port()
        args = [testbed.programs["minimal_proxy"], f"127.0.0.1:{port}", f"127.0.0.1:{testbed.ports['upstream']}"]
        testbed.start("minimal", args, port)


def nginx(testbed, name, names):
    """Starts an nginx. `names` contains the kinds of its ports, and the name of each of these ports in the testbed."""
    ports = {kind: free_port() for kind in ("plain", "tls", "mutual", "grpc", "http2")}
    ups = testbed.ports
    text = FORWARD.format(demo=testbed.demo, keep=KEEP, upstream=ups["upstream"], second=ups["second"],
                          secure=ups["secure"], calls=ups["grpc"], uploads=ups["upload"], socket=ups["websocket"],
                          **ports)
    testbed.nginx(name, text, {names[kind]: ports[kind] for kind in names})


def haproxy(testbed, name, upstreams, rules="", bind="", options=""):
    port = free_port()
    # An idle connection to an upstream stays open, as in nginx.
    servers = "\n".join(f"  server s{number} 127.0.0.1:{upstream} pool-purge-delay 1h {options}"
                        for number, upstream in enumerate(upstreams))
    text = HAPROXY.format(port=port, rules=rules, servers=servers, bind=bind)
    args = [testbed.harness.tools["haproxy"], "-db", "-f", testbed.harness.write(f"{name}.cfg", text)]
    testbed.start(name, args, port)
