"""nginx, as backend and as peer: its configuration and its start.

Promises: one worker; as a peer it does what Vestibule does: keep-alive to the backend, an access log that is written in
batches, the forwarding headers, on mutual TLS the caller's certificate in a header, no session tickets there, and upgrades. What
it reads faster than the client does stays in memory, as with the others.
"""

import os
import resource
import subprocess
from functools import cache
from pathlib import Path

from bench.machine import program
from bench.proxies import KEPT, Backends, Ports
from router.demo.process import spawn

BULK_BYTES = 10 << 20
_MANY = 1_000_000_000
_LOCATION = """
  location / {
   proxy_pass http://backend;
   proxy_set_header Connection "";
   COMMON
  }
  location = /socket {
   proxy_pass http://sockets;
   proxy_set_header Connection upgrade;
   proxy_set_header Upgrade $http_upgrade;
   proxy_read_timeout 3600s;
   COMMON
  }"""
_COMMON = """
   proxy_http_version 1.1;
   proxy_set_header Host $host;
   proxy_set_header X-Forwarded-For $remote_addr;
   proxy_set_header X-Forwarded-Proto $scheme;
   proxy_set_header X-Request-Id $request_id;
   proxy_set_header X-Forwarded-Client-Cert CERTIFICATE;"""


def backend_config(directory: Path, port: int) -> str:
    """1 KiB to every request, 10 MiB of zeroes to those for `/bulk`: a file without blocks."""
    bulk = directory / "bulk"
    with bulk.open("wb") as file:
        file.truncate(BULK_BYTES)
    return _main(
        directory,
        f""" access_log off;
 server {{ listen 127.0.0.1:{port} backlog=4096;
  location / {{ return 200 "{"x" * 1024}"; }}
  location = /bulk {{ alias {bulk}; sendfile on; tcp_nopush on; }} }}""",
    )


def peer_config(directory: Path, certificates: Path, backends: Backends, ports: Ports) -> str:
    """A reverse proxy."""
    location = _LOCATION.replace("COMMON", _COMMON).replace("CERTIFICATE", '""')
    location_mtls = _LOCATION.replace("COMMON", _COMMON).replace("CERTIFICATE", "$ssl_client_escaped_cert")
    return _main(
        directory,
        f""" access_log {directory}/access.log combined buffer=64k flush=1s;
 ssl_protocols TLSv1.2 TLSv1.3;
 proxy_max_temp_file_size 0;
 upstream backend {{ server 127.0.0.1:{backends.pages}; keepalive {KEPT}; keepalive_requests {_MANY}; }}
 upstream sockets {{ server 127.0.0.1:{backends.sockets}; }}
 server {{ listen [::]:{ports.plain} ipv6only=off backlog=4096; {location} }}
 server {{ listen [::]:{ports.tls} ssl http2 ipv6only=off backlog=4096; {_certificate(certificates / "open")} {location} }}
 server {{ listen [::]:{ports.mtls} ssl http2 ipv6only=off backlog=4096;
  {_certificate(certificates / "east")}
  ssl_client_certificate {certificates}/east-ca.pem; ssl_verify_client on;
  ssl_session_tickets off; ssl_session_cache off; {location_mtls} }}""",
    )


def _certificate(name: Path) -> str:
    return f"ssl_certificate {name}.crt; ssl_certificate_key {name}.key;"


def start(directory: Path, config: str) -> "subprocess.Popen[bytes]":
    """Start it in the foreground. FileNotFoundError where it is not installed."""
    path = program("nginx")
    if path is None:
        raise FileNotFoundError("nginx: no such program in PATH")
    file = directory / "nginx.conf"
    file.write_text(config)
    with (directory / "output").open("wb") as output:
        return spawn([path, "-e", str(directory / "error.log"), "-c", str(file)], stdout=output, stderr=output)


@cache
def version() -> str | None:
    """As it says itself; None where it is not installed."""
    path = program("nginx")
    if path is None:
        return None
    said = subprocess.run([path, "-v"], capture_output=True, text=True, check=False).stderr
    return said.partition("nginx/")[2].strip() or "?"


def _main(directory: Path, http: str) -> str:
    """`user root` only where we are root: a worker of nobody could not write into our directory."""
    places = "\n".join(f" {kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[0]};
pid {directory}/pid;
error_log {directory}/error.log error;
events {{ worker_connections 16000; }}
http {{
{places}
 keepalive_requests {_MANY};
 keepalive_timeout 3600s;
{http}
}}
"""
