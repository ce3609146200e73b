"""The machine as the measurement needs it: programs installed, processes pinned and ended, CPU time read."""

import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import time

# Ports handed out in this run.
TAKEN = set()
TICK = os.sysconf("SC_CLK_TCK")
# Debian's package of each command.
PACKAGES = {"nginx": "nginx-light", "h2load": "nghttp2-client", "taskset": "util-linux"}


def install(commands):
    """Installs Debian's package of each command that is missing."""
    missing = [PACKAGES.get(command, command) for command in commands if not shutil.which(command)]
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    # A runlevel in which nothing is started: a server of Debian's beside those measured would take its share.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "env": env}
    subprocess.run([*sudo, "apt-get", "update", "-qq"], **quiet)
    subprocess.run([*sudo, "apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing], **quiet)


def cores():
    """The core of the proxies, and those of the load and the backend."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def free_port():
    """A port that nobody has and nobody will get by chance: below those that Linux gives to connections."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as ports:
        first = int(ports.read().split()[0])
    while True:
        port = random.randrange(min(10000, first // 2), first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in TAKEN:
                TAKEN.add(port)
                return port


def start(command, on, log, **options):
    """A process pinned to the cores `on`, what it says kept in the file `log`."""
    said = open(log, "ab")
    pin = lambda: os.sched_setaffinity(0, on)
    options = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said, **options}
    return subprocess.Popen(command, preexec_fn=pin, **options)


def stop(process):
    """Ends a process that `start` has started, and waits for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_serving(port, asks, process, said, patience=60):
    """Returns when requests are answered with 200: once the proxy believes in its backends."""
    end, answer = time.monotonic() + patience, None
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/", headers=dict(asks))
            answer = connection.getresponse().status
            connection.close()
            if answer == 200:
                return
        time.sleep(0.05)
    with open(said) as words:
        raise SystemExit(f"{process.args[0]} answers {answer} on port {port}:\n{words.read()}")


def family(pid):
    """The process and its children, as nginx works in one."""
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [pid, *map(int, children.read().split())]


def cpu_seconds(pid):
    """User and system time of all threads so far."""
    user = system = 0
    for one in family(pid):
        with open(f"/proc/{one}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return user / TICK, system / TICK


def resident_bytes(pid):
    total = 0
    for one in family(pid):
        with open(f"/proc/{one}/statm") as statm:
            total += int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def idle_seconds(on):
    """How long the cores have had nothing to do, on average."""
    with open("/proc/stat") as stat:
        lines = (line.split() for line in stat)
        idle = {line[0]: int(line[4]) + int(line[5]) for line in lines if line[0].startswith("cpu")}
    return sum(idle[f"cpu{core}"] for core in on) / TICK / len(on)


class Span:
    """What a process and the cores have used between `begin` and `end`."""

    def __init__(self, pid, proxy_cores, load_cores):
        self.pid, self.proxy_cores, self.load_cores = pid, proxy_cores, load_cores
        self.at = self.look()

    def look(self):
        idle = idle_seconds(self.proxy_cores), idle_seconds(self.load_cores)
        return time.monotonic(), *cpu_seconds(self.pid), *idle

    def end(self):
        wall, user, system, proxy_idle, load_idle = (now - then for now, then in zip(self.look(), self.at))
        cpu = user + system
        return {
            "wall_s": wall,
            "cpu_s": cpu,
            "user_s": user,
            # Of its cores, how much the proxy itself had, and whether anything was left over.
            "proxy_share": cpu / wall / len(self.proxy_cores),
            "proxy_idle": proxy_idle / wall,
            "load_idle": load_idle / wall,
            "apart": not self.proxy_cores & self.load_cores,
        }


@contextlib.contextmanager
def shield():
    """Weighs this session more than others on the machine (sched_autogroup; needs root): they wait while it measures."""
    weigh = lambda nice: open("/proc/self/autogroup", "w").write(str(nice))
    try:
        weigh(-15)
    except OSError as error:
        raise SystemExit(f"nothing is kept waiting: {error}") from None
    try:
        yield
    finally:
        weigh(0)


def end_on_signal():
    """SIGTERM ends like Ctrl-C does: with everything stopped and removed."""
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
