"""Measures memory and start time of passticket-proxy, and the memory of idle TLS connections."""

import contextlib
import socket
import statistics
import time

from machine import Process, fail, read, rss_mib
from world import Load


def start_ms(bench, name, args, port, context=None):
    """Starts a process. Returns the process, and the milliseconds until its first 200 response."""
    began = time.monotonic()
    process = Process(bench, name, args, bench.cores[0])
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


def footprint(world, starts, connections):
    """Measures memory and start time. Returns rows of (what, value, unit, goal)."""
    bench = world.bench
    rows = []
    for name, rules, goal, context in (("idle", "ten", 50, None),
                                       ("idle_tls", "ten", 50, world.tls_context()),
                                       ("idle_million", "million", 1000, None)):
        # Only one process can open the store at a time, so the next lines end the gateway that has opened it.
        with contextlib.suppress(KeyError):
            bench.end(world.servers.pop({"ten": "plain"}.get(rules, rules)))
        took, idle = [], []
        for _ in range(starts):
            port, args = world.config(name, rules, attls="false" if context else "true")
            process, ms = start_ms(bench, name, args, port, context)
            took.append(ms)
            time.sleep(0.2)
            idle.append(rss_mib(process.family))
            bench.end(process)
        count = "10 rules" if rules == "ten" else "1,000,000 rules"
        count += ", TLS" if context else ""
        rows.append((f"start to first answer, {count}", min(took), "ms", goal))
        rows.append((f"idle memory, {count}", statistics.median(idle), "MiB",
                     15 if rules == "ten" else None))
    request = world.request("held", "/application/health")
    for name, title in (("tls", "ours"), ("nginx", "nginx")):
        if name == "tls":
            bench.end(world.servers.pop("tls"))
            world.gateway("tls", "tls_ten", attls="false", x509="true")
            port = world.ports["tls"]
        else:
            port = world.ports["nginx_tls"]
        family = world.servers[name].family
        before = rss_mib(family)
        load = Load(bench, world.programs, "idle", port, request, connections, 1,
                    world.demo / "certs/ca.pem")
        try:
            time.sleep(0.3)
            grown = rss_mib(family) - before
            load.go()
        finally:
            bench.end(load)
        rows.append((f"memory of an idle TLS connection, {title}", grown * 1024 / connections,
                     "KiB", None))
    return rows
