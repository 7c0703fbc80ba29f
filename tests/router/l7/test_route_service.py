"""The three headers of a first leg, and what is read from those of a request that comes back."""

import base64
import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.hostname import Host
from router.l7.route_service import (
    METADATA,
    SIGNATURE,
    Origin,
    Sealed,
    ServiceUrl,
    Unsealed,
    forwarded_url,
    leg_fields,
    parse_service_url,
    read_return,
)
from router.l7.route_service_seal import Seal
from router.l7.target import Target
from router.wire.http1 import Fields

NOW = 1_800_000_000.25
NONCE = b"0123456789ab"
SEAL = Seal("tulips")
URL = "https://shop.example/cart?x=1"
ORIGIN = Origin(b"der", "*.example", "finger", "10.1.2.3", "203.0.113.9, 10.1.2.3", "https")


def sealed_text(contents: object) -> Fields:
    text = contents if isinstance(contents, bytes) else json.dumps(contents).encode()
    envelope = SEAL.close(text, NONCE)
    return [(SIGNATURE, envelope.signature), (METADATA, envelope.metadata)]


def gorouters(url: object = URL, time: object = "2027-01-15T08:00:00.25Z", **more: object) -> Fields:
    return sealed_text({"forwarded_url": url, "requested_time": time, **more})


def came_back(fields: Fields, later: float = 0.0, seal: Seal = SEAL) -> Sealed | Unsealed | None:
    return read_return([(name.lower(), value) for name, value in fields], seal, NOW + later, 60.0)


def test_what_the_first_leg_seals_comes_back() -> None:
    fields = leg_fields(URL, ORIGIN, SEAL, NOW, NONCE)
    assert [name for name, _ in fields] == [b"X-CF-Forwarded-Url", b"X-CF-Proxy-Signature", b"X-CF-Proxy-Metadata"]
    assert fields[0][1] == URL.encode()
    assert came_back(fields, 59.9) == Sealed(URL, Host("shop.example"), "/cart", NOW, ORIGIN)


def test_the_sealed_text_has_gorouters_members() -> None:
    """Contract d: `forwarded_url` and `requested_time`; a GoRouter ignores the rest."""
    fields = dict(leg_fields(URL, ORIGIN, SEAL, NOW, NONCE))
    nonce = json.loads(base64.urlsafe_b64decode(fields[b"X-CF-Proxy-Metadata"]))
    assert nonce == {"nonce": base64.b64encode(NONCE).decode()}
    text = SEAL.open(
        (came := Seal("tulips").close(b"", NONCE))._replace(signature=fields[b"X-CF-Proxy-Signature"], metadata=came.metadata)
    )
    assert text is not None
    said = json.loads(text)
    assert said["forwarded_url"] == URL
    assert dt.datetime.fromisoformat(said["requested_time"]).timestamp() == NOW


def test_a_service_sees_nothing_of_the_caller() -> None:
    """The identity is inside the seal, not beside it."""
    fields = leg_fields(URL, ORIGIN, SEAL, NOW, NONCE)
    for _, value in fields[1:]:
        assert b"finger" not in base64.urlsafe_b64decode(value)
        assert b"10.1.2.3" not in base64.urlsafe_b64decode(value)


def test_a_gorouters_seal_names_no_origin() -> None:
    assert came_back(gorouters()) == Sealed(URL, Host("shop.example"), "/cart", NOW, None)
    assert came_back(gorouters(unknown={"deep": 1})) == Sealed(URL, Host("shop.example"), "/cart", NOW, None)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2027-01-15T08:00:00Z", -0.25),
        ("2027-01-15T08:00:00.250000001Z", 0.0),
        ("2027-01-15T10:00:00.25+02:00", 0.0),
        ("2027-01-15T02:30:00.25-05:30", 0.0),
    ],
)
def test_times_are_read_as_go_writes_them(time: str, seconds: float) -> None:
    found = came_back(gorouters(time=time))
    assert isinstance(found, Sealed)
    assert found.made_at == pytest.approx(NOW + seconds, abs=1e-5)


