"""The loads: each runs for some seconds against one port and says how many requests, how fast, how many failed."""

import json
import os
import re
import subprocess

UNITS = {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}


class Load:
    """Where the load runs, and what with."""

    def __init__(self, on, tools, folder):
        self.on, self.tools, self.folder = on, tools, folder

    def pinned(self, *command):
        return ["taskset", "-c", ",".join(map(str, sorted(self.on))), *map(str, command)]

    def run(self, *command):
        command = self.pinned(*command)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def wrk(self, url, connections, seconds, headers=()):
        fields = [part for header in headers for part in ("-H", header)]
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
        return read_wrk(self.run("wrk", *options, *fields, url))

    def h2load(self, url, connections, streams, seconds):
        log = os.path.join(self.folder, "h2load.log")
        options = ["-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"--log-file={log}"]
        said = self.run("h2load", *options, url)
        with open(log) as lines:
            took = sorted(int(line.rsplit("\t", 1)[1]) for line in lines)
        os.remove(log)
        done, failed = re.search(r"(\d+) succeeded, (\d+) failed", said).groups()
        at = lambda percent: took[len(took) * percent // 100] if took else 0
        return {"requests": int(done), "seconds": seconds, "p50_us": at(50), "p99_us": at(99), "failed": int(failed)}

    def tool_command(self, *arguments):
        return self.pinned(self.tools, *arguments)

    def tool(self, *arguments):
        return json.loads(self.run(self.tools, *arguments))


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
