"""Attacks 43 to 45: a head whose framing two programs could read in two ways. The only answer is a refusal and the end of the
connection; the bytes behind the head are never taken for a request.
"""

from collections.abc import Iterator

import pytest

from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: %b\r\n\r\n"
"""What an attacker would hide behind the head."""


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def _refused(place: Site, lines: bytes, status: int, *, version: bytes = b"1.1", reason: str) -> None:
    before = place.router.metric("malformed_requests", reason=reason)
    host = place.host.encode()
    head = b"POST / HTTP/%b\r\nHost: %b\r\n%b\r\n\r\n" % (version, host, lines)
    place.refuses(head + b"0\r\n\r\n" + SMUGGLED % host, status)
    assert place.backend.received == []
    assert place.router.metric("malformed_requests", reason=reason) == before + 1


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"content-length: 0\r\ntransfer-encoding: chunked",
        b"Transfer-Encoding: CHUNKED\r\nContent-Length: 5",
        b"Transfer-Encoding: identity\r\nContent-Length: 5",
        b"Transfer-Encoding:\r\nContent-Length: 5",
        b"Content-Length: 5\r\nX-Between: 1\r\nTransfer-Encoding: chunked",
    ],
)
def test_a_length_beside_a_coding_is_refused(place: Site, lines: bytes) -> None:
    """Attack 43: Content-Length together with Transfer-Encoding, in either order, is 400 and close."""
    _refused(place, lines, 400, reason="length_and_coding")


@pytest.mark.parametrize("lines", [b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 5\r\ncontent-length: 5"])
def test_a_second_length_is_refused(place: Site, lines: bytes) -> None:
    """Attack 44: a second Content-Length, differing or equal, is 400 and close."""
    _refused(place, lines, 400, reason="content_length_repeated")


@pytest.mark.parametrize(
    "value",
    [
        b"5, 5",
        b"5,6",
        b"+0",
        b"-1",
        b"-0",
        b"0x0",
        b"0x5",
        b"1_0",
        b"5 5",
        b"5;",
        b"5.0",
        b"1e1",
        b"\xd9\xa5",  # ARABIC-INDIC DIGIT FIVE
        b"\xc2\xb2",  # SUPERSCRIPT TWO
        b"\xef\xbc\x95",  # FULLWIDTH DIGIT FIVE
        b"18446744073709551616",  # 2**64
        b"18446744073709551621",  # 5 in 64 bits
        b"9223372036854775808",  # 2**63
        b"4294967301000000000000000000",
        b"0000000000000000000000000000005",
        b"five",
        b'"5"',
    ],
)
def test_a_length_that_is_no_plain_number_is_refused(place: Site, value: bytes) -> None:
    """Attack 44: a Content-Length that is not a plain decimal number below 2**63 is 400 and close."""
    _refused(place, b"Content-Length: " + value, 400, reason="bad_content_length")


def test_an_empty_length_is_refused(place: Site) -> None:
    """Attack 44 (CVE-2023-40225): an empty Content-Length is 400 and close, and counted under a reason of its own."""
    _refused(place, b"Content-Length: ", 400, reason="empty_content_length")


@pytest.mark.parametrize(
    ("lines", "status", "reason"),
    [
        (b"Transfer-Encoding: chunked, chunked", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, "transfer_coding_repeated"),
        (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 400, "transfer_coding_repeated"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400, "transfer_coding_repeated"),
        (b"Transfer-Encoding: gzip, chunked", 501, "transfer_coding_unknown"),
        (b"Transfer-Encoding: chunked, gzip", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: chunked, identity", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: identity", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: gzip", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: chunk", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: xchunked", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: chunkedx", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: chunked;q=1", 400, "bad_transfer_coding"),
        (b'Transfer-Encoding: "chunked"', 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: chunked,", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: ,chunked", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding:", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: \x0bchunked", 400, "control_byte"),
        (b"Transfer-Encoding: chunked\x0b", 400, "control_byte"),
        (b"Transfer-Encoding: chunked\x00", 400, "control_byte"),
        (b"Transfer-Encoding: chun\x00ked", 400, "control_byte"),
        (b"Transfer-Encoding: chunked\xa0", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding: \xffchunked", 400, "bad_transfer_coding"),
        (b"Transfer-Encoding : chunked", 400, "bad_field_name"),
        (b"Transfer-Encoding\x0b: chunked", 400, "control_byte"),
        (b"Transfer\xadEncoding: chunked", 400, "bad_field_name"),
        (b"X: y\r\n Transfer-Encoding: chunked", 400, "folded_line"),
        (b"Transfer-Encoding:\r\n chunked", 400, "folded_line"),
    ],
)
def test_a_coding_other_than_chunked_is_refused(place: Site, lines: bytes, status: int, reason: str) -> None:
    """Attack 45: a Transfer-Encoding that is not exactly `chunked`, or not exactly once, is 400 or 501 and close."""
    _refused(place, lines, status, reason=reason)


@pytest.mark.parametrize("lines", [b"Transfer-Encoding: chunked", b"Connection: keep-alive\r\nTransfer-Encoding: chunked"])
def test_a_coding_in_http_1_0_is_refused(place: Site, lines: bytes) -> None:
    """Attack 45: Transfer-Encoding in an HTTP/1.0 request, which a reader may not know, is 400 and close."""
    _refused(place, lines, 400, version=b"1.0", reason="transfer_coding_in_http10")


@pytest.mark.parametrize("name", [b"Transfer_Encoding", b"transfer_encoding", b"Content_Length"])
def test_a_look_alike_of_a_framing_field_never_reaches_the_backend(place: Site, name: bytes) -> None:
    """Attacks 43 and 45: a framing field spelt with an underscore, which a gateway could take for the real one, is dropped."""
    place.backend.clear()
    with place.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: %b\r\n%b: chunked\r\nContent-Length: 2\r\n\r\nhi" % (place.host.encode(), name))
        assert client.read_response().status == 200
    seen = place.seen()
    assert name.lower() not in seen.head.lower()
    assert seen.body == b"hi"
