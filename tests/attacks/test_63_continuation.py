"""Attack 63: heads that do not end: CONTINUATION after CONTINUATION, full, tiny or empty."""

from collections.abc import Iterator

import pytest

from tests.attacks.floods import assert_ended, attacker, flood, unharmed
from tests.support.http2_client import Code, headers_frame, raw_frame
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

CONTINUATION, HEADERS = 9, 1


@pytest.fixture
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(scope="module")
def neighbour(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.mark.parametrize("size", [0, 1, 100, 16_384], ids=["empty", "1 byte", "100 bytes", "full"])
def test_a_head_that_never_ends_ends_the_connection(place: Site, neighbour: Site, size: int) -> None:
    """Attack 63: GOAWAY at the bound of a head or of its frames (CVE-2024-27316, CVE-2024-24549, CVE-2024-28182), flat memory."""
    with unharmed(neighbour), attacker(place) as client:
        client.write(raw_frame(HEADERS, 1, client.head(place.host)))
        assert_ended(
            flood(client, raw_frame(CONTINUATION, 1, b"\x00" * size), most=2**26),
            place,
            Code.ENHANCE_YOUR_CALM,
            Code.PROTOCOL_ERROR,
            Code.COMPRESSION_ERROR,
        )
    assert place.backend.received == []


def test_many_connections_with_half_a_head_cost_no_more_than_those_heads(place: Site, neighbour: Site) -> None:
    """Attack 63: fifty connections with 48 KiB of a head each keep just these bytes."""
    clients = [attacker(place) for _ in range(50)]
    try:
        with unharmed(neighbour, kib=50 * 3 * 48 + 8_192):
            for client in clients:
                pieces = [raw_frame(HEADERS, 1, b"x" * 16_384), *[raw_frame(CONTINUATION, 1, b"x" * 16_384)] * 2]
                client.write(b"".join(pieces))
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "between",
    [raw_frame(6, 0, b"12345678"), raw_frame(0, 1, b"x"), raw_frame(9, 3, b""), raw_frame(8, 0, b"\0\0\0\1"), raw_frame(99, 0)],
    ids=["ping", "data", "continuation of another", "window", "unknown"],
)
def test_nothing_may_come_between(place: Site, between: bytes) -> None:
    """Attack 63: a header block is one piece, whatever else is sent (RFC 9113 section 6.10)."""
    with attacker(place) as client:
        client.write(raw_frame(HEADERS, 1, client.head(place.host)) + between)
        assert_ended(client.wait_end(), place, Code.PROTOCOL_ERROR)
    assert place.backend.received == []


def test_a_continuation_of_nothing_is_an_error(place: Site) -> None:
    """Attack 63: a CONTINUATION behind a head that has ended."""
    with attacker(place) as client:
        client.write(headers_frame(1, client.head(place.host)) + raw_frame(CONTINUATION, 1, b"", flags=4))
        assert_ended(client.wait_end(), place, Code.PROTOCOL_ERROR)


def test_a_head_in_pieces_is_served(place: Site) -> None:
    """Attack 63: a head of 40 KB in several CONTINUATION frames, one of them empty, is a request like any other."""
    with attacker(place) as client:
        block = client.head(place.host, "/whole", more=[("x-large", "~" * 40_000)])
        cuts = [block[at : at + 8_000] for at in range(0, len(block), 8_000)]
        middle = [raw_frame(CONTINUATION, 1, piece) for piece in [*cuts[1:], b""]]
        last = raw_frame(CONTINUATION, 1, b"", flags=4)
        client.write(b"".join([raw_frame(HEADERS, 1, cuts[0], flags=1), *middle, last]))
        assert client.response(1).status == 200
    assert place.seen().get("x-large") == "~" * 40_000
