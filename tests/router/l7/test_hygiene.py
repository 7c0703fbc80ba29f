"""What a client may not say never reaches a backend; what the router knows always does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.endpoint import Endpoint
from router.l7.hygiene import (
    RANDOM_BYTES,
    HeaderPolicy,
    XfccMode,
    downstream_facts,
    facts_by_way_of,
    header_policy,
    make_ids,
    refusal_fields,
    request_fields,
    response_fields,
    vcap_trace,
)
from router.wire.http1 import Fields, HeadLimits, RequestHead, parse_request_head, render_request_head

_RANDOM = bytes(range(RANDOM_BYTES))
_ENDPOINT = Endpoint("10.0.0.9", 8080, app="app-guid", instance_id="instance-guid", instance_index="0")
_LIMITS = HeadLimits(65536, 200)
_POLICY = header_policy()
_THEN = (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")
_BEHIND_LB = header_policy(trusted_proxies=["192.0.2.0/24"])
_UUID4 = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_PROTECTED_NAMES = [
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-client-cert", b"forwarded",
    b"x-real-ip", b"x-vcap-request-id", b"x-cf-applicationid", b"x-cf-instanceid", b"x-cf-instanceindex",
]  # fmt: skip


def _head(*fields: tuple[bytes, bytes]) -> RequestHead:
    parsed = parse_request_head(render_request_head(b"GET", b"/", [(b"Host", b"b.example"), *fields]), _LIMITS)
    assert isinstance(parsed, RequestHead)
    return parsed


def _sent(
    *fields: tuple[bytes, bytes],
    policy: HeaderPolicy = _POLICY,
    peer: str = "192.0.2.7",
    mode: XfccMode = "sanitize_set",
    xfcc: bytes | None = None,
    endpoint: Endpoint = _ENDPOINT,
) -> Fields:
    head = _head(*fields)
    ids = make_ids(head.fields, policy, _RANDOM)
    facts = downstream_facts(peer, policy, tls=True)
    return request_fields(head, facts, policy, mode, xfcc, ids, endpoint, b"1700000000000")


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for other, value in fields if other.lower() == name.lower()]


def test_a_plain_request_says_what_the_router_knows() -> None:
    """R27 to R30: platform values, each once, in GoRouter's spelling, Host as it was sent."""
    assert _sent((b"Accept", b"*/*")) == [
        (b"host", b"b.example"),
        (b"accept", b"*/*"),
        (b"X-Forwarded-For", b"192.0.2.7"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Real-IP", b"192.0.2.7"),
        (b"X-Forwarded-Host", b"b.example"),
        (b"Forwarded", b'for=192.0.2.7;host="b.example";proto=https'),
        (b"X-Request-Start", b"1700000000000"),
        (b"X-Vcap-Request-Id", b"00010203-0405-4607-8809-0a0b0c0d0e0f"),
        (b"X-Request-Id", b"00010203-0405-4607-8809-0a0b0c0d0e0f"),
        (b"traceparent", b"00-00010203040546078809" + b"0a0b0c0d0e0f-1011121314151617-01"),
        (b"tracestate", b"gorouter=1011121314151617"),
        (b"X-CF-ApplicationID", b"app-guid"),
        (b"X-CF-InstanceIndex", b"0"),
        (b"X-CF-InstanceID", b"instance-guid"),
    ]


@pytest.mark.parametrize("name", [*_PROTECTED_NAMES, b"x-forwarded-port", b"x-forwarded-server"])
def test_what_an_untrusted_client_says_of_itself_is_overwritten(name: bytes) -> None:
    """R27, K4, K42, attack 41: stripped, then set, however often it was sent."""
    fields = _sent((name, b"forged"), (name.upper(), b"forged, too"), xfcc=b"ours")
    assert not [value for _, value in fields if b"forged" in value]
    assert len(_values(fields, name)) == (0 if name in (b"x-forwarded-port", b"x-forwarded-server") else 1)


def test_a_forwarded_node_of_ipv6_is_quoted() -> None:
    """R31: the form of RFC 7239; an IPv4 address inside IPv6 is told as IPv4."""
    fields = _sent(peer="2001:db8::1")
    assert _values(fields, b"forwarded") == [b'for="[2001:db8::1]";host="b.example";proto=https']
    assert _values(_sent(peer="::ffff:192.0.2.7"), b"x-real-ip") == [b"192.0.2.7"]


def test_a_trusted_proxy_is_believed_and_appended_to() -> None:
    """Decision 9: For is appended to, Proto and Host are kept, and Forwarded says the same."""
    fields = _sent(
        (b"X-Forwarded-For", b"203.0.113.9, oops"),
        (b"X-Forwarded-For", b"2001:db8::5"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"outside.example:81"),
        (b"Forwarded", b"for=evil"),
        policy=_BEHIND_LB,
    )
    assert _values(fields, b"x-forwarded-for") == [b"203.0.113.9, oops, 2001:db8::5, 192.0.2.7"]
    assert _values(fields, b"x-forwarded-proto") == [b"http"]
    assert _values(fields, b"x-forwarded-host") == [b"outside.example:81"]
    assert _values(fields, b"x-real-ip") == [b"192.0.2.7"]
    first = b'for=203.0.113.9;host="outside.example:81";proto=http'
    assert _values(fields, b"forwarded") == [first + b', for=unknown, for="[2001:db8::5]", for=192.0.2.7']


def test_nobody_is_trusted_outside_the_listed_networks() -> None:
    """Decision 9: trusted_proxies absent means nobody; a neighbour of the network is not in it."""
    assert not downstream_facts("192.0.2.7", _POLICY, tls=False).trusted
    assert not downstream_facts("192.0.3.7", _BEHIND_LB, tls=False).trusted
    assert not downstream_facts("2001:db8::1", _BEHIND_LB, tls=False).trusted
    assert downstream_facts("::ffff:192.0.2.7", _BEHIND_LB, tls=False).trusted


def test_a_trusted_proxys_nonsense_is_replaced() -> None:
    """Proto and Host that could break Forwarded are not kept; a long chain is told from its end."""
    fields = _sent(
        (b"X-Forwarded-Proto", b"https;by=x"),
        (b"X-Forwarded-Host", b'a"b'),
        (b"X-Forwarded-For", b",".join([b"10.0.0.1"] * 40)),
        policy=_BEHIND_LB,
    )
    assert _values(fields, b"x-forwarded-proto") == [b"https"]
    assert _values(fields, b"x-forwarded-host") == [b"b.example"]
    assert _values(fields, b"forwarded")[0].count(b"for=") == 16
    assert _values(fields, b"x-forwarded-for")[0].count(b"10.0.0.1") == 40


@pytest.mark.parametrize(
    ("sanitize", "force", "trusted", "sent", "expected"),
    [
        (False, False, True, b"http", b"http"),
        (False, False, True, None, b"https"),
        (True, False, True, b"http", b"https"),
        (False, False, False, b"http", b"https"),
    ],
)
def test_the_protocol_is_the_clients_or_the_trusted_proxys(
    sanitize: bool, force: bool, trusted: bool, sent: bytes | None, expected: bytes
) -> None:
    """R29, sanitize_forwarded_proto: what the trusted proxy said stands, unless it is to be sanitised."""
    policy = header_policy(
        trusted_proxies=["192.0.2.7"] if trusted else [],
        sanitize_forwarded_proto=sanitize,
        force_forwarded_proto_https=force,
    )
    fields = [(b"X-Forwarded-Proto", sent)] if sent is not None else []
    assert [expected] == _values(_sent(*fields, policy=policy), b"x-forwarded-proto")


@pytest.mark.parametrize("trusted", [["192.0.2.7"], []])
def test_a_forced_https_wins_over_everything(trusted: list[str]) -> None:
    """force_forwarded_proto_https wins over trusted proxies, sanitising and the connection itself."""
    policy = header_policy(trusted_proxies=trusted, sanitize_forwarded_proto=True, force_forwarded_proto_https=True)
    head = _head((b"X-Forwarded-Proto", b"http"))
    facts = downstream_facts("192.0.2.7", policy, tls=False)
    ids = make_ids([], policy, _RANDOM)
    fields = request_fields(head, facts, policy, "sanitize_set", None, ids, _ENDPOINT, b"1")
    assert _values(fields, b"x-forwarded-proto") == [b"https"]
    assert b"proto=https" in _values(fields, b"forwarded")[0]


@pytest.mark.parametrize(
    ("mode", "verified", "expected"),
    [
        ("sanitize_set", True, [b"ours"]),
        ("sanitize_set", False, []),
        ("forward", True, [b"theirs", b"again"]),
        ("forward", False, []),
        ("always_forward", True, [b"theirs", b"again"]),
        ("always_forward", False, [b"theirs", b"again"]),
    ],
)
@pytest.mark.parametrize("policy", [_POLICY, _BEHIND_LB])
def test_xfcc_follows_its_mode_alone(mode: XfccMode, verified: bool, expected: list[bytes], policy: HeaderPolicy) -> None:
    """R249, attack 34: the three modes, with and without a verified certificate, whoever the peer is."""
    fields = _sent(
        (b"X-Forwarded-Client-Cert", b"theirs"),
        (b"x-forwarded-client-CERT", b"again"),
        (b"X_Forwarded_Client_Cert", b"forged"),
        (b"X-Forwarded_Client-Cert", b"forged"),
        policy=policy,
        mode=mode,
        xfcc=b"ours" if verified else None,
    )
    assert expected == _values(fields, b"x-forwarded-client-cert")
    assert not [value for _, value in fields if value == b"forged"]


@pytest.mark.parametrize("name", [*_PROTECTED_NAMES, b"host", b"content-length", b"authorization", b"b3"])
def test_a_connection_header_cannot_take_away_what_is_protected(name: bytes) -> None:
    """Attack 37: our values still arrive when `Connection` names them."""
    plain = _sent((b"Content-Length", b"3"), (b"Authorization", b"Basic x"), (b"B3", b"0"), xfcc=b"ours")
    named = _sent(
        (b"Content-Length", b"3"), (b"Authorization", b"Basic x"), (b"B3", b"0"),
        (b"Connection", b"close, " + name), xfcc=b"ours",
    )  # fmt: skip
    assert _values(named, name) == _values(plain, name) != []


def test_a_trusted_proxys_word_survives_a_connection_header() -> None:
    """Attack 37 behind a load balancer: the client address that it told is not lost."""
    fields = _sent((b"X-Forwarded-For", b"203.0.113.9"), (b"Connection", b"X-Forwarded-For"), policy=_BEHIND_LB)
    assert _values(fields, b"x-forwarded-for") == [b"203.0.113.9, 192.0.2.7"]


def test_hop_by_hop_fields_stay_on_their_hop() -> None:
    """RFC 9110 section 7.6.1: the known ones and those that Connection names, but not the operator's."""
    policy = header_policy(hop_by_hop_headers_to_filter=["X-Kept"])
    fields = _sent(
        (b"Connection", b"keep-alive, X-Mine, X-Kept"), (b"X-Mine", b"1"), (b"X-Kept", b"2"),
        (b"Keep-Alive", b"timeout=5"), (b"Proxy-Connection", b"keep-alive"), (b"Proxy", b"http://evil"),
        (b"Proxy-Authorization", b"x"), (b"Transfer-Encoding", b"chunked"), (b"Trailer", b"X-Sum"),
        (b"Upgrade", b"h2c"), (b"Expect", b"100-continue"), policy=policy,
    )  # fmt: skip
    names = {name for name, _ in fields if name == name.lower()}
    assert names == {b"host", b"x-kept", b"trailer", b"traceparent", b"tracestate"}


@pytest.mark.parametrize(
    ("te", "expected"),
    [
        (b"trailers", [b"trailers"]),
        (b"gzip;q=0.5, Trailers", [b"trailers"]),
        (b"gzip", []),
        (b"trailersx", []),
    ],
)
def test_only_trailers_pass_in_te(te: bytes, expected: list[bytes]) -> None:
    """RFC 9110 section 10.1.4: TE speaks of this hop; what we can pass on is the wish for trailers."""
    fields = _sent((b"TE", te), (b"Connection", b"TE"))
    assert expected == _values(fields, b"te")
    assert [b"TE"] * len(expected) == _values(fields, b"connection")


def test_the_time_of_arrival_is_told_once() -> None:
    """As in GoRouter: X-Request-Start only if absent; its look-alike does not count."""
    assert _values(_sent((b"X-Request-Start", b"t=1")), b"x-request-start") == [b"t=1"]
    assert _values(_sent((b"X_Request_Start", b"t=1")), b"x-request-start") == [b"1700000000000"]


def test_an_instance_is_named_by_its_address_where_it_has_no_id() -> None:
    """X-CF-InstanceID is private_instance_id or host:port; what was not registered is not said."""
    fields = _sent(endpoint=Endpoint("2001:db8::9", 8080))
    assert _values(fields, b"x-cf-instanceid") == [b"[2001:db8::9]:8080"]
    assert not _values(fields, b"x-cf-applicationid") + _values(fields, b"x-cf-instanceindex")


def test_a_registration_cannot_break_a_request() -> None:
    """A registration's words become one field value each, printable and bounded."""
    fields = _sent(endpoint=Endpoint("10.0.0.9", 80, app="a\r\nX-Evil: ü" + "y" * 999, instance_id="\n"))
    value = _values(fields, b"x-cf-applicationid")[0]
    assert value.startswith(b"a??X-Evil: ?yy")
    assert len(value) == 256
    assert render_request_head(b"GET", b"/", fields)


@pytest.mark.parametrize("given_id", [b"abc", b"A.b_c-9", b"x" * 64])
def test_a_well_formed_request_id_is_the_clients(given_id: bytes) -> None:
    """R32, K29, K30: X-Request-Id stays; X-Vcap-Request-Id is ours whatever was sent."""
    fields = _sent((b"X-Request-Id", given_id), (b"X-Vcap-Request-Id", given_id))
    assert _values(fields, b"x-request-id") == [given_id]
    assert _UUID4.fullmatch(_values(fields, b"x-vcap-request-id")[0])


@pytest.mark.parametrize("sent", [[b""], [b"a b"], [b"a;b"], [b"x" * 65], [b"a", b"b"], [b"a", b"a"]])
def test_any_other_request_id_becomes_ours(sent: list[bytes]) -> None:
    """K30: an id that is malformed, too long or doubtful is replaced by the value of X-Vcap-Request-Id."""
    fields = _sent(*((b"X-Request-Id", value) for value in sent))
    assert _values(fields, b"x-request-id") == _values(fields, b"x-vcap-request-id")


@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES))
def test_our_request_id_is_a_uuid_and_the_trace_we_begin(random: bytes) -> None:
    """Decision 9: a UUID of version 4; a trace that begins here has its id."""
    ids = make_ids([], _POLICY, random)
    assert _UUID4.fullmatch(ids.vcap)
    assert (ids.request, ids.trace_id) == (ids.vcap, ids.vcap.replace(b"-", b""))


