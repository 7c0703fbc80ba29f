"""Tests of registry/message.py: what emitters send, and what anybody could send."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.message import Malformed, RegistryMessage, parse_message, parse_uri, uri_of

FIXTURES = Path(__file__).parents[2] / "fixtures" / "nats"
REASONS = {
    "too_large",
    "not_json",
    "not_an_object",
    "wrong_type",
    "bad_text",
    "bad_host",
    "bad_port",
    "bad_route_service_url",
    "too_many_uris",
    "no_uri",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELD = st.sampled_from(
    [
        "host",
        "port",
        "tls_port",
        "uris",
        "protocol",
        "app",
        "private_instance_id",
        "private_instance_index",
        "server_cert_domain_san",
        "isolation_segment",
        "availability_zone",
        "stale_threshold_in_seconds",
        "route_service_url",
        "tags",
        "endpoint_updated_at_ns",
        "options",
    ]
)
GOOD: dict[str, object] = {"host": "10.0.0.1", "port": 8080, "uris": ["app.example.com"]}


def read(**fields: object) -> RegistryMessage:
    message = parse_message(json.dumps(GOOD | fields).encode())
    assert isinstance(message, RegistryMessage), message
    return message


def refused(**fields: object) -> Malformed:
    message = parse_message(json.dumps(GOOD | fields).encode())
    assert isinstance(message, Malformed), message
    return message


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json")), ids=lambda path: path.stem)
def test_what_real_emitters_send_is_read(path: Path) -> None:
    """route-emitter, route-registrar, GoRouter's test apps: each message has an endpoint and a route."""
    message = parse_message(path.read_bytes())
    assert isinstance(message, RegistryMessage), message
    assert message.uris
    assert (message.bad_uris, message.notes) == ((), ())


@pytest.mark.parametrize("path", sorted((FIXTURES / "bad").glob("*.json")), ids=lambda path: path.stem)
def test_a_message_that_does_not_parse_has_a_reason(path: Path) -> None:
    """Attack 78: a malformed message is named by a bounded code (the file's name begins with it)."""
    message = parse_message(path.read_bytes())
    assert isinstance(message, Malformed), message
    assert path.stem.partition("__")[0] == message.reason


def test_every_field_of_an_app_registration_is_kept() -> None:
    """Contract b.2: the fields of a Diego app behind its TLS proxy."""
    message = parse_message((FIXTURES / "route_emitter_app.json").read_bytes())
    assert isinstance(message, RegistryMessage)
    endpoint = message.endpoint
    assert (
        endpoint.address,
        endpoint.tls,
        endpoint.protocol,
        endpoint.availability_zone,
        endpoint.instance_index,
    ) == ("10.0.16.7:61014", True, "http1", "z1", "0")
    assert (
        endpoint.tags["app_name"],
        endpoint.tags["organization_id"],
        len(endpoint.tags),
        endpoint.tags.get("absent"),
    ) == ("orders", "0c9a4d3e-8a51-4f6c-bb1c-2d1e5a8b7c90", 12, None)
    assert (endpoint.san, endpoint.updated_at_ns) == ("d5f1a2b4-9a3c-4e1d-5f7a-7c61", 1731600000123456789)
    assert [part.column for part in endpoint.options.policy.parts] == ["mtls"]


def test_null_stands_for_an_absent_field() -> None:
    """As in Go: emitters write null for empty maps."""
    message = read(tags=None, app=None, tls_port=None, options=None, stale_threshold_in_seconds=None)
    assert read() == message


@pytest.mark.parametrize(
    ("port", "tls_port", "expected"),
    [(80, 0, (80, False)), (80, 443, (443, True)), (0, 443, (443, True)), (70000, 443, (443, True))],
)
def test_the_tls_port_is_used_where_there_is_one(port: int, tls_port: int, expected: tuple[int, bool]) -> None:
    """Only the effective port must be 1 to 65535; port 0 beside a tls_port is fine."""
    endpoint = read(port=port, tls_port=tls_port).endpoint
    assert expected == (endpoint.port, endpoint.tls)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.0.0.1", "10.0.0.1:8080"),
        ("Web.Service.CF.Internal", "web.service.cf.internal:8080"),
        ("2001:DB8::0:1", "[2001:db8::1]:8080"),
        ("[2001:db8::1]", "[2001:db8::1]:8080"),
    ],
)
def test_a_backend_is_a_name_or_an_address(host: str, expected: str) -> None:
    """Both spellings of IPv6 are one address."""
    assert expected == read(host=host).endpoint.address


@pytest.mark.parametrize(("asked", "expected"), [(None, 120.0), (0, 120.0), (-5, 120.0), (30, 30.0), (120, 120.0), (3600, 120.0)])
def test_an_emitter_can_shorten_the_ttl_but_not_lengthen_it(asked: int | None, expected: float) -> None:
    """Contract b.2: effective TTL = min(value, droplet_stale_threshold); 0 = default."""
    assert expected == read(stale_threshold_in_seconds=asked).endpoint.ttl


