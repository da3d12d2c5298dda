"""Configurations of upstream and gateways, request files, and the load generator."""

import hashlib
import json
import os
import re
import ssl
import subprocess

from machine import fail, free_port

# The number of connections of a load that keeps its connections open.
CONNECTIONS = 64
# The number of concurrent clients of a load that opens a connection for each request.
HANDSHAKING = 16


NGINX = """
daemon off;
worker_processes 1;
pid {directory}/{name}.pid;
error_log {directory}/{name}.error crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  default_type text/plain;
  client_body_temp_path {directory}/{name}.body;
  proxy_temp_path {directory}/{name}.proxy;
  fastcgi_temp_path {directory}/{name}.fastcgi;
  uwsgi_temp_path {directory}/{name}.uwsgi;
  scgi_temp_path {directory}/{name}.scgi;
{http}
}}
"""

UPSTREAM = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{second} backlog=4096;
    location / {{ return 200 "{kib}"; }}
    # Reads the whole upload before the response, because curl 7.88 hangs if an HTTP/2 response comes earlier.
    location = /upload {{
      client_body_buffer_size 128k;
      proxy_pass http://127.0.0.1:{port}/;
    }}
    # In a configuration file of nginx, a word has at most 4 KiB.
    set $kib "{kib}";
    set $kibs "$kib$kib$kib$kib$kib$kib$kib$kib$kib$kib$kib$kib$kib$kib$kib$kib";
    location = /large {{ return 200 "$kibs$kibs$kibs$kibs$kibs$kibs$kibs$kibs"; }}
    location = /check {{ return 200 "$http_authorization\\n$http_cookie\\n"; }}
  }}
"""

ZOWE = """
zowe:
  network: {{ server: {{ tls: {{ attls: {attls} }} }} }}
  certificate:
    pem:
      certificate: {demo}/certs/localhost.pem
      key: {demo}/certs/localhost.key
      certificateAuthorities: {demo}/certs/ca.pem
components:
  gateway:
    port: {port}
    apiml: {{ security: {{ personalAccessToken: {{ enabled: true }}, x509: {{ enabled: {x509} }} }} }}
  passticket-proxy:
    host: 127.0.0.1
    signingKey: {demo}/keys/jwt.pem
    users: {demo}/users.yml
    saf: {demo}/saf.yml
    audit: {{ enabled: {audit}, file: {directory}/{name}.audit.jsonl }}
    revocations: {directory}/{rules}.redb
    apiDefs: [{directory}/api-defs]
    ptktdata: [{{ applid: ZOWEAPPL, algorithm: legacy, key: {{ file: {demo}/ptktdata/ZOWEAPPL.key }}, replayProtection: false }}]
    services: {{ grpc: {{ http: h2c }} }}
{extra}
"""

# The listener for gateways of API ML. The client certificate of USER stands for the certificate of a gateway.
ZAAS = """
    zaas: {{ enabled: true, host: 127.0.0.1, port: {port}, gateways: [{{ sha256: "{gateway}" }}] }}
"""

SERVICE = """
  - serviceId: {name}
    instanceBaseUrls: [{instances}]
    routes: [{{ gatewayUrl: api/v1, serviceRelativeUrl: / }}]
    authentication: {{ {authentication} }}
