#!/usr/bin/env python3
"""Runs the commands of docs/operating/tools.md against the built program. See README.md.

It uses loopback only, installs nothing, and ends only the processes that it started."""

import argparse
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

from services import Services

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/operating/tools.md"
PORT_OF_PAGE = "10010"
TIME_LIMIT = 20

# The first section gets the PAT. Its commands run before those of each other section.
FIRST = "Try it with the demo"
# The sections with commands, and the command that shows whether the program of the section is installed.
SECTIONS = {
    "curl": ["curl", "--version"],
    "git": ["git", "--version"],
    "Jenkins": ["git", "--version"],
    "Zowe CLI": ["zowe", "--version"],
    "Python SDK": ["python3", "-c", "import zowe.zosmf_for_zowe_sdk, zowe.zos_files_for_zowe_sdk"],
}


def sections(page):
    """Returns the commands of each section: the content of its blocks `sh`."""
    commands = {}
    for section in re.split(r"^## ", page, flags=re.M)[1:]:
        title, text = section.split("\n", 1)
        blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.M | re.S)
        if blocks:
            commands[title] = "".join(blocks)
    return commands


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, condition):
    end = time.monotonic() + TIME_LIMIT
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"timed out: {what}")
        time.sleep(0.1)


def start_demo(program, directory, port):
    process = subprocess.Popen([program, "serve", "--demo", "--port", str(port)], cwd=directory,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens():
        if process.poll() is not None:
            raise SystemExit(f"the program has ended with status {process.returncode}")
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_for("the demo listens", listens)
    return process


def is_installed(command, environment):
    try:
        return subprocess.run(command, env=environment, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def run(title, script, directory, environment, log):
    """Runs the commands of a section in a new directory. Returns what is wrong, or None."""
    work = directory / title.replace(" ", "-")
    work.mkdir()
    (work / "passticket-demo").symlink_to(directory / "passticket-demo")
    before = len(log)
    result = subprocess.run(["sh", "-eu", "-c", script], cwd=work, env=environment | {"HOME": str(work)},
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=300)
    if result.returncode != 0:
        return f"status {result.returncode}\n{result.stdout}"
    if arrived := [line for line in log[before:] if "token=arrived" in line]:
        return f"a token has arrived at a service: {arrived}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path, help="the program passticket-proxy")
    parser.add_argument("--path", action="append", default=[],
                        help="a directory with the command zowe, or with a python3 that has the Python SDK")
    parser.add_argument("--all", action="store_true", help="fail if a program is not installed")
    options = parser.parse_args()
    program = options.program.resolve()
    page = sections(PAGE.read_text())
    if set(page) != {FIRST, *SECTIONS}:
        raise SystemExit(f"the sections with commands have changed: {sorted(page)}")

    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TERM") if name in os.environ}
    path = os.pathsep.join([*options.path, os.environ["PATH"]])
    environment = kept | {"PATH": path, "NO_PROXY": "localhost", "GIT_TERMINAL_PROMPT": "0"}
    failed = skipped = passed = 0
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary)
        port = free_port()
        demo = start_demo(program, directory, port)
        try:
            log = []
            files = directory / "services"
            files.mkdir()
            services = Services(program, directory / "passticket-demo", files, log.append)
            threading.Thread(target=services.serve_forever, daemon=True).start()
            definitions = directory / "passticket-demo/api-defs/tools.yml"
            definitions.write_text(services.definitions())

            def reloaded():
                curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert",
                        directory / "passticket-demo/certs/ca.pem", f"https://localhost:{port}/repo/api/v1/"]
                return subprocess.run(curl, capture_output=True, text=True).stdout == "401"

            wait_for("the gateway has read the new definitions", reloaded)
            # Zowe CLI and the Python SDK write into the home directory.
            home = {"HOME": temporary}
            for title, command in SECTIONS.items():
                if not is_installed(command, environment | home):
                    print(f"{title}: not installed")
                    skipped += 1
                    continue
                script = (page[FIRST] + page[title]).replace(PORT_OF_PAGE, str(port))
                fault = run(title, script, directory, environment, log)
                print(f"{title}: {fault or 'ok'}")
                failed += fault is not None
                passed += fault is None
        finally:
            demo.terminate()
            demo.wait(TIME_LIMIT)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or (options.all and skipped) else 0)


if __name__ == "__main__":
    main()