@pytest.mark.parametrize(
    ("sent", "protocol", "notes"),
    [("", "http1", 0), ("http1", "http1", 0), ("http2", "http2", 0), ("h3", "http1", 1)],
)
def test_an_unknown_protocol_is_http1(sent: str, protocol: str, notes: int) -> None:
    """It is said in a note, and the registration holds."""
    message = read(protocol=sent)
    assert (protocol, notes) == (message.endpoint.protocol, len(message.notes))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("App.Example.com", ("app.example.com", "app.example.com", "", "")),
        ("a.b/", ("a.b", "a.b", "", "")),
        ("a.b/X/Y/", ("a.b/x/y", "a.b", "/x/y", "/X/Y")),
        ("a.b/x?q=1", ("a.b/x", "a.b", "/x", "/x")),
        ("a.b?q=1", ("a.b", "a.b", "", "")),
        ("*.B.c/x", ("*.b.c/x", "*.b.c", "/x", "/x")),
        ("a.b/x%2Fy", ("a.b/x%2fy", "a.b", "/x%2fy", "/x%2Fy")),
        ("a.b/.well-known", ("a.b/.well-known", "a.b", "/.well-known", "/.well-known")),
    ],
)
def test_a_uri_becomes_its_key(uri: str, expected: tuple[str, str, str, str]) -> None:
    """Contract c: lower case, no query, no trailing slash; the path's own case is remembered."""
    assert expected == parse_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/path",
        "a.b:80",
        "*",
        "a.*.b",
        "a.b//x",
        "a.b/./x",
        "a.b/x/..",
        "a.b/%zz",
        "a.b/x y",
        "a.b/x#y",
        "a.b/ü",
        "a.b/x\r\ny",
        "http://a.b/x",
        "a.b/" + "x" * 1024,
    ],
)
def test_a_uri_that_no_request_could_select_is_bad(uri: str) -> None:
    """K46: never taken for its host alone."""
    assert parse_uri(uri) is None


def test_a_bad_uri_is_left_out_and_named() -> None:
    """The good ones of the message hold; the bad are escaped for the log."""
    message = read(uris=["good.example.com", "bad..\n", "GOOD.example.com"])
    assert ([uri.key for uri in message.uris], len(message.bad_uris)) == (["good.example.com"], 1)
    assert message.bad_uris[0].isprintable()


def test_the_size_limit_is_64_kib() -> None:
    """Larger messages are dropped unread."""
    fits = json.dumps(GOOD | {"pad": ""}).encode()
    fits = fits[:-2] + b"x" * (65536 - len(fits)) + fits[-2:]
    assert isinstance(parse_message(fits), RegistryMessage)
    assert Malformed("too_large", "65537 bytes, the limit is 65536") == parse_message(fits + b" ")


def test_a_hundred_uris_fit() -> None:
    """More than 100 drop the message."""
    assert len(read(uris=[f"a{i}.b" for i in range(100)]).uris) == 100
    assert refused(uris=[f"a{i}.b" for i in range(101)]).reason == "too_many_uris"


def test_options_alone_never_drop_a_registration() -> None:
    """Decision 8, R321: even options that are no map keep the route, with a policy that says invalid."""
    assert [part.column for part in read(options=["x"]).endpoint.options.policy.parts] == ["invalid"]


def test_a_lone_surrogate_in_a_tag_is_refused() -> None:
    """Text that cannot be written as UTF-8 would break a log or a metric later."""
    assert refused(tags={"app_name": "\ud800"}).reason == "bad_text"


def test_deep_nesting_is_refused() -> None:
    """A message that is nothing but brackets costs no stack."""
    for text in (
        "[" * 60000,
        '{"options":' * 5000,
        json.dumps(GOOD)[:-1] + ',"options":' + "[" * 900 + "]" * 900 + "}",
    ):
        assert isinstance(parse_message(text.encode()), Malformed | RegistryMessage)


@given(
    st.one_of(
        st.binary(max_size=300),
        JSON.map(lambda value: json.dumps(value).encode()),
        st.dictionaries(FIELD, JSON, max_size=8).map(lambda fields: json.dumps(GOOD | fields).encode()),
    )
)
@example(b"\xef\xbb\xbf{}")
@example(b'{"port": 1' + b"0" * 5000 + b"}")
@example('{"host":"a"}'.encode("utf-16"))
def test_any_bytes_give_a_message_or_a_reason(data: bytes) -> None:
    """Attack 78: never raises; the reason is one of a few; the detail is short and printable ASCII."""
    message = parse_message(data)
    if isinstance(message, Malformed):
        assert message.reason in REASONS
        assert len(message.detail) <= 256
        assert message.detail.isascii()
        assert message.detail.isprintable()
    else:
        assert 1 <= len(message.uris) <= 100
        assert 1 <= message.endpoint.port <= 65535
        assert 0 < message.endpoint.ttl <= 120


def test_a_key_comes_apart_as_it_was_made() -> None:
    """Host and path; the path's case is the message's own business."""
    uri = parse_uri("A.b/X/y")
    assert uri is not None
    assert uri_of(uri.key) == uri._replace(context_path="/x/y")
    assert uri_of("a.b") == parse_uri("a.b")
