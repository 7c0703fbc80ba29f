"""The machine under the measurement: cores, CPU time, memory. Linux, for it reads /proc.

Promises: CPU time is user and system time of a process and all its descendants, in seconds (the kernel counts in hundredths).
Refuses to know: what the processes are.
"""

import contextlib
import os
import platform
import resource
import shutil
import ssl
import sysconfig
from collections.abc import Collection, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


class Cores(NamedTuple):
    """Where the proxy runs and where everything else does; empty: not pinned, there is one core only."""

    proxy: tuple[int, ...]
    rest: tuple[int, ...]


def cores(proxy: int = 1) -> Cores:
    """The first `proxy` cores that this process may use, and all others, at least the last."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) == 1:
        return Cores((), ())
    return Cores(tuple(usable[:proxy]), tuple(usable[proxy:] or usable[-1:]))


@contextlib.contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Children started within inherit the cores."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
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


def cpu_seconds(*pids: int) -> float:
    """User and system time of the families so far."""
    members = (member for pid in pids for member in family(pid))
    return sum((int(fields[11]) + int(fields[12])) * _TICK for fields in map(_stat, members))


def own_seconds() -> float:
    """User and system time of this process and all that it ever started."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu_seconds(os.getpid()) + ended.ru_utime + ended.ru_stime


def resident_kib(*pids: int) -> int:
    """Resident memory of the families; pages shared within one count for each."""
    return sum(resident_of(member) for pid in pids for member in family(pid))


def resident_of(pid: int) -> int:
    """Resident KiB of one process."""
    return next((int(line.split()[1]) for line in _lines(f"/proc/{pid}/status") if line.startswith("VmRSS:")), 0)


def busy_seconds(cores: Collection[int]) -> float:
    """What anybody has used of these cores since the start of the machine, one with the other; of all where none is named."""
    busy = [seconds for label, seconds in _busy() if not cores or label in cores]
    return sum(busy) / len(busy) if busy else 0.0


def program(name: str) -> str | None:
    """Where a program is: beside Python, in PATH, or where distributions keep those of the administrator."""
    beside = sysconfig.get_path("scripts")
    return shutil.which(name, path=os.pathsep.join((beside, os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin")))


def facts(placed: Cores) -> list[str]:
    """What a figure means nothing without."""
    model = next((line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("vestibule", "pyopenssl", "cryptography", "uvloop"))
    where = f"proxy on core {_list(placed.proxy)}, the rest on {_list(placed.rest)}" if placed.proxy else "not pinned: one core"
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


def _busy() -> Iterator[tuple[int, float]]:
    """Each core's number and its seconds."""
    for line in _lines("/proc/stat"):
        label, *fields = line.split()
        if label.startswith("cpu") and label != "cpu":
            user, nice, system, _, _, irq, softirq, *_ = map(int, fields)
            yield int(label.removeprefix("cpu")), (user + nice + system + irq + softirq) * _TICK


def _list(cores: Collection[int]) -> str:
    return ", ".join(map(str, cores))


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
