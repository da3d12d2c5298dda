"""The training load of the profile-guided build: all kinds of frequent requests.

If the training does not run a part of the code, the compiler assumes that this code rarely runs, and optimizes it
less. So the training has each kind of credential, with and without TLS, HTTP/1.1 and HTTP/2, uploads, large
responses, requests whose authentication fails, and handshakes."""

import subprocess

from world import CONNECTIONS, HANDSHAKING, Load, World

SECONDS = 3


def train(bench, programs):
    world = World(bench, programs)
    for name, settings in (("plain", {}), ("audit", {"audit": "true"}),
                           ("tls", {"attls": "false", "x509": "true"})):
        world.rules(name, 10)
        world.gateway(name, name, **settings)
    cookie = f"Cookie: apimlAuthenticationToken={world.jwt}"
    ticket, bypass = "/ticket/api/v1/kib", "/bypass/api/v1/kib"
    jwt = world.request("jwt", ticket, cookie)
    bearer = world.request("bearer", ticket, f"Authorization: Bearer {world.jwt}")
    bypassing = world.request("bypassing", bypass, cookie)
    pat = world.request("pat", ticket, f"PRIVATE-TOKEN: {world.pat}")
    bare = world.request("bare", ticket)
    forged = world.request("forged", ticket, cookie[:-20] + "A" * 20)
    upload = world.request("upload", "/ticket/api/v1/upload", cookie, method="POST", body="x" * 65536)
    large = world.request("large", "/bypass/api/v1/large", cookie)
    health = world.request("health", "/application/health", "Connection: close")
    header = bench.write("cookie", cookie, 0o600)
    server, mutual = world.server_tls(), world.mutual_tls()
    for name, mode, request, tls in (
            ("plain", "closed", jwt, []), ("plain", "closed", bearer, []),
            ("plain", "closed", pat, []), ("plain", "closed", bypassing, []),
            ("plain", "closed", forged, []), ("plain", "closed", bare, []),
            ("plain", "closed", upload, []), ("plain", "closed", large, []),
            ("audit", "closed", jwt, []), ("audit", "closed", pat, []),
            ("tls", "closed", jwt, server), ("tls", "closed", bare, mutual),
            ("tls", "closed", upload, server), ("tls", "closed", large, server),
            ("tls", "handshake", health, server), ("tls", "handshake", health, mutual)):
        connections = HANDSHAKING if mode == "handshake" else CONNECTIONS
        load = Load(bench, programs, mode, world.ports[name], request, connections, SECONDS, *tls)
        try:
            load.go()
        finally:
            bench.end(load)
    for path, data in ((ticket, []), (bypass, []),
                       ("/ticket/api/v1/upload", ["--data-binary", f"@{upload}"])):
        subprocess.run(
            [bench.tools["curl"], "-sS", "--fail", "--http2", "--parallel", "--noproxy", "*",
             "--max-time", "60", "--cacert", world.demo / "certs/ca.pem", "-H", f"@{header}", *data,
             "-o", "/dev/null", f"https://localhost:{world.ports['tls']}{path}?[1-2000]"],
            check=True, stderr=subprocess.DEVNULL)
    for process in bench.processes[:]:
        bench.end(process)
