"""Builds the programs of the comparison with cargo."""

import json
import pathlib
import shutil
import subprocess

from machine import fail

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def cargo(*targets, env=None):
    """Builds in release mode. Returns the path of each program by its name."""
    command = ["cargo", "build", "--release", "--locked", "--message-format=json", *targets]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode:
        fail("the build failed")
    messages = (json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{")
    return {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}


def passticket_proxy(directory):
    """Builds passticket-proxy alone. In a build together with the other programs, its dependencies would also have the
    features that these programs need."""
    program = directory / "passticket-proxy"
    shutil.copy2(cargo("--bin", "passticket-proxy")["passticket-proxy"], program)
    return program


def tools():
    """Builds the load generator, the minimal proxy, the echo upstreams and make_revocations."""
    return cargo("--bench", "minimal_proxy", "--bench", "load", "--bench", "echo", "--bench", "make_revocations")
