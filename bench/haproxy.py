"""HAProxy as a peer: its configuration and its start.

Promises: one thread; the work that nginx does as a peer (see there), but for the access log: HAProxy writes a line at a time.
"""

import subprocess
from functools import cache
from pathlib import Path

from bench.client_http1 import GROUP
from bench.machine import program
from bench.proxies import KEPT, Backends, Ports
from router.demo.process import spawn


def config(directory: Path, certificates: Path, backends: Backends, ports: Ports) -> str:
    """A reverse proxy like nginx's; its log goes to the standard output, not to `directory`."""
    strict = f"ca-file {certificates}/east-ca.pem verify required no-tls-tickets"
    return f"""
global
 nbthread 1
 maxconn 10500
 no strict-limits
 log stdout format raw local0
 ssl-load-extra-del-ext
 ssl-default-bind-options ssl-min-ver TLSv1.2
 tune.ssl.cachesize 0

defaults
 mode http
 log global
 option httplog
 option forwardfor
 option http-keep-alive
 http-reuse always
 timeout connect 5s
 timeout client 3600s
 timeout server 3600s
 timeout tunnel 3600s
 unique-id-format %{{+X}}o%ci%cp%Ts%rt
 unique-id-header X-Request-Id

frontend open
 bind [::]:{ports.plain} v4v6 backlog 4096
 bind [::]:{ports.tls} v4v6 backlog 4096 ssl crt {certificates}/open.crt curves {GROUP} alpn h2,http/1.1
 http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
 http-request del-header X-Forwarded-Client-Cert
 use_backend sockets if {{ path /socket }}
 default_backend pages

frontend strict
 bind [::]:{ports.mtls} v4v6 backlog 4096 ssl crt {certificates}/east.crt curves {GROUP} alpn h2,http/1.1 {strict}
 http-request set-header X-Forwarded-Proto https
 http-request set-header X-Forwarded-Client-Cert %[ssl_c_der,base64]
 use_backend sockets if {{ path /socket }}
 default_backend pages

backend pages
 server only 127.0.0.1:{backends.pages} pool-max-conn {KEPT}

backend sockets
 server only 127.0.0.1:{backends.sockets}
"""


def start(directory: Path, config: str) -> "subprocess.Popen[bytes]":
    """Start it in the foreground. FileNotFoundError where it is not installed."""
    path = program("haproxy")
    if path is None:
        raise FileNotFoundError("haproxy: no such program in PATH")
    file = directory / "haproxy.cfg"
    file.write_text(config)
    with (directory / "access.log").open("wb") as log, (directory / "error.log").open("wb") as errors:
        return spawn([path, "-db", "-f", str(file)], stdout=log, stderr=errors)


@cache
def version() -> str | None:
    """As it says itself; None where it is not installed."""
    path = program("haproxy")
    if path is None:
        return None
    said = subprocess.run([path, "-v"], capture_output=True, text=True, check=False).stdout
    return said.partition("version ")[2].partition(" ")[0] or "?"
