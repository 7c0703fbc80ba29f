"""Attacks on HTTP/2: sending one thing until the server has had enough of it, and what must not suffer meanwhile."""

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.client import Tls
from tests.support.http2_client import Code, FrameClient, Goodbye, Http2Client
from tests.support.site import Site

KIB = 24 * 1024
"""What the resident memory may grow during an attack: far less than the attacker sends, more than an allocator's mood."""
CPU_SECONDS = 2.0
"""What an attack may cost: it is over after a budget, while its frames, read to the end, would take longer."""
PIECE = 128 * 1024


@dataclass(slots=True)
class Neighbour:
    """Somebody else on a connection of their own, who asks again and again; `waits` are the seconds each answer took."""

    place: Site
    waits: list[float] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _first: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            with Http2Client(self.place.router.ssl_port, Tls(self.place.host)) as client:
                while not self._stop.wait(0.005) or not self.waits:
                    began = time.monotonic()
                    assert client.request(self.place.host, "/neighbour").status == 200
                    if self._first.is_set():
                        self.waits.append(time.monotonic() - began)
                    self._first.set()
        except BaseException as error:  # whatever it was, the test's thread is to tell
            self.errors.append(error)
        finally:
            self._first.set()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        assert self._first.wait(10)
        try:
            yield
        finally:
            self._stop.set()
            thread.join(20)
        assert self.errors == []
        assert statistics.median(self.waits) < 1.0, self.waits


@contextlib.contextmanager
def unharmed(neighbour: Site, *, kib: int = KIB, cpu: float = CPU_SECONDS) -> Iterator[None]:
    """While the attack runs, a neighbour on another connection and backend is answered within a second; afterwards the router
    has used no more than so much memory and processor time, the neighbour's included.
    """
    router = neighbour.router
    with Neighbour(neighbour).asking():
        errors = router.metric("internal_errors")
        memory, time_used = router.resident_kib(), router.cpu_seconds()
        yield
    grown, used = router.resident_kib() - memory, router.cpu_seconds() - time_used
    assert router.metric("internal_errors") == errors
    assert grown < kib, f"{grown} KiB more"
    assert used < cpu, f"{used} s of processor time"


def attacker(place: Site) -> FrameClient:
    """A connection over TLS to the place."""
    return FrameClient(place.router.ssl_port, Tls(place.host))


def flood(client: FrameClient, frames: bytes, *, most: int) -> Goodbye | None:
    """Send `frames` again and again until the server ends the connection; its GOAWAY. AssertionError after `most` bytes."""
    times = max(1, PIECE // len(frames))
    sent = 0
    while client.goodbye is None and client.write(frames * times):
        sent += len(frames) * times
        assert sent < most, f"{sent} bytes, and the server has not had enough"
    return client.wait_end()


def assert_ended(goodbye: Goodbye | None, place: Site, *codes: int) -> Goodbye:
    """The connection was ended with one of these codes, for a reason that the operator reads in the metrics and in the log."""
    assert goodbye is not None, "the connection ended without a GOAWAY"
    assert goodbye.code in codes, goodbye
    reason = goodbye.words.decode()
    assert reason.replace("_", "").isalpha(), goodbye
    assert place.router.metric("http2_connections_ended", reason=reason) > 0
    return goodbye


def assert_calmed(goodbye: Goodbye | None, place: Site) -> Goodbye:
    """The connection was ended because there was too much of something."""
    return assert_ended(goodbye, place, Code.ENHANCE_YOUR_CALM)


def assert_refused_alone(client: FrameClient, stream: int, place: Site) -> None:
    """The stream was reset with PROTOCOL_ERROR, or answered with 400 before; the connection goes on, and the backend has seen
    nothing but the next request.
    """
    answer = client.response(stream)
    if answer.status:
        assert answer.refusal in ((400, "malformed_request"), (400, "empty_host")), answer
    assert answer.reset in (None, Code.PROTOCOL_ERROR), answer
    assert client.response(client.ask(client.head(place.host, "/next"))).status == 200
    whole = [one.request_line for one in place.backend.received if one.complete]
    assert whole == ["GET /next HTTP/1.1"]
    place.backend.clear()
