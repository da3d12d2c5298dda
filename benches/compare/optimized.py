"""The profile-guided build of passticket-proxy.

It builds an instrumented program, runs the training load of training.py, and builds again. The instrumented program
writes a profile, which says how often each part of the code ran. With the profile, the compiler inlines code that
runs often, and places such code together."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import programs
from machine import Harness, fail, progress, read
from training import train

# The training starts four instrumented processes, the demo and three gateways. Each of them writes a profile.
PROFILES = 4

HERE = pathlib.Path(__file__).resolve().parent


def output(*command, **more):
    """Runs a command, and returns what it prints."""
    return subprocess.run([str(arg) for arg in command], check=True, stdout=subprocess.PIPE,
                          text=True, **more).stdout


def fingerprint():
    """Returns a hash of everything that the program and its profile depend on: sources, compiler and flags."""
    training = [HERE / name for name in ("optimized.py", "training.py", "testbed.py", "load.rs")]
    names = sorted([*programs.ROOT.glob("src/**/*.rs"), *programs.ROOT.glob("crates/*/src/**/*.rs"),
                    *programs.ROOT.glob("crates/*/Cargo.toml"), *programs.ROOT.glob("Cargo.*"),
                    *programs.ROOT.glob(".cargo/*"), *training])
    digest = hashlib.sha256((output("rustc", "-vV") + os.environ.get("RUSTFLAGS", "")).encode())
    for name in names:
        digest.update(hashlib.sha256(name.read_bytes()).digest())
    return digest.hexdigest()


def flags(more):
    return {**os.environ, "RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} {more}".strip()}


def can_read_profiles(profdata, directory):
    """Returns whether this llvm-profdata can read the profiles of the installed rustc."""
    source, program = directory / "probe.rs", directory / "probe"
    raw, merged = directory / "probe.profraw", directory / "probe.profdata"
    source.write_text("fn main() {}")
    silent = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL,
              "env": {**os.environ, "LLVM_PROFILE_FILE": str(raw)}}
    try:
        for command in (["rustc", "-Cprofile-generate", "-o", program, source], [program],
                        [profdata, "merge", "-o", merged, raw],
                        ["rustc", f"-Cprofile-use={merged}", "-o", program, source]):
            subprocess.run(command, **silent)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def llvm_profdata():
    sysroot = pathlib.Path(output("rustc", "--print", "sysroot").strip())
    debian = sorted(pathlib.Path("/usr/lib").glob("llvm-*/bin/llvm-profdata"),
                    key=lambda path: int("0" + path.parts[3].removeprefix("llvm-")), reverse=True)
    found = [*sysroot.glob("lib/rustlib/*/bin/llvm-profdata"), *debian,
             *filter(None, [shutil.which("llvm-profdata")])]
    with tempfile.TemporaryDirectory(prefix="probe.") as directory:
        for tool in found:
            if can_read_profiles(tool, pathlib.Path(directory)):
                return tool
    fail("found no llvm-profdata that can read profiles of this rustc; run: rustup component add llvm-tools, "
         "or apt-get install -y llvm-19")


def optimized(tools):
    """Builds the program if it or its profile is out of date. Returns its path."""
    # A relative CARGO_TARGET_DIR is relative to the root of the repository, where cargo runs.
    place = programs.ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "optimized"
    program, stamp, now = place / "passticket-proxy", place / "fingerprint", fingerprint()
    if program.exists() and read(stamp) == now:
        return program
    profdata = llvm_profdata()
    place.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    host = next(line.split()[1] for line in output("rustc", "-vV").splitlines()
                if line.startswith("host: "))
    # With --target, the flags do not apply to build scripts and procedural macros.
    build = ["--bin", "passticket-proxy", "--target", host, "--target-dir", place / "build"]
    progress("building passticket-proxy, instrumented")
    instrumented = programs.cargo(*build, env=flags("-Cprofile-generate"))["passticket-proxy"]
    with tempfile.TemporaryDirectory(prefix="optimize.") as directory:
        directory = pathlib.Path(directory)
        copy = shutil.copy2(instrumented, directory / "passticket-proxy")
        progress("running the training load")
        counts = directory / "counts"
        harness = Harness(directory, tools, {"LLVM_PROFILE_FILE": str(counts / "%p.profraw")})
        try:
            train(harness, {**programs.tools(), "passticket-proxy": copy})
        finally:
            harness.end_all()
        found = [*counts.glob("*.profraw")]
        if len(found) != PROFILES:
            fail(f"expected profiles of {PROFILES} processes, found {len(found)}")
        merged = directory / "merged"
        output(profdata, "merge", "-o", merged, *found)
        # Cargo rebuilds if the flags change, but not if a file that they name changes. So the name of the profile
        # is a hash of its content.
        name = hashlib.sha256(merged.read_bytes()).hexdigest()[:16]
        for old in place.glob("*.profdata"):
            old.unlink()
        profile = shutil.copy2(merged, place / f"{name}.profdata")
    progress("building passticket-proxy with the profile")
    built = programs.cargo(*build, env=flags(f"-Cprofile-use={profile}"))["passticket-proxy"]
    shutil.copy2(built, program)
    stamp.write_text(now)
    return program
