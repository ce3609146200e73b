"""The proxies under test, each with the config that an operator would run for the same work."""

import os
import subprocess

from machine import free_port, start, stop, wait_for


class Stage:
    """What all proxies of one row share: a folder, their cores, the backend, how much there is to route."""

    def __init__(self, folder, backend, on, workers=1, services=1, endpoints=1, log=False):
        self.folder, self.backend, self.on, self.workers = folder, backend, on, workers
        self.services, self.endpoints, self.log = services, endpoints, log


class Proxy:
    """One proxy, running once made: `http`, `h2c` and `tls` are its ports, None where it has none."""

    def __init__(self, name, program, stage):
        self.name, self.program, self.stage = name, program, stage
        self.folder = os.path.join(stage.folder, name)
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self.http, self.h2c, self.tls = free_port(), free_port(), free_port()
        self.process = start(self.command(), stage.on, self.file("said"))
        try:
            wait_for(self.http, self.process, self.file("said"))
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

    def stop(self):
        stop(self.process)


class Relay(Proxy):
    def command(self):
        self.h2c = self.tls = None
        return [self.program, "relay", str(self.http), self.stage.backend]


class Cutover(Proxy):
    def command(self):
        self.h2c = self.http
        os.makedirs(os.path.join(self.folder, "state"))
        config = self.file("cutover.toml", self.config())
        return [self.program, "serve", "--config", config, "--workers", str(self.stage.workers)]

    def config(self):
        self.admin = os.path.join(self.folder, "admin.sock")
        stage = self.stage
        log = f'[access_log]\nfile = "{self.folder}/access.log"\n' if stage.log else ""
        sections = f"""
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
"""
        return sections + self.service("shop", "")

    def service(self, name, host):
        return f"""
[service.{name}]
{host}
[service.{name}.blue]
endpoints = ["{self.stage.backend}"]
"""


class HAProxy(Proxy):
    def command(self):
        return [self.program, "-f", self.file("haproxy.cfg", self.config())]

    def config(self):
        stage = self.stage
        log = "log stdout format raw local0 info\n    option httplog" if stage.log else "no log"
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
frontend shop
    bind 127.0.0.1:{self.http}
    bind 127.0.0.1:{self.h2c} proto h2
    bind 127.0.0.1:{self.tls} ssl crt {stage.folder}/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
    http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
    default_backend blue
backend blue
    server one {stage.backend} check
"""


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
    upstream blue {{
        server {stage.backend};
        keepalive 512;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{self.http} reuseport;
        listen 127.0.0.1:{self.h2c} http2 reuseport;
        listen 127.0.0.1:{self.tls} ssl http2 reuseport;
        ssl_certificate {stage.folder}/cert.pem;
        ssl_certificate_key {stage.folder}/key.pem;
        ssl_protocols TLSv1.3;
        ssl_session_cache shared:shop:10m;
        location / {{
            proxy_pass http://blue;
            proxy_http_version 1.1;
            proxy_max_temp_file_size 0;
            proxy_connect_timeout 1s;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""


def certificate(folder):
    """One ECDSA P-256 certificate for all of them, in the two shapes they take."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *curve, *names, "-days", "30", "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(os.path.join(folder, "both.pem"), "w") as both:
        both.writelines(open(part).read() for part in (cert, key))


def knows_access_log(program, folder):
    """Whether this Cutover has an access log: then it is on, and those of the others are too."""
    config = os.path.join(folder, "probe.toml")
    with open(config, "w") as file:
        file.write('[access_log]\nfile = "access.log"\n[[listener]]\naddress = "127.0.0.1:1"\n'
                   '[service.shop.blue]\nendpoints = ["127.0.0.1:2"]\n')
    check = [program, "check", "--config", config]
    return subprocess.run(check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
