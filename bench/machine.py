"""The machine under the measurement: cores, CPU time, memory. Linux, for it reads /proc.

Promises: CPU time is user and system time of a process and all its descendants, in seconds (the kernel counts in hundredths).
Refuses to know: what the processes are.
"""

import contextlib
import os
import platform
import resource
import ssl
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


class Cores(NamedTuple):
    """Where the proxy runs and where everything else does; None: not pinned, there is one core only."""

    proxy: int | None
    rest: int | None


def cores() -> Cores:
    """The first two cores that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) > 1 else Cores(None, None)


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Children started within inherit the core."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptor_limit() -> int:
    """Let this process and its children open as many descriptors as they may; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def family(pid: int) -> list[int]:
    """The process and its living descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            child = int(path.parent.name)
            children.setdefault(int(_stat(child)[1]), []).append(child)
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the family so far."""
    return sum((int(fields[11]) + int(fields[12])) * _TICK for fields in map(_stat, family(pid)))


def resident_kib(pid: int) -> int:
    """Resident memory of the family; pages shared within it count for each."""
    return sum(_resident(member) for member in family(pid))


def busy_seconds(core: int | None) -> float:
    """What anybody has used of a core (of all, where none is named) since the start of the machine."""
    name = "cpu" if core is None else f"cpu{core}"
    for line in Path("/proc/stat").read_text().splitlines():
        label, *fields = line.split()
        if label == name:
            user, nice, system, _, _, irq, softirq, *_ = map(int, fields)
            return (user + nice + system + irq + softirq) * _TICK
    return 0.0


def facts(placed: Cores) -> list[str]:
    """What a figure means nothing without."""
    model = next((line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("vestibule", "pyopenssl", "cryptography", "uvloop"))
    where = "not pinned: one core for all" if placed.proxy is None else f"proxy on core {placed.proxy}, the rest on {placed.rest}"
    return [
        f"{model.strip()}, {os.cpu_count()} cores, Linux {platform.release()}; {where}",
        f"Python {platform.python_version()}, {libraries}, {_openssl()}; load generator: {ssl.OPENSSL_VERSION}",
    ]


def _openssl() -> str:
    from OpenSSL import SSL

    return SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _resident(pid: int) -> int:
    return next((int(line.split()[1]) for line in _lines(f"/proc/{pid}/status") if line.startswith("VmRSS:")), 0)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
