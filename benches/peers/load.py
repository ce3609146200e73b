"""The loads: each runs for some seconds against one port and says how many requests, how fast, how many failed."""

import re
import subprocess

UNITS = {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}


class Load:
    """Where the load runs and for how long."""

    def __init__(self, on, seconds):
        self.on, self.seconds = ",".join(map(str, sorted(on))), seconds

    def run(self, command):
        command = ["taskset", "-c", self.on, *command]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def wrk(self, url, connections, headers=(), seconds=None):
        fields = [part for header in headers for part in ("-H", header)]
        base = ["wrk", "-t1", f"-c{connections}", f"-d{seconds or self.seconds}s", "--latency", "--timeout", "10s"]
        return read_wrk(self.run([*base, *fields, url]))


def read_wrk(text):
    """What wrk has printed, as figures."""
    requests, seconds = re.search(r"(\d+) requests in ([\d.]+\w+)", text).groups()
    percentile = lambda share: duration_us(re.search(rf"^\s+{share}%\s+(\S+)$", text, re.M).group(1))
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed = sum(map(int, errors.groups())) if errors else 0
    return {
        "requests": int(requests),
        "seconds": duration_us(seconds) / 1e6,
        "p50_us": percentile(50),
        "p99_us": percentile(99),
        "failed": failed + (int(other.group(1)) if other else 0),
    }


def duration_us(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * UNITS[unit]
