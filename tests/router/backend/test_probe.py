"""router/backend/probe.py: one health check, over real TCP and TLS, and the result of each way it ends."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from authz.deny import DenyLists
from router.backend.probe import Result, probe, request
from router.wire.http1 import HeadLimits
from tests.router.backend.parts import endpoint
from tests.router.backend.test_dial import BACKENDS, dialer
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import authority
from tests.support.failing import Mute

LIMITS = HeadLimits(4096, 20)
GET = request("app.example", "/healthz?deep=1")
Make = Callable[..., EchoBackend]


async def ask(port: int, seconds: float = 5.0, deny: DenyLists | None = None, **fields: Any) -> Result:
    until = asyncio.get_running_loop().time() + seconds
    one = dialer(deny=deny) if deny is not None else dialer()
    return await probe(one, endpoint(port, **fields), GET, LIMITS, until)


async def test_a_check_says_what_it_is_and_no_more(backend: EchoBackend) -> None:
    """R40: one request line, the route's host, and a connection that ends; nothing about a client."""
    assert await ask(backend.port) == Result("passed", "200")
    (seen,) = backend.wait_for(1)
    assert seen.head.split(b"\r\n") == [
        b"GET /healthz?deep=1 HTTP/1.1", b"Host: app.example", b"User-Agent: Vestibule-Health-Check", b"Accept: */*",
        b"Connection: close", b"", b"",
    ]  # fmt: skip


def test_a_check_under_a_wildcard_asks_for_a_name_of_its_own() -> None:
    """No Host has a `*`."""
    assert (b"Host", b"health-check.apps.example") in request("*.apps.example", "/").fields


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "passed"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n", "passed"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "bad_status"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "bad_status"),
        (b"nonsense\r\n\r\n", "response_malformed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 5000, "response_too_large"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "response_malformed"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 17, "response_malformed"),
        (lambda exchange: exchange.send(b"HTTP/1.1 200") or exchange.close(), "response_truncated"),
        (lambda exchange: exchange.close(), "connection_closed"),
        (lambda exchange: exchange.reset(), "connection_reset"),
    ],
)
async def test_what_a_backend_answers_is_the_result(
    backend: EchoBackend, answer: bytes | Callable[[Exchange], None], name: str
) -> None:
    """R39: 2xx and 3xx pass; whatever else it does is a result too, and raises nothing."""
    backend.script(answer)
    assert (await ask(backend.port)).name == name


async def test_silence_ends_at_the_deadline(backend: EchoBackend) -> None:
    """One deadline for dialling, handshake and answer."""
    backend.script(lambda exchange: exchange.recv())
    assert (await ask(backend.port, 0.05)).name == "timeout"
    with Mute() as mute:
        assert (await ask(mute.port, 0.05, tls=True, san="app")).name == "timeout"
    with Mute(full=True) as mute:
        assert (await ask(mute.port, 0.05)).name == "timeout"


async def test_who_answers_is_verified_as_for_requests(make_backend: Make) -> None:
    """A live app at the address that is not the registered one has not passed, and reads no request."""
    right = make_backend(credential=BACKENDS.issue_server("app.internal"))
    wrong = make_backend(credential=authority("strangers").issue_server("app.internal"))
    fields: Any = {"tls": True, "san": "app.internal"}
    assert await ask(right.port, **fields) == Result("passed", "200")
    assert (await ask(wrong.port, **fields)).name == "tls_untrusted"
    assert (await ask(right.port, tls=True, san="other")).name == "tls_name_mismatch"
    assert (len(right.received), wrong.received) == (1, [])


async def test_a_denied_address_is_not_asked_and_says_nothing(backend: EchoBackend) -> None:
    """R238: the operator's list keeps checks away too."""
    result = await ask(backend.port, deny=DenyLists(networks=(ip_network("127.0.0.0/8"),)))
    assert (result.name, result.passed, result.says_something) == ("dial_denied", False, False)
    assert backend.received == []


async def test_nobody_there_is_a_failure(backend: EchoBackend) -> None:
    """Refused at once."""
    backend.stop_listening()
    result = await ask(backend.port)
    assert (result.name, result.says_something) == ("dial_failed", True)
