"""Load over TLS by h2load (of nghttp2): HTTP/2 with many streams a connection, and large bodies over either version.

Promises: TLS as our own generator speaks it (1.3, one key exchange, one cipher); what is returned was counted by h2load. Refuses
to know: client certificates (h2load has none), CPU and proxies.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from bench.client_http1 import GROUP
from bench.load import CIPHER, Load, LoadError, Target
from bench.machine import pinned, program
from bench.waits import gather, quantile

Version = Literal["h2", "http/1.1"]

_REQUESTS = re.compile(r"requests: .* done, ([0-9]+) succeeded, ([0-9]+) failed, ([0-9]+) errored, ([0-9]+) timeout")
_BYTES = re.compile(r"\(([0-9]+)\) data\n")
_PROTOCOL = re.compile(r"Application protocol: (\S+)")


def h2load() -> str | None:
    """The path of h2load, if it is installed."""
    return program("h2load")


def by_h2load(
    path: str, version: Version, target: Target, connections: int, streams: int, seconds: float, cores: Collection[int]
) -> Load:
    """Requests, so many at once on each connection. Raises LoadError."""
    whole = max(1, round(seconds))
    command = [path, f"-c{connections}", f"-m{streams}", f"-D{whole}", f"--npn-list={version}", "-w30", "-W30"]
    command += [f"--groups={GROUP}", f"--tls13-ciphers={CIPHER}", f"--connect-to=127.0.0.1:{target.port}"]
    with TemporaryDirectory(prefix="vestibule-bench-") as name, pinned(cores):
        log = Path(name) / "waits"
        command += [f"--log-file={log}", f"https://{target.host}{target.path}"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        waits = gather(_waits(log)) if log.exists() else Counter[int]()
    counted, size, said = _REQUESTS.search(ended.stdout), _BYTES.search(ended.stdout), _PROTOCOL.search(ended.stdout)
    if counted is None or size is None:
        raise LoadError(f"h2load said {(ended.stdout + ended.stderr)[-300:]!r}")
    if said is None or said[1] != version:
        raise LoadError(f"{target} speaks {said[1] if said else 'nothing'}, expected {version}")
    succeeded, *bad = map(int, counted.groups())
    return Load(succeeded, float(whole), max(bad), "", quantile(waits, 0.5), quantile(waits, 0.99), int(size[1]))


def _waits(log: Path) -> Iterator[float]:
    """A line a request: when it began, its status, microseconds until its end."""
    with log.open() as lines:
        for line in lines:
            yield int(line.rpartition("\t")[2]) * 1e-6
