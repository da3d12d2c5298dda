"""Cores of the machine, load of other processes, and the processes that the scripts start."""

import contextlib
import ctypes
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time


def fail(text):
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {text}")


def progress(text):
    """Prints a message about the progress."""
    print(text, file=sys.stderr, flush=True)


def find_tools(*names):
    """Returns the paths of these programs. If one is missing, ends with a message that says how to install it."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    found = {name: shutil.which(name, path=path) for name in names}
    packages = {"nginx": "nginx-light", "haproxy": "haproxy", "curl": "curl"}
    missing = [packages[name] for name, where in found.items() if not where and name in packages]
    if missing:
        fail("missing; run: apt-get install -y " + " ".join(missing))
    if not found["cargo"]:
        fail("cargo is missing; install Rust")
    return found


def open_files():
    """Returns the number of files that a process can open after raise_open_files_limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)


def raise_open_files_limit():
    """Raises the limit of open files, because a run has many connections."""
    if open_files() < 4096:
        fail(f"a process may open only {open_files()} files; raise the limit to 24000: ulimit -Hn")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files(), hard))


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>


def start_child(args, core, **options):
    """Starts a process on a core, with options of subprocess.Popen. If this script ends for any reason, even by
    SIGKILL, the kernel sends SIGTERM to the process."""
    script = os.getpid()

    def before_exec():
        os.sched_setaffinity(0, {core})
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != script:
            # The script ended before the call of prctl.
            os._exit(1)

    return subprocess.Popen([str(arg) for arg in args], preexec_fn=before_exec, **options)


END_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def exit_on_signals():
    """Makes these signals raise SystemExit, so that finally blocks end all started processes."""
    for number in END_SIGNALS:
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def cores():
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        fail("the script needs two cores: one for the proxies, one for the load generator")
    return allowed[0], allowed[1]


def use_batch_scheduling(pids):
    """Sets the policy SCHED_BATCH for the load generator and the upstream, so that they do not preempt each other.

    Both run on one core, and the proxy runs on the other core. If the first core slept, the proxy would use processor
    time to wake it. A fast proxy would wake it more often than a slow proxy. So the load generator never sleeps. A
    preemption would also cost processor time of the proxy, because the proxy would have to interrupt the first core.
    With SCHED_BATCH there is no interrupt: a woken process waits until the running process yields."""
    for pid in pids:
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def read(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""


def process_tree(pid):
    """Returns the ids of a process, its children and grandchildren. nginx handles requests in a child process."""
    parents = {}
    for entry in os.listdir("/proc"):
        stat = read(f"/proc/{entry}/stat") if entry.isdigit() else ""
        if stat:
            parents[int(entry)] = int(stat.rsplit(")", 1)[1].split()[1])
    family = {pid}
    for _ in range(3):
        family |= {child for child, parent in parents.items() if parent in family}
    return family


def thread_times(pids):
    """Returns, for each thread, the nanoseconds that it has run (user and system) and its last core.

    The source is the file schedstat. If schedstat is missing, the source is the file stat, which counts in ticks of
    10 ms."""
    ran = {}
    for pid in pids:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            base = f"/proc/{pid}/task/{thread}"
            stat = read(f"{base}/stat").rsplit(")", 1)[-1].split()
            if len(stat) < 37:
                continue
            exact = read(f"{base}/schedstat").split()
            ticks = (int(stat[11]) + int(stat[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
            ran[thread] = (int(exact[0]) if exact else ticks, int(stat[36]))
    return ran


def cpu_seconds(pids):
    return sum(ns for ns, _ in thread_times(pids).values()) / 1e9


def ticks(pids):
    """Returns the clock ticks in user mode and in total."""
    user = system = 0
    for pid in pids:
        stat = read(f"/proc/{pid}/stat").rsplit(")", 1)[-1].split()
        if len(stat) > 13:
            user, system = user + int(stat[11]), system + int(stat[12])
    return user, user + system


def rss_mib(pids):
    kib = 0
    for pid in pids:
        found = re.search(r"VmRSS:\s+(\d+)", read(f"/proc/{pid}/status"))
        kib += int(found[1]) if found else 0
    return kib / 1024


def steal_seconds(core):
    line = next(l for l in read("/proc/stat").splitlines() if l.startswith(f"cpu{core} "))
    return int(line.split()[8]) / os.sysconf("SC_CLK_TCK")


class InterferenceMonitor:
    """Measures how much of the two cores other processes and the hypervisor have used.

    The measurement begins when the monitor is created."""

    def __init__(self, harness):
        self.harness = harness
        self.steal = self.stolen()
        self.before = self.others()
        self.began = time.monotonic()

    def stolen(self):
        return sum(steal_seconds(core) for core in self.harness.cores)

    def others(self):
        ours = self.harness.pids()
        return thread_times({int(p) for p in os.listdir("/proc") if p.isdigit()} - ours)

    def shares(self):
        """Returns two shares of the two cores: used by other processes, and used by the hypervisor (steal)."""
        seconds = 2 * (time.monotonic() - self.began)
        stolen = (self.stolen() - self.steal) / seconds
        ran = 0
        for task, (ns, core) in self.others().items():
            if core in self.harness.cores:
                ran += ns - self.before.get(task, (0, core))[0]
        return ran / 1e9 / seconds, stolen


class Process:
    """A process that a script starts. The script also ends it."""

    def __init__(self, harness, name, args, core):
        self.name = name
        self.log = harness.directory / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = start_child(args, core, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       cwd=harness.directory, env={**os.environ, "RUST_LOG": "warn", **harness.env})
        self.family = {self.process.pid}
        harness.processes.append(self)

    def wait_for(self, port):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                fail(f"{self.name} ended: {read(self.log)[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                self.family = process_tree(self.process.pid)
                return self
            time.sleep(0.01)
        fail(f"{self.name} does not listen: {read(self.log)[-2000:]}")

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Harness:
    """The resources of a run: a directory, two cores, and the processes that were started.

    The proxies run on the first core. The load generator and the upstream run on the second core."""

    def __init__(self, directory, tools, env=None):
        self.directory, self.tools, self.env = directory, tools, env or {}
        self.cores = cores()
        self.processes = []

    def pids(self):
        ours = {os.getpid()}
        for process in self.processes:
            ours |= process.family
        return ours

    def start(self, name, args, port, core=None):
        core = self.cores[0] if core is None else core
        return Process(self, name, args, core).wait_for(port)

    def end(self, process):
        process.end()
        self.processes.remove(process)

    def end_all(self):
        """Ends all processes that were started, even if another signal arrives meanwhile."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in END_SIGNALS}
        for process in reversed(self.processes[:]):
            with contextlib.suppress(OSError):
                self.end(process)
        for number, handler in before.items():
            signal.signal(number, handler)

    def write(self, name, text, mode=0o644):
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path
