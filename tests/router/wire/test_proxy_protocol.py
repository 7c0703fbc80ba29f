"""router/wire/proxy_protocol.py: both versions, in and out; attack 70's malformed headers as a table."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.wire.malformed import Malformed
from router.wire.proxy_protocol import (
    MAX_BYTES,
    ProxyHeader,
    TlsFacts,
    begins_proxy_header,
    least_proxy_size,
    parse_proxy_header,
    render_local,
    render_v1,
    render_v2,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + (56324).to_bytes(2) + (443).to_bytes(2)
V6 = IPv6Address("2001:db8::1").packed + IPv6Address("2001:db8::2").packed + (56324).to_bytes(2) + (443).to_bytes(2)
CLIENT, ROUTER = ("192.0.2.1", 56324), ("198.51.100.2", 443)
CLIENT6, ROUTER6 = ("2001:db8::1", 56324), ("2001:db8::2", 443)

PORTS = st.integers(0, 65535)
IPV4 = st.tuples(st.ip_addresses(v=4).map(str), PORTS)
ANY = st.tuples(st.ip_addresses().map(str), PORTS)
NAMES = st.from_regex(r"[a-z0-9-]{1,60}(\.[a-z0-9-]{1,60}){0,3}", fullmatch=True)
FACTS = st.builds(
    TlsFacts, st.sampled_from(["TLSv1.2", "TLSv1.3"]), st.none() | NAMES, st.booleans(), st.none() | st.text(max_size=300)
)


def v2(block: bytes, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    return SIGNATURE + bytes((command, family)) + (len(block) if length is None else length).to_bytes(2) + block


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2) + value


def plain(address: tuple[str, int]) -> tuple[str, int]:
    """The spelling that comes out: IPv4 inside IPv6 is IPv4."""
    read = ip_address(address[0])
    return str((read.ipv4_mapped if isinstance(read, IPv6Address) else None) or read), address[1]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", (CLIENT, ROUTER, False)),
        (b"PROXY TCP6 2001:db8::1 2001:DB8::2 56324 443\r\n", (CLIENT6, ROUTER6, False)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6402 56324 443\r\n", (CLIENT, ROUTER, False)),
        (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", (("0.0.0.0", 0), ("255.255.255.255", 65535), False)),
        (b"PROXY UNKNOWN\r\n", (None, None, False)),
        (b"PROXY UNKNOWN ffff::1 whatever it says 1 2\r\n", (None, None, False)),
        (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", (None, None, False)),
        (v2(V4), (CLIENT, ROUTER, False)),
        (v2(V6, family=0x21), (CLIENT6, ROUTER6, False)),
        (v2(IPv6Address("::ffff:192.0.2.1").packed + V6[16:], family=0x21), (CLIENT, ROUTER6, False)),
        (v2(b"", command=0x20, family=0x00), (None, None, True)),
        (v2(V4, command=0x20), (None, None, True)),
        (v2(b"\1\2", command=0x20, family=0x77), (None, None, True)),
        (v2(b"", family=0x00), (None, None, False)),
        (v2(b"\1\2", family=0x00), (None, None, False)),
        (v2(V4 + tlv(0x04, b"") + tlv(0xEA, b"\1vpce-08") + tlv(0x20, b"?")), (CLIENT, ROUTER, False)),
        (v2(V4 + tlv(0x04, b"n" * (520 - 12 - 3))), (CLIENT, ROUTER, False)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rest", [b"", b"\x16\x03\x01", b"PROXY "])
def test_a_header_says_who_the_client_is_or_that_it_does_not_say(
    data: bytes, expected: tuple[object, object, bool], rest: bytes
) -> None:
    """R86, R87, R88: both versions and families, LOCAL and UNKNOWN, TLVs skipped; what follows is not looked at."""
    assert (*expected, len(data)) == parse_proxy_header(data + rest)


MALFORMED = [
    (b"GET / HTTP/1.1\r\n\r\n", "not_proxy"),
    (b"\x16\x03\x01\x02\x00", "not_proxy"),
    (b"proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n", "not_proxy"),
    (b" PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n", "not_proxy"),
    (b"PROXY\tTCP4 192.0.2.1 198.51.100.2 1 2\r\n", "not_proxy"),
    (b"\r\n\r\n\0\r\nQUIT\r", "not_proxy"),
    (b"PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n", "bad_line"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n", "bad_line"),
    (b"PROXY TCP4 192.0.2.1\r198.51.100.2 1 2\r\n", "bad_line"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", "bad_line"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n", "bad_line"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n", "bad_line"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", "bad_line"),
    (b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", "bad_line"),
    (b"PROXY UNKNOWNS\r\n", "bad_line"),
    (b"PROXY UNKNOWN \0\r \r\n", "bad_line"),
    (b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", "bad_line"),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n", "bad_address"),
    (b"PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n", "bad_address"),
    (b"PROXY TCP4 192.0.02.1 198.51.100.2 1 2\r\n", "bad_address"),
    (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "bad_address"),
    (b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n", "bad_address"),
    (b"PROXY TCP6 2001::db8::1 ::2 1 2\r\n", "bad_address"),
    (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "too_large"),
    (v2(V4, command=0x11), "bad_version"),
    (v2(V4, command=0x22), "bad_command"),
    (v2(V4, family=0x12), "bad_family"),
    (v2(b"/tmp/s".ljust(216, b"\0"), family=0x31), "bad_family"),
    (v2(V4, family=0x51), "bad_family"),
    (v2(V4[:11]), "bad_length"),
    (v2(V6[:35], family=0x21), "bad_length"),
    (v2(V4, family=0x21), "bad_length"),
    (v2(V4 + b"\x04\0"), "bad_tlv"),
    (v2(V4 + b"\x04\0\2x"), "bad_tlv"),
    (v2(V4, length=521), "too_large"),
    (v2(V4, command=0x20, length=65535), "too_large"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), MALFORMED)
def test_a_malformed_header_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    """Attack 70, R89, R91: close, nothing forwarded; what follows does not change that."""
    assert len(MALFORMED) >= 29
    assert Malformed(reason) == parse_proxy_header(data)
    assert Malformed(reason) == parse_proxy_header(data + b"\r\n" * 300)


@pytest.mark.parametrize(
    "whole",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", b"PROXY UNKNOWN\r\n",
        v2(V4), v2(V6 + tlv(4, b"xy"), family=0x21), v2(b"", 0x20, 0),
    ],
)  # fmt: skip
def test_a_beginning_is_waited_for_and_says_how_much_is_missing(whole: bytes) -> None:
    """Attack 73: cut off anywhere it is neither accepted nor refused, and whoever waits never waits for more than there is."""
    for cut in range(len(whole)):
        begin = whole[:cut]
        assert parse_proxy_header(begin) is None
        assert cut < least_proxy_size(begin) <= len(whole)
    wakes, have = 0, 0
    while parse_proxy_header(whole[:have]) is None:
        have, wakes = least_proxy_size(whole[:have]), wakes + 1
    assert have == len(whole)
    assert wakes <= (len(whole) if whole.startswith(b"P") else 3)


@given(
    st.binary(max_size=600)
    | st.binary(max_size=80).map(lambda tail: b"PROXY " + tail)
    | st.binary(max_size=80).map(lambda tail: SIGNATURE + tail)
)
@example(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nPROXY ")
def test_whatever_bytes_come_there_is_one_answer_and_it_stands(data: bytes) -> None:
    """Attack 70: no bytes raise; an answer is bounded, and no continuation changes it."""
    answer = parse_proxy_header(data)
    if answer is None:
        assert len(data) < least_proxy_size(data) <= MAX_BYTES
        return
    if isinstance(answer, ProxyHeader):
        assert answer.size <= min(len(data), MAX_BYTES)
        assert answer == parse_proxy_header(data[: answer.size])
    assert answer == parse_proxy_header(data + b"more")


@given(
    st.lists(
        st.sampled_from([b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b" ", b"1.2.3.4", b"::1", b"80", b"\r\n", b"\r", b"x"]),
        max_size=12,
    )
)
def test_a_line_of_the_right_words_in_the_wrong_order_never_raises(words: list[bytes]) -> None:
    """Attack 70: near misses of version 1."""
    answer = parse_proxy_header(b"PROXY " + b"".join(words))
    assert answer is None or isinstance(answer, ProxyHeader | Malformed)


@given(ANY, ANY)
def test_what_is_rendered_parses_back(source: tuple[str, int], destination: tuple[str, int]) -> None:
    """R92, R93: both versions, any mixture of families; the command is always PROXY."""
    for data in (render_v1(source, destination), render_v2(source, destination)):
        assert (plain(source), plain(destination), False, len(data)) == parse_proxy_header(data)
    assert render_v2(source, destination)[12] == 0x21


@given(IPV4, IPV4)
def test_ipv4_inside_ipv6_is_sent_as_ipv4(source: tuple[str, int], destination: tuple[str, int]) -> None:
    """A dual-stack socket gives such addresses; the backend gets the plain ones."""
    for render in (render_v1, render_v2):
        assert render(source, destination) == render(
            (f"::ffff:{source[0]}", source[1]), (f"::ffff:{destination[0]}", destination[1])
        )


def test_the_rendered_bytes_are_those_of_the_specification() -> None:
    """R92: byte for byte, so that a mistake made twice does not cancel out."""
    assert render_v1(CLIENT, ROUTER) == b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
    assert render_v1(CLIENT6, ROUTER6) == b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n"
    assert render_v2(CLIENT, ROUTER) == v2(V4)
    assert render_v2(CLIENT6, ROUTER6) == v2(V6, family=0x21)
    assert render_v2(("fe80::1%eth0", 1), ROUTER6)[16:32] == IPv6Address("fe80::1").packed


def test_a_proxy_that_speaks_for_itself_names_nobody() -> None:
    """R88: LOCAL, and in version 1 UNKNOWN."""
    assert render_local(2) == v2(b"", command=0x20, family=0x00)
    assert render_local(1) == b"PROXY UNKNOWN\r\n"
    assert [parse_proxy_header(render_local(version))[:3] for version in (1, 2)] == [(None, None, False), (None, None, True)]  # type: ignore[index]


def test_tls_facts_are_sent_as_the_specification_has_them() -> None:
    """PP2_TYPE_AUTHORITY, and PP2_TYPE_SSL with the client's bits, the result of the verification, version and common name."""
    facts = TlsFacts("TLSv1.3", "db.example.com", verified=True, common_name="älpha")
    inner = b"\3" + bytes(4) + tlv(0x21, b"TLSv1.3") + tlv(0x22, "älpha".encode())
    assert render_v2(CLIENT, ROUTER, facts) == v2(V4 + tlv(0x02, b"db.example.com") + tlv(0x20, inner))
    without = b"\1" + b"\0\0\0\1" + tlv(0x21, b"TLSv1.2")
    assert render_v2(CLIENT, ROUTER, TlsFacts("TLSv1.2", common_name="nobody verified it")) == v2(V4 + tlv(0x20, without))


