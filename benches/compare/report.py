"""The report of a run: tables in Markdown and a chart in SVG."""

import collections
import datetime
import os
import platform
import re
import statistics
import subprocess

from goals import MAX_SPREAD, MAXIMA, MIN_ROUNDS
from machine import processor
from measuring import quartiles, ratios, spread, undisturbed
from svg_style import STYLE
from testbed import CONNECTIONS, HANDSHAKING, Testbed

# A table of the report. The unit of its figures is a GiB of transferred bytes, or a response.
Group = collections.namedtuple("Group", "title unit", defaults=("response",))

GIB = 1024 * 1024 * 1024

GROUPS = {
    "plain": Group("Plain HTTP/1.1, kept connections"),
    "tls": Group("TLS 1.3 (X25519, P-256), HTTP/1.1, kept connections"),
    "http2": Group("HTTP/2 over TLS 1.3, 16 kept connections with 8 concurrent requests each"),
    "tls_service": Group("Service behind TLS 1.3, plain HTTP/1.1 to the proxy, all connections kept; the proxies verify "
                         "the certificate of the service"),
    "transfers": Group("Downloads and uploads of 64 MiB, 4 at a time, over HTTP/1.1 or over HTTP/2 with TLS 1.3; "
                       "nginx and HAProxy forward", "GiB"),
    "handshakes": Group(f"Full TLS 1.3 handshakes (X25519, P-256), {HANDSHAKING} concurrent, each with "
                        "one small request; all servers issue session tickets, no session is resumed"),
    "websocket": Group("WebSocket over plain HTTP/1.1: a message of 125 bytes and its echo"),
    "grpc": Group("gRPC unary calls: TLS 1.3 with HTTP/2 to the proxy (64 calls at a time on 8 connections), "
                  "HTTP/2 without TLS to the service; messages of 125 bytes"),
    "latency": Group("Open loop (Poisson) at 70 % of the rate of JWT → PassTicket"),
}


def is_met(value, sign, bound):
    return value <= bound if sign == "≤" else value >= bound


def verdict(value, sign, bound):
    return "yes" if is_met(value, sign, bound) else "**no**"


def judge(goal, values, undisturbed_rounds):
    """Returns whether the goal is met, as a word of the report."""
    if goal.bound is None:
        return "–"
    if undisturbed_rounds < MIN_ROUNDS:
        return "not judged (rounds)"
    if spread(values) > MAX_SPREAD[goal.metric]:
        return "not judged (spread)"
    return verdict(statistics.median(values), goal.sign, goal.bound)