@pytest.mark.parametrize(
    ("later", "reason"), [(60.0, None), (60.01, "expired"), (86400, "expired"), (-60.0, None), (-60.01, "from_the_future")]
)
def test_a_seal_is_good_for_the_timeout(later: float, reason: str | None) -> None:
    """Contract d: 60 s; clocks of two routers may differ, but not by more."""
    found = came_back(leg_fields(URL, ORIGIN, SEAL, NOW, NONCE), later)
    assert (found.reason if isinstance(found, Unsealed) else None) == reason
    assert not isinstance(found, Unsealed) or found.expired == (reason == "expired")


def test_without_a_signature_nothing_came_back() -> None:
    """The two other headers alone claim nothing."""
    assert came_back([]) is None
    assert came_back([(METADATA, b"x"), (b"x-cf-forwarded-url", b"https://a.example/")]) is None
    assert came_back([(SIGNATURE, b""), (METADATA, b"x")]) is None


def test_what_stands_twice_is_refused() -> None:
    """Two readers could take two of them."""
    fields = leg_fields(URL, ORIGIN, SEAL, NOW, NONCE)
    assert came_back(fields + fields[1:2]) == Unsealed("repeated")
    assert came_back(fields + fields[2:]) == Unsealed("repeated")
    assert came_back([(SIGNATURE, b""), *fields]) == Unsealed("repeated")


def test_another_secrets_seal_is_none() -> None:
    fields = leg_fields(URL, ORIGIN, Seal("roses"), NOW, NONCE)
    assert came_back(fields) == Unsealed("not_sealed_by_us")
    assert isinstance(came_back(fields, seal=Seal("tulips", "roses")), Sealed)
    assert came_back(fields[:2]) == Unsealed("not_sealed_by_us")


OURS: dict[str, Any] = {"leaf": "", "domain": None, "client_policy": "", "address": "", "forwarded_for": "", "proto": ""}


@pytest.mark.parametrize(
    "fields",
    [
        sealed_text(b"not json"), sealed_text(b"[" * 5000), sealed_text([]), sealed_text({}), sealed_text(b"\xff"),
        gorouters(url=None), gorouters(url="ftp://a.example/"), gorouters(url="https://user@a.example/"),
        gorouters(url="https:///path"), gorouters(url="https://bad host/"), gorouters(url="/path"), gorouters(url="https://a:b/"),
        gorouters(time=None), gorouters(time=NOW), gorouters(time="yesterday"), gorouters(time="2027-13-15T08:00:00Z"),
        gorouters(time="2027-01-15 08:00:00Z"), gorouters(time="2027-01-15T08:00:00"),
        gorouters(vestibule=1), gorouters(vestibule={}), gorouters(vestibule=OURS | {"leaf": "*"}),
        gorouters(vestibule=OURS | {"leaf": None}), gorouters(vestibule=OURS | {"domain": 1}),
        gorouters(vestibule=OURS | {"forwarded_for": "a\r\nX-Evil: 1"}), gorouters(vestibule=OURS | {"proto": "\u00e9"}),
        gorouters(vestibule=OURS | {"address": None}), gorouters(vestibule=OURS | {"leaf": "é"}),
    ],
)  # fmt: skip
def test_contents_that_no_router_writes_are_refused(fields: Fields) -> None:
    assert came_back(fields) == Unsealed("bad_contents")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ("forwarded_url", "requested_time", "vestibule", *OURS)