@given(ANY, ANY, FACTS)
def test_tls_facts_never_make_a_header_too_large_and_no_name_is_cut(
    source: tuple[str, int], destination: tuple[str, int], facts: TlsFacts
) -> None:
    """A name that does not fit is left out: a backend must not take half of one for a whole one."""
    data = render_v2(source, destination, facts)
    assert (plain(source), plain(destination), False, len(data)) == parse_proxy_header(data)
    if facts.verified and facts.common_name:
        name = facts.common_name.encode()
        assert (tlv(0x22, name) in data) is (len(name) < 440)


@pytest.mark.parametrize("bad", [("name.example", 1), ("[::1]", 1), ("", 1), ("192.0.2.1", 65536), ("192.0.2.1", -1)])
def test_what_is_no_address_is_the_callers_mistake(bad: tuple[str, int]) -> None:
    """Nothing invented goes to a backend."""
    for render in (render_v1, render_v2):
        with pytest.raises(ValueError):
            render(bad, ROUTER)
        with pytest.raises(ValueError):
            render(CLIENT, bad)


def test_a_second_header_is_recognised() -> None:
    """Attack 72: stacked headers, of one version or two."""
    assert begins_proxy_header(v2(V4))
    assert begins_proxy_header(b"PROXY TCP4 ")
    assert not begins_proxy_header(b"PROX")
    assert not begins_proxy_header(b"\x16\x03\x01")
    assert str(IPv4Address(V4[:4])) == CLIENT[0]
