"""HAProxy as a peer of passthrough: by SNI, as Vestibule does it, one thread, `splice` where it likes."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.l4_load import HOST
from router.demo.process import spawn

MAX_CONNECTIONS = 6000


def start_haproxy(program: str, directory: Path, ports: Mapping[int, int]) -> "subprocess.Popen[bytes]":
    """In the foreground. `ports`: where it listens -> its backend's."""
    file = directory / "haproxy.cfg"
    file.write_text(_MAIN + "".join(_port(number, *pair) for number, pair in enumerate(ports.items())))
    with (directory / "haproxy.log").open("wb") as output:
        return spawn([program, "-db", "-f", str(file)], stdout=output, stderr=output)


_MAIN = f"""global
 nbthread 1
 maxconn {MAX_CONNECTIONS}
 maxpipes 500
defaults
 mode tcp
 option splice-auto
 timeout connect 5s
 timeout client 300s
 timeout server 300s
"""


def _port(number: int, listen: int, backend: int) -> str:
    return f"""frontend front{number}
 bind :::{listen} v4v6
 tcp-request inspect-delay 5s
 tcp-request content accept if {{ req_ssl_hello_type 1 }}
 use_backend back{number} if {{ req_ssl_sni -i {HOST} }}
backend back{number}
 server only 127.0.0.1:{backend}
"""