def test_trace_fields_pass_untouched_where_tracing_is_off() -> None:
    """Decision 9: `enable_w3c: false` makes none and takes none away; the log still learns the id."""
    policy = header_policy(enable_w3c=False)
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    fields = _sent((b"traceparent", parent), (b"b3", b"0"), policy=policy)
    assert (_values(fields, b"traceparent"), _values(fields, b"b3")) == ([parent], [b"0"])
    assert not _values(_sent(policy=policy), b"traceparent")
    assert make_ids([(b"traceparent", parent)], policy, _RANDOM).trace_id == parent[3:35]


def test_a_trace_is_continued_in_both_forms() -> None:
    """R32: with Zipkin on, what the client sent is replaced by its continuation, never doubled."""
    policy = header_policy(enable_zipkin=True, w3c_tenant_id="acme")
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    fields = _sent((b"traceparent", parent), (b"X-B3-TraceId", b"junk"), policy=policy)
    assert _values(fields, b"traceparent") == [parent[:36] + b"1011121314151617-00"]
    assert _values(fields, b"tracestate") == [b"acme@gorouter=1011121314151617"]
    assert _values(fields, b"x-b3-traceid") == [parent[3:35]]


@given(
    st.lists(
        st.tuples(
            st.text(st.sampled_from("xX-_forwardedclientcertpy.s"), min_size=1, max_size=24)
            .filter(lambda name: name.lower() != "expect")  # of which only one value is HTTP
            .map(str.encode),
            st.sampled_from([b"forged"]),
        ),
        max_size=20,
    )
)
def test_no_spelling_of_a_forged_field_passes(fields: Fields) -> None:
    """Attacks 34 to 36: once every separator is a hyphen, nothing a client sent stands under our names."""
    sent = _sent(*fields, xfcc=b"ours")
    passed = {re.sub(rb"[^a-z0-9]", b"-", name.lower()) for name, value in sent if value == b"forged"}
    assert not passed & set(_PROTECTED_NAMES)
    assert not [name for name in passed if name.startswith((b"x-forwarded-", b"client-cert", b"proxy-"))]


