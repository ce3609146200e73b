"""The rows: what is asked of every proxy, and how one measurement of it is made."""

import subprocess
import time
from dataclasses import dataclass, field
from typing import Callable

import switching
from machine import Span, resident_bytes

BROWSER = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://shop.example.com/catalogue?page=3",
    "Cookie: session=6f1c0d5e7b8a4c2f9e3d1b0a; theme=dark; consent=all",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Priority: u=0, i",
]
MANY = 1000
IDLE = 4000
# Longer than the allocators take to give back what opening the connections needed.
SETTLE = 6
TLS_ROWS = ("tls", "handshakes")


@dataclass
class Row:
    """One row of the table: `columns` names a set of figures in `table.py`."""

    name: str
    says: str
    measure: Callable
    columns: str = "load"
    peers: tuple = ("cutover", "haproxy", "nginx")
    # What differs between the variants of a row, by name: arguments of the stage.
    variants: dict = field(default_factory=lambda: {"": {}})
    rounds: int = 0


def under_load(apply):
    """A measurement that counts requests under load: `apply(proxy, load, seconds)` is the load."""

    def measure(bench, proxy, warm_up=False):
        load = bench.load(proxy.stage)
        if warm_up:
            return apply(proxy, load, 1)
        span = Span(proxy.pid, proxy.stage.on, load.on)
        seen = apply(proxy, load, bench.asked.seconds)
        used = span.end()
        per_request = 1e6 / max(seen["requests"], 1)
        return {
            "rps": seen["requests"] / seen["seconds"],
            "cpu_us": used["cpu_s"] * per_request,
            "user_us": used["user_s"] * per_request,
            "p50_us": seen["p50_us"],
            "p99_us": seen["p99_us"],
            "failed": seen["failed"],
            **used,
        }

    return measure


def http(path="/", connections=64, headers=()):
    def apply(proxy, load, seconds):
        return load.wrk(f"http://127.0.0.1:{proxy.http}{path}", connections, seconds, [*headers, *proxy.stage.asks])

    return under_load(apply)


def tls(proxy, load, seconds):
    return load.wrk(f"https://localhost:{proxy.tls}/", 64, seconds)


def handshakes(proxy, load, seconds):
    return load.tool("handshakes", proxy.tls, 64, seconds)


def h2c(proxy, load, seconds):
    return load.h2load(f"http://127.0.0.1:{proxy.h2c}/", 16, 16, seconds)


def idle(bench, proxy, warm_up=False):
    """How much larger the proxy is with idle connections than it was after a little work."""
    load = bench.load(proxy.stage)
    if warm_up:
        return http()(bench, proxy, warm_up=True)
    time.sleep(SETTLE)
    before = resident_bytes(proxy.pid)
    command = load.tool_command("idle", proxy.http, IDLE)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as connections:
        opened = connections.stdout.readline().strip() == "open"
        time.sleep(SETTLE)
        after = resident_bytes(proxy.pid)
        connections.stdin.close()
    if not opened:
        raise SystemExit(f"{proxy.name} does not take {IDLE} connections")
    return {"bytes": (after - before) / IDLE, "before_mib": before / 2**20, "after_mib": after / 2**20}


def one_and_many(what):
    return {f"1 {what}": {what: 1}, f"{MANY:,} {what}": {what: MANY}}


ALL = ("cutover", "haproxy", "nginx", "relay")
ROWS = [
    Row("small", "HTTP/1.1 keep-alive, 64 connections, 100 bytes", http(), peers=ALL),
    Row("browser", "the same with a browser's head of 12 fields", http(headers=BROWSER), peers=ALL),
    Row("10k", "HTTP/1.1 keep-alive, 64 connections, 10 KiB", http("/10k"), peers=ALL),
    Row("1m", "HTTP/1.1 keep-alive, 64 connections, 1 MiB", http("/1m"), peers=ALL),
    Row("conns", "HTTP/1.1 keep-alive, 256 connections, 100 bytes", http(connections=256), peers=ALL),
    Row("close", "a connection for each request, 64 at a time", http(headers=["Connection: close"]), peers=ALL),
    Row("h2c", "HTTP/2 cleartext, 16 connections of 16 streams", under_load(h2c)),
    Row("tls", "HTTP/1.1 over TLS 1.3, keep-alive, 64 connections", under_load(tls)),
    Row("handshakes", "a full TLS 1.3 handshake for each request, 64 at a time", under_load(handshakes)),
    Row("idle", f"memory for each of {IDLE:,} idle keep-alive connections", idle, "memory", rounds=1),
    Row("workers", "one worker, and one for each core with the load on the same cores", http(),
        variants={"1 worker": {}, "all": {"workers": 0}}),
    Row("switch", "a switch every 100 to 200 ms under load, all workers saturated, clients without retries",
        switching.measure, "switch", ("cutover",), {"": {"workers": 0}}),
    Row("services", f"small, with 1 and {MANY:,} services", http(), variants=one_and_many("services")),
    Row("endpoints", f"small, with 1 and {MANY:,} endpoints", http(), variants=one_and_many("endpoints")),
]
