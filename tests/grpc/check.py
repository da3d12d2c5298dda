#!/usr/bin/env python3
"""Calls a gRPC server through the built gateway. See README.md.

It uses loopback only, installs nothing, and ends only the processes that it started."""

import base64
import concurrent.futures
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import grpc

TIME_LIMIT = 20
LARGE = 8 * 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", 2 * LARGE),
           ("grpc.max_send_message_length", 2 * LARGE)]

CONFIG = """
zowe:
  certificate:
    pem:
      certificate: {demo}/certs/localhost.pem
      key: {demo}/certs/localhost.key
      certificateAuthorities: {demo}/certs/ca.pem
components:
  gateway:
    port: {port}
  passticket-proxy:
    host: 127.0.0.1
    signingKey: {demo}/keys/jwt.pem
    users: {demo}/users.yml
    saf: {demo}/saf.yml
    audit: {{ enabled: false }}
    revocations: {directory}/revocations.redb
    apiDefs: [{directory}/api-defs]
    ptktdata: [{{ applid: ZOWEAPPL, algorithm: legacy, key: {{ file: {demo}/ptktdata/ZOWEAPPL.key }}, replayProtection: false }}]
    onFailure: reject
    services: {{ grpcsvc: {{ http: {http} }} }}
    admin: {{ port: {admin} }}
"""

