"""router/l7/reach.py: how a request gets a connection, in this process, on both event loops."""

from registry.endpoint import Endpoint
from router.backend.http1 import Http1Upstream
from router.faults import Fault
from tests.router.desk import desk, settings
from tests.support.backend import EchoBackend
from tests.support.waiting import until

HOST = "app.open.example"
OK = b"HTTP/1.1 200 OK\r\n"


async def test_a_backend_that_spoke_while_it_was_idle_is_not_used(backend: EchoBackend) -> None:
    """Attack 55: a second response nobody asked for never answers another request."""
    async with desk() as one:
        one.register(HOST, backend)
        backend.script(OK + b"Content-Length: 3\r\n\r\none", OK + b"Content-Length: 3\r\n\r\ntwo")
        assert (await one.get(HOST)).body == b"one"
        assert one.live.snapshot.idle.size == 1
        (connection,) = backend._open
        connection.socket.sendall(OK + b"Content-Length: 4\r\n\r\nevil")
        assert (await one.get(HOST)).body == b"two"
        assert backend.connections == 2


async def test_the_next_request_takes_the_connection_that_idles(backend: EchoBackend) -> None:
    """Nothing is dialled, and the record says from where it was sent, as it does of a new connection."""
    async with desk() as one:
        one.register(HOST, backend)
        for _ in range(2):
            await one.get(HOST)
            await one.idle()
        assert backend.connections == 1
        first, second = one.records.records
        assert first.local_address == second.local_address != ""
        assert first.dial_time >= 0 > second.dial_time


async def test_an_idle_connection_to_a_peer_that_is_denied_now_is_not_taken(backend: EchoBackend) -> None:
    """Whoever has reached a denied address before the reload does not reach it after."""
    async with desk() as one:
        one.register(HOST, backend)
        await one.get(HOST)
        await one.idle()
        kept = one.live.snapshot.idle
        assert kept.size == 1
        one.adopt(settings(deny={"backend_networks": ["127.0.0.0/8"]}))
        assert (await one.get(HOST)).status == 403
        assert len(backend.received) == 1


async def test_a_dial_that_takes_the_requests_time_is_the_requests_deadline(backend: EchoBackend) -> None:
    """The endpoint had no time left, whatever step it was that took it: the log says so."""
    async with desk(endpoint_timeout="50ms") as one:
        one.register(HOST, backend)

        async def dial(endpoint: Endpoint, by: float = 0.0, within: float | None = None) -> Http1Upstream:
            await until(lambda: one.loop.time() >= by, "the deadline")
            raise Fault("dial_timeout")

        one.live.snapshot.dialer.dial = dial  # type: ignore[method-assign]
        assert (await one.get(HOST)).get("x-cf-routererror") == "endpoint_failure (timeout)"
        assert one.log.of("backend-endpoint-failed")[0]["error"] == "endpoint_timeout"