def test_a_response_loses_its_hop_and_gains_the_request_id() -> None:
    """As in GoRouter: hop-by-hop and X-CF-Proxy-Signature go, X-Vcap-Request-Id comes if it is missing."""
    ids = make_ids([], _POLICY, _RANDOM)
    fields = [
        (b"connection", b"x-mine, content-length"), (b"x-mine", b"1"), (b"keep-alive", b"x"), (b"te", b"x"),
        (b"transfer-encoding", b"chunked"), (b"upgrade", b"x"), (b"proxy-authenticate", b"x"),
        (b"x-cf-proxy-signature", b"x"), (b"trailer", b"x-sum"), (b"content-length", b"1"),
        (b"set-cookie", b"a"), (b"set-cookie", b"b"),
    ]  # fmt: skip
    tokens = frozenset({b"x-mine", b"content-length"})
    assert response_fields(fields, tokens, _POLICY, ids) == [
        (b"trailer", b"x-sum"),
        (b"content-length", b"1"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
        (b"X-Vcap-Request-Id", ids.vcap),
    ]
    named = [(b"x-vcap-request-id", b"the app's")]
    assert named == response_fields(named, frozenset(), _POLICY, ids)


def test_responses_are_rewritten_as_configured() -> None:
    """http_rewrite: remove first, then add what is not there, in any case of letters, on refusals too."""
    policy = header_policy(
        remove_headers=["X-Powered-By", "X-VCAP-Request-Id"],
        add_headers_if_not_present=[("X-Frame-Options", "DENY"), ("X-Powered-By", "us"), ("Server", "v")],
    )
    ids = make_ids([], policy, _RANDOM)
    fields = [(b"x-powered-by", b"php"), (b"server", b"theirs"), (b"x-vcap-request-id", b"x")]
    rewritten = [(b"server", b"theirs"), (b"X-Frame-Options", b"DENY"), (b"X-Powered-By", b"us")]
    assert rewritten == response_fields(fields, frozenset(), policy, ids)
    refused = refusal_fields([(b"Server", b"ours")], policy, ids, 0.0)
    assert (b"X-Frame-Options", b"DENY") in refused
    assert _values(refused, b"server") == [b"ours"]
    assert not _values(refused, b"x-vcap-request-id")


def test_an_error_carries_both_ids() -> None:
    """Decision 9: X-Vcap-Request-Id and X-Request-Id also stand on errors."""
    ids = make_ids([(b"x-request-id", b"mine")], _POLICY, _RANDOM)
    expected = [(b"A", b"b"), (b"X-Vcap-Request-Id", ids.vcap), (b"X-Request-Id", b"mine"), _THEN]
    assert expected == refusal_fields([(b"A", b"b")], _POLICY, ids, 784111777.5)


@pytest.mark.parametrize(
    ("sent", "now", "expected"),
    [
        ([], 784111777.5, [b"Sun, 06 Nov 1994 08:49:37 GMT"]),
        ([(b"date", b"Mon, 01 Jan 2024 00:00:00 GMT")], 784111777.5, [b"Mon, 01 Jan 2024 00:00:00 GMT"]),
        ([], None, []),
    ],
    ids=["without", "its own", "interim"],
)
def test_a_response_without_a_date_gets_one(sent: Fields, now: float | None, expected: list[bytes]) -> None:
    """RFC 9110 section 6.6.1: the time of receipt is told where the backend told none; interim responses stay as they are."""
    ids = make_ids([], _POLICY, _RANDOM)
    assert expected == _values(response_fields(sent, frozenset(), _POLICY, ids, (), now), b"date")


def test_a_date_that_the_operator_removes_is_not_made_again() -> None:
    """`http_rewrite` has the last word."""
    policy = header_policy(remove_headers=["Date"])
    ids = make_ids([], policy, _RANDOM)
    assert _values(response_fields([(b"date", b"x")], frozenset(), policy, ids, (), 1.0), b"date") == []
    assert _values(refusal_fields([], policy, ids, 1.0), b"date") == []


@pytest.mark.parametrize(
    ("key", "sent", "traced"),
    [("22", b"22", True), ("22", b"23", False), ("", b"", False), ("22", None, False)],
)
def test_only_who_knows_the_trace_key_learns_of_the_backend(key: str, sent: bytes | None, traced: bool) -> None:
    """X-Vcap-Router, X-Vcap-Backend and X-Cf-RouteEndpoint only when X-Vcap-Trace is the trace key."""
    policy = header_policy(trace_key=key)
    fields = [(b"x-vcap-trace", sent)] if sent is not None else []
    ids = make_ids(fields, policy, _RANDOM)
    assert traced is ids.traced
    extra = vcap_trace(b"192.0.2.1", b"10.0.0.9:8080") if ids.traced else []
    assert [b"10.0.0.9:8080"] * traced == _values(response_fields([], frozenset(), policy, ids, extra), b"x-cf-routeendpoint")


def test_a_request_by_way_of_a_service_tells_of_its_client() -> None:
    """What another router told of the client is told again, with the peer added; nobody is trusted for it."""
    near = downstream_facts("192.0.2.80", header_policy(trusted_proxies=["192.0.2.0/24"]), tls=True)
    facts = facts_by_way_of(near, "2001:db8::9", "198.51.100.7", "http")
    assert facts.forwarded == [
        (b"X-Forwarded-For", b"198.51.100.7, 192.0.2.80"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Real-IP", b"2001:db8::9"),
    ]
    assert (facts.node, facts.trusted, facts.peer) == (b'"[2001:db8::9]"', False, b"192.0.2.80")
    assert facts_by_way_of(near, "", "", "http").forwarded[0] == (b"X-Forwarded-For", b"192.0.2.80")
    assert facts_by_way_of(near, "", "", "http").node == b"unknown"
