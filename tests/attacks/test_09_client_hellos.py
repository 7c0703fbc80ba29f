"""Attacks 9, 10, 11: a ClientHello cut, swollen or malformed so that the name in it might be overlooked.

Two clients. One is OpenSSL, whose first flight is put into other records and segments on its way: such a handshake ends in a
request. The other writes a TLS 1.2 hello by hand, with any extensions in any order, and reads what the
server says in the clear: a CertificateRequest with the authority's name in it is B's policy.
"""

import contextlib
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from OpenSSL import SSL

from tests.attacks.conftest import Door, assert_unseen
from tests.conftest import EAST, OPEN
from tests.support.certs import CA, Credential
from tests.support.client import Alert, Tls, render_request
from tests.support.client_hellos import alpn, in_records, message, server_name, split_again, vector
from tests.support.mangled import MangledClient
from tests.support.router import RouterProcess, wait_until

CAP = 16 * 1024
"""Bytes of a ClientHello with its records that the router takes (`Limits.hello_bytes`)."""

CERTIFICATE_REQUEST, SERVER_HELLO, SERVER_HELLO_DONE = 13, 2, 14

PADDING = 21


class Flight(NamedTuple):
    """What the server said in the clear: handshake messages by type, and the fatal alert that ended it, if any."""

    messages: dict[int, bytes]
    alert: int | None

    @property
    def demands(self) -> bytes | None:
        """The CertificateRequest; None where no certificate was asked for."""
        assert self.alert is None, f"alert {self.alert}"
        assert SERVER_HELLO_DONE in self.messages, "the server's flight is not complete"
        return self.messages.get(CERTIFICATE_REQUEST)


def flight(port: int, said: bytes, piece: int = 0) -> Flight:
    """Send these bytes, `piece` at a time, and read the server's TLS 1.2 flight or its alert up to its end."""
    records, handshake = b"", b""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(said), piece or len(said)):
                sock.sendall(said[at : at + (piece or len(said))])
        while True:
            with contextlib.suppress(ConnectionResetError):
                data = sock.recv(65536)
                records += data
                if not data:
                    return Flight({}, None)
            while len(records) >= 5 and len(records) >= 5 + int.from_bytes(records[3:5]):
                kind, end = records[0], 5 + int.from_bytes(records[3:5])
                payload, records = records[5:end], records[end:]
                if kind == 21:
                    assert payload[0] == 2, f"not a fatal alert: {payload!r}"
                    assert sock.recv(1) == b"", "the connection goes on after a fatal alert"
                    return Flight(_split(handshake), payload[1])
                handshake += payload
            if SERVER_HELLO_DONE in _split(handshake):
                return Flight(_split(handshake), None)


def _split(handshake: bytes) -> dict[int, bytes]:
    found = {}
    while len(handshake) >= 4 and len(handshake) >= 4 + int.from_bytes(handshake[1:4]):
        end = 4 + int.from_bytes(handshake[1:4])
        found[handshake[0]], handshake = handshake[4:end], handshake[end:]
    return found


GROUPS, FORMATS, SIGNATURES = (10, bytes.fromhex("0004001d0017")), (11, b"\1\0"), (13, bytes.fromhex("000404030804"))
PLAIN = (GROUPS, FORMATS, SIGNATURES, alpn(b"http/1.1"))


def hello(*last: tuple[int, bytes], size: int = 0) -> bytes:
    """A TLS 1.2 ClientHello message that ends with these extensions, padded before them to `size` bytes."""
    short = message([*PLAIN, (PADDING, b""), *last], ciphers=b"\xc0\x2b")
    return message([*PLAIN, (PADDING, bytes(max(0, size - len(short)))), *last], ciphers=b"\xc0\x2b")


@dataclass(frozen=True, slots=True)
class Cut:
    """Records and segments of so many bytes; 0 leaves them as they are."""

    record: int
    segment: int

    def __call__(self, number: int, said: bytes, /) -> Iterable[bytes]:
        if number == 0 and self.record:
            said = split_again(said, self.record)
        size = self.segment if number == 0 and self.segment else len(said)
        return [said[at : at + size] for at in range(0, len(said), size)]