"""


class Testbed:
    """The upstream, the gateways in front of it, and their credentials.

    `servers` and `ports` have the process and the port of each server by its name."""

    def __init__(self, harness, programs):
        self.harness, self.programs = harness, programs
        self.demo = harness.directory / "demo"
        self.servers, self.ports = {}, {}
        self.credentials()
        upstream, second = self.upstream, self.second = free_port(), free_port()
        self.nginx("upstream", UPSTREAM.format(port=upstream, second=second, kib="x" * 1024),
                   upstream, harness.cores[1])
        for name in ("websocket", "grpc"):
            port = self.ports[name] = free_port()
            args = [programs["echo"], name, f"127.0.0.1:{port}"]
            self.servers[name] = harness.start(name, args, port, harness.cores[1])
        ticket = "scheme: httpBasicPassTicket, applid: ZOWEAPPL"
        services = [("ticket", ticket, [upstream]), ("bypass", "scheme: bypass", [upstream]),
                    ("two", ticket, [upstream, second]),
                    ("socket", ticket, [self.ports["websocket"]]),
                    ("grpc", ticket, [self.ports["grpc"]])]
        harness.write("api-defs/services.yml", "services:" + "".join(
            SERVICE.format(name=name, authentication=authentication,
                           instances=", ".join(f'"http://127.0.0.1:{port}"' for port in ports))
            for name, authentication, ports in services))

    def upstreams(self):
        """The processes behind the proxies. They run on the core of the load generator."""
        return {pid for name in ("upstream", "websocket", "grpc")
                for pid in self.servers[name].family}

    def credentials(self):
        """Starts the demo, which makes keys, a JWT that is valid for 8 hours, and a PAT. Then ends the demo."""
        port = free_port()
        args = [self.programs["passticket-proxy"], "serve", "--demo", "--port", port,
                "--data-dir", self.demo]
        demo = self.harness.start("demo", args, port)
        auth = f"https://localhost:{port}/gateway/api/v1/auth"

        def curl(*args):
            command = [self.harness.tools["curl"], "-sS", "--fail", "--max-time", "20", "--noproxy",
                       "*", "--cacert", self.demo / "certs/ca.pem", *args]
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

        login = ("-u", "USER:validPassword", "-X", "POST")
        headers = curl(*login, "-D", "-", f"{auth}/login")
        self.jwt = re.search(r"apimlAuthenticationToken=([^;\s]+)", headers)[1]
        body = '{"validity":1,"scopes":["ticket"]}'
        self.pat = curl(*login, "-d", body, f"{auth}/access-token/generate").strip()
        self.public_key = curl(f"{auth}/keys/public")
        self.harness.end(demo)

    def nginx(self, name, http, port, core=None):
        text = NGINX.format(directory=self.harness.directory, name=name, http=http)
        config = self.harness.write(f"{name}.conf", text)
        args = [self.harness.tools["nginx"], "-c", config, "-p", self.harness.directory, "-e",
                self.harness.directory / f"{name}.error"]
        self.ports[name] = port
        self.servers[name] = self.harness.start(name, args, port, core)

    def make_revocations(self, name, count):
        """Makes a store with `count` revocations."""
        file = self.harness.directory / f"{name}.redb"
        subprocess.run([self.programs["make_revocations"], file, str(count)], check=True)

    def config(self, name, rules, program="passticket-proxy", attls="true", x509="false",
               audit="false", extra=""):
        port = free_port()
        text = ZOWE.format(demo=self.demo, directory=self.harness.directory, name=name, port=port,
                           rules=rules, attls=attls, x509=x509, audit=audit, extra=extra)
        config = self.harness.write(f"{name}/zowe.yaml", text)
        return port, [self.programs[program], "serve", "--config", config]

    def gateway(self, name, rules, **settings):
        """Starts passticket-proxy with the store `rules`."""
        port, args = self.config(name, rules, **settings)
        self.ports[name] = port
        self.servers[name] = self.harness.start(name, args, port)

    def zaas(self, name, rules):
        """Starts passticket-proxy as the ZAAS of a gateway of API ML."""
        pem = (self.demo / "certs/USER.pem").read_text()
        gateway = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        port = free_port()
        self.gateway(name, rules, attls="false", x509="true",
                     extra=ZAAS.format(port=port, gateway=gateway))
        self.ports[name] = port

    def server_tls(self):
        """Arguments of a load generator with TLS."""
        return [self.demo / "certs/ca.pem"]

    def mutual_tls(self):
        """Arguments of a load generator with TLS and a client certificate."""
        return [*self.server_tls(), self.demo / "certs/USER.pem", self.demo / "certs/USER.key"]

    def tls_context(self, user=None):
        context = ssl.create_default_context(cafile=self.demo / "certs/ca.pem")
        if user:
            context.load_cert_chain(self.demo / f"certs/{user}.pem", self.demo / f"certs/{user}.key")
        return context

    def request(self, name, path, *headers, method="GET", body=""):
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "User-Agent: load", "Accept: */*"]
        length = [f"Content-Length: {len(body)}"] if body else []
        text = "\r\n".join([*lines, *headers, *length, "", body])
        return self.harness.write(f"{name}.request", text)


class LoadGenerator:
    """A process of the load generator (load.rs)."""

    def __init__(self, harness, programs, mode, port, request, connections, seconds, *rest):
        args = [programs["load"], mode, f"127.0.0.1:{port}", request, connections, seconds, *rest]
        self.process = subprocess.Popen(
            [str(arg) for arg in args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, cwd=harness.directory,
            preexec_fn=lambda: os.sched_setaffinity(0, {harness.cores[1]}))
        self.family = {self.process.pid}
        self.name = f"load {mode}"
        harness.processes.append(self)
        self.read_line()

    def read_line(self):
        line = self.process.stdout.readline()
        if not line:
            fail(f"{self.name}: {self.process.stderr.read()[-500:]}")
        return line

    def measure(self):
        """Runs one measurement. Returns its result."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.read_line())

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate()
