"""Peers of passthrough: by SNI, as Vestibule does it, one worker, a line in the access log for each connection (HAProxy writes it
at once, the others in batches). HAProxy may `splice` where it likes.
"""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import envoy, haproxy
from bench.l4_load import HOST

MAX_CONNECTIONS = 6000


def _start_haproxy(directory: Path, ports: Mapping[int, int]) -> "subprocess.Popen[bytes]":
    return haproxy.start(directory, _HAPROXY + "".join(_haproxy_port(number, *pair) for number, pair in enumerate(ports.items())))


def _start_envoy(directory: Path, ports: Mapping[int, int]) -> "subprocess.Popen[bytes]":
    inspector = envoy.typed("envoy.filters.listener.tls_inspector", "filters.listener.tls_inspector.v3.TlsInspector")
    listeners = []
    for listen, backend in ports.items():
        kind = "filters.network.tcp_proxy.v3.TcpProxy"
        log = [envoy.access_log(directory / "access.log")]
        proxy = envoy.typed(
            "envoy.filters.network.tcp_proxy", kind, stat_prefix=str(backend), cluster=str(backend), access_log=log
        )
        chain = {"filter_chain_match": {"server_names": [HOST]}, "filters": [proxy]}
        listeners.append(envoy.listener(listen, listener_filters=[inspector], filter_chains=[chain]))
    return envoy.start(directory, envoy.main(listeners, {str(backend): backend for backend in ports.values()}))


STARTS: "dict[str, Callable[[Path, Mapping[int, int]], subprocess.Popen[bytes]]]" = {
    "haproxy": _start_haproxy,
    "envoy": _start_envoy,
}
"""In the foreground, by name. The mapping: where it listens -> its backend's port."""

_HAPROXY = f"""global
 nbthread 1
 maxconn {MAX_CONNECTIONS}
 maxpipes 500
 log stdout format raw local0
defaults
 mode tcp
 log global
 option tcplog
 option splice-auto
 timeout connect 5s
 timeout client 300s
 timeout server 300s
"""


def _haproxy_port(number: int, listen: int, backend: int) -> str:
    return f"""frontend front{number}
 bind :::{listen} v4v6
 tcp-request inspect-delay 5s
 tcp-request content accept if {{ req_ssl_hello_type 1 }}
 use_backend back{number} if {{ req_ssl_sni -i {HOST} }}
backend back{number}
 server only 127.0.0.1:{backend}
"""
