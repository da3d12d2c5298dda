"""Checks before the measurement: each proxy forwards or refuses requests as expected."""

import base64
import contextlib
import http.client
import re

from machine import fail


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


def check_answers(testbed):
    """Checks the proxies of the testbed. The load generator itself checks that the status of each response is 200. So
    this function checks the credentials that the upstream receives, and requests that a proxy must refuse."""
    cookie = f"apimlAuthenticationToken={testbed.jwt}"
    jwt, pat = {"Cookie": cookie}, {"PRIVATE-TOKEN": testbed.pat}
    forged = {"Cookie": cookie[:-20] + "A" * 20}
    context, certificate = testbed.tls_context(), testbed.tls_context("USER")
    ticket, bypass = "/ticket/api/v1/check", "/bypass/api/v1/check"

    def started(*names):
        return [(name, testbed.ports[name]) for name in names if name in testbed.ports]

    for name, port in started("plain", "cargo", "audit", "million"):
        expect_ticket(f"{name}, JWT", get(port, ticket, jwt))
        expect_ticket(f"{name}, PAT", get(port, ticket, pat))
        expect_cookie(f"{name}, forged", get(port, ticket, forged), "")
        expect_cookie(f"{name}, bypass", get(port, bypass, jwt), cookie)
        expect_ticket(f"{name}, service behind TLS", get(port, "/behind/api/v1/check", jwt))
        expect_cookie(f"{name}, service behind TLS, bypass", get(port, "/behindbypass/api/v1/check", jwt), cookie)
    for name, port in started("tls", "crowded"):
        expect_ticket(f"{name}, JWT", get(port, ticket, jwt, context))
        expect_ticket(f"{name}, certificate", get(port, ticket, {}, certificate))
        expect_cookie(f"{name}, bypass", get(port, bypass, jwt, context), cookie)
    for name, port in started("zaas"):
        headers = {**jwt, "X-Service-Id": "ticket", "Content-Type": "application/json"}
        status, body = get(port, "/zaas/scheme/ticket", headers, certificate, '{"applicationName":"ZOWEAPPL"}')
        if status != 200 or '"userId":"USER"' not in body:
            fail(f"{name}: no PassTicket: {status} {body}")
    for name, port in started("nginx", "haproxy", "minimal", "haproxy_two", "haproxy_behind"):
        expect_cookie(name, get(port, "/check", jwt), cookie)
    for name, port in started("nginx_tls", "nginx_crowded"):
        expect_cookie(name, get(port, "/check", jwt, context), cookie)
    expect_cookie("nginx, service behind TLS", get(testbed.ports["nginx"], "/behind/check", jwt), cookie)
    for name, port in started("haproxy_jwt"):
        expect_ticket(f"{name}, JWT", get(port, "/check", jwt))
        if get(port, "/check", forged)[0] != 403:
            fail("HAProxy accepts a forged JWT")
    for name, port in started("nginx_mutual"):
        if get(port, "/application/health", {}, certificate)[0] != 200:
            fail("nginx refuses a valid client certificate")
        if get(port, "/application/health", {}, context)[0] == 200:
            fail("nginx accepts a client without certificate")
