"""Measures memory and start time of passticket-proxy, and the memory of idle TLS connections."""

import contextlib
import socket
import statistics
import time

from machine import Process, fail, read, rss_mib
from testbed import LoadGenerator


def start_and_time(harness, name, args, port, context=None):
    """Starts a process. Returns the process, and the milliseconds until its first 200 response."""
    began = time.monotonic()
    process = Process(harness, name, args, harness.cores[0])
    request = b"GET /application/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    while True:
        try:
            with contextlib.ExitStack() as streams:
                stream = streams.enter_context(socket.create_connection(("127.0.0.1", port), 5))
                if context:
                    stream = context.wrap_socket(stream, server_hostname="localhost")
                    streams.enter_context(stream)
                stream.sendall(request)
                if stream.recv(4096).startswith(b"HTTP/1.1 200 "):
                    return process, (time.monotonic() - began) * 1e3
        except OSError:
            pass
        if process.process.poll() is not None or time.monotonic() - began > 60:
            fail(f"{name} does not start: {read(process.log)[-2000:]}")
        time.sleep(0.0005)


def footprint(testbed, starts, connections):
    """Measures memory and start time. Returns rows of (what, value, unit, goal)."""
    harness = testbed.harness
    rows = []
    for name, rules, goal, context in (("idle", "ten", 50, None),
                                       ("idle_tls", "ten", 50, testbed.tls_context()),
                                       ("idle_million", "million", 1000, None)):
        # Only one process can open the store at a time, so the next lines end the gateway that has opened it.
        with contextlib.suppress(KeyError):
            harness.end(testbed.servers.pop({"ten": "plain"}.get(rules, rules)))
        took, idle = [], []
        for _ in range(starts):
            port, args = testbed.config(name, rules, attls="false" if context else "true")
            process, ms = start_and_time(harness, name, args, port, context)
            took.append(ms)
            time.sleep(0.2)
            idle.append(rss_mib(process.family))
            harness.end(process)
        count = "10 rules" if rules == "ten" else "1,000,000 rules"
        count += ", TLS" if context else ""
        rows.append((f"start to first answer, {count}", min(took), "ms", goal))
        rows.append((f"idle memory, {count}", statistics.median(idle), "MiB",
                     15 if rules == "ten" else None))
    request = testbed.request("held", "/application/health")
    for name, title in (("tls", "ours"), ("nginx", "nginx")):
        if name == "tls":
            harness.end(testbed.servers.pop("tls"))
            testbed.gateway("tls", "tls_ten", attls="false", x509="true")
            port = testbed.ports["tls"]
        else:
            port = testbed.ports["nginx_tls"]
        family = testbed.servers[name].family
        before = rss_mib(family)
        load = LoadGenerator(harness, testbed.programs, "idle", port, request, connections, 1,
                    testbed.demo / "certs/ca.pem")
        try:
            time.sleep(0.3)
            grown = rss_mib(family) - before
            load.measure()
        finally:
            harness.end(load)
        rows.append((f"memory of an idle TLS connection, {title}", grown * 1024 / connections,
                     "KiB", None))
    return rows
