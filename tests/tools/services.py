#!/usr/bin/env python3
"""Two services for tests of client programs with a Personal Access Token (PAT). See README.md.

- A git server: `git http-backend` with the repository `project.git`.
- A stand-in for z/OSMF (IBM's management server on z/OS): a few of its paths, with data in memory.

Both accept only HTTP Basic with a PassTicket (a one-time password of z/OS), which the command `passticket-proxy ticket
evaluate` checks. For each request, the script prints a line, which says whether a token of the client has arrived. The
services listen on loopback only, without TLS."""

import argparse
import base64
import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.parse

APPLID = "ZOWEAPPL"
CHUNK = 64 * 1024

# The service `repo` answers 401 to a request without a PassTicket, as a service on z/OS does. After this 401, git sends
# its credentials.
DEFINITIONS = """\
services:
  - serviceId: repo
    title: Git repositories
    instanceBaseUrls: ["http://localhost:{port}"]
    routes: [{{ gatewayUrl: api/v1, serviceRelativeUrl: /git }}]
    authentication: {{ scheme: httpBasicPassTicket, applid: {applid} }}
  - serviceId: ibmzosmf
    title: z/OSMF
    instanceBaseUrls: ["http://localhost:{port}"]
    routes: [{{ gatewayUrl: api/v1, serviceRelativeUrl: / }}]
    authentication: {{ scheme: httpBasicPassTicket, applid: {applid} }}
"""

GIT_NAMES = {"GIT_AUTHOR_NAME": "T", "GIT_AUTHOR_EMAIL": "t@example.com",
             "GIT_COMMITTER_NAME": "T", "GIT_COMMITTER_EMAIL": "t@example.com"}


def git(directory, *args):
    environment = os.environ | GIT_NAMES | {"HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "-C", directory, *args], check=True, env=environment)


def make_repository(directory):
    """Makes the bare repository `project.git` with one commit on the branch `main`."""
    work = directory / "work"
    git(directory, "init", "-q", "-b", "main", "work")
    (work / "hello.txt").write_text("hello\n")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "first")
    git(directory, "clone", "-q", "--bare", "work", "project.git")
    shutil.rmtree(work)