@given(st.dictionaries(st.sampled_from(MEMBERS), JSON), st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_nothing_that_was_sealed_raises(contents: dict[str, object], inner: dict[str, object]) -> None:
    found = came_back(sealed_text(contents | {"vestibule": OURS | inner}))
    assert isinstance(found, Unsealed | Sealed)


@given(st.lists(st.tuples(st.sampled_from([SIGNATURE, METADATA, b"host"]), st.binary(max_size=80)), max_size=4))
def test_nothing_a_peer_sends_counts(fields: Fields) -> None:
    found = came_back(fields)
    assert found is None or isinstance(found, Unsealed)


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@given(st.binary(max_size=300), st.none() | PRINTABLE, PRINTABLE, PRINTABLE, st.text(max_size=3000))
def test_every_origin_survives_the_way(leaf: bytes, domain: str | None, policy: str, address: str, hops: str) -> None:
    origin = Origin(leaf, domain, policy, address, hops, "http")
    found = came_back(leg_fields(URL, origin, SEAL, NOW, NONCE))
    assert isinstance(found, Sealed)
    assert found.origin is not None
    assert found.origin._replace(forwarded_for="") == origin._replace(forwarded_for="")
    assert len(found.origin.forwarded_for) <= 1024
    assert found.origin.forwarded_for.isprintable()


def test_of_a_long_way_the_last_hops_are_told() -> None:
    hops = ", ".join(f"192.0.2.{i % 256}" for i in range(500))
    found = came_back(leg_fields(URL, ORIGIN._replace(forwarded_for=hops), SEAL, NOW, NONCE))
    assert isinstance(found, Sealed)
    assert found.origin is not None
    told = found.origin.forwarded_for
    assert hops.endswith(", " + told)
    assert all(hop in hops.split(", ") for hop in told.split(", "))


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://guard.example", ("guard.example", 443, b"guard.example", b"/", "/")),
        ("https://Guard.Example./", ("guard.example", 443, b"guard.example", b"/", "/")),
        ("https://guard.example:8443/check?x=1", ("guard.example", 8443, b"guard.example:8443", b"/check?x=1", "/check")),
        ("https://guard.example?x=1", ("guard.example", 443, b"guard.example", b"/?x=1", "/")),
        ("HTTPS://10.0.0.1:444/a%20b", ("10.0.0.1", 444, b"10.0.0.1:444", b"/a%20b", "/a%20b")),
        ("https://[2001:DB8::1]/x", ("[2001:db8::1]", 443, b"[2001:db8::1]", b"/x", "/x")),
    ],
)
def test_a_service_url_is_taken_apart(url: str, parts: tuple[str, int, bytes, bytes, str]) -> None:
    assert parse_service_url(url) == ServiceUrl(Host(parts[0]), *parts[1:])


@pytest.mark.parametrize(
    "url",
    [
        "", "http://guard.example/", "https://", "https:///x", "https://bad%20service.com", "https://user:pass@guard.example/",
        "https://guard.example/#part", "https://guard.example:0/", "https://guard.example:99999/", "https://guard.example:/",
        "https://guard.example/a b", "https://guard.example/%zz", "https://guard.example/\r\nHost: x", "https://1.2.3.4.5/",
        "https://[::1", "https://::1/", "https://g\u00fcard.example/", "guard.example",
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_no_service_url(url: str) -> None:
    """Contract d: a bad URL is 500; nothing is guessed."""
    assert parse_service_url(url) is None


@given(st.text(max_size=60) | st.text(max_size=40).map(lambda rest: "https://" + rest))
def test_a_service_url_never_raises(url: str) -> None:
    found = parse_service_url(url)
    assert found is None or (found.target[:1] == b"/" and b" " not in found.target and b"\r" not in found.authority)


@pytest.mark.parametrize(
    ("raw", "path", "url"),
    [
        (b"/cart?x=1", "/cart", "https://shop.example/cart?x=1"),
        (b"/a%2Fb//c", "/a%2Fb//c", "https://shop.example/a%2Fb//c"),
        (b"http://shop.example/cart?u=http://a/", "/cart", "https://shop.example/cart?u=http://a/"),
        (b"http://shop.example", "/", "https://shop.example/"),
        (b"http://shop.example?x", "/", "https://shop.example/?x"),
        (b"*", "/", "https://shop.example/"),
    ],
)
def test_the_forwarded_url_is_the_requests_own(raw: bytes, path: str, url: str) -> None:
    """Without a port, as in GoRouter; what is asked for stays as it was spelled."""
    assert forwarded_url("https", Target(Host("shop.example"), path, raw)) == url
    assert came_back(leg_fields(url, ORIGIN, SEAL, NOW, NONCE)) == Sealed(url, Host("shop.example"), path, NOW, ORIGIN)