def version(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return found[0] if found else "?"


def quietness(goals, measured):
    """Says how quiet the machine was."""
    spreads = [spread(ratios(measured, goal)[0]) for goal in goals if goal.metric == "cpu"]
    kept = [result for results in measured.values() for result in undisturbed(results)]
    lines = []
    if spreads:
        median, limit = statistics.median(spreads), MAX_SPREAD["cpu"]
        lines = [f"**{'Quiet' if median <= limit else 'Not quiet'}**: the spread of a ratio of CPU was "
                 f"± {median:.1%} (median of {len(spreads)} ratios), at most ± {max(spreads):.1%}."]
    if kept:
        others, stolen = (statistics.mean(result[who] for result in kept) for who in ("others", "stolen"))
        lines.append(f"During the measurements, other processes used {others:.1%} of the two cores, and the "
                     f"hypervisor {stolen:.1%}.")
    return " ".join(lines)


def goal_lines(goals, measured):
    lines = ["| row | ratio (of CPU, unless the line names another value) | median | middle half | spread | "
             "undisturbed rounds | goal | met |",
             "|---|---|---|---|---|---|---|---|"]
    disturbed = False
    for goal in goals:
        bound = "–" if goal.bound is None else f"{goal.sign} {goal.bound:g}"
        values, rounds = ratios(measured, goal)
        if not values:
            lines.append(f"| {goal.row} | {goal.what} | – | – | – | 0 | {bound} | not measured |")
            continue
        disturbed |= not rounds
        lower, middle, upper = quartiles(values)
        lines.append(f"| {goal.row} | {goal.what}{'' if rounds else ' †'} | {middle:.2f} | {lower:.2f} – {upper:.2f} | "
                     f"± {spread(values):.1%} | {rounds} | {bound} | {judge(goal, values, rounds)} |")
    return lines, disturbed


def value_lines(values):
    lines = []
    for value in values:
        bound = MAXIMA.get(value.what)
        goal = f"≤ {bound:g} {value.unit} | {verdict(value.value, '≤', bound)}" if bound else "– | –"
        lines.append(f"| {value.row} | {value.what} | {value.value:.1f} {value.unit} | | | | {goal} |")
    return lines


def group_lines(group, subjects, measured):
    gib = group.unit == "GiB"
    # Number of units in a response.
    size = Testbed.FILE_SIZE / GIB if gib else 1
    cpu_unit = "CPU s per GiB" if gib else "CPU µs per request"
    lines = ["", f"## {group.title}", "",
             f"| subject | undisturbed rounds | {'GiB' if gib else 'requests'}/s | {cpu_unit} | in user mode | "
             "per core and second | p50 µs | p99 µs | p99.9 µs | memory MiB |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for subject in subjects:
        results = undisturbed(measured[subject.key])
        rounds = sum(r["undisturbed"] for r in results)
        middle = {k: statistics.median(r[k] for r in results) for k in ("rate", "cpu", "p50", "p99", "p999", "rss")}
        # The kernel counts user time in ticks of 10 ms. A tick is too long for the figures of one round, so
        # the sums of all rounds are used.
        user_share = sum(r["in_user"] for r in results) / max(1, sum(r["in_all"] for r in results))
        cpu = middle["cpu"] / size / (1e6 if gib else 1)
        per_second = 1e6 / middle["cpu"] * size
        digits = 2 if gib else 0
        lines.append(
            f"| {subject.title} | {rounds} | {middle['rate'] * size:,.{digits}f} | {cpu:.2f} | "
            f"{cpu * user_share:.{2 if gib else 1}f} | {per_second:,.{digits}f} | {middle['p50']:,.0f} | "
            f"{middle['p99']:,.0f} | {middle['p999']:,.0f} | {middle['rss']:.1f} |")
    return lines


def markdown(command, rounds, measured, values):
    testbed = rounds.testbed
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    tools = testbed.harness.tools
    goals, disturbed = goal_lines(testbed.goals, measured)
    lines = [
        "# Results",
        "",
        f"By `{command}` on {today}: {processor()}, "
        f"{os.cpu_count()} cores, Linux {platform.release()}; passticket-proxy "
        f"{version([testbed.programs['passticket-proxy'], '--version'])}, nginx "
        f"{version([tools['nginx'], '-v'])}, HAProxy {version([tools['haproxy'], '-v'])}, "
        f"rustc {version(['rustc', '--version'])}.",
        "",
        f"All connections are on loopback. Each proxy runs alone on one core. The load generator and the upstream "
        f"(nginx, with a response of 1 KiB) run on another core, which never sleeps. Unless a table says otherwise, "
        f"there are {CONNECTIONS} kept "
        f"connections, a JWT of {len(testbed.jwt)} bytes (RS256) and a PAT of {len(testbed.pat)} bytes. "
        f"Each subject was measured in up to {rounds.count} rounds of {rounds.seconds:g} s, in turn with the others. "
        f"{rounds.kept} measurements were kept, {rounds.discarded} were discarded because other processes used the "
        "cores. CPU is the user and system time of the proxy's processes, from /proc. **Compare only figures of the "
        "same run, as ratios.**",
        "",
        '"Ours" is passticket-proxy. "Bypass" is a request on a route without authentication. "Rules" are '
        'revocations in the store. "Forwards" is a proxy that only forwards. "Spread" is half of the width of the '
        "middle half of the ratios, divided by their median.",
        "",
        quietness(testbed.goals, measured),
        "",
        "## Goals",
        "",
        *goals,
        *value_lines(values),
    ]
    if disturbed:
        lines += ["", "† No round was undisturbed; the values are those of disturbed rounds."]
    lines += ["", f"With fewer than {MIN_ROUNDS} undisturbed rounds, or with a spread above ± {MAX_SPREAD['cpu']:.0%} "
              f"(± {MAX_SPREAD['p99']:.0%} for a 99th percentile), a goal is \"not judged\". Start time and memory are "
              "measured without a check for disturbance."]
    for name, group in GROUPS.items():
        members = [s for s in testbed.subjects if s.group == name and measured.get(s.key)]
        if members:
            lines += group_lines(group, members, measured)
    return "\n".join(lines) + "\n"


def plot(rounds, measured):
    """Bar charts of the processor time of a request and of a handshake. Less is better."""
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    parts, y = [], 24
    for group, title in (("plain", "Processor time per request, µs (plain HTTP/1.1)"),
                         ("tls", "Processor time per request, µs (TLS 1.3, kept connections)"),
                         ("http2", "Processor time per request, µs (HTTP/2 over TLS 1.3)"),
                         ("tls_service", "Processor time per request, µs (service behind TLS 1.3)"),
                         ("handshakes", "Processor time per full TLS 1.3 handshake, µs (P-256)")):
        bars = []
        for subject in rounds.testbed.subjects:
            if subject.group == group and subject.key in measured:
                results = undisturbed(measured[subject.key])
                cpu = statistics.median(r["cpu"] for r in results)
                peer = any(word in subject.key for word in ("nginx", "haproxy", "minimal"))
                bars.append((cpu, subject.title, "peer" if peer else "ours"))
        if not bars:
            continue
        parts.append(f'<text class="head" x="16" y="{y}">{title}</text>')
        most = max(cpu for cpu, *_ in bars)
        for cpu, name, kind in sorted(bars):
            y += 24
            width = 360 * cpu / most
            parts.append(
                f'<text x="256" y="{y}" text-anchor="end">{name}</text>'
                f'<rect class="{kind}" x="268" y="{y - 12}" width="{width:.1f}" height="16" '
                f'rx="2"/><text x="{268 + width + 8:.1f}" y="{y}">{cpu:,.1f}</text>')
        y += 44
    parts.append(f'<text class="quiet" x="16" y="{y - 8}">{processor()}, one core, {today}; '
                 f'medians of {rounds.count} alternating rounds. Less is better.</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {y + 8}" role="img" '
            f'aria-label="Processor time of passticket-proxy and its peers">\n'
            f'<style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n")
