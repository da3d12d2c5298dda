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


PROGRAM = ("--bin", "passticket-proxy")
TOOLS = ("--bench", "minimal_proxy", "--bench", "load", "--bench", "echo",
         "--bench", "make_revocations")


def passticket_proxy(directory, *together_with):
    """Builds passticket-proxy, alone or together with other targets.

    A build together with other targets takes less time than two builds. But in this build, the dependencies of
    passticket-proxy also have the features that the other targets need."""
    program = directory / "passticket-proxy"
    shutil.copy2(cargo(*PROGRAM, *together_with)["passticket-proxy"], program)
    return program


def tools():
    """Builds the load generator, the minimal proxy, the echo upstreams and make_revocations."""
    return cargo(*TOOLS)
