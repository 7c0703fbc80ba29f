"""What passes between a client and a backend passes whichever version of HTTP each of them speaks: all four pairs."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol

import pytest
from h2.errors import ErrorCodes

from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, Tls, get, render_request
from tests.support.http2_backend import Http2Backend, Stream
from tests.support.http2_client import Http2Client
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until

Names = Sequence[tuple[str, str]]


# Either kind of backend


class Reply(Protocol):
    """A backend's side of one exchange."""

    def body(self) -> bytes:
        """All of the request's, which is asked for by a 100 where the client waits for one."""

    def trailers(self) -> list[tuple[str, str]]: ...

    def hint(self) -> None:
        """103."""

    def head(self) -> None:
        """200, and a body of no stated length."""

    def piece(self, data: bytes) -> None: ...

    def end(self, trailers: Names = ()) -> None: ...

    def wait_until_cancelled(self) -> None: ...


class OldReply:
    """By HTTP/1.1."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def body(self) -> bytes:
        return self.exchange.read_body()

    def trailers(self) -> list[tuple[str, str]]:
        return self.exchange.request.trailers

    def hint(self) -> None:
        self.exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")

    def head(self) -> None:
        self.exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def piece(self, data: bytes) -> None:
        self.exchange.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self, trailers: Names = ()) -> None:
        self.exchange.send(b"0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in trailers) + b"\r\n")

    def wait_until_cancelled(self) -> None:
        assert self.exchange.recv() == b""


class NewReply:
    """By HTTP/2."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def body(self) -> bytes:
        if self.stream.all("expect"):
            self.stream.head(100)
        return self.stream.wait()

    def trailers(self) -> list[tuple[str, str]]:
        return self.stream.trailers

    def hint(self) -> None:
        self.stream.head(103, [("link", "</a.css>")])

    def head(self) -> None:
        self.stream.head()

    def piece(self, data: bytes) -> None:
        self.stream.data(data)

    def end(self, trailers: Names = ()) -> None:
        self.stream.end(trailers)

    def wait_until_cancelled(self) -> None:
        self.stream.wait(lambda stream: stream.reset_code == ErrorCodes.CANCEL)


# Either kind of client


class Ask(Protocol):
    """A client's side of one exchange."""

    def begin(self, method: str = "GET", path: str = "/", headers: Names = (), *, more: bool = False) -> None:
        """The head; `more`: a body follows."""

    def send(self, data: bytes, trailers: Names = ()) -> None:
        """All of the body."""

    def interim(self) -> tuple[int, str | None]:
        """The status of the interim response that comes, and its Link."""

    def heard(self, text: bytes) -> bool:
        """Wait until the body has come as far as this."""

    def end(self) -> tuple[int, bytes, list[tuple[str, str]]]:
        """Status, body and trailers."""

    def leave(self) -> None: ...


class OldAsk:
    """By HTTP/1.1."""

    def __init__(self, router: RouterProcess, host: str) -> None:
        self.host = host
        self.client = Client(router.port)

    def begin(self, method: str = "GET", path: str = "/", headers: Names = (), *, more: bool = False) -> None:
        framing = [("Transfer-Encoding", "chunked")] if more else []
        self.client.send(render_request(self.host, path, method=method, headers=[*headers, *framing]))

    def send(self, data: bytes, trailers: Names = ()) -> None:
        last = b"".join(f"{name}: {value}\r\n".encode() for name, value in trailers)
        self.client.send(b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(data), data, last))

    def interim(self) -> tuple[int, str | None]:
        first, *lines = self._until(b"\r\n\r\n").decode().lower().split("\r\n")
        links = [line.removeprefix("link: ") for line in lines if line.startswith("link: ")]
        return int(first.split(" ")[1]), links[0] if links else None

    def heard(self, text: bytes) -> bool:
        return self._until(text).endswith(text)

    def _until(self, text: bytes) -> bytes:
        got = b""
        while not got.endswith(text):
            piece = self.client.recv(1)
            assert piece, got
            got += piece
        return got

    def end(self) -> tuple[int, bytes, list[tuple[str, str]]]:
        response = self.client.read_response()
        return response.status, response.body, response.trailers

    def leave(self) -> None:
        self.client.close()