CUTS = [
    pytest.param(Cut(record, segment), id=f"records-{record}-segments-{segment}")
    for record, segment in [(1, 0), (16, 0), (200, 0), (0, 1), (16, 1), (200, 7), (1, 5), (1, 6)]
]
VERSIONS = [pytest.param(SSL.TLS1_2_VERSION, id="tls12"), pytest.param(SSL.TLS1_3_VERSION, id="post-quantum-tls13")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", CUTS)
def test_a_hello_in_pieces_gets_the_policy_of_its_name(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential, cut: Cut, version: int
) -> None:
    """Attack 9: in records of 1, 16 or 200 bytes, or a byte a segment, the hello of B demands B's certificate, A's none."""
    alert = Alert.HANDSHAKE_FAILURE if version == SSL.TLS1_2_VERSION else Alert.CERTIFICATE_REQUIRED
    bare, held = Tls(strict.host, maximum=version), Tls(strict.host, caller, maximum=version)
    with MangledClient(router.ssl_port, bare, cut) as client:
        assert (client.ask(render_request(strict.host)), client.alert) == (b"", alert)
    assert_unseen(strict)
    with MangledClient(router.ssl_port, held, cut) as client:
        assert client.ask(render_request(strict.host)).startswith(b"HTTP/1.1 200 ")
    with MangledClient(router.ssl_port, Tls(open_door.host, maximum=version), cut) as client:
        assert client.ask(render_request(strict.host)).startswith(b"HTTP/1.1 421 ")


def test_openssl_offers_a_post_quantum_share_here() -> None:
    """Attack 9: the hellos above are as large as today's: over 1,200 bytes of key share."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        MangledClient(server.getsockname()[1], Tls("x.example"), lambda _, said: [said]).close()
        with server.accept()[0] as accepted:
            assert len(accepted.recv(65536)) > 1216


@pytest.mark.parametrize("size", [0, 512, 1500, 4096, 16_000, CAP - 5])
@pytest.mark.parametrize("piece", [0, 1400])
def test_a_name_in_the_last_bytes_still_chooses_the_policy(router: RouterProcess, east_ca: CA, size: int, piece: int) -> None:
    """Attack 10: however much stands before the name, up to the cap: B's authority is demanded for B, nothing for A."""
    strictly = in_records(hello(server_name(f"x.{EAST}".encode()), size=size))
    openly = in_records(hello(server_name(f"x.{OPEN}".encode()), size=size))
    assert len(strictly) >= size
    demands = flight(router.ssl_port, strictly, piece).demands
    assert demands is not None
    assert east_ca.name.public_bytes() in demands
    assert flight(router.ssl_port, openly, piece).demands is None


@pytest.mark.parametrize("record", [1, 16, 200, 5000])
def test_a_large_hello_in_small_records_gets_its_policy_or_none_at_all(router: RouterProcess, east_ca: CA, record: int) -> None:
    """Attacks 9 and 10: 2,500 bytes in records of any size are under the cap; six times as much is an alert and a close."""
    said = in_records(hello(server_name(f"x.{EAST}".encode()), size=2500), record)
    demands = flight(router.ssl_port, said).demands
    assert demands is not None
    assert east_ca.name.public_bytes() in demands
    large = in_records(hello(server_name(f"x.{EAST}".encode()), size=CAP), record)
    assert flight(router.ssl_port, large) == Flight({}, Alert.DECODE_ERROR)


@pytest.mark.parametrize("size", [CAP - 4, CAP, 17_000, 65_000])
def test_a_hello_above_the_cap_is_refused(router: RouterProcess, size: int) -> None:
    """Attack 10: one byte over 16 KiB of records, or far over: decode_error and a close; the default policy is never asked."""
    before = router.metric("connections_refused", reason="too_large")
    for name in (EAST, OPEN):
        said = in_records(hello(server_name(f"x.{name}".encode()), size=size))
        assert flight(router.ssl_port, said) == Flight({}, Alert.DECODE_ERROR)
    wait_until(lambda: router.metric("connections_refused", reason="too_large") == before + 2, "it to be counted")


A, B = f"x.{OPEN}".encode(), f"x.{EAST}".encode()
LONG = b".".join([b"a" * 60] * 5)


@pytest.mark.parametrize(
    ("extensions", "reason", "alert"),
    [
        pytest.param([server_name(A), server_name(B)], "two_names", 112, id="two-extensions-open-first"),
        pytest.param([server_name(B), server_name(A)], "two_names", 112, id="two-extensions-strict-first"),
        pytest.param([server_name(B), server_name(B)], "two_names", 112, id="two-equal-extensions"),
        pytest.param([server_name(A, B)], "two_names", 112, id="two-names-open-first"),
        pytest.param([server_name(B, A)], "two_names", 112, id="two-names-strict-first"),
        pytest.param([server_name(B, kind=1)], "bad_name", 112, id="name-of-another-type"),
        pytest.param([server_name(b"")], "bad_name", 112, id="empty-name"),
        pytest.param([server_name()], "bad_name", 112, id="empty-list"),
        pytest.param([(0, b"")], "bad_name", 112, id="empty-extension"),
        pytest.param([(0, vector(2, b"\0" + vector(2, B)) + b"x")], "bad_name", 112, id="bytes-after-the-list"),
        pytest.param([(0, vector(2, b"\0" + (len(B) + 9).to_bytes(2) + B))], "bad_name", 112, id="name-longer-than-its-list"),
        pytest.param([server_name(B + b"\0")], "bad_name", 112, id="nul-at-the-end"),
        pytest.param([server_name(A + b"\0." + B)], "bad_name", 112, id="nul-inside"),
        pytest.param([server_name("ü.east.example".encode())], "bad_name", 112, id="utf-8"),
        pytest.param([server_name(b"\xfc.east.example")], "bad_name", 112, id="latin-1"),
        pytest.param([server_name(b"x\xe3\x80\x82east.example")], "bad_name", 112, id="ideographic-stop"),
        pytest.param([server_name(LONG + b"." + B)], "bad_name", 112, id="over-255-bytes"),
        pytest.param([server_name(b"a" * 64 + b"." + B)], "bad_name", 112, id="label-over-63-bytes"),
        pytest.param([server_name(B + b"..")], "bad_name", 112, id="two-dots-at-the-end"),
        pytest.param([server_name(b"." + B)], "bad_name", 112, id="dot-at-the-start"),
        pytest.param([server_name(b" " + B)], "bad_name", 112, id="blank-before"),
        pytest.param([server_name(B + b"\n")], "bad_name", 112, id="line-end"),
        pytest.param([server_name(B + b"/")], "bad_name", 112, id="slash"),
        pytest.param([server_name(b"*." + B)], "bad_name", 112, id="star"),
        pytest.param([(0, b"\xff\xff" + b"\0" + vector(2, B))], "bad_name", 112, id="list-longer-than-its-extension"),
        pytest.param([server_name(B), (PADDING, b"")], "bad_extensions", 50, id="another-extension-twice"),
    ],
)
def test_a_name_that_is_not_exactly_one_name_is_an_alert(
    router: RouterProcess, extensions: Sequence[tuple[int, bytes]], reason: str, alert: int
) -> None:
    """Attack 11: two names, no name, or bytes that are none: unrecognized_name (or decode_error), counted, never a default."""
    before = router.metric("connections_refused", reason=reason)
    assert flight(router.ssl_port, in_records(hello(*extensions))) == Flight({}, alert)
    wait_until(lambda: router.metric("connections_refused", reason=reason) == before + 1, "it to be counted")


@pytest.mark.parametrize("cut", range(1, 60, 4))
def test_a_hello_whose_lengths_do_not_fit_is_an_alert(router: RouterProcess, cut: int) -> None:
    """Attack 11: a hello whose last bytes, the name among them, lie outside its extensions' length is a decode_error."""
    whole = hello(server_name(B))
    body = whole[4:-cut]
    assert flight(router.ssl_port, in_records(b"\x01" + vector(3, body))) == Flight({}, Alert.DECODE_ERROR)


def test_what_a_name_may_be_is_still_a_name(router: RouterProcess, east_ca: CA) -> None:
    """Attack 11: upper case, a final dot and underscores are names, and B's."""
    for name in (B.upper(), B + b".", b"_a-b._c." + B):
        demands = flight(router.ssl_port, in_records(hello(server_name(name)))).demands
        assert demands is not None
        assert east_ca.name.public_bytes() in demands
