"""Is an instance well? A command or an HTTP request per check, and the count of results that it takes to change one's mind.

Promises: a check ends within its timeout, whatever it asks, and takes bounded memory; no shell reads the command, and it is
killed with everything it started when its time is over; the emitter's own secrets are not in its environment. Refuses to know:
NATS, registrations.
"""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import ssl
import urllib.parse
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from registry.registration import Instance
from router.emit.credentials import SECRET_VARIABLES
from router.wire.http1 import HeadLimits, Malformed, ResponseHead, parse_response_head

MAX_OUTPUT: Final = 4096
"""Bytes of a command's output that are kept; the rest is read and dropped."""

_LIMITS: Final = HeadLimits(16 * 1024, 100)
_SHOWN: Final = 200
_GOOD: Final = range(200, 300)

Check: TypeAlias = Callable[[Instance], Coroutine[Any, Any, str]]
"""Asks once: an empty text when the instance is well, else what is wrong (bounded). OSError where it cannot be asked."""


class Thresholds(NamedTuple):
    """Seconds between checks and for one check; how many results in a row change the verdict."""

    interval: float = 5.0
    timeout: float = 2.0
    unhealthy_after: int = 2
    healthy_after: int = 1


@dataclass(slots=True)
class Verdict:
    """What the results so far say of one instance; nothing (None) before there were enough of them."""

    thresholds: Thresholds
    healthy: bool | None = field(default=None, init=False)
    _row: int = field(default=0, init=False)
    _last: bool | None = field(default=None, init=False)

    def take(self, well: bool) -> bool:
        """Count one result; has the verdict changed?"""
        self._row = self._row + 1 if well is self._last else 1
        self._last = well
        needed = self.thresholds.healthy_after if well else self.thresholds.unhealthy_after
        if well is self.healthy or self._row < needed:
            return False
        self.healthy = well
        return True


async def ask(check: Check, instance: Instance, timeout: float) -> str:
    """One check in at most `timeout` seconds: empty when the instance is well, else what is wrong."""
    try:
        async with asyncio.timeout(timeout):
            return await check(instance)
    except TimeoutError:
        return f"no result after {timeout:g} s"
    except (OSError, ValueError) as error:  # the second for names that cannot be looked up
        return f"{type(error).__name__}: {error}"[:_SHOWN]


def command_check(text: str, environ: Mapping[str, str]) -> Check:
    """Runs the words of `text`, with {host} and {port} filled in; exit status 0 is well. ValueError for no such program."""
    words = shlex.split(text)
    program = shutil.which(words[0], path=environ.get("PATH")) if words else None
    if program is None:
        raise ValueError(f"no program {words[0] if words else ''!r} that may be executed; give its path")
    inherited = {name: value for name, value in environ.items() if name not in SECRET_VARIABLES}

    async def check(instance: Instance) -> str:
        return await _run([program, *(_filled(word, instance) for word in words[1:])], inherited)

    return check


async def _run(command: list[str], environ: Mapping[str, str]) -> str:
    process = await _started(command, environ)
    try:
        assert process.stdout is not None
        output = await _bounded_output(process.stdout)
        status = await process.wait()
    except BaseException:
        await _end(process)
        raise
    finally:
        process._transport.close()  # type: ignore[attr-defined]  # or a pipe would stay that a session of its own holds open
    said = output.decode("utf-8", "backslashreplace").strip()[:_SHOWN]
    return "" if status == 0 else f"exit status {status}: {said or '(it printed nothing)'}"


async def _started(command: list[str], environ: Mapping[str, str]) -> Process:
    """Start it in a session of its own. Broken off on the way, it is ended with what it had time to start."""
    starting = asyncio.get_running_loop().create_task(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
    )
    try:
        await asyncio.wait([starting])
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        if starting.exception() is None:
            await _end(starting.result())
        raise
    return starting.result()


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _bounded_output(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while chunk := await stream.read(65536):
        kept += chunk[: MAX_OUTPUT - len(kept)]
    return kept


def http_check(url: str, authorities: str | None = None) -> Check:
    """A GET to `url` with {host} and {port} filled in; 2xx is well. ValueError for what is no such URL.

    With https the certificate must be of one of `authorities` (a file; None: the system's), for the instance's SAN where it has
    one, else for the URL's host.
    """
    _target(_filled(url, Instance("127.0.0.1", 1), bracketed=True))
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise ValueError(f"{authorities}: expected a PEM file of authorities; {error.strerror or error}") from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as towards NATS

    async def check(instance: Instance) -> str:
        target = _target(_filled(url, instance, bracketed=True))
        return await _get(target, context, instance.san or target.host)

    return check


class _Target(NamedTuple):
    secure: bool
    host: str
    port: int
    authority: str
    path: str


def _target(url: str) -> _Target:
    try:
        parts = urllib.parse.urlsplit(url)
        default = {"http": 80, "https": 443}[parts.scheme]
        host, port = parts.hostname, parts.port or default
    except (ValueError, KeyError):
        host, port, parts = None, 0, urllib.parse.urlsplit("")
    if not host or parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("http://{host}:{port}/path is the form of the URL: http or https, no user, no password, no spaces")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(parts.scheme == "https", host, port, parts.netloc, path)


async def _get(target: _Target, context: ssl.SSLContext, name: str) -> str:
    secure: dict[str, Any] = {"ssl": context, "server_hostname": name} if target.secure else {}
    reader, writer = await asyncio.open_connection(target.host, target.port, **secure)
    try:
        head = (
            f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: vestibule-emit\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode("ascii"))
        await writer.drain()
        answer = await _response(reader)
    finally:
        writer.transport.abort()
    match answer:
        case ResponseHead(status=status):
            return "" if status in _GOOD else f"the answer is {status}"
        case Malformed(reason=reason):
            return f"the answer is no HTTP response ({reason})"
        case None:
            return "the connection ended before the head of the answer"


async def _response(reader: asyncio.StreamReader) -> ResponseHead | Malformed | None:
    """The first final response; None where the stream ends before it."""
    data = b""
    while True:
        found = parse_response_head(data, _LIMITS, b"GET")
        if isinstance(found, ResponseHead) and found.status < 200:
            data = data[found.size :]
        elif found is not None:
            return found
        elif chunk := await reader.read(4096):
            data += chunk
        else:
            return None


def _filled(text: str, instance: Instance, *, bracketed: bool = False) -> str:
    """`{host}` and `{port}` as they are for this instance: the port that routers dial; nothing else in braces is touched."""
    host = f"[{instance.host}]" if bracketed and ":" in instance.host else instance.host
    return text.replace("{host}", host).replace("{port}", str(instance.tls_port or instance.port))
