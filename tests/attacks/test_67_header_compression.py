"""Attack 67: few bytes that unpack to many, and tables that are resized for nothing (HPACK, RFC 7541)."""

from collections.abc import Iterator

import pytest
from hpack import Encoder

from tests.attacks.floods import assert_calmed, assert_ended, attacker, flood, unharmed
from tests.support.client import Tls
from tests.support.http2_client import Code, FrameClient, headers_frame, raw_frame
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(scope="module")
def neighbour(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(place: Site) -> None:
    place.backend.clear()


INDEXED = b"\xbe"
"""The newest entry of the dynamic table (index 62)."""


def _stuffed(client: FrameClient, host: str) -> bytes:
    """A request that leaves a field of 3,000 bytes in the table, as its newest entry."""
    return client.head(host, "/first", more=[("x-bomb", "~" * 3_000)])


def test_a_bomb_is_refused_and_counted_by_its_decoded_size(place: Site, neighbour: Site) -> None:
    """Attack 67: 16 KiB that say one field of 3 KB sixteen thousand times (CVE-2016-6581): 431 or the end, never 48 MB."""
    with unharmed(neighbour), attacker(place) as client:
        assert client.response(client.ask(_stuffed(client, place.host))).status == 200
        bomb = client.head(place.host, "/first") + INDEXED * 16_000
        stream = client.next_stream()
        client.write(headers_frame(stream, bomb))
        client.wait(lambda: client.answer(stream).over or client.goodbye is not None, "431 or the end")
        if client.goodbye is None:
            assert client.answer(stream).status == 431
        else:
            assert client.goodbye.code in (Code.COMPRESSION_ERROR, Code.ENHANCE_YOUR_CALM)
    assert [one.request_line for one in place.backend.received] == ["GET /first HTTP/1.1"]


def test_a_little_too_much_is_431(place: Site) -> None:
    """Attack 67: a decoded head just above the bound is answered, and the connection goes on."""
    with attacker(place) as client:
        assert client.response(client.ask(_stuffed(client, place.host))).status == 200
        place.backend.clear()
        answer = client.response(client.ask(client.head(place.host, "/first") + INDEXED * 22))
        assert answer.refusal == (431, "max-request-size-exceeded")
        assert client.response(client.ask(client.head(place.host, "/next"))).status == 200
    assert [one.request_line for one in place.backend.received] == ["GET /next HTTP/1.1"]


def test_too_many_fields_are_431(place: Site) -> None:
    """Attack 67: attack 52 in HTTP/2: as many fields as HTTP/1.1 may have, and not one more."""
    with attacker(place) as client:
        many = [(f"x-{number}", "y") for number in range(127)]
        assert client.response(client.ask(client.head(place.host, more=many))).status == 200
        place.backend.clear()
        answer = client.response(client.ask(client.head(place.host, more=[*many, ("x-more", "y")])))
        assert answer.refusal == (431, "max-request-size-exceeded")
    assert place.backend.received == []


def test_bombs_one_after_the_other_end_the_connection(place: Site, neighbour: Site) -> None:
    """Attack 67: what is answered with 431 each time is a flood of bad requests: the end after a budget."""
    with unharmed(neighbour), attacker(place) as client:
        assert client.response(client.ask(_stuffed(client, place.host))).status == 200
        for _ in range(2_000):
            if not client.write(headers_frame(client.next_stream(), client.head(place.host, "/first") + INDEXED * 30)):
                break
        assert_calmed(client.wait_end(), place)
    assert len(place.backend.received) == 1


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff" * 100,
        b"\xc0",
        b"\xff\x80\x80\x80\x80\x80\x00",
        b"\x00\x7f\xff\xff\xff\xff\x0fabc",
        b"\x00\x05abc",
        b"\x00\x01a\x82\xff\xff",
        b"\x00\x01a\x81\x00",
        b"\x00\x01a\x84\xff\xff\xff\xff",
        b"\x82\x20",
        b"\x3f\xe2\x1f",
        b"\x3f\xff\xff\xff\xff\xff\x7f",
        b"\x20\x20\x20\x20",
        b"\x82\x84\x86\x7e",
    ],
    ids=[
        "index 0", "endless integer", "nothing but ones", "beyond the table", "padded integer", "name longer than all",
        "name cut off", "all ones", "padding of zeros", "Huffman's end", "resize behind a field", "larger than allowed",
        "endless size", "four resizes", "value missing",
    ],
)  # fmt: skip
def test_a_block_that_cannot_be_decoded_ends_the_connection(place: Site, block: bytes) -> None:
    """Attack 67: the tables of both sides are no longer the same, so COMPRESSION_ERROR is for the connection."""
    with attacker(place) as client:
        client.write(headers_frame(1, block))
        assert_ended(client.wait_end(), place, Code.COMPRESSION_ERROR)
    assert place.backend.received == []


@pytest.mark.parametrize("block", [b"\x20", b"\x20\x3f\xe1\x1f"], ids=["to nothing", "to nothing and back"])
def test_resizing_the_table_over_and_over_ends_the_connection(place: Site, neighbour: Site, block: bytes) -> None:
    """Attack 67: table-size churn: a resize with each request throws away what was cached: bounded, then the end."""
    with unharmed(neighbour), attacker(place) as client:
        for _ in range(5_000):
            head = Encoder().encode([(":method", "GET"), (":path", "/x")], huffman=False)  # malformed, so no backend is asked
            if not client.write(headers_frame(client.next_stream(), block + head)):
                break
        assert_calmed(client.wait_end(), place)
    assert place.backend.received == []


def test_resizing_by_settings_over_and_over_ends_the_connection(place: Site, neighbour: Site) -> None:
    """Attack 67: SETTINGS_HEADER_TABLE_SIZE up and down: our own table is resized no more than a budget allows."""
    with unharmed(neighbour), attacker(place) as client:
        churn = raw_frame(4, 0, b"\0\1\0\0\0\0") + raw_frame(4, 0, b"\0\1\0\0\x10\0")
        assert_calmed(flood(client, churn, most=2**23), place)


@pytest.mark.parametrize("size", [0, 100, 4_096, 2**32 - 1])
def test_any_size_of_our_table_is_obeyed(place: Site, size: int) -> None:
    """Attack 67: whatever a client says of its own table, what we send can be decoded and ours stays bounded."""
    with FrameClient(place.router.ssl_port, Tls(place.host), settings={1: size}) as client:
        client._decoder.max_allowed_table_size = size
        for _ in range(3):
            assert client.response(client.ask(client.head(place.host))).status == 200