class NewAsk:
    """By HTTP/2."""

    def __init__(self, router: RouterProcess, host: str) -> None:
        self.host = host
        self.client = Http2Client(router.ssl_port, Tls(host))
        self.stream = 0

    def begin(self, method: str = "GET", path: str = "/", headers: Names = (), *, more: bool = False) -> None:
        lower = [(name.lower(), value) for name, value in headers]
        self.stream = self.client.open(self.host, path, method=method, headers=lower, end=not more)

    def send(self, data: bytes, trailers: Names = ()) -> None:
        self.client.send(self.stream, data, end=not trailers)
        if trailers:
            self.client.send_trailers(self.stream, trailers)

    def interim(self) -> tuple[int, str | None]:
        seen = self.client.answer(self.stream).interim
        self.client.wait(lambda: seen, "an interim response")
        status, fields = seen.pop(0)
        return status, dict(fields).get("link")

    def heard(self, text: bytes) -> bool:
        answer = self.client.answer(self.stream)
        return self.client.wait(lambda: answer.body.endswith(text), f"{text!r}")

    def end(self) -> tuple[int, bytes, list[tuple[str, str]]]:
        answer = self.client.response(self.stream)
        assert answer.ended, answer
        return answer.status, answer.body, answer.trailers

    def leave(self) -> None:
        self.client.reset(self.stream)
        self.client.ping()
        self.client.close()


class Pair(NamedTuple):
    """A host, its backends of one version, and clients of one version."""

    router: RouterProcess
    registrar: Registrar
    host: str
    old_client: bool
    old_backend: bool
    backends: list[EchoBackend]

    def add(self) -> EchoBackend:
        """One more backend."""
        made = EchoBackend() if self.old_backend else Http2Backend()
        self.backends.append(made)
        protocol = "http1" if self.old_backend else "http2"
        self.registrar.register(self.host, backend=made, protocol=protocol, index=len(self.backends))
        return made

    def answer(self, step: Callable[[Reply], object]) -> None:
        """How the backends answer each request."""
        for backend in self.backends:
            if isinstance(backend, Http2Backend):
                backend.each(lambda stream: step(NewReply(stream)))
            else:
                backend.always(lambda exchange: step(OldReply(exchange)))

    def ask(self) -> Ask:
        """A client of its own."""
        return (OldAsk if self.old_client else NewAsk)(self.router, self.host)

    def served(self) -> list[int]:
        """Requests that each backend has had."""
        return [len(each.requests) if isinstance(each, Http2Backend) else len(each.received) for each in self.backends]


@pytest.fixture(params=["1.1 to 1.1", "1.1 to 2", "2 to 1.1", "2 to 2"])
def pair(lone_router: RouterProcess, lone_registrar: Registrar, request: pytest.FixtureRequest) -> Iterator[Pair]:
    client, _, backend = request.param.partition(" to ")
    made = Pair(lone_router, lone_registrar, unique_host("open.example"), client == "1.1", backend == "1.1", [])
    made.add()
    yield made
    for each in made.backends:
        each.stop()


def test_early_hints_come_before_the_answer(pair: Pair) -> None:
    """RFC 8297: 103 and its Link are at the client before the backend says more."""
    go_on = threading.Event()

    def step(reply: Reply) -> None:
        reply.hint()
        assert go_on.wait(10)
        reply.head()
        reply.piece(b"ok")
        reply.end()

    pair.answer(step)
    ask = pair.ask()
    ask.begin()
    assert ask.interim() == (103, "</a.css>")
    go_on.set()
    assert ask.end() == (200, b"ok", [])
    ask.leave()


