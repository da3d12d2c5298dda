"""The programs as cargo builds them."""

import json
import pathlib
import shutil
import subprocess

from machine import fail

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def cargo(*targets, env=None):
    """Builds for release, and tells where each program is."""
    command = ["cargo", "build", "--release", "--locked", "--message-format=json", *targets]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode:
        fail("the build failed")
    messages = (json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{")
    return {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}


def ours(directory):
    """By itself: built together with benches, its dependencies have the features of theirs, too."""
    program = directory / "passticket-proxy"
    shutil.copy2(cargo("--bin", "passticket-proxy")["passticket-proxy"], program)
    return program


def tools():
    """The load, the minimal proxy, and what writes files of rules."""
    names = ("minimal_proxy", "load", "make_revocations")
    return cargo(*(arg for name in names for arg in ("--bench", name)))
