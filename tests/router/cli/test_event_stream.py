"""router/cli/event_stream.py: the events of one stream, against a server that says exactly these bytes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from router.cli.event_stream import Event, listen
from router.cli.status_client import Place

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


@contextmanager
def saying(answer: bytes, *, reset: bool = False, stay: bool = False) -> Iterator[tuple[Place, list[bytes]]]:
    """A server that answers one request with these bytes and leaves, or stays silent until the client leaves."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            sock, _ = server.accept()
            with sock:
                asked.append(sock.recv(65536))
                sock.sendall(answer)
                if stay:
                    sock.recv(1)
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

        thread = threading.Thread(target=serve)
        thread.start()
        yield Place("127.0.0.1", server.getsockname()[1], "u", "p"), asked
        thread.join()


def test_events_come_with_their_names_and_comments_do_not() -> None:
    body = b':\n\nevent: start\ndata: {"a":1}\n\ndata: {}\n\n: x\nevent:end\r\ndata:{"b":"\xc3\xbc"}\r\n\r\nevent: cut\ndata: {'
    with saying(OK + body) as (place, asked):
        assert list(listen(place, "/tap", {"host": "a b"})) == [
            Event("start", {"a": 1}), Event("message", {}), Event("end", {"b": "ü"}),
        ]  # fmt: skip
    assert asked[0].startswith(b"GET /tap?host=a+b HTTP/1.1\r\n")
    assert b"Authorization: Basic dTpw\r\n" in asked[0]


def test_a_chunked_stream_that_breaks_off_ends() -> None:
    chunk = b"event: start\ndata: {}\n\n"
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(chunk), chunk)
    for reset in (False, True):
        with saying(head, reset=reset) as (place, _):
            assert [event.name for event in listen(place, "/tap", {})] == ["start"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", "VESTIBULE_STATUS_PASS"),
        (b"HTTP/1.1 503 No\r\ncontent-length: 5\r\n\r\nfull\n", "the answer is 503: full; expected 200"),
        (b"HTTP/1.1 400 No\r\ncontent-length: 4\r\n\r\n\x1bno\n", r"does not accept the question: \x1bno"),
        (b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", "of this version?"),
        (OK + b"data: [1]\n\n", "is no JSON object"),
        (OK + b"data: {\n\n", "is no JSON object"),
        (OK + b"x" * 300_000, "a line of the stream has more than"),
        (b"nonsense\r\n\r\n", "is the router running?"),
    ],
)
def test_what_goes_wrong_is_one_sentence(answer: bytes, said: str) -> None:
    with saying(answer) as (place, _), pytest.raises(ValueError) as raised:
        list(listen(place, "/tap", {}))
    assert said in str(raised.value)
    assert str(raised.value).isprintable()


def test_silence_ends_it() -> None:
    """Not even a comment: the router, or the way to it, is dead."""
    with saying(OK, stay=True) as (place, _), pytest.raises(ValueError, match=r"nothing was heard of .* for 0.05 seconds"):
        list(listen(place, "/tap", {}, silence=0.05))


def test_nobody_there_is_said_so() -> None:
    with pytest.raises(ValueError, match="is the router running"):
        list(listen(Place("127.0.0.1", 1, "", ""), "/tap", {}))