class Services(http.server.ThreadingHTTPServer):
    """The services. `log` gets a line for each request."""

    daemon_threads = True

    def __init__(self, program, demo, directory, log, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.program, self.key, self.directory, self.log = program, demo / f"ptktdata/{APPLID}.key", directory, log
        self.files = {"USER.JCL(HELLO)": b"//HELLO JOB\n"}
        make_repository(directory)

    def definitions(self):
        """Returns Zowe's static definitions of the services."""
        return DEFINITIONS.format(port=self.server_port, applid=APPLID)

    def user_of(self, authorization):
        """Returns the user of a valid PassTicket, else None."""
        try:
            kind, encoded = authorization.split(" ", 1)
            user, ticket = base64.b64decode(encoded, validate=True).decode().split(":", 1)
        except ValueError:
            return None
        # A longer text is no PassTicket. It must not become visible in the list of processes.
        if kind != "Basic" or not re.fullmatch("[A-Z0-9]{8}", ticket):
            return None
        command = [self.program, "ticket", "evaluate", "--algorithm", "legacy", "--user", user, "--applid", APPLID,
                   "--key-file", self.key, "--ticket", ticket]
        return user if subprocess.run(command, capture_output=True).returncode == 0 else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "services"

    def log_message(self, *_):
        """Prints nothing: `serve` prints a line."""

    def serve(self):
        user = self.server.user_of(self.headers.get("Authorization", ""))
        # A JWT begins with "eyJ", also inside Basic after its Base64 is decoded.
        texts = [*self.headers.values()]
        texts += [base64.b64decode(text[6:] + "==").decode("latin-1") for text in texts if text.startswith("Basic ")]
        leaked = any("eyJ" in text for text in texts) or "PRIVATE-TOKEN" in self.headers
        self.server.log(f"{self.command} {self.path} user={user} token={'arrived' if leaked else 'no'}")
        if user is None:
            self.drain()
            self.answer(401, b"", {"WWW-Authenticate": 'Basic realm="z/OS"'})
        elif self.path.startswith("/git/"):
            self.git(user)
        else:
            self.zosmf()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve

    def body(self):
        """Yields the parts of the body of the request."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left > 0 and (part := self.rfile.read(min(left, CHUNK))):
            left -= len(part)
            yield part

    def drain(self):
        for _ in self.body():
            pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def git(self, user):
        """Runs `git http-backend` as a CGI program (RFC 3875)."""
        path, _, query = self.path.removeprefix("/git").partition("?")
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.server.directory), "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(self.server.directory), "REQUEST_METHOD": self.command,
            "PATH_INFO": urllib.parse.unquote(path), "QUERY_STRING": query, "REMOTE_USER": user,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_ADDR": "127.0.0.1",
        }
        for name in ("Content-Encoding", "Git-Protocol"):
            if name in self.headers:
                environment["HTTP_" + name.upper().replace("-", "_")] = self.headers[name]
        if "Content-Length" in self.headers:
            environment["CONTENT_LENGTH"] = self.headers["Content-Length"]
        backend = subprocess.Popen(["git", "http-backend"], env=environment, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)

        def feed():
            with backend.stdin:
                for part in self.body():
                    backend.stdin.write(part)

        feeder = threading.Thread(target=feed)
        feeder.start()
        status, headers = 200, {}
        while line := backend.stdout.readline().decode().strip():
            name, value = line.split(": ", 1)
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers[name] = value
        body = backend.stdout.read()
        backend.wait()
        feeder.join()
        headers.pop("Content-Length", None)
        self.answer(status, body, headers)

    def zosmf(self):
        body = b"".join(self.body())
        # z/OSMF refuses a request without this header.
        if "X-CSRF-ZOSMF-HEADER" not in self.headers:
            return self.answer(403, b'{"message": "X-CSRF-ZOSMF-HEADER is missing"}')
        url = urllib.parse.urlsplit(self.path)
        path, query = urllib.parse.unquote(url.path), urllib.parse.parse_qs(url.query)
        files, json_type = self.server.files, {"Content-Type": "application/json; charset=utf-8"}
        name = path.removeprefix("/zosmf/restfiles/ds/").removeprefix("/zosmf/restfiles/fs/")
        if path == "/zosmf/info":
            value = {"zos_version": "04.28.00", "zosmf_port": "443", "zosmf_version": "28", "api_version": "1",
                     "zosmf_hostname": "localhost", "zosmf_saf_realm": "SAFRealm", "zosmf_full_version": "28.0",
                     "plugins": []}
        elif path == "/zosmf/restfiles/ds":
            partitioned = {name.split("(")[0] for name in files if "(" in name}
            names = sorted({name.split("(")[0] for name in files if "/" not in name})
            items = [{"dsname": name} for name in names if name.startswith(query["dslevel"][0].rstrip("*"))]
            if self.headers.get("X-IBM-Attributes", "").startswith("base"):
                items = [item | {"dsorg": "PO" if item["dsname"] in partitioned else "PS"} for item in items]
            value = {"items": items, "returnedRows": len(items), "JSONversion": 1}
        elif path == "/zosmf/restfiles/fs":
            value = {"items": [{"name": name, "mode": "-rw-r--r--"} for name in files if "/" in name],
                     "returnedRows": 1, "totalRows": 1, "JSONversion": 1}
        elif path.rstrip("/") == "/zosmf/restjobs/jobs":
            value = []
        elif path.startswith("/zosmf/restfiles/") and self.command == "PUT":
            files[name] = body
            return self.answer(204, b"")
        elif path.startswith("/zosmf/restfiles/") and name in files:
            return self.answer(200, files[name], {"Content-Type": "text/plain"})
        else:
            return self.answer(404, json.dumps({"message": f"no resource {path}"}).encode(), json_type)
        self.answer(200, json.dumps(value).encode(), json_type)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="the program passticket-proxy")
    parser.add_argument("demo", type=pathlib.Path, help="the directory of the running demo")
    options = parser.parse_args()
    definitions = options.demo / "api-defs/tools.yml"
    # SIGTERM ends the script like Ctrl-C, so that it removes the definitions.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as directory:
        show = functools.partial(print, flush=True)
        services = Services(options.program, options.demo, pathlib.Path(directory), show)
        definitions.write_text(services.definitions())
        show(f"the services repo and ibmzosmf run; the gateway reads {definitions}")
        try:
            services.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            definitions.unlink()


if __name__ == "__main__":
    main()
