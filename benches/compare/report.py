"""The report of a run: tables in Markdown and a chart in SVG."""

import datetime
import os
import platform
import re
import statistics
import subprocess

from goals import ENOUGH, GOALS
from machine import processor
from measuring import best, ratios
from svg_style import STYLE
from world import CONNECTIONS, HANDSHAKING


def met(value, sign, bound):
    return "yes" if (value <= bound if sign == "≤" else value >= bound) else "**no**"


def quartiles(values):
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def version(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return found[0] if found else "?"


def markdown(command, rounds, measured, memory):
    world = rounds.world
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    tools = world.bench.tools
    lines = [
        "# Results",
        "",
        f"By `{command}` on {today}: {processor()}, "
        f"{os.cpu_count()} cores, Linux {platform.release()}; passticket-proxy "
        f"{version([world.programs['passticket-proxy'], '--version'])}, nginx "
        f"{version([tools['nginx'], '-v'])}, HAProxy {version([tools['haproxy'], '-v'])}, "
        f"rustc {version(['rustc', '--version'])}.",
        "",
        f"All connections are on loopback. Each proxy runs alone on one core. The load generator and the upstream "
        f"(nginx, with a response of 1 KiB) run on another core, which never sleeps. There are {CONNECTIONS} kept "
        f"connections, a JWT of {len(world.jwt)} bytes (RS256) and a PAT of {len(world.pat)} bytes. "
        f"Each subject was measured in {rounds.count} rounds of {rounds.seconds:g} s, in turn with the others. "
        f"{rounds.kept} measurements were kept, {rounds.discarded} were discarded because other processes used the "
        "cores. CPU is the user and system time of the proxy's processes, from /proc. **Compare only figures of the "
        "same run, as ratios.**",
        "",
        '"Ours" is passticket-proxy. "Bypass" is a request on a route without authentication. "Rules" are '
        'revocations in the store. "Forwards" is a proxy that only forwards.',
        "",
        "## Goals",
        "",
        "| # | ratio (of CPU, unless the row names another value) | median | middle half | undisturbed rounds | "
        "goal | met |",
        "|---|---|---|---|---|---|---|",
    ]
    disturbed = False
    for goal in GOALS:
        if goal.over not in measured or goal.under not in measured or goal.row not in world.rows:
            continue
        values, clean = ratios(measured, goal)
        if not values:
            lines.append(f"| {goal.row} | {goal.what} | – | – | 0 | {goal.sign} {goal.bound:g} | "
                         "not measured |")
            continue
        disturbed |= not clean
        verdict = "not judged"
        lower, middle, upper = quartiles(values)
        if clean >= ENOUGH:
            verdict = met(middle, goal.sign, goal.bound)
        lines.append(
            f"| {goal.row} | {goal.what}{'' if clean else ' †'} | {middle:.2f} | "
            f"{lower:.2f} – {upper:.2f} | {clean} | {goal.sign} {goal.bound:g} | "
            f"{verdict} |")
    for what, value, unit, bound in memory:
        goal = f"≤ {bound:g} {unit} | {met(value, '≤', bound)}" if bound else "– | –"
        lines.append(f"| 8 | {what} | {value:.1f} {unit} | | | {goal} |")
    if disturbed:
        lines += ["", "† No round was undisturbed; the values are those of disturbed rounds."]
    lines += ["", f"With fewer than {ENOUGH} undisturbed rounds, a goal is \"not judged\". Start time and memory "
              "are measured without a check for disturbance."]
    titles = {
        "plain": "Plain HTTP/1.1, kept connections",
        "tls": "TLS 1.3 (X25519, P-256), kept connections",
        "handshakes": f"Full TLS 1.3 handshakes (X25519, P-256), {HANDSHAKING} concurrent, each with "
                      "one small request; all servers issue session tickets, no session is resumed",
        "websocket": "WebSocket over plain HTTP/1.1: a message of 125 bytes and its echo",
        "grpc": "gRPC unary calls: TLS 1.3 with HTTP/2 to the proxy (64 calls at a time on 8 connections), "
                "HTTP/2 without TLS to the service; messages of 125 bytes",
        "latency": "Open loop (Poisson) at 70 % of the rate of JWT → PassTicket",
    }
    for group, title in titles.items():
        members = [s for s in world.subjects if s.group == group and s.key in measured]
        if not members:
            continue
        lines += ["", f"## {title}", "",
                  "| subject | undisturbed rounds | requests/s | CPU µs per request | in user mode | "
                  "per core and second | p50 µs | p99 µs | p99.9 µs | memory MiB |",
                  "|---|---|---|---|---|---|---|---|---|---|"]
        for subject in members:
            results = best(measured[subject.key])
            clean = sum(r["clean"] for r in results)
            middle = {k: statistics.median(r[k] for r in results)
                      for k in ("rate", "cpu", "p50", "p99", "p999", "rss")}
            # The kernel counts user time in ticks of 10 ms. A tick is too long for the figures of one round, so
            # the sums of all rounds are used.
            in_user = sum(r["in_user"] for r in results) / sum(r["in_all"] for r in results)
            lines.append(
                f"| {subject.title} | {clean} | {middle['rate']:,.0f} | {middle['cpu']:.2f} | "
                f"{middle['cpu'] * in_user:.1f} | {1e6 / middle['cpu']:,.0f} | {middle['p50']:,.0f} | "
                f"{middle['p99']:,.0f} | {middle['p999']:,.0f} | {middle['rss']:.1f} |")
    return "\n".join(lines) + "\n"


def plot(rounds, measured):
    """Bar charts of the processor time of a request and of a handshake. Less is better."""
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    parts, y = [], 24
    for group, title in (("plain", "Processor time per request, µs (plain HTTP/1.1)"),
                         ("tls", "Processor time per request, µs (TLS 1.3, kept connections)"),
                         ("handshakes", "Processor time per full TLS 1.3 handshake, µs (P-256)")):
        bars = []
        for subject in rounds.world.subjects:
            if subject.group == group and subject.key in measured:
                results = best(measured[subject.key])
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
