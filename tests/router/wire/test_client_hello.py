"""ClientHellos: one name whatever the records, a refusal where a name would be a guess."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.client_hello import MAX_BYTES, ClientHello, least_size, parse_client_hello, read_server_name
from router.wire.malformed import Malformed
from tests.support.client_hellos import HOST, alpn, in_records, message, server_name, split_again

FIXTURES = Path(__file__).parents[3] / "fixtures" / "client_hello"
BOTH = (b"h2", b"http/1.1")
CAPTURED: dict[str, tuple[str | None, tuple[bytes, ...]]] = {
    "curl": (HOST, BOTH),
    "openssl-s-client": (HOST, BOTH),
    "python-ssl": (HOST, (b"http/1.1",)),
    "python-ssl-tls12": (HOST, (b"http/1.1",)),
    "openssl4-post-quantum": (HOST, ()),
    "chromium-size": (HOST, BOTH),
    "openssl4-no-name": (None, ()),
    "openssl4-upper-case-final-dot": (HOST, ()),
    "openssl4-address": (None, ()),
}
SIMPLE = message([server_name(b"app.example.com"), alpn(b"http/1.1")])


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.bin")), ids=lambda path: path.stem)
def test_a_captured_hello_is_read_however_it_is_split(path: Path) -> None:
    """Attacks 7, 9 and 10: real clients, records of 1, 16 and 200 bytes; every beginning asks for more."""
    data = path.read_bytes()
    name, protocols = CAPTURED[path.name.split(".")[0]]
    expected = ClientHello(name, protocols, len(data), ech=path.stem.startswith("chromium"))
    assert expected == parse_client_hello(data)
    assert expected == parse_client_hello(data + b"\x16\x03\x03 whatever follows")
    for cut in range(0, len(data), 1 + len(data) // 400):
        assert parse_client_hello(data[:cut]) is None


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.bin")), ids=lambda path: path.stem)
def test_a_client_that_sends_byte_by_byte_wakes_its_reader_a_few_dozen_times_at_most(path: Path) -> None:
    """Waiting for ``least_size`` bytes never waits for more than the hello has, and always gets on."""
    data = path.read_bytes()
    wake_ups, arrived = 0, 0
    while parse_client_hello(data[:arrived]) is None:
        least = least_size(data[:arrived])
        assert arrived < least <= len(data)
        wake_ups, arrived = wake_ups + 1, least
    assert arrived == len(data)
    assert wake_ups <= 60


def test_every_capture_is_tested() -> None:
    """No fixture lies unused."""
    assert set(CAPTURED) == {path.name.split(".")[0] for path in FIXTURES.glob("*.bin")}


@given(st.integers(1, 200))
def test_the_size_of_the_records_changes_nothing_but_the_size(size: int) -> None:
    """Attack 9."""
    hello = parse_client_hello(split_again(in_records(SIMPLE), size))
    assert isinstance(hello, ClientHello)
    assert (hello.server_name, hello.alpn) == ("app.example.com", (b"http/1.1",))


def test_a_name_in_the_last_bytes_of_a_large_hello_is_found_and_a_larger_hello_is_refused_early() -> None:
    """Attack 10: up to the cap the name counts; above it, no hello, as soon as its length is known."""

    def padded(padding: int) -> bytes:
        return in_records(message([(21, bytes(padding)), server_name(b"app.example.com")]))

    room = MAX_BYTES - len(padded(0))
    assert ClientHello("app.example.com", (), MAX_BYTES) == parse_client_hello(padded(room))
    assert Malformed("too_large") == parse_client_hello(padded(room + 1)[:9])
    assert Malformed("too_large") == parse_client_hello(in_records(message([(21, bytes(room - 9))]), 1)[:MAX_BYTES])


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        ([server_name(b"a.example"), server_name(b"b.example")], "two_names"),
        ([server_name(b"a.example", b"b.example")], "two_names"),
        ([server_name(b"")], "bad_name"),
        ([server_name()], "bad_name"),
        ([(0, b"")], "bad_name"),
        ([(0, b"\0\x05\0\0\x09a")], "bad_name"),
        ([(0, b"\0\x09\0\0\x01a")], "bad_name"),
        ([server_name(b"a.example", kind=1)], "bad_name"),
        ([server_name(b"a.example\0.b.example")], "bad_name"),
        ([server_name("ä.example".encode())], "bad_name"),
        ([server_name(b"a" * 63 + b".")], None),
        ([server_name(b".".join([b"a" * 63] * 4))], None),
        ([server_name(b".".join([b"a" * 63] * 4) + b".b")], "bad_name"),
        ([server_name(b"a" * 300)], "bad_name"),
        ([server_name(b"a..example")], "bad_name"),
        ([server_name(b"a.example..")], "bad_name"),
        ([server_name(b".")], "bad_name"),
        ([server_name(b"a.example:443")], "bad_name"),
        ([server_name(b"a example")], "bad_name"),
        ([server_name(b"*.example")], "bad_name"),
        ([(21, b""), (21, b"")], "bad_extensions"),
        ([(16, b"\0\0")], "bad_alpn"),
        ([(16, b"\0\x01\0")], "bad_alpn"),
        ([(16, b"\0\x03\x03h2")], "bad_alpn"),
        ([(16, b"\0")], "bad_alpn"),
    ],
)
def test_a_name_that_is_not_one_host_name_is_refused(extensions: list[tuple[int, bytes]], reason: str | None) -> None:
    """Attack 11, RFC 6066: a refusal, never the default policy."""
    hello = parse_client_hello(in_records(message(extensions)))
    assert reason == (hello.reason if isinstance(hello, Malformed) else None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "not_tls"),
        (b"\x80\x2e\x01\x00\x02", "not_tls"),
        (b"\x16\x02", "not_tls"),
        (b"\x15\x03\x01\x00\x02\x01\x00", "not_tls"),
        (b"\x16\x03\x01\x00\x00", "bad_record"),
        (b"\x16\x03\x01\x40\x01", "bad_record"),
        (in_records(SIMPLE, 40)[:45] + b"\x15", "bad_record"),
        (in_records(SIMPLE, 40)[:45] + b"\x16\x02", "bad_record"),
        (b"\x16\x03\x01\x00\x04\x02", "bad_hello"),
        (in_records(SIMPLE + b"\x0b\0\0\0"), "bad_hello"),
        (in_records(SIMPLE + b"\x0b\0\0\0")[:9], "bad_hello"),
        (in_records(b"\x01\0\0\0" + SIMPLE[4:]), "bad_hello"),
        (in_records(message(None)[:20]), None),
        (in_records(b"\x01\0\0\x02\x03\x03"), "bad_hello"),
        (in_records(message([], ciphers=b"")), "bad_hello"),
        (in_records(message([], ciphers=b"\x13")), "bad_hello"),
    ],
)
def test_what_is_no_client_hello_is_refused_at_once(data: bytes, reason: str | None) -> None:
    """SSLv2, plain HTTP, other records between, bytes behind the message, lengths that lie."""
    hello = parse_client_hello(data)
    assert reason == (hello.reason if isinstance(hello, Malformed) else hello)


def test_a_hello_without_extensions_names_no_host() -> None:
    """TLS 1.2 allows it."""
    data = in_records(message(None))
    assert ClientHello(None, (), len(data)) == parse_client_hello(data)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"App.Example.COM", "app.example.com"),
        (b"app.example.com.", "app.example.com"),
        (b"_x.a-b.example", "_x.a-b.example"),
        (b"10.0.0.1", None),
        (b"::1", None),
        (b"[2001:DB8::1]", None),
        (b"::ffff:10.0.0.1", None),
        (b"1.2.3", "1.2.3"),
        (b"", Malformed("bad_name")),
        (b"app.example.com\n", Malformed("bad_name")),
    ],
)
def test_a_server_name_has_one_spelling(name: bytes, expected: str | Malformed | None) -> None:
    """Attacks 6 and 7: an address names no domain; case and one final dot do not count."""
    assert expected == read_server_name(name)


@given(st.data())
def test_a_beginning_of_a_hello_and_any_bytes_give_a_hello_more_or_a_refusal(data: st.DataObject) -> None:
    """Nothing raises, and a name that was complete is not changed by what follows."""
    whole = in_records(SIMPLE)
    cut = data.draw(st.integers(0, len(whole)))
    hello = parse_client_hello(whole[:cut] + data.draw(st.binary(max_size=80)))
    assert hello is None or isinstance(hello, ClientHello | Malformed)
    if cut == len(whole):
        assert ClientHello("app.example.com", (b"http/1.1",), cut) == hello


@given(st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=20)), max_size=5), st.binary(max_size=30))
def test_any_extensions_are_read_without_raising(extensions: list[tuple[int, bytes]], body: bytes) -> None:
    """Well-framed hellos with any content, and any bytes framed as one."""
    parse_client_hello(in_records(message(extensions)))
    parse_client_hello(in_records(b"\x01" + len(body).to_bytes(3) + body))
