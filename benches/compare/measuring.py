"""Measures in rounds, and repeats measurements that other processes disturbed."""

import statistics
import time

from goals import MIN_ROUNDS, Value
from machine import InterferenceMonitor, cpu_seconds, fail, progress, rss_mib, ticks, use_batch_scheduling
from testbed import LoadGenerator

# A measurement is undisturbed if other processes took less than OTHERS_SHARE of the two cores, and the hypervisor less
# than STEAL_SHARE.
OTHERS_SHARE = 0.03
STEAL_SHARE = 0.02

# The maximum number of tries of one measurement, if all tries are disturbed.
MAX_TRIES = 5

# Groups that are measured in only a part of the rounds, because each of their measurements takes long.
ROUNDS_SHARE = {"transfers": 0.25}


class Rounds:
    """Measures all subjects once in each round, until all rounds are done or the time is over.

    Rounds are short. The speed of a shared machine changes within seconds, and both subjects of a ratio should be
    measured while the machine has the same speed. Connections stay open from round to round."""

    def __init__(self, testbed, count, seconds, time_in_all):
        self.testbed, self.harness = testbed, testbed.harness
        self.count, self.seconds = count, seconds
        self.deadline = time.monotonic() + time_in_all
        # The number of repetitions is limited, because a repetition does not help if other processes always
        # run.
        self.retries = len(testbed.subjects) * count // 2
        self.kept = self.discarded = 0
        # The memory of idle connections.
        self.values = []

    def run(self):
        """Returns the measurements of each subject, one per round."""
        subjects = self.testbed.subjects
        measured = {subject.key: [] for subject in subjects}
        for group in dict.fromkeys(subject.group for subject in subjects):
            rate = []
            if group == "latency":
                rate = [0.7 * statistics.median(m["rate"] for m in undisturbed(measured["jwt"]))]
            in_group = [subject for subject in subjects if subject.group == group]
            idle = [self.open_idle(subject) for subject in in_group if subject.idle]
            members = [(subject, self.load(subject, rate)) for subject in in_group]
            count = max(min(self.count, MIN_ROUNDS + 1), round(self.count * ROUNDS_SHARE.get(group, 1)))
            for turn in range(count):
                # Each round starts with a different subject, so that no subject is always the first.
                shift = turn * 2 % len(members)
                for subject, load in members[shift:] + members[:shift]:
                    result = self.least_disturbed(subject, load)
                    measured[subject.key].append({**result, "turn": turn})
                if time.monotonic() > self.deadline and turn > 0:
                    break
            progress(f"{group}: {turn + 1} rounds of {count}, "
                     f"{self.discarded} measurements discarded so far")
            for load in idle:
                # The load generator checks that its connections are still open.
                load.measure()
            for load in [*idle, *(load for _, load in members)]:
                self.harness.end(load)
        return measured

    def load(self, subject, rate):
        streams = [subject.streams] if subject.streams else []
        load = LoadGenerator(self.harness, self.testbed.programs, subject.mode, self.testbed.ports[subject.server],
                             subject.request, subject.connections, self.seconds, *rate, *streams, *subject.tls)
        use_batch_scheduling(load.family | self.testbed.upstream_processes)
        return load

    def open_idle(self, subject):
        """Opens the idle connections of a subject, and measures how much memory each of them takes."""
        load, kib = self.testbed.open_idle(subject.server, subject.request, subject.idle, subject.tls)
        whose = "nginx" if "nginx" in subject.server else "ours"
        self.values.append(Value("idle-connections", f"memory of an idle TLS connection after a request to the "
                                 f"service, {whose}, with {subject.idle:,} of them", kib, "KiB"))
        return load

    def least_disturbed(self, subject, load):
        """Repeats a disturbed measurement. Returns the least disturbed measurement."""
        least = None
        # During the tries, the connections of the other subjects are idle. The number of tries is small, because
        # the gateway closes idle connections to the upstream after 30 to 45 s.
        for _ in range(MAX_TRIES):
            result = self.measure(subject, load)
            if least is None or result["interference"] < least["interference"]:
                least = result
            self.kept += result["undisturbed"]
            self.discarded += not result["undisturbed"]
            if result["undisturbed"] or not self.retries or time.monotonic() > self.deadline:
                break
            self.retries -= 1
        return least

    def measure(self, subject, load):
        server = self.testbed.servers[subject.server].family
        monitor = InterferenceMonitor(self.harness)
        before, user = cpu_seconds(server), ticks(server)
        result = load.measure()
        cpu = cpu_seconds(server) - before
        result["in_user"], result["in_all"] = (b - a for a, b in zip(user, ticks(server)))
        others, stolen = monitor.shares()
        if not result["requests"]:
            fail(f"{subject.key}: no response")
        result["rate"] = result["requests"] / result["seconds"]
        result["cpu"] = cpu / result["requests"] * 1e6
        result["rss"] = rss_mib(server)
        result["undisturbed"] = others < OTHERS_SHARE and stolen < STEAL_SHARE
        result["others"], result["stolen"] = others, stolen
        result["interference"] = others + stolen
        return result


def undisturbed(results):
    """Returns the undisturbed measurements, or all measurements if none is undisturbed."""
    return [r for r in results if r["undisturbed"]] or results


def ratios(measured, goal):
    """Returns the ratios, and the number of rounds in which both measurements are undisturbed.

    The ratios are those of the undisturbed rounds. If no round is undisturbed, they are those of all rounds."""
    numerators = {r["turn"]: r for r in measured[goal.numerator]}
    denominators = {r["turn"]: r for r in measured[goal.denominator]}
    # 0 means that the value was not measured.
    both = [(numerators[turn], denominators[turn]) for turn in numerators
            if turn in denominators and denominators[turn][goal.metric] > 0]
    clean = [(a, b) for a, b in both if a["undisturbed"] and b["undisturbed"]]
    return [a[goal.metric] / b[goal.metric] for a, b in clean or both], len(clean)


def quartiles(values):
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def spread(values):
    """Returns half of the width of the middle half of the values, divided by their median."""
    lower, middle, upper = quartiles(values)
    return (upper - lower) / 2 / middle
