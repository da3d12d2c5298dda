#!/usr/bin/env python3
"""Tests of the comparison's scripts: the verdicts of the report, and the end of all servers after a kill.

The tests need nginx."""

import collections
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

# Python must write no .pyc files into the source tree.
sys.dont_write_bytecode = True

from goals import GOALS, MAXIMA, QUICK, ROWS, Goal, goals  # noqa: E402
from machine import Harness, exit_on_signals, find_tools, free_port  # noqa: E402
from measuring import ratios, spread  # noqa: E402
from report import judge, quietness  # noqa: E402
from subjects import all_subjects  # noqa: E402
from testbed import NGINX, Testbed  # noqa: E402

GOAL = Goal("tls", "a / b", "a", "b", bound=1.0)


def run_servers(directory):
    """Starts an nginx as the comparison does, prints the ids of its processes, and waits for a signal."""
    exit_on_signals()
    directory, port = pathlib.Path(directory), free_port()
    harness = Harness(directory, find_tools("nginx", "cargo"))
    try:
        http = f"server {{ listen 127.0.0.1:{port}; location / {{ return 200; }} }}"
        config = harness.write("nginx.conf", NGINX.format(directory=directory, name="nginx", http=http, user=""))
        nginx = harness.start("nginx", [harness.tools["nginx"], "-c", config, "-p", directory, "-e",
                                        directory / "nginx.error"], port)
        print(*nginx.family, flush=True)
        time.sleep(60)
    finally:
        harness.end_all()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended, but its parent has not read its status yet.
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


class Kill(unittest.TestCase):
    def test_a_killed_script_leaves_no_server_behind(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            with self.subTest(signal=number.name), tempfile.TemporaryDirectory(prefix="compare.") as directory:
                script = subprocess.Popen([sys.executable, __file__, "--run-servers", directory],
                                          stdout=subprocess.PIPE, text=True)
                pids = [int(pid) for pid in script.stdout.readline().split()]
                self.assertEqual(len(pids), 2, "expected the two processes of nginx")
                script.send_signal(number)
                script.communicate()
                deadline = time.monotonic() + 10
                while any(map(is_running, pids)) and time.monotonic() < deadline:
                    time.sleep(0.02)
                left = [pid for pid in pids if is_running(pid)]
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                self.assertEqual(left, [])


def measurements(values, undisturbed=True):
    return [{"turn": turn, "cpu": value, "undisturbed": undisturbed, "others": 0.0, "stolen": 0.0}
            for turn, value in enumerate(values)]


class Verdicts(unittest.TestCase):
    def test_a_goal_is_judged_only_with_enough_rounds_and_a_small_spread(self):
        for values, rounds, goal, expected in (
                ([0.98, 0.99, 1.0, 0.99, 0.98], 5, GOAL, "yes"),
                ([1.04, 1.05, 1.06, 1.05, 1.04], 5, GOAL, "**no**"),
                ([0.98, 0.99, 1.0, 0.99, 0.98], 4, GOAL, "not judged (rounds)"),
                ([0.7, 0.8, 0.9, 1.0, 1.1], 5, GOAL, "not judged (spread)"),
                ([0.9, 0.95, 1.0, 1.05, 1.1], 5, GOAL._replace(metric="p99"), "yes"),
                ([3.6] * 5, 5, GOAL._replace(sign="≥", bound=3.5), "yes"),
                ([3.4] * 5, 5, GOAL._replace(sign="≥", bound=3.5), "**no**"),
                ([1.0] * 5, 5, GOAL._replace(bound=None), "–")):
            self.assertEqual(judge(goal, values, rounds), expected, (values, rounds, goal))

    def test_the_spread_is_half_of_the_middle_half_over_the_median(self):
        self.assertAlmostEqual(spread([1.0, 2.0, 3.0, 4.0, 5.0]), 1 / 3)
        self.assertEqual(spread([2.0]), 0)

    def test_a_ratio_takes_only_rounds_in_which_both_measurements_are_undisturbed(self):
        numerator = measurements([2.0, 4.0]) + [{**measurements([9.0])[0], "turn": 2, "undisturbed": False}]
        measured = {"a": numerator, "b": measurements([1.0, 1.0, 1.0])}
        self.assertEqual(ratios(measured, GOAL), ([2.0, 4.0], 2))

    def test_without_an_undisturbed_round_a_ratio_takes_all_rounds(self):
        measured = {"a": measurements([2.0], undisturbed=False), "b": measurements([1.0])}
        self.assertEqual(ratios(measured, GOAL), ([2.0], 0))

    def test_the_report_says_how_quiet_the_machine_was(self):
        quiet = {"a": measurements([1.0, 1.01, 1.02]), "b": measurements([1.0, 1.0, 1.0])}
        self.assertIn("**Quiet**", quietness([GOAL], quiet))
        loud = {"a": measurements([1.0, 1.5, 2.0]), "b": measurements([1.0, 1.0, 1.0])}
        self.assertIn("**Not quiet**", quietness([GOAL], loud))


class Tables(unittest.TestCase):
    def test_each_goal_names_subjects_and_a_row(self):
        with tempfile.TemporaryDirectory() as directory:
            # The test sets only the attributes that the subjects need, so it starts no servers.
            testbed = Testbed.__new__(Testbed)
            testbed.harness, testbed.jwt, testbed.pat = Harness(pathlib.Path(directory), {}), "jwt", "pat"
            testbed.demo, testbed.FILE_SIZE = pathlib.Path(directory), 1
            keys = collections.Counter(subject.key for subject in all_subjects(testbed))
        self.assertEqual([key for key, count in keys.items() if count > 1], [])
        used = {key for goal in GOALS for key in (goal.numerator, goal.denominator)}
        self.assertEqual(used, set(keys))
        self.assertEqual({goal.row for goal in GOALS} | {"footprint"}, set(ROWS))
        self.assertLessEqual(set(QUICK), set(ROWS))
        self.assertTrue(MAXIMA)

    def test_the_ratio_of_both_builds_is_left_out_if_there_is_only_one(self):
        both, one = (goals(["build"], as_cargo_builds) for as_cargo_builds in (False, True))
        self.assertEqual([goal.what for goal in both if goal not in one],
                         ["JWT → PassTicket: as cargo builds it / profile-guided"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run-servers"]:
        run_servers(sys.argv[2])
    else:
        unittest.main()
