"""Load over TLS by h2load (of nghttp2): HTTP/2 with many streams a connection, and whole large bodies over either version.

Promises: TLS as our own generator speaks it (1.3, one key exchange, one cipher); what is returned was counted by h2load.
Refuses to know: client certificates (h2load has none), CPU and proxies.
"""

import re
import shutil
import subprocess
from typing import Literal

from bench.client import GROUP
from bench.load import Load, LoadError, Target
from bench.machine import pinned

Version = Literal["h2", "http/1.1"]

CIPHER = "TLS_AES_256_GCM_SHA384"
"""What our own generator is given by every proxy here; left alone, h2load would ask for a shorter key."""
BODY_SECONDS = 120.0

_REQUESTS = re.compile(r"requests: .* done, ([0-9]+) succeeded, ([0-9]+) failed, ([0-9]+) errored, ([0-9]+) timeout")
_FINISHED = re.compile(r"finished in ([0-9.]+)(us|ms|s|m),")
_PROTOCOL = re.compile(r"Application protocol: (\S+)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def by_streams(target: Target, connections: int, streams: int, seconds: float, core: int | None) -> Load:
    """HTTP/2 requests, so many at once on each connection. Raises LoadError."""
    options = [f"-c{connections}", f"-m{streams}", f"-D{max(1, round(seconds))}"]
    load = _run(options, "h2", target, core, seconds + 60)
    return load._replace(seconds=float(max(1, round(seconds))))


def by_body(version: Version, target: Target, core: int | None) -> Load:
    """One request, its response read to the end. Raises LoadError."""
    return _run(["-c1", "-n1"], version, target, core, BODY_SECONDS)


def _run(options: list[str], version: Version, target: Target, core: int | None, timeout: float) -> Load:
    program = shutil.which("h2load")
    if program is None:
        raise LoadError("h2load is not installed (Debian: nghttp2-client)")
    command = [program, *options, f"--npn-list={version}", f"--groups={GROUP}", f"--tls13-ciphers={CIPHER}"]
    command += [f"--connect-to=127.0.0.1:{target.port}", f"https://{target.host}{target.path}"]
    with pinned(core):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    counted, finished, spoken = _REQUESTS.search(ended.stdout), _FINISHED.search(ended.stdout), _PROTOCOL.search(ended.stdout)
    if counted is None or finished is None:
        raise LoadError(f"h2load said {(ended.stdout + ended.stderr)[-300:]!r}")
    if spoken is None or spoken[1] != version:
        raise LoadError(f"{target} speaks {spoken[1] if spoken else 'nothing'}, expected {version}")
    succeeded, *bad = map(int, counted.groups())
    return Load(succeeded, float(finished[1]) * _UNITS[finished[2]], max(bad))
