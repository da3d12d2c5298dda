"""The training load of the profile-guided build: all kinds of frequent requests.

If the training does not run a part of the code, the compiler assumes that this code rarely runs, and optimizes it
less. So the training has each kind of credential, with and without TLS, HTTP/1.1 and HTTP/2, uploads, large
responses, requests whose authentication fails, and handshakes."""

import subprocess

from testbed import CONNECTIONS, HANDSHAKING, LoadGenerator, Testbed

SECONDS = 3


def train(harness, programs):
    testbed = Testbed(harness, programs)
    for name, settings in (("plain", {}), ("audit", {"audit": "true"}),
                           ("tls", {"attls": "false", "x509": "true"})):
        testbed.make_revocations(name, 10)
        testbed.gateway(name, name, **settings)
    cookie = f"Cookie: apimlAuthenticationToken={testbed.jwt}"
    ticket, bypass = "/ticket/api/v1/kib", "/bypass/api/v1/kib"
    jwt = testbed.request("jwt", ticket, cookie)
    bearer = testbed.request("bearer", ticket, f"Authorization: Bearer {testbed.jwt}")
    bypassing = testbed.request("bypassing", bypass, cookie)
    pat = testbed.request("pat", ticket, f"PRIVATE-TOKEN: {testbed.pat}")
    bare = testbed.request("bare", ticket)
    forged = testbed.request("forged", ticket, cookie[:-20] + "A" * 20)
    upload = testbed.request("upload", "/ticket/api/v1/upload", cookie, method="POST", body="x" * 65536)
    large = testbed.request("large", "/bypass/api/v1/large", cookie)
    health = testbed.request("health", "/application/health", "Connection: close")
    header = harness.write("cookie", cookie, 0o600)
    server, mutual = testbed.server_tls(), testbed.mutual_tls()
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
        load = LoadGenerator(harness, programs, mode, testbed.ports[name], request, connections, SECONDS, *tls)
        try:
            load.measure()
        finally:
            harness.end(load)
    for path, data in ((ticket, []), (bypass, []),
                       ("/ticket/api/v1/upload", ["--data-binary", f"@{upload}"])):
        subprocess.run(
            [harness.tools["curl"], "-sS", "--fail", "--http2", "--parallel", "--noproxy", "*",
             "--max-time", "60", "--cacert", testbed.demo / "certs/ca.pem", "-H", f"@{header}", *data,
             "-o", "/dev/null", f"https://localhost:{testbed.ports['tls']}{path}?[1-2000]"],
            check=True, stderr=subprocess.DEVNULL)
    for process in harness.processes[:]:
        harness.end(process)