def test_the_backend_says_when_a_body_is_to_be_sent(pair: Pair) -> None:
    """RFC 9110 section 10.1.1: Expect goes to the backend, its 100 to the client, which sends nothing before it."""

    def step(reply: Reply) -> None:
        body = reply.body()
        reply.head()
        reply.piece(body[::-1])
        reply.end()

    pair.answer(step)
    ask = pair.ask()
    ask.begin("POST", headers=[("Expect", "100-continue")], more=True)
    assert ask.interim() == (100, None)
    ask.send(b"drawer")
    assert ask.end() == (200, b"reward", [])
    ask.leave()


def test_trailers_pass_both_ways(pair: Pair) -> None:
    """RFC 9110 section 6.5: behind either body, however each side frames it."""
    seen: list[tuple[str, str]] = []

    def step(reply: Reply) -> None:
        reply.body()
        seen.extend(reply.trailers())
        reply.head()
        reply.piece(b"down")
        reply.end([("x-sum", "5"), ("grpc-status", "0")])

    pair.answer(step)
    ask = pair.ask()
    ask.begin("POST", headers=[("TE", "trailers")], more=True)
    ask.send(b"up", [("x-up", "1"), ("x-up2", "2")])
    assert ask.end() == (200, b"down", [("x-sum", "5"), ("grpc-status", "0")])
    assert seen == [("x-up", "1"), ("x-up2", "2")]
    ask.leave()


def test_each_event_is_flushed_at_once(pair: Pair) -> None:
    """R121: server-sent events: each is at the client before the backend sends the next."""
    turns = threading.Semaphore(0)
    events = [b"data: %d\n\n" % number for number in range(5)]

    def step(reply: Reply) -> None:
        reply.head()
        for event in events:
            assert turns.acquire(timeout=10)
            reply.piece(event)
        reply.end()

    pair.answer(step)
    ask = pair.ask()
    ask.begin(headers=[("Accept", "text/event-stream")])
    for event in events:
        turns.release()
        assert ask.heard(event)
    ask.leave()


def test_what_reached_nobody_is_tried_elsewhere(pair: Pair) -> None:
    """Contract f.2: a dial that fails costs no client its answer, nor its body, which streams; every request arrives once."""

    def step(reply: Reply) -> None:
        body = reply.body()
        reply.head()
        reply.piece(body)
        reply.end()

    pair.backends[0].stop()
    pair.add()
    pair.answer(step)
    ask = pair.ask()
    for number in range(4):
        ask.begin("POST", more=True)
        ask.send(b"body %d" % number)
        assert ask.end() == (200, b"body %d" % number, [])
    assert pair.served() == [0, 4]
    ask.leave()


def test_a_client_that_leaves_marks_nobody(pair: Pair) -> None:
    """Contract f.2: the backend hears of it, the record says 499, and both endpoints have their turns as before."""
    first, cancelled = threading.Lock(), threading.Event()

    def step(reply: Reply) -> None:
        if first.acquire(blocking=False):
            reply.wait_until_cancelled()
            cancelled.set()
        else:
            reply.head()
            reply.end()

    pair.add()
    pair.answer(step)
    ask = pair.ask()
    ask.begin(path="/left")
    wait_until(lambda: sum(pair.served()) == 1, "the request at a backend")
    ask.leave()
    assert cancelled.wait(10)
    assert '" 499 ' in pair.router.wait_for_log(lambda line: pair.host in line and "/left" in line)
    before = pair.served()
    assert [get(pair.router.port, pair.host).status for _ in range(6)] == [200] * 6
    assert [now - then for then, now in zip(before, pair.served(), strict=True)] == [3, 3]


def test_every_answer_has_a_date(pair: Pair) -> None:
    """RFC 9110 section 6.6.1: the backend's own, else the time at which its answer came; the router's answers have one too."""

    def dated(host: str) -> str | None:
        if pair.old_client:
            return get(pair.router.port, host).get("date")
        with Http2Client(pair.router.ssl_port, Tls(host)) as client:
            return client.request(host).get("date")

    def step(reply: Reply) -> None:
        reply.head()
        reply.end()

    pair.answer(step)
    for host in (pair.host, "nobody.open.example"):
        before = int(time.time())
        told = dated(host)
        assert told is not None
        assert before <= parsedate_to_datetime(told).timestamp() <= time.time()
