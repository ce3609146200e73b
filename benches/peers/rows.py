"""The rows: what is asked of every proxy, and how one measurement of it is made."""

from dataclasses import dataclass, field
from typing import Callable

from machine import Span

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


@dataclass
class Row:
    """One row of the table."""

    name: str
    says: str
    measure: Callable
    with_relay: bool = True
    stage: dict = field(default_factory=dict)


def under_load(apply):
    """A measurement that counts requests under load: `apply(proxy, load, seconds)` is the load."""

    def measure(bench, proxy, warm_up=False):
        if warm_up:
            apply(proxy, bench.load, 1)
            return None
        span = Span(proxy.pid, bench.proxy_cores, bench.load_cores)
        seen = apply(proxy, bench.load, None)
        used = span.end()
        return {
            "rps": seen["requests"] / seen["seconds"],
            "cpu_us": used["cpu_s"] * 1e6 / max(seen["requests"], 1),
            "p50_us": seen["p50_us"],
            "p99_us": seen["p99_us"],
            "failed": seen["failed"],
            **used,
        }

    return measure


def http(path="/", connections=64, headers=()):
    def apply(proxy, load, seconds):
        return load.wrk(f"http://127.0.0.1:{proxy.http}{path}", connections, headers, seconds)

    return under_load(apply)


ROWS = [
    Row("small", "HTTP/1.1 keep-alive, 64 connections, 100 bytes", http()),
    Row("browser", "the same with a browser's head of 12 fields", http(headers=BROWSER)),
    Row("10k", "HTTP/1.1 keep-alive, 64 connections, 10 KiB", http("/10k")),
    Row("1m", "HTTP/1.1 keep-alive, 64 connections, 1 MiB", http("/1m")),
    Row("conns", "HTTP/1.1 keep-alive, 256 connections, 100 bytes", http(connections=256)),
    Row("close", "a connection for each request, 64 at a time, 100 bytes", http(headers=["Connection: close"])),
]
