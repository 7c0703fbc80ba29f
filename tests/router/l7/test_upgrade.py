"""router/l7/upgrade.py: what is asked for, and what is agreed to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.l7.upgrade import Upgrade, asked_upgrade, switched_fields
from router.wire.http1 import HeadLimits, RequestHead, ResponseHead, parse_request_head, parse_response_head
from tests.support.websocket import KEY, accept_of

LIMITS = HeadLimits(65536, 64)
ACCEPT = accept_of(KEY).encode()
WEBSOCKET = Upgrade((b"websocket",), ACCEPT)


def asked(*lines: str, start: str = "GET / HTTP/1.1") -> Upgrade | None:
    head = parse_request_head("\r\n".join([start, "Host: a", *lines, "", ""]).encode("latin-1"), LIMITS)
    assert isinstance(head, RequestHead), head
    return asked_upgrade(head)


def answered(*lines: str) -> ResponseHead:
    head = parse_response_head("\r\n".join(["HTTP/1.1 101 Switching", *lines, "", ""]).encode("latin-1"), LIMITS, b"GET")
    assert isinstance(head, ResponseHead), head
    return head


def test_the_key_of_the_rfc_has_the_digest_of_the_rfc() -> None:
    """RFC 6455 section 1.3."""
    assert asked("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}") == WEBSOCKET
    assert ACCEPT == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("value", "forwarded"),
    [
        ("foo/1", (b"foo/1",)),
        ("Foo/1 ,bar,, IRC/6.9", (b"Foo/1", b"bar", b"IRC/6.9")),
        ("h2c", None),
        ("H2C, foo", (b"foo",)),
        ("HTTP/2.0, TLS/1.0, h2", None),
        ("websocket, foo", (b"foo",)),
        ("foo bar", None),
        ("foo/", None),
        ("foo/1/2, bar", None),
        ("", None),
        (" , ", None),
    ],
)
def test_only_whole_protocols_that_can_be_told_apart_are_asked_for(value: str, forwarded: tuple[bytes, ...] | None) -> None:
    """RFC 9110 section 7.8; no other HTTP (RFC 9113 section 3.1), no TLS, no WebSocket without its key."""
    found = asked("Connection: upgrade", f"Upgrade: {value}")
    assert (found.protocols if found is not None else None) == forwarded


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: Upgrade", f"Sec-WebSocket-Key: {KEY[:-1]}"),
        ("Connection: Upgrade", f"Sec-WebSocket-Key: {KEY[:-2]}"),
        ("Connection: Upgrade", "Sec-WebSocket-Key: " + "!" * 24),
        ("Connection: Upgrade", "Sec-WebSocket-Key: " + "A" * 24),
        ("Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}"),
        ("Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Content-Length: 1"),
        ("Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Transfer-Encoding: chunked"),
        ("Connection: keep-alive", f"Sec-WebSocket-Key: {KEY}"),
    ],
)
def test_a_websocket_needs_its_key_and_no_body(lines: tuple[str, ...]) -> None:
    """RFC 6455 section 4.1."""
    assert asked("Upgrade: websocket", *lines) is None


def test_methods_and_versions() -> None:
    """A WebSocket is a GET; HTTP/1.0 knows no upgrade."""
    lines = ("Connection: Upgrade", "Upgrade: websocket, foo", f"Sec-WebSocket-Key: {KEY}", "Content-Length: 0")
    assert asked(*lines) == Upgrade((b"websocket", b"foo"), ACCEPT)
    assert asked(*lines, start="POST / HTTP/1.1") == Upgrade((b"foo",), b"")
    assert asked(*lines, start="GET / HTTP/1.0") is None


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80))
def test_what_is_forwarded_is_a_list_of_tokens(value: str) -> None:
    """Whatever a client writes there."""
    found = asked("Connection: upgrade", "Upgrade: a" + value)
    if found is not None:
        (_, (_, sent)) = found.request_fields()
        assert asked("Connection: upgrade", f"Upgrade: {sent.decode()}") == found
        assert not {protocol.partition(b"/")[0].lower() for protocol in found.protocols} & {b"h2c", b"http", b"tls", b"websocket"}


def test_the_backend_is_told_of_what_is_left() -> None:
    """Two fields, as the client spelled the protocols."""
    assert Upgrade((b"foo/1", b"Bar"), b"").request_fields() == [(b"Connection", b"Upgrade"), (b"Upgrade", b"foo/1, Bar")]


GOOD = ("Connection: upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {accept_of(KEY)}")


@pytest.mark.parametrize(
    ("upgrade", "lines", "agreed"),
    [
        (WEBSOCKET, GOOD, True),
        (WEBSOCKET, ("Connection: keep-alive, Upgrade", "Upgrade: WebSocket", GOOD[2]), True),
        (WEBSOCKET, GOOD[1:], False),
        (WEBSOCKET, (GOOD[0], GOOD[2]), False),
        (WEBSOCKET, GOOD[:2], False),
        (WEBSOCKET, (*GOOD, GOOD[2]), False),
        (WEBSOCKET, (*GOOD[:2], "Sec-WebSocket-Accept: " + accept_of("x")), False),
        (WEBSOCKET, (*GOOD[:2], "Sec-WebSocket-Accept: " + accept_of(KEY).lower()), False),
        (WEBSOCKET, (GOOD[0], "Upgrade: foo", GOOD[2]), False),
        (WEBSOCKET, (*GOOD, "Upgrade: websocket"), False),
        (WEBSOCKET, (GOOD[0], "Upgrade: websocket, foo", GOOD[2]), False),
        (Upgrade((b"foo/1", b"bar"), b""), ("Connection: upgrade", "Upgrade: BAR"), True),
        (Upgrade((b"foo/1", b"bar"), b""), ("Connection: upgrade", "Upgrade: foo"), False),
        (Upgrade((b"foo/1", b"bar"), b""), ("Connection: upgrade", "Upgrade: foo/1, bar"), False),
        (Upgrade((b"foo",), b""), ("Connection: upgrade", "Upgrade: websocket"), False),
        (Upgrade((b"foo",), b""), ("Connection: upgrade", "Upgrade: "), False),
    ],
)
def test_a_101_is_the_answer_to_one_thing_that_was_asked_for(upgrade: Upgrade, lines: tuple[str, ...], agreed: bool) -> None:
    """Attack 54: RFC 6455 section 4.1 and RFC 9110 section 15.2.2."""
    assert (upgrade.fault_of(answered(*lines)) is None) == agreed


def test_the_client_is_told_what_the_backend_chose() -> None:
    """As the backend spelled it."""
    assert switched_fields(answered("Connection: Upgrade", "Upgrade: WebSocket")) == [
        (b"Connection", b"Upgrade"), (b"Upgrade", b"WebSocket"),
    ]  # fmt: skip
