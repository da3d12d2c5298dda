"""Measurements in rounds, with as little as possible of what others do."""

import statistics
import time

from machine import (OTHERS_SHARE, STEAL_SHARE, Watch, cpu_seconds, fail, rss_mib, take_turns, tell,
                     ticks)
from world import CONNECTIONS, HANDSHAKING, Load


class Rounds:
    """All subjects in turn, and again, as long as there is time."""

    def __init__(self, world, count, seconds, time_in_all, time_for_quiet):
        self.world, self.bench = world, world.bench
        self.count, self.seconds = count, seconds
        self.deadline = time.monotonic() + time_in_all
        self.patience = time_for_quiet
        # Bounded: where others never stop, trying again is no help.
        self.retries = len(world.subjects) * count // 2
        self.kept = self.discarded = 0

    def run(self):
        """For each subject, a measurement of each round."""
        subjects = self.world.subjects
        measured = {subject.key: [] for subject in subjects}
        for group in dict.fromkeys(subject.group for subject in subjects):
            members = [subject for subject in subjects if subject.group == group]
            count, seconds, rate = self.count, self.seconds, 0
            if group == "latency":
                # One stall of the machine makes the p99 of all its round, so there are more rounds,
                # and shorter ones.
                count, seconds = 3 * count, 0.4 * seconds
                rate = 0.7 * statistics.median(m["rate"] for m in best(measured["jwt"]))
            for turn in range(count):
                # Nobody is always the first.
                shift = turn * 2 % len(members)
                for subject in members[shift:] + members[:shift]:
                    result = self.least_disturbed(subject, seconds, rate)
                    measured[subject.key].append({**result, "turn": turn})
                tell(f"{group}: round {turn + 1} of {count}, "
                     f"{self.discarded} measurements discarded so far")
                if time.monotonic() > self.deadline and turn > 0:
                    break
        return measured

    def least_disturbed(self, subject, seconds, rate):
        least = None
        while True:
            result = self.measure(subject, seconds, rate)
            if least is None or result["noise"] < least["noise"]:
                least = result
            self.kept += result["clean"]
            self.discarded += not result["clean"]
            if result["clean"] or not self.retries or time.monotonic() > self.deadline:
                return least
            self.retries -= 1

    def measure(self, subject, seconds, rate):
        self.wait_for_quiet()
        connections = HANDSHAKING if subject.mode == "handshake" else CONNECTIONS
        extra = [rate] if subject.mode == "open" else []
        load = Load(self.bench, self.world.programs, subject.mode, subject.port, subject.request,
                    connections, seconds, *extra, *subject.tls)
        upstream = self.world.servers["upstream"]
        take_turns(load.family | upstream.family)
        try:
            watch = Watch(self.bench)
            before, user = cpu_seconds(subject.server.family), ticks(subject.server.family)
            result = load.go()
            cpu = cpu_seconds(subject.server.family) - before
            in_user, in_all = (b - a for a, b in zip(user, ticks(subject.server.family)))
            others, stolen = watch.shares()
        finally:
            self.bench.end(load)
        if not result["requests"]:
            fail(f"{subject.key}: nothing was answered")
        result["rate"] = result["requests"] / result["seconds"]
        result["cpu"] = cpu / result["requests"] * 1e6
        result["user"] = result["cpu"] * in_user / max(in_all, 1)
        result["rss"] = rss_mib(subject.server.family)
        result["clean"] = others < OTHERS_SHARE and stolen < STEAL_SHARE
        result["noise"] = others + stolen
        return result

    def wait_for_quiet(self):
        """A while at the most: on a machine that is always busy there is a result, too, with a
        mark."""
        if self.patience <= 0:
            return
        began = time.monotonic()
        while time.monotonic() - began < min(10, self.patience):
            watch = Watch(self.bench)
            time.sleep(0.3)
            if watch.is_quiet():
                return
        self.patience -= time.monotonic() - began


def best(results):
    """The undisturbed ones; if there are none, all."""
    return [r for r in results if r["clean"]] or results


def ratios(measured, goal):
    """Of the rounds in which neither was disturbed; else of all, and then that is said."""
    over = {r["turn"]: r for r in measured[goal.over]}
    under = {r["turn"]: r for r in measured[goal.under]}
    # What took no time was not measured.
    both = [(over[t], under[t]) for t in over if t in under and under[t][goal.metric] > 0]
    clean = [(a, b) for a, b in both if a["clean"] and b["clean"]]
    return [a[goal.metric] / b[goal.metric] for a, b in clean or both], len(clean)
