"""Measures in rounds, and repeats measurements that other processes disturbed."""

import statistics
import time

from machine import InterferenceMonitor, cpu_seconds, fail, progress, rss_mib, ticks, use_batch_scheduling
from testbed import CONNECTIONS, HANDSHAKING, LoadGenerator

# A measurement is undisturbed ("clean") if other processes took less than OTHERS_SHARE of the two cores, and
# the hypervisor less than STEAL_SHARE.
OTHERS_SHARE = 0.03
STEAL_SHARE = 0.02

# The maximum number of tries of one measurement, if all tries are disturbed.
MAX_TRIES = 5


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

    def run(self):
        """Returns the measurements of each subject, one per round."""
        subjects = self.testbed.subjects
        measured = {subject.key: [] for subject in subjects}
        for group in dict.fromkeys(subject.group for subject in subjects):
            rate = []
            if group == "latency":
                rate = [0.7 * statistics.median(m["rate"] for m in undisturbed(measured["jwt"]))]
            members = [(subject, self.load(subject, rate)) for subject in subjects
                       if subject.group == group]
            for turn in range(self.count):
                # Each round starts with a different subject, so that no subject is always the first.
                shift = turn * 2 % len(members)
                for subject, load in members[shift:] + members[:shift]:
                    result = self.least_disturbed(subject, load)
                    measured[subject.key].append({**result, "turn": turn})
                if time.monotonic() > self.deadline and turn > 0:
                    break
            progress(f"{group}: {turn + 1} rounds of {self.count}, "
                 f"{self.discarded} measurements discarded so far")
            for _, load in members:
                self.harness.end(load)
        return measured

    def load(self, subject, rate):
        connections = HANDSHAKING if subject.mode == "handshake" else CONNECTIONS
        load = LoadGenerator(self.harness, self.testbed.programs, subject.mode, subject.port, subject.request,
                    connections, self.seconds, *rate, *subject.tls)
        use_batch_scheduling(load.family | self.testbed.upstreams())
        return load

    def least_disturbed(self, subject, load):
        """Repeats a disturbed measurement. Returns the least disturbed measurement."""
        least = None
        # During the tries, the connections of the other subjects are idle. The number of tries is small, because
        # the gateway closes idle connections to the upstream after 30 to 45 s.
        for _ in range(MAX_TRIES):
            result = self.measure(subject, load)
            if least is None or result["noise"] < least["noise"]:
                least = result
            self.kept += result["undisturbed"]
            self.discarded += not result["undisturbed"]
            if result["undisturbed"] or not self.retries or time.monotonic() > self.deadline:
                break
            self.retries -= 1
        return least

    def measure(self, subject, load):
        monitor = InterferenceMonitor(self.harness)
        before, user = cpu_seconds(subject.server.family), ticks(subject.server.family)
        result = load.measure()
        cpu = cpu_seconds(subject.server.family) - before
        result["in_user"], result["in_all"] = (
            b - a for a, b in zip(user, ticks(subject.server.family)))
        others, stolen = monitor.shares()
        if not result["requests"]:
            fail(f"{subject.key}: no response")
        result["rate"] = result["requests"] / result["seconds"]
        result["cpu"] = cpu / result["requests"] * 1e6
        result["rss"] = rss_mib(subject.server.family)
        result["undisturbed"] = others < OTHERS_SHARE and stolen < STEAL_SHARE
        result["noise"] = others + stolen
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
