"""The proxies under test, each with the config that an operator would run for the same work."""

import os
import subprocess
from dataclasses import dataclass

from machine import free_port, start, stop, wait_until_serving

# With more endpoints than that, health checks are rare and one is enough: it is requests that are measured.
FEW = 10


@dataclass
class Stage:
    """What all proxies of one row share: a folder, their cores, the backends, how much there is to choose from."""

    folder: str
    on: set
    # The ports of the blue and the green backend.
    ports: tuple
    log: bool = False
    # 0: one for each core.
    workers: int = 1
    services: int = 1
    endpoints: int = 1

    @property
    def asks(self):
        """The header fields every request needs here: with several services, the host of one in the middle."""
        return [f"Host: s{self.services // 2}.test"] if self.services > 1 else []

    def addresses(self, color):
        """The endpoints of a color: its backend listens on as many addresses as any row asks for."""
        nets = [f"127.0.{1 + n // 250}.{1 + n % 250}" for n in range(self.endpoints - 1)]
        return [f"{host}:{self.ports[color]}" for host in ("127.0.0.1", *nets)]

    @property
    def is_large(self):
        return self.services * self.endpoints > FEW


class Proxy:
    """One proxy, running once made: `http`, `h2c` and `tls` are its ports."""

    def __init__(self, name, program, stage):
        self.name, self.program, self.stage = name, program, stage
        self.folder = os.path.join(stage.folder, name)
        os.makedirs(self.folder, mode=0o700)
        self.http, self.h2c, self.tls = free_port(), free_port(), free_port()
        self.process = start(self.command(), stage.on, self.file("said"))
        try:
            asks = [header.split(": ") for header in stage.asks]
            wait_until_serving(self.http, asks, self.process, self.file("said"))
        except BaseException:
            self.stop()
            raise

    def file(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w") as file:
                file.write(text)
        return path

    @property
    def pid(self):
        return self.process.pid

    def forget(self):
        """Empties the access log, which is in memory. All of them append, so that they go on at its beginning."""
        for name in ("access.log", "said"):
            if os.path.exists(self.file(name)):
                os.truncate(self.file(name), 0)

    def stop(self):
        stop(self.process)


class Relay(Proxy):
    def command(self):
        return [self.program, "relay", str(self.http), *self.stage.addresses(0)]


class Cutover(Proxy):
    live = "blue"

    def command(self):
        self.h2c = self.http
        self.admin = self.file("admin.sock")
        os.makedirs(self.file("state"))
        config = self.file("cutover.toml", self.config())
        return [self.program, "serve", "--config", config, "--workers", str(self.stage.workers)]

    def config(self):
        stage = self.stage
        log = f'[access_log]\nfile = "{self.folder}/access.log"\n' if stage.log else ""
        several = stage.services > 1
        services = (self.service(f"s{n}", f'hosts = ["s{n}.test"]' if several else "") for n in range(stage.services))
        return f"""
{log}
[admin]
socket = "{self.admin}"
listen = "127.0.0.1:0"
[state]
dir = "{self.folder}/state"
[[listener]]
address = "127.0.0.1:{self.http}"
[[listener]]
address = "127.0.0.1:{self.tls}"
tls = {{ certificates = [{{ cert = "{stage.folder}/cert.pem", key = "{stage.folder}/key.pem" }}] }}
{"".join(services)}"""

    def service(self, name, hosts):
        health = f'[service.{name}.health]\ninterval = "60s"\nrise = 1\n' if self.stage.is_large else ""
        # The list is written as JSON is, which TOML reads as well.
        blue, green = (str(self.stage.addresses(color)).replace("'", '"') for color in (0, 1))
        return f"""
[service.{name}]
{hosts}
{health}
[service.{name}.blue]
endpoints = {blue}
[service.{name}.green]
endpoints = {green}
"""


class HAProxy(Proxy):
    def command(self):
        hosts = "".join(f"s{n}.test s{n}\n" for n in range(self.stage.services))
        self.hosts = self.file("hosts", hosts)
        return [self.program, "-f", self.file("haproxy.cfg", self.config())]

    def config(self):
        stage = self.stage
        log = "log stdout format raw local0 info\n    option httplog" if stage.log else "no log"
        route = f"use_backend %[req.hdr(host),lower,map_str({self.hosts})]" if stage.asks else "default_backend s0"
        return f"""
global
    nbthread {stage.workers}
    maxconn 8000
    stats socket {self.folder}/haproxy.sock
defaults
    mode http
    {log}
    timeout connect 1s
    timeout client 75s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 75s
    option forwardfor
    http-reuse always
    balance random
frontend shop
    bind 127.0.0.1:{self.http}
    bind 127.0.0.1:{self.h2c} proto h2
    bind 127.0.0.1:{self.tls} ssl crt {stage.folder}/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
    http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
    {route}
{"".join(map(self.backend, range(stage.services)))}"""

    def backend(self, n):
        check = "check inter 60s" if self.stage.is_large else "check"
        servers = (f"    server e{i} {it} {check}\n" for i, it in enumerate(self.stage.addresses(0)))
        return f"backend s{n}\n{''.join(servers)}"


class Nginx(Proxy):
    def command(self):
        config = self.file("nginx.conf", self.config())
        return [self.program, "-p", self.folder, "-c", config, "-e", self.file("error.log")]

    def config(self):
        stage = self.stage
        log = f"{self.folder}/access.log combined buffer=64k" if stage.log else "off"
        return f"""
daemon off;
pid {self.folder}/nginx.pid;
{"user root;" if os.geteuid() == 0 else ""}
worker_processes {stage.workers};
events {{ worker_connections 16000; }}
http {{
    access_log {log};
    client_body_temp_path {self.folder}/body;
    proxy_temp_path {self.folder}/proxy;
    fastcgi_temp_path {self.folder}/fastcgi;
    uwsgi_temp_path {self.folder}/uwsgi;
    scgi_temp_path {self.folder}/scgi;
    keepalive_requests 1000000;
    keepalive_timeout 75s;
    client_header_timeout 10s;
    server_names_hash_max_size 4096;
    ssl_certificate {stage.folder}/cert.pem;
    ssl_certificate_key {stage.folder}/key.pem;
    ssl_protocols TLSv1.3;
    ssl_session_cache shared:shop:10m;
    proxy_http_version 1.1;
    proxy_max_temp_file_size 0;
    proxy_connect_timeout 1s;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
{"".join(map(self.server, range(stage.services)))}}}
"""

    def server(self, n):
        listeners = (f"{self.http}", f"{self.h2c} http2", f"{self.tls} ssl http2")
        # The first server's listeners are the others' too.
        listen = "".join(f"listen 127.0.0.1:{it}{' reuseport' if n == 0 else ''}; " for it in listeners)
        servers = " ".join(f"server {it};" for it in self.stage.addresses(0))
        # As many as it may have open to every endpoint, as the others keep.
        keep = max(512, self.stage.endpoints * 2)
        return f"""
    upstream s{n} {{ random two least_conn; {servers} keepalive {keep}; keepalive_requests 1000000; }}
    server {{ {listen} server_name s{n}.test; location / {{ proxy_pass http://s{n}; }} }}
"""


def certificate(folder):
    """One ECDSA P-256 certificate for all of them, in the two shapes they take."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *curve, *names, "-days", "30", "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(os.path.join(folder, "both.pem"), "w") as both:
        for part in (cert, key):
            with open(part) as text:
                both.write(text.read())


def greeting(proxy):
    """What the proxy and a client of the kind that loads it agree on: protocol, suite and key exchange."""
    command = ["openssl", "s_client", "-brief", "-connect", f"127.0.0.1:{proxy.tls}", "-servername", "localhost"]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr
    wanted = ("Protocol version: ", "Ciphersuite: ", "Server Temp Key: ")
    return ", ".join(line.split(": ", 1)[1] for line in said.splitlines() if line.startswith(wanted))


def knows_access_log(program, folder):
    """Whether this Cutover has an access log: then it is on, and those of the others are too."""
    config = os.path.join(folder, "probe.toml")
    with open(config, "w") as file:
        file.write('[access_log]\nfile = "access.log"\n[[listener]]\naddress = "127.0.0.1:1"\n'
                   '[service.shop.blue]\nendpoints = ["127.0.0.1:2"]\n')
    check = [program, "check", "--config", config]
    return subprocess.run(check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
