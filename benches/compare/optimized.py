"""Ours, built with what was learnt from its own requests (profile-guided optimization).

Built once to count which code runs, driven by training.py, and built again with the counts. The
compiler then knows what is worth to be put in place, and keeps the code of requests together."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import programs
from machine import Bench, fail, read, tell
from training import train

# The demonstration, and the gateways of the training.
TAUGHT = 4

HERE = pathlib.Path(__file__).resolve().parent


def output(*command, **more):
    return subprocess.run([str(arg) for arg in command], check=True, stdout=subprocess.PIPE,
                          text=True, **more).stdout


def made_of():
    """All that the program and what is learnt from it depend on."""
    taught_by = [HERE / name for name in ("optimized.py", "training.py", "world.py", "load.rs")]
    names = sorted([*programs.ROOT.glob("src/**/*.rs"), *programs.ROOT.glob("crates/*/src/**/*.rs"),
                    *programs.ROOT.glob("crates/*/Cargo.toml"), *programs.ROOT.glob("Cargo.*"),
                    *programs.ROOT.glob(".cargo/*"), *taught_by])
    digest = hashlib.sha256((output("rustc", "-vV") + os.environ.get("RUSTFLAGS", "")).encode())
    for name in names:
        digest.update(hashlib.sha256(name.read_bytes()).digest())
    return digest.hexdigest()


def flags(more):
    return {**os.environ, "RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} {more}".strip()}


def understands(profdata, directory):
    """Whether the compiler and this llvm-profdata understand each other: they are of any versions."""
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
            if understands(tool, pathlib.Path(directory)):
                return tool
    fail("no llvm-profdata that reads what rustc writes; run: rustup component add llvm-tools, "
         "or apt-get install -y llvm-19")


def optimized(tools):
    """Where the program is; it is made anew when something that it is made of has changed."""
    # Seen from where cargo runs, as cargo sees it.
    place = programs.ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "optimized"
    program, stamp, now = place / "passticket-proxy", place / "made-of", made_of()
    if program.exists() and read(stamp) == now:
        return program
    profdata = llvm_profdata()
    place.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    host = next(line.split()[1] for line in output("rustc", "-vV").splitlines()
                if line.startswith("host: "))
    # With a target named, nothing of this is for what runs while it is built.
    build = ["--bin", "passticket-proxy", "--target", host, "--target-dir", place / "build"]
    tell("building passticket-proxy to learn from it")
    learning = programs.cargo(*build, env=flags("-Cprofile-generate"))["passticket-proxy"]
    with tempfile.TemporaryDirectory(prefix="optimize.") as directory:
        directory = pathlib.Path(directory)
        copy = shutil.copy2(learning, directory / "passticket-proxy")
        tell("asking it what gateways are asked")
        counts = directory / "counts"
        bench = Bench(directory, tools, {"LLVM_PROFILE_FILE": str(counts / "%p.profraw")})
        try:
            train(bench, {**programs.tools(), "passticket-proxy": copy})
        finally:
            bench.end_all()
        found = [*counts.glob("*.profraw")]
        if len(found) != TAUGHT:
            fail(f"{len(found)} of {TAUGHT} programs have written what they counted")
        merged = directory / "merged"
        output(profdata, "merge", "-o", merged, *found)
        # Cargo does not look into it, so what is new needs a new name.
        name = hashlib.sha256(merged.read_bytes()).hexdigest()[:16]
        for old in place.glob("*.profdata"):
            old.unlink()
        profile = shutil.copy2(merged, place / f"{name}.profdata")
    tell("building it with what was learnt")
    built = programs.cargo(*build, env=flags(f"-Cprofile-use={profile}"))["passticket-proxy"]
    shutil.copy2(built, program)
    stamp.write_text(now)
    return program
