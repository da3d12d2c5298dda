"""Configurations of upstream and gateways, request files, and the load generator."""

import hashlib
import json
import os
import re
import ssl
import subprocess
import time

from machine import fail, free_port, open_files, rss_mib, start_child

# The number of connections of a load that keeps its connections open.
CONNECTIONS = 64
# The number of concurrent clients of a load that opens a connection for each request.
HANDSHAKING = 16
# The number of connections that are open and idle while others send requests. passticket-proxy needs two open files for
# each client, because each client may need a connection to a service.
IDLE_CONNECTIONS = min(10_000, (open_files() - 1_000) // 2)
# The number of connections that a proxy may keep to an upstream. It is larger than the number of concurrent requests.
KEPT_UPSTREAM_CONNECTIONS = 256


NGINX = """
daemon off;
{user}
worker_processes 1;
pid {directory}/{name}.pid;
error_log {directory}/{name}.error crit;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  default_type text/plain;
  sendfile on;
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
    listen 127.0.0.1:{upstream} backlog=4096;
    listen 127.0.0.1:{second} backlog=4096;
    listen 127.0.0.1:{secure} ssl backlog=4096;
    ssl_certificate {demo}/certs/localhost.pem;
    ssl_certificate_key {demo}/certs/localhost.key;
    # All proxies use the same cipher.
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    root {directory}/files;
    location / {{ return 200 "{kib}"; }}
    location = /file {{ }}
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
    revocations: {directory}/{store}.redb
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
    """The upstreams, the gateways in front of them, and their credentials.

    `servers` and `ports` have the process and the port of each server by its name."""

    # The bytes of a download and of an upload.
    FILE_SIZE = 64 * 1024 * 1024

    def __init__(self, harness, programs):
        self.harness, self.programs = harness, programs
        self.demo = harness.directory / "demo"
        self.servers, self.ports = {}, {}
        self.credentials()
        self.upstreams()
        self.services()

    def start(self, name, args, port, core=None):
        self.ports[name], self.servers[name] = port, self.harness.start(name, args, port, core)

    def upstreams(self):
        """Starts the servers behind the proxies, on the core of the load generator."""
        core = self.harness.cores[1]
        self.harness.write("files/file", "x" * self.FILE_SIZE)
        ports = {name: free_port() for name in ("upstream", "second", "secure")}
        text = UPSTREAM.format(directory=self.harness.directory, demo=self.demo, kib="x" * 1024, **ports)
        self.nginx("upstream", text, ports, core)
        for name in ("websocket", "grpc", "upload"):
            port = free_port()
            self.start(name, [self.programs["echo"], name, f"127.0.0.1:{port}"], port, core)
        self.upstream_processes = {pid for server in self.servers.values() for pid in server.family}

    def services(self):
        """Writes the service definitions of the gateways."""
        ticket, bypass = "scheme: httpBasicPassTicket, applid: ZOWEAPPL", "scheme: bypass"
        text = "services:"
        for name, authentication, scheme, *upstreams in (
                ("ticket", ticket, "http", "upstream"), ("bypass", bypass, "http", "upstream"),
                ("two", ticket, "http", "upstream", "second"), ("behind", ticket, "https", "secure"),
                ("behindbypass", bypass, "https", "secure"), ("upload", ticket, "http", "upload"),
                ("socket", ticket, "http", "websocket"), ("grpc", ticket, "http", "grpc")):
            instances = ", ".join(f'"{scheme}://127.0.0.1:{self.ports[upstream]}"' for upstream in upstreams)
            text += SERVICE.format(name=name, authentication=authentication, instances=instances)
        self.harness.write("api-defs/services.yml", text)

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

    def nginx(self, name, http, ports, core=None):
        """Starts an nginx. `ports` contains the names of its ports, and the ports."""
        # If root starts nginx, nginx changes to another user by default. That user cannot read the directory.
        user = "user root;" if os.geteuid() == 0 else ""
        text = NGINX.format(directory=self.harness.directory, name=name, http=http, user=user)
        config = self.harness.write(f"{name}.conf", text)
        args = [self.harness.tools["nginx"], "-c", config, "-p", self.harness.directory, "-e",
                self.harness.directory / f"{name}.error"]
        for port_name, port in ports.items():
            self.ports[port_name] = port
        process = self.harness.start(name, args, next(iter(ports.values())), core)
        self.servers |= dict.fromkeys(ports, process)

    def make_revocations(self, store, count):
        """Makes a store with `count` revocations."""
        file = self.harness.directory / f"{store}.redb"
        subprocess.run([self.programs["make_revocations"], file, str(count)], check=True)

    def config(self, name, store, program="passticket-proxy", attls="true", x509="false", audit="false", extra=""):
        """Writes the configuration of a gateway. Returns its port, and the command that starts it."""
        port = free_port()
        text = ZOWE.format(demo=self.demo, directory=self.harness.directory, name=name, port=port,
                           store=store, attls=attls, x509=x509, audit=audit, extra=extra)
        config = self.harness.write(f"{name}/zowe.yaml", text)
        return port, [self.programs[program], "serve", "--config", config]

    def gateway(self, name, rules=10, **settings):
        """Starts passticket-proxy with a store of its own, which has `rules` revocations."""
        self.make_revocations(name, rules)
        port, args = self.config(name, name, **settings)
        self.start(name, args, port)

    def zaas(self, name):
        """Starts passticket-proxy as the ZAAS of a gateway of API ML."""
        pem = (self.demo / "certs/USER.pem").read_text()
        gateway = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        port = free_port()
        self.gateway(name, attls="false", x509="true", extra=ZAAS.format(port=port, gateway=gateway))
        self.ports[name] = port

    def end(self, name):
        """Ends a server, so that another process can open its store."""
        self.harness.end(self.servers.pop(name))

    def open_idle(self, server, request, count, tls):
        """Opens connections that send one request each and are then idle. Returns the load generator, and the KiB of
        memory that each connection takes at the server."""
        processes = self.servers[server].family
        before = rss_mib(processes)
        load = LoadGenerator(self.harness, self.programs, "idle", self.ports[server], request, count, 0, *tls)
        # passticket-proxy frees the buffers of a connection half a second after the last request.
        time.sleep(2)
        return load, (rss_mib(processes) - before) * 1024 / count

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
        self.process = start_child(args, harness.cores[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, cwd=harness.directory)
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
