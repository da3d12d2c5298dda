"""The training load of the profile-guided build: all kinds of frequent requests.

If the training does not run a part of the code, the compiler assumes that this code rarely runs, and optimizes it
less. So the training has login tokens, PATs and client certificates, clients with and without TLS, HTTP/1.1 and
HTTP/2, services with and without TLS, uploads, large responses, requests whose authentication fails, and handshakes."""

from testbed import CONNECTIONS, HANDSHAKING, LoadGenerator, Testbed

SECONDS = 3


def train(harness, programs):
    testbed = Testbed(harness, programs)
    for name, settings in (("plain", {}), ("audit", {"audit": "true"}),
                           ("tls", {"attls": "false", "x509": "true"})):
        testbed.gateway(name, **settings)
    cookie = f"Cookie: apimlAuthenticationToken={testbed.jwt}"
    ticket, bypass = "/ticket/api/v1/kib", "/bypass/api/v1/kib"
    jwt = testbed.request("jwt", ticket, cookie)
    bearer = testbed.request("bearer", ticket, f"Authorization: Bearer {testbed.jwt}")
    bypassing = testbed.request("bypassing", bypass, cookie)
    pat = testbed.request("pat", ticket, f"PRIVATE-TOKEN: {testbed.pat}")
    bare = testbed.request("bare", ticket)
    forged = testbed.request("forged", ticket, cookie[:-20] + "A" * 20)
    upload = testbed.request("upload", "/upload/api/v1/file", cookie, method="POST", body="x" * 65536)
    large = testbed.request("large", "/bypass/api/v1/large", cookie)
    behind = testbed.request("behind", "/behind/api/v1/kib", cookie)
    health = testbed.request("health", "/application/health", "Connection: close")
    server, mutual = testbed.server_tls(), testbed.mutual_tls()
    for name, mode, request, tls in (
            ("plain", "closed", jwt, []), ("plain", "closed", bearer, []),
            ("plain", "closed", pat, []), ("plain", "closed", bypassing, []),
            ("plain", "closed", forged, []), ("plain", "closed", bare, []),
            ("plain", "closed", upload, []), ("plain", "closed", large, []),
            ("plain", "closed", behind, []),
            ("audit", "closed", jwt, []), ("audit", "closed", pat, []),
            ("tls", "closed", jwt, server), ("tls", "closed", bare, mutual),
            ("tls", "closed", upload, server), ("tls", "closed", large, server),
            ("tls", "http2", jwt, server), ("tls", "http2", bypassing, server),
            ("tls", "http2", upload, server), ("tls", "http2", large, server),
            ("tls", "handshake", health, server), ("tls", "handshake", health, mutual)):
        connections = {"handshake": HANDSHAKING, "http2": 16}.get(mode, CONNECTIONS)
        streams = [8] if mode == "http2" else []
        load = LoadGenerator(harness, programs, mode, testbed.ports[name], request, connections, SECONDS,
                             *streams, *tls)
        try:
            load.measure()
        finally:
            harness.end(load)
    for process in harness.processes[:]:
        harness.end(process)
