"""GoRouter as a peer: its configuration and its start. The program is named by the environment variable GOROUTER.

Promises: the work that nginx does as a peer (see there); backends come to it over NATS, as to Vestibule. One GoRouter has one
policy for client certificates, so that two run: the first for `plain` and `tls`, the second for `mtls`; the one that is not
loaded costs next to nothing. Refuses to know: domains with an authority of their own, which only the newest ones have.
"""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bench.proxies import KEPT, Ports
from router.demo.process import free_port, spawn

VARIABLE = "GOROUTER"


def configs(directory: Path, certificates: Path, nats: int, ports: Ports) -> list[dict[str, Any]]:
    """Of the open one and of the one that asks for certificates; keys as in GoRouter's own file."""
    open_ = {
        "port": ports.plain,
        "ssl_port": ports.tls,
        "tls_pem": [_pair(certificates, "open")],
        "client_cert_validation": "none",
    }
    strict = {
        "disable_http": True,
        "ssl_port": ports.mtls,
        "tls_pem": [_pair(certificates, "east")],
        "client_cert_validation": "require",
        "client_ca_certs": (certificates / "east-ca.pem").read_text(),
        "only_trust_client_ca_certs": True,
        "forwarded_client_cert": "sanitize_set",
    }
    health = _pair(certificates, "open")
    common = [_common(directory / f"access-{number}.log", nats, number, health) for number in range(2)]
    return [common[0] | open_, common[1] | strict]


def start(directory: Path, configs: list[dict[str, Any]]) -> "list[subprocess.Popen[bytes]]":
    """Start them in the foreground. FileNotFoundError where the variable names no program."""
    path = _path()
    if path is None:
        raise FileNotFoundError(f"gorouter: the environment variable {VARIABLE} names no program")
    started = []
    for number, config in enumerate(configs):
        file = directory / f"gorouter-{number}.yml"
        file.write_text(yaml.safe_dump(config))
        with (directory / "error.log").open("ab") as output:
            started.append(spawn([path, "-c", str(file)], stdout=output, stderr=output))
    return started


@cache
def version() -> str | None:
    """It does not say: the file's name; None where there is none."""
    path = _path()
    return None if path is None else f"({path})"


def _path() -> str | None:
    named = os.environ.get(VARIABLE, "")
    return str(Path(named).resolve()) if named and os.access(named, os.X_OK) else None


def _pair(certificates: Path, name: str) -> dict[str, str]:
    return {
        "cert_chain": (certificates / f"{name}.crt").read_text(),
        "private_key": (certificates / f"{name}.key").read_text(),
    }


def _common(log: Path, nats: int, number: int, health: dict[str, str]) -> dict[str, Any]:
    """Every port is named: what one of the two takes by default the other could not."""
    status, health_port, routes, service = (free_port() for _ in range(4))
    return {
        "status": {
            "host": "127.0.0.1",
            "port": status,
            "user": "bench",
            "pass": "bench-status",
            "tls": {"port": health_port, "certificate": health["cert_chain"], "key": health["private_key"]},
            "routes": {"port": routes},
        },
        "nats": {"hosts": [{"hostname": "127.0.0.1", "port": nats}]},
        "logging": {"level": "info", "format": {"timestamp": "rfc3339"}},
        "access_log": {"file": str(log)},
        "enable_ssl": True,
        "min_tls_version": "TLSv1.2",
        "max_tls_version": "TLSv1.3",
        "cipher_suites": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "enable_http2": True,
        "index": number,
        "go_max_procs": 1,
        "disable_keep_alives": False,
        "max_idle_conns": KEPT,
        "max_idle_conns_per_host": KEPT,
        "start_response_delay_interval": "0s",
        "load_balancer_healthy_threshold": "0s",
        "droplet_stale_threshold": "3600s",
        "frontend_idle_timeout": "3600s",
        "route_services_internal_server_port": service,
    }
