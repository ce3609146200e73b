"""Switches under load: what they cost the clients, and how long they take."""

import json
import os
import random
import struct
import subprocess
import time
from bisect import bisect_right

# What `steady` writes for each request: when it began (ns), how long it took (µs), who answered, whether all was well.
LINE = struct.Struct("<QIBB")
CLIENTS = 64
# Requests that were under way so long after a switch had returned still count as around it.
AFTER_NS = 10_000_000
LEAD_S = 0.5


def measure(bench, proxy, warm_up=False):
    load = bench.load(proxy.stage)
    if warm_up:
        return load.wrk(f"http://127.0.0.1:{proxy.http}/", CLIENTS, 1)
    seconds = bench.asked.seconds * 3
    file = proxy.file("steady")
    steady = subprocess.Popen(load.tool_command("steady", proxy.http, CLIENTS, seconds, file))
    try:
        switches = to_and_fro(proxy, seconds)
    finally:
        steady.wait()
    with open(file, "rb") as lines:
        requests = list(LINE.iter_unpack(lines.read()))
    os.remove(file)
    return figures(requests, switches, seconds)


def to_and_fro(proxy, seconds):
    """Switches until shortly before the load ends: for each, when it was asked for, when it returned, what it said."""
    end, switches = time.monotonic() + seconds - LEAD_S, []
    time.sleep(LEAD_S)
    while time.monotonic() < end:
        to = "blue" if proxy.live == "green" else "green"
        begun = time.monotonic_ns()
        command = [proxy.program, "switch", to, "--json", "--admin", f"unix:{proxy.admin}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        returned = time.monotonic_ns()
        if done.returncode:
            raise SystemExit(f"a switch under load failed:\n{done.stdout}{done.stderr}")
        proxy.live = to
        switches.append((begun, returned, to, json.loads(done.stdout)))
        time.sleep(random.uniform(0.1, 0.2))
    return switches


def figures(requests, switches, seconds):
    asked, returned = [it[0] for it in switches], [it[1] for it in switches]
    near, away, late = [], [], 0
    for begun, took, stack, _ in requests:
        # The last switch asked for before the request ended, and the last that had returned when it began.
        before, after = bisect_right(asked, begun + took * 1000) - 1, bisect_right(returned, begun) - 1
        overlaps = before >= 0 and begun < returned[before] + AFTER_NS
        (near if overlaps else away).append(took)
        # Only between a return and the next switch is it known who has to answer.
        settled = after >= 0 and (after + 1 == len(switches) or begun < asked[after + 1])
        late += bool(settled and stack and chr(stack) != switches[after][2][0])
    took = sorted(outcome["switch_us"] for *_, outcome in switches)
    return {
        "rps": len(requests) / seconds,
        "switches": len(switches),
        "lost": sum(1 for *_, well in requests if not well),
        "late": late,
        "switch_p50_us": share(took, 50),
        "switch_p99_us": share(took, 99),
        "near_p99_us": share(sorted(near), 99),
        "away_p99_us": share(sorted(away), 99),
    }


def share(ordered, percent):
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] if ordered else 0
