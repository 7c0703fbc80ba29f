"""router/l4/dispatch.py: what becomes of a connection, as a table."""

import pytest

from router.l4.dispatch import Choice, Passthrough, PlainHttp, Refuse, Terminate, dispatch, reads_hello
from router.l4.listeners import Kind
from router.l4.routes import L4Route, L4Table
from router.wire.client_hello import ClientHello
from router.wire.malformed import Malformed

PORT, RAW_PORT = 443, 5432
DATABASE = L4Route("database", RAW_PORT, (), (("10.0.0.1", 5432),))
EXACT = L4Route("exact", PORT, ("tunnel.example",), (("10.0.0.2", 443),))
SUFFIX = L4Route("suffix", PORT, ("*.apps.example",), (("10.0.0.3", 443),))
TABLE = L4Table([DATABASE, EXACT, SUFFIX], [(PORT, "www.apps.example")])


def terminates(port: int, name: str) -> bool:
    """What L7 answers for."""
    return (port, name) == (PORT, "www.apps.example")


def hello(name: str | None, *, ech: bool = False) -> ClientHello:
    return ClientHello(name, (), 100, ech)


@pytest.mark.parametrize(
    ("kind", "port", "said", "expected"),
    [
        ("tls", PORT, hello("tunnel.example"), Passthrough(EXACT, "tunnel.example")),
        ("tls", PORT, hello("a.b.apps.example"), Passthrough(SUFFIX, "a.b.apps.example")),
        ("tls", PORT, hello("tunnel.example", ech=True), Passthrough(EXACT, "tunnel.example")),
        ("tls", PORT, hello("www.apps.example"), Terminate(hello("www.apps.example"))),
        ("tls", PORT, hello("other.example"), Refuse("unknown_sni")),
        ("tls", PORT, hello("apps.example"), Refuse("unknown_sni")),
        ("tls", PORT, hello("public.example", ech=True), Refuse("ech")),
        ("tls", PORT, hello(None), Refuse("no_sni")),
        ("tls", PORT, Malformed("not_tls"), Refuse("not_tls")),
        ("tls", PORT, Malformed("two_names"), Refuse("two_names")),
        ("tls", PORT, None, Refuse("not_tls")),
        ("tls", 8443, hello("tunnel.example"), Refuse("unknown_sni")),
        ("ssl_port", PORT, hello("tunnel.example"), Passthrough(EXACT, "tunnel.example")),
        ("ssl_port", PORT, hello("other.example"), Terminate(hello("other.example"))),
        ("ssl_port", PORT, hello(None), Terminate(hello(None))),
        ("ssl_port", PORT, Malformed("bad_name"), Refuse("bad_name")),
        ("tcp", RAW_PORT, None, Passthrough(DATABASE)),
        ("tcp", PORT, None, Refuse("no_route")),
        ("http", 80, None, PlainHttp()),
    ],
)
def test_the_kind_the_port_and_the_name_decide(
    kind: Kind, port: int, said: ClientHello | Malformed | None, expected: Choice
) -> None:
    """Attacks 74 and 75, R1, R4, R11, R137: one answer for each, and no default behind any."""
    assert dispatch(kind, port, said, TABLE, terminates) == expected


@pytest.mark.parametrize(
    ("kind", "port", "said", "expected"),
    [
        ("tls", PORT, hello("tunnel.example"), Passthrough(EXACT, "tunnel.example")),
        ("tls", PORT, hello("www.apps.example"), Refuse("unknown_sni")),
        ("ssl_port", PORT, hello("other.example"), Refuse("l7_disabled")),
        ("http", 80, None, Refuse("l7_disabled")),
        ("tcp", RAW_PORT, None, Passthrough(DATABASE)),
    ],
)
def test_without_l7_what_it_would_serve_is_refused_and_the_rest_stays(
    kind: Kind, port: int, said: ClientHello | None, expected: Choice
) -> None:
    """R3, R61: no L4 answer changes."""
    assert dispatch(kind, port, said, TABLE, None) == expected


@pytest.mark.parametrize(("kind", "expected"), [("tls", True), ("ssl_port", True), ("tcp", False), ("http", False)])
def test_raw_tcp_and_plain_http_are_chosen_before_the_first_byte(kind: Kind, *, expected: bool) -> None:
    """Where the server speaks first, nobody waits for the client."""
    assert reads_hello(kind) is expected