DEFINITION = """
services:
  - serviceId: grpcsvc
    instanceBaseUrls: ["{scheme}://localhost:{port}"]
    routes: [{{ gatewayUrl: api/v1, serviceRelativeUrl: / }}]
    authentication: {{ scheme: httpBasicPassTicket, applid: ZOWEAPPL }}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(args, port):
    process = subprocess.Popen([str(arg) for arg in args], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    lines = []
    threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True).start()
    end = time.monotonic() + TIME_LIMIT
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise SystemExit("the program does not listen:\n" + "".join(lines))


class Server:
    """A server with the calls of the check. It records what it has seen."""

    def __init__(self):
        self.cancelled = threading.Event()
        self.metadata = {}

    def unary(self, request, context):
        self.metadata = dict(context.invocation_metadata())
        context.send_initial_metadata([("x-initial", "1")])
        context.set_trailing_metadata([("x-trailing", "2"), ("x-binary-bin", b"\x00\xff")])
        return request[::-1]

    def sum(self, requests, context):
        return str(sum(len(request) for request in requests)).encode()

    def count(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()

    def chat(self, requests, context):
        for request in requests:
            yield b"re: " + request

    def fail(self, request, context):
        context.set_trailing_metadata([("x-detail", "why")])
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no such \u00e4ccount")

    def sleep(self, request, context):
        self.wait_for_cancel(context)
        return b""

    def endless(self, request, context):
        context.add_callback(self.cancelled.set)
        yield b"first"
        self.wait_for_cancel(context)

    def wait_for_cancel(self, context):
        context.add_callback(self.cancelled.set)
        end = time.monotonic() + TIME_LIMIT
        while context.is_active() and time.monotonic() < end:
            time.sleep(0.02)

    def start(self, credentials):
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless),
        }
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), options=OPTIONS)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Echo", handlers),))
        if credentials:
            port = server.add_secure_port("localhost:0", credentials)
        else:
            port = server.add_insecure_port("localhost:0")
        server.start()
        return server, port


class Check:
    def __init__(self, server, channel, jwt, admin):
        self.server, self.channel, self.admin = server, channel, admin
        self.metadata = [("authorization", f"Bearer {jwt}")]

    def call(self, kind, name):
        return getattr(self.channel, kind)(f"/grpcsvc/api/v1/test.Echo/{name}")

    def unary(self):
        call = self.call("unary_unary", "Unary")
        answer, state = call.with_call(b"abc", timeout=TIME_LIMIT,
                                       metadata=[*self.metadata, ("x-client", "7"),
                                                 ("x-bytes-bin", b"\x01\xfe")])
        assert answer == b"cba", answer
        assert state.code() == grpc.StatusCode.OK
        assert dict(state.initial_metadata())["x-initial"] == "1"
        trailing = dict(state.trailing_metadata())
        assert trailing["x-trailing"] == "2" and trailing["x-binary-bin"] == b"\x00\xff", trailing
        seen = self.server.metadata
        assert seen["x-client"] == "7" and seen["x-bytes-bin"] == b"\x01\xfe", seen
        kind, value = seen["authorization"].split()
        ticket = base64.b64decode(value).decode()
        assert kind == "Basic" and re.fullmatch(r"USER:[A-Z0-9]{8}", ticket), ticket
        assert not any("eyJ" in str(value) for value in seen.values()), "the server got the JWT"

    def client_stream(self):
        call = self.call("stream_unary", "Sum")
        answer = call((b"x" * 1000 for _ in range(500)), metadata=self.metadata, timeout=TIME_LIMIT)
        assert answer == b"500000", answer

    def server_stream(self):
        call = self.call("unary_stream", "Count")
        answers = list(call(b"1000", metadata=self.metadata, timeout=TIME_LIMIT))
        assert answers == [str(n).encode() for n in range(1000)]

    def bidirectional_stream(self):
        turn, said = threading.Semaphore(1), []

        def requests():
            for word in (b"one", b"two", b"three"):
                turn.acquire(timeout=TIME_LIMIT)
                said.append(word)
                yield word

        call = self.call("stream_stream", "Chat")
        answers = []
        for answer in call(requests(), metadata=self.metadata, timeout=TIME_LIMIT):
            answers.append(answer)
            assert len(said) == len(answers), (said, answers)
            turn.release()
        assert answers == [b"re: one", b"re: two", b"re: three"], answers

    def error(self):
        try:
            self.call("unary_unary", "Fail")(b"", metadata=self.metadata, timeout=TIME_LIMIT)
            raise AssertionError("the call must fail")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
            assert error.details() == "no such \u00e4ccount", error.details()
            assert dict(error.trailing_metadata())["x-detail"] == "why"

    def deadline(self):
        self.server.cancelled.clear()
        try:
            self.call("unary_unary", "Sleep")(b"", metadata=self.metadata, timeout=0.5)
            raise AssertionError("the call must fail")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        assert self.server.cancelled.wait(TIME_LIMIT), "the server does not see the end"

    def cancellation(self):
        self.server.cancelled.clear()
        call = self.call("unary_stream", "Endless")(b"", metadata=self.metadata, timeout=TIME_LIMIT)
        assert next(call) == b"first"
        call.cancel()
        assert self.server.cancelled.wait(TIME_LIMIT), "the server does not see the end"

    def large_messages(self):
        sent = bytes(range(256)) * (LARGE // 256)
        answer = self.call("unary_unary", "Unary")(sent, metadata=self.metadata, timeout=TIME_LIMIT)
        assert answer == sent[::-1]

    def many_calls(self):
        call = self.call("unary_unary", "Unary")
        calls = [call.future(b"%d" % n, metadata=self.metadata, timeout=TIME_LIMIT)
                 for n in range(200)]
        for number, pending in enumerate(calls):
            assert pending.result() == (b"%d" % number)[::-1], number
        url = f"http://127.0.0.1:{self.admin}/metrics"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        metrics = opener.open(url, timeout=TIME_LIMIT).read().decode()
        open_now = re.search(r"^passticket_service_http2_connections_open (\d+)", metrics, re.M)
        assert 1 <= int(open_now[1]) <= 8, open_now

    def no_credential(self):
        try:
            self.call("unary_unary", "Unary")(b"", timeout=TIME_LIMIT)
            raise AssertionError("the call must fail")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error

    def all(self):
        for check in (self.unary, self.client_stream, self.server_stream, self.bidirectional_stream,
                      self.error, self.deadline, self.cancellation, self.large_messages,
                      self.many_calls, self.no_credential):
            check()
            yield check.__name__.replace("_", " ")


def login(demo, program, directory):
    """Starts the demo, which makes keys and certificates. Returns a JWT of USER."""
    port = free_port()
    process = start([program, "serve", "--demo", "--port", port, "--data-dir", demo], port)
    try:
        url = f"https://localhost:{port}/gateway/api/v1/auth/login"
        basic = base64.b64encode(b"USER:validPassword").decode()
        request = urllib.request.Request(url, method="POST", headers={"Authorization": f"Basic {basic}"})
        context = ssl.create_default_context(cafile=demo / "certs/ca.pem")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                             urllib.request.HTTPSHandler(context=context))
        cookies = opener.open(request, timeout=TIME_LIMIT).headers.get_all("set-cookie")
    finally:
        process.terminate()
        process.wait(TIME_LIMIT)
    return re.search(r"apimlAuthenticationToken=([^;\s]+)", "\n".join(cookies))[1]


def run(program, directory, http, scheme):
    demo = directory / "demo"
    jwt = login(demo, program, directory)
    credentials = None
    if scheme == "https":
        pair = [(demo / "certs" / f"localhost.{kind}").read_bytes() for kind in ("key", "pem")]
        credentials = grpc.ssl_server_credentials([tuple(pair)])
    handlers = Server()
    server, service_port = handlers.start(credentials)
    port, admin = free_port(), free_port()
    (directory / "api-defs").mkdir(exist_ok=True)
    (directory / "api-defs/grpc.yml").write_text(DEFINITION.format(scheme=scheme, port=service_port))
    config = directory / "zowe.yaml"
    config.write_text(CONFIG.format(demo=demo, directory=directory, port=port, admin=admin, http=http))
    gateway = start([program, "serve", "--config", config, "--new-store"], port)
    try:
        authority = (demo / "certs/ca.pem").read_bytes()
        options = [*OPTIONS, ("grpc.enable_http_proxy", 0)]
        with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(authority),
                                 options) as channel:
            for name in Check(handlers, channel, jwt, admin).all():
                print(f"{scheme} ({http}): {name}: ok", flush=True)
    finally:
        gateway.terminate()
        gateway.wait(TIME_LIMIT)
        server.stop(0)


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: check.py PROGRAM")
    program = pathlib.Path(sys.argv[1]).resolve()
    for http, scheme in (("auto", "https"), ("h2c", "http")):
        with tempfile.TemporaryDirectory() as directory:
            run(program, pathlib.Path(directory), http, scheme)


if __name__ == "__main__":
    main()
