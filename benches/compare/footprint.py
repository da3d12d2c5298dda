"""Measures the time to start, the memory without connections, and the memory of idle connections."""

import contextlib
import socket
import statistics
import time

from goals import Value
from machine import Process, fail, read, rss_mib
from peers import nginx


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


def footprint(testbed, starts):
    """Returns the time to start, the memory without connections, and the memory of idle connections."""
    harness, values = testbed.harness, []
    for name, rules, context in (("idle", 10, None), ("idle_tls", 10, testbed.tls_context()),
                                 ("idle_million", 1_000_000, None)):
        store = name
        if name == "idle_million" and "million" in testbed.servers:
            # Making the store takes long, so the store of another gateway is used. Only one process can open it at a
            # time.
            testbed.end("million")
            store = "million"
        else:
            testbed.make_revocations(store, rules)
        milliseconds, mib = [], []
        for _ in range(starts):
            port, args = testbed.config(name, store, attls="false" if context else "true")
            process, ms = start_and_time(harness, name, args, port, context)
            milliseconds.append(ms)
            time.sleep(0.2)
            mib.append(rss_mib(process.family))
            harness.end(process)
        settings = f"{rules:,} rules" + (", TLS" if context else "")
        values.append(Value("footprint", f"start to first answer, {settings}", min(milliseconds), "ms"))
        values.append(Value("footprint", f"idle memory, {settings}", statistics.median(mib), "MiB"))
    # These servers have served no request yet. A server that has had many connections may reuse their memory, and would
    # then seem to need less.
    testbed.gateway("held", attls="false", x509="true")
    nginx(testbed, "nginx_held", {"tls": "nginx_held"})
    request = testbed.request("held", "/application/health")
    for server, whose in (("held", "ours"), ("nginx_held", "nginx")):
        load, kib = testbed.open_idle(server, request, 1000, testbed.server_tls())
        harness.end(load)
        values.append(Value("footprint", f"memory of an idle TLS connection, {whose}", kib, "KiB"))
    return values
