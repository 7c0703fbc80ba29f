"""Which instance a request's cookies name, and which cookies a response gets: tables, and properties for what peers send."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.balance import Pin
from registry.endpoint import Endpoint
from router.l7.sticky import MAX_ATTRIBUTES, MAX_COOKIES, StickyPolicy, pinned, sticky_cookies, sticky_policy, with_session
from router.wire.http1 import Fields

NOW = 1_800_000_000.0
USED = Endpoint("10.0.0.1", 8080, instance_id="used-1")
ELSEWHERE = Pin("gone-9")
PIN = Pin("used-1")
ID, META = b"__VCAP_ID__", b"__VCAP_ID_META__"

COOKIE_OCTETS = rb"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
SET_COOKIE = re.compile(
    rb"__VCAP_ID(?:_META)?__=" + COOKIE_OCTETS + rb"; Path=/[^;\x00-\x1f\x7f]*"
    rb"(?:; Expires=[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT)?"
    rb"(?:; Max-Age=[0-9]+)?; HttpOnly(?:; Secure)?(?:; SameSite=(?:Lax|Strict|None))?(?:; Partitioned)?"
)
"""Everything that may ever be written (RFC 6265 section 4.1.1)."""


def policy(*names: str, secure: bool = False, negotiate: bool = False) -> StickyPolicy:
    made = sticky_policy(names or ("JSESSIONID",), secure=secure, negotiate=negotiate)
    assert made is not None
    return made


NO_FIELDS: Fields = []
DEFAULT = policy()
NEGOTIATE = policy(negotiate=True)


def cookies(*values: bytes) -> Fields:
    return [(b"host", b"app.example"), *((b"cookie", value) for value in values)]


def given_back(
    *app: bytes,
    request: Fields = NO_FIELDS,
    pin: Pin | None = None,
    by: StickyPolicy = DEFAULT,
    path: str = "",
    used: Endpoint = USED,
) -> list[bytes]:
    """The Set-Cookie values that the router adds to a response in which the app sets these."""
    response = [(b"date", b"x"), *((b"set-cookie", value) for value in app)]
    fields = sticky_cookies(response, request, pin, used, path, by, NOW)
    assert all(name == b"Set-Cookie" for name, _ in fields)
    return [value for _, value in fields]


# ---- the request


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((b"JSESSIONID=s; __VCAP_ID__=i-1",), "i-1"),
        ((b"__VCAP_ID__=i-1; a=b; JSESSIONID=",), "i-1"),
        ((b"__VCAP_ID__=10.0.0.1:8080; JSESSIONID=s",), "10.0.0.1:8080"),
        ((b"__Host-JSESSIONID=s; __VCAP_ID__=i-1",), "i-1"),
        ((b"__VCAP_ID__=i-1;JSESSIONID=s",), "i-1"),
        ((b"JSESSIONID=s;\t __VCAP_ID__=i-1 ",), "i-1"),
        ((b"JSESSIONID=s", b"__VCAP_ID__=i-1"), "i-1"),
        ((b"JSESSIONID=s; __VCAP_ID__=near; __VCAP_ID__=far",), "near"),
        ((b"JSESSIONID=s; __VCAP_ID__=a=b",), "a=b"),
        ((b"JSESSIONID=s; __VCAP_ID__=" + b"i" * 1024,), "i" * 1024),
        ((), None),
        ((b"",), None),
        ((b"JSESSIONID=s",), None),
        ((b"__VCAP_ID__=i-1",), None),
        ((b"SESSION=s; __VCAP_ID__=i-1",), None),
        ((b"jsessionid=s; __VCAP_ID__=i-1",), None),
        ((b"JSESSIONID=s; __vcap_id__=i-1",), None),
        ((b"__host-JSESSIONID=s; __VCAP_ID__=i-1",), None),
        ((b"__Secure-JSESSIONID=s; __VCAP_ID__=i-1",), None),
        ((b"XJSESSIONID=s; __VCAP_ID__=i-1",), None),
        ((b"JSESSIONID; __VCAP_ID__=i-1",), None),
        ((b"JSESSIONID =s; __VCAP_ID__=i-1",), None),
        ((b"JSESSIONID=s; __VCAP_ID__ =i-1",), None),
        ((b"JSESSIONID=s; __VCAP_ID__=",), None),
        ((b'JSESSIONID=s; __VCAP_ID__="i-1"',), None),
        ((b"JSESSIONID=s; __VCAP_ID__=i 1",), None),
        ((b"JSESSIONID=s; __VCAP_ID__=i,1",), None),
        ((b"JSESSIONID=s; __VCAP_ID__=i\\1",), None),
        ((b"JSESSIONID=s; __VCAP_ID__=i\xff",), None),
        ((b"JSESSIONID=s, __VCAP_ID__=i-1",), None),
        ((b"JSESSIONID=s; __VCAP_ID__=\xff; __VCAP_ID__=i-1",), None),
        ((b"JSESSIONID=s; __VCAP_ID__=" + b"i" * 1025,), None),
        ((b"JSESSIONID=s; __VCAP_ID_META__=__VCAP_ID__",), None),
    ],
)
def test_a_request_is_pinned_by_both_cookies_spelled_exactly(values: tuple[bytes, ...], expected: str | None) -> None:
    """Contract f.5: a cookie of the session and `__VCAP_ID__`; of two of one name the first counts, nothing is repaired."""
    assert (None if expected is None else Pin(expected)) == pinned(cookies(*values), DEFAULT)


def test_the_operator_names_the_sessions() -> None:
    """Contract f.5: `sticky_session_cookie_names` are those and no others, each with its `__Host-` form."""
    by = policy("SID", "ASP.NET_SessionId")
    for name in (b"SID", b"ASP.NET_SessionId", b"__Host-SID"):
        assert Pin("i-1") == pinned(cookies(name + b"=s; __VCAP_ID__=i-1"), by)
    assert pinned(cookies(b"JSESSIONID=s; __VCAP_ID__=i-1"), by) is None
    assert sticky_policy(()) is None


@pytest.mark.parametrize("before", [MAX_COOKIES - 1, MAX_COOKIES])
def test_cookies_are_looked_at_up_to_a_bound(before: int) -> None:
    """The last that counts is number MAX_COOKIES; a request with more is only not pinned."""
    sent = cookies(b"JSESSIONID=s; " + b"a=b; " * (before - 1) + b"__VCAP_ID__=i-1")
    assert (Pin("i-1") if before < MAX_COOKIES else None) == pinned(sent, DEFAULT)


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (b"Negotiate YII", Pin("i-1", binding=True)),
        (b"negotiate", Pin("i-1", binding=True)),
        (b"NEGOTIATE\tYII", Pin("i-1", binding=True)),
        (b"Negotiated YII", None),
        (b"Basic negotiate", None),
        (b"", None),
    ],
)
def test_negotiate_pins_without_a_session_and_binds(authorization: bytes, expected: Pin | None) -> None:
    """Contract f.5: with `sticky_sessions_for_auth_negotiate` an authentication goes on where it began or nowhere."""
    sent = [*cookies(b"__VCAP_ID__=i-1"), (b"authorization", authorization)]
    assert expected == pinned(sent, NEGOTIATE)
    assert pinned(sent, DEFAULT) is None
    assert pinned([(b"authorization", authorization)], NEGOTIATE) is None


@given(st.lists(st.binary(max_size=60), max_size=4))
@example([b"JSESSIONID=s", b"__VCAP_ID__=\xff"])
def test_any_cookie_field_is_read_to_the_end(values: list[bytes]) -> None:
    """Whatever a client sends: a pin of bounded, printable text, or none."""
    found = pinned(cookies(*values), DEFAULT)
    assert found is None or (re.fullmatch(r"[!-~]{1,1024}", found.instance) and not found.binding)


NAMES = st.sampled_from([b"JSESSIONID", b"__VCAP_ID__", b"__VCAP_ID_META__", b"__Host-JSESSIONID", b"other", b""])
PARTS = st.sampled_from([b"", b"=", b";", b"; ", b" ", b"\t", b'"', b",", b"i-1", b"=x", b"\xff"])


@given(st.lists(st.tuples(NAMES, PARTS, PARTS, PARTS), max_size=8))
def test_a_pin_is_always_a_piece_of_what_was_sent(pieces: list[tuple[bytes, ...]]) -> None:
    """Nothing is unquoted, decoded or joined: the named instance stands in the field after the cookie's very name."""
    value = b"".join(b"".join(piece) for piece in pieces)
    found = pinned(cookies(value), DEFAULT)
    if found is not None:
        assert b"__VCAP_ID__=" + found.instance.encode() in value
        assert b"JSESSIONID=" in value


# ---- the response


BARE = b"__VCAP_ID__=used-1; Path=/; HttpOnly"


def pair(attributes: bytes = b"", meta: bytes = b"", before: bytes = b"") -> list[bytes]:
    """The two companions of a session with these attributes."""
    rest = b"; Path=/" + before + b"; HttpOnly" + attributes
    return [b"__VCAP_ID__=used-1" + rest, b"__VCAP_ID_META__=" + meta + rest]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (b"", pair()),
        (b"; Path=/app; Domain=example; HttpOnly; Unknown=1", pair()),
        (b"; Secure", pair(b"; Secure", b"secure")),
        (b";secure=no", pair(b"; Secure", b"secure")),
        (b"; SameSite=Lax", pair(b"; SameSite=Lax", b"samesite=lax")),
        (b"; samesite=STRICT", pair(b"; SameSite=Strict", b"samesite=strict")),
        (b"; Secure; SameSite=None", pair(b"; Secure; SameSite=None", b"secure&samesite=none")),
        (b"; SameSite=Lax; SameSite=Odd", pair()),
        (b"; Secure; Partitioned", pair(b"; Secure; Partitioned", b"secure&partitioned")),
        (b"; Max-Age=3600", pair()),
        (b"; Max-Age=0", pair(b"", b"maxage=-1", b"; Max-Age=0")),
        (b"; Max-Age=-1", pair(b"", b"maxage=-1", b"; Max-Age=0")),
        (b"; Max-Age=0; Max-Age=00", pair(b"", b"maxage=-1", b"; Max-Age=0")),
        (b"; Max-Age=0; Max-Age=60", pair()),
        (b"; Max-Age=" + b"9" * 5000, pair()),
        (b"; Max-Age=soon; Max-Age=; Max-Age", pair()),
        (
            b"; Expires=Sun, 06 Nov 1994 08:49:37 GMT",
            pair(b"", b"expires=784111777", b"; Expires=Sun, 06 Nov 1994 08:49:37 GMT"),
        ),
        (
            b"; expires=Thu, 01-Jan-1970 00:00:10 GMT",
            pair(b"", b"expires=10", b"; Expires=Thu, 01 Jan 1970 00:00:10 GMT"),
        ),
        (
            b"; Expires=Mon, 01 Jan 2029 00:00:00 UTC; Secure; SameSite=Strict; Partitioned; Max-Age=0",
            pair(
                b"; Secure; SameSite=Strict; Partitioned",
                b"secure&partitioned&expires=1861920000&maxage=-1&samesite=strict",
                b"; Expires=Mon, 01 Jan 2029 00:00:00 GMT; Max-Age=0",
            ),
        ),
        (b"; Expires=Sun, 31 Feb 1994 08:49:37 GMT", pair()),
        (b"; Expires=Sun, 06 Nov 1600 08:49:37 GMT", pair()),
        (b"; Expires=Sun, 06 Nov 1994 24:49:37 GMT", pair()),
        (b"; Expires=Sun Nov  6 08:49:37 1994", pair()),
        (b"; Expires=", pair()),
        (b";" * 5000 + b"Secure", pair()),
    ],
)
def test_a_session_that_the_app_sets_is_followed_with_its_attributes(attributes: bytes, expected: list[bytes]) -> None:
    """Contract f.5: Secure, SameSite, Expires, Partitioned are copied, Max-Age only where it ends the cookie; the companion
    says the same again, for later.
    """
    assert expected == given_back(b"JSESSIONID=s3cret" + attributes)
    assert expected == given_back(b" __Host-JSESSIONID = s3cret" + attributes)


@pytest.mark.parametrize(
    "app", [(), (b"OTHER=s",), (b"jsessionid=s",), (b"JSESSIONID",), (b"=JSESSIONID",), (b"",), (b"a=b; JSESSIONID=s",)]
)
@pytest.mark.parametrize("pin", [None, PIN])
def test_without_a_session_of_the_apps_nothing_is_added(app: tuple[bytes, ...], pin: Pin | None) -> None:
    """Contract f.5: nor while a pinned request is served by its instance."""
    assert given_back(*app, pin=pin) == []


def test_a_session_that_begins_anew_is_followed_again() -> None:
    """Contract f.5: also where the request was pinned to this instance before."""
    assert pair() == given_back(b"JSESSIONID=new", pin=PIN)


@pytest.mark.parametrize("app", [b"__VCAP_ID__=mine; Path=/x", b"__VCAP_ID__="])
@pytest.mark.parametrize("pin", [None, ELSEWHERE])
def test_the_apps_own_cookie_wins(app: bytes, pin: Pin | None) -> None:
    """Contract f.5: an app that sets `__VCAP_ID__` is left alone."""
    assert given_back(b"JSESSIONID=s", app, pin=pin) == []


def test_an_endpoint_without_an_instance_id_pins_nobody() -> None:
    """Contract f.5: without `private_instance_id`, or with one that no cookie can hold."""
    for instance in ("", "a b", "a;b", 'a"b', "a\\b", "\u00e9"):
        assert given_back(b"JSESSIONID=s", pin=ELSEWHERE, used=Endpoint("10.0.0.1", 8080, instance_id=instance)) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [("", b"/"), ("/App/v1", b"/App/v1"), ("/a;b", b"/"), ("/a/b;c/d", b"/a"), ("/a%20b", b"/a%20b")],
)
def test_the_cookie_is_the_routes(path: str, expected: bytes) -> None:
    """Contract f.5: its path as it was registered; a `;` would end the attribute, so the segments before it."""
    assert [b"__VCAP_ID__=used-1; Path=" + expected + b"; HttpOnly"] == given_back(pin=ELSEWHERE, path=path)


def test_secure_cookies_is_always_secure() -> None:
    """Contract f.5: `secure_cookies` adds what the app's cookie, or the companion, did not have."""
    by = policy(secure=True)
    assert pair(b"; Secure", b"secure") == given_back(b"JSESSIONID=s", by=by)
    assert given_back(pin=ELSEWHERE, by=by) == [BARE + b"; Secure"]


def test_of_several_sessions_the_last_of_each_partition_counts() -> None:
    """Contract f.5: an app that moves to partitioned cookies deletes the other one in the same response; both are followed."""
    moving = given_back(b"JSESSIONID=new; Secure; Partitioned", b"JSESSIONID=; Max-Age=0")
    assert pair(b"; Secure; Partitioned", b"secure&partitioned") + pair(b"", b"maxage=-1", b"; Max-Age=0") == moving
    assert pair(b"; Secure", b"secure") == given_back(*[b"JSESSIONID=a"] * 100, b"JSESSIONID=b; Secure")


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        (None, BARE),
        (b"", BARE),
        (b"secure", BARE + b"; Secure"),
        (b"secure&partitioned&samesite=none", BARE + b"; Secure; SameSite=None; Partitioned"),
        (b"samesite=lax", BARE + b"; SameSite=Lax"),
        (b"samesite=LAX&x=y&&=", BARE),
        (b"expires=784111777", b"__VCAP_ID__=used-1; Path=/; Expires=Sun, 06 Nov 1994 08:49:37 GMT; HttpOnly"),
        (b"maxage=1800000060", b"__VCAP_ID__=used-1; Path=/; Max-Age=60; HttpOnly"),
        (b"maxage=1700000000", b"__VCAP_ID__=used-1; Path=/; Max-Age=0; HttpOnly"),
        (b"maxage=-1", b"__VCAP_ID__=used-1; Path=/; Max-Age=0; HttpOnly"),
        (b"maxage=0", BARE),
        (b"expires=9999999999999&maxage=9999999999999", BARE),
        (b"expires=999999999999", BARE),
        (b"expires=-99999999999", BARE),
        (b"secure%0d%0aSet-Cookie:x=y", BARE),
        (b"samesite=lax%3b Domain=example", BARE),
        (b"a&" * MAX_ATTRIBUTES + b"secure", BARE),
    ],
)
def test_a_session_that_moves_keeps_its_attributes(meta: bytes | None, expected: bytes) -> None:
    """Contract f.5: the instance that was pinned did not serve, so the cookie is written anew, with what the companion says and
    what is left of a lifetime; of a forged companion nothing but the enumerated words and numbers.
    """
    sent = cookies(b"JSESSIONID=s; __VCAP_ID__=gone-9" + (b"" if meta is None else b"; __VCAP_ID_META__=" + meta))
    assert [expected] == given_back(request=sent, pin=ELSEWHERE)


def test_pinned_by_address_the_cookie_gets_the_id() -> None:
    """Contract f.5: the value may be an address; the next one is the instance's id."""
    assert given_back(pin=Pin("10.0.0.1:8080")) == [BARE]


@pytest.mark.parametrize("challenge", [b"Negotiate", b"negotiate YII", b"NEGOTIATE, Basic realm=x"])
def test_a_challenge_to_negotiate_begins_a_session_of_a_minute(challenge: bytes) -> None:
    """Contract f.5: Max-Age 60 and SameSite Strict, without a companion; not again while it stays at its instance."""
    response = [(b"www-authenticate", b"Basic"), (b"www-authenticate", challenge), (b"set-cookie", b"JSESSIONID=s; Secure")]
    strict = b"__VCAP_ID__=used-1; Path=/; Max-Age=60; HttpOnly"
    for pin in (None, ELSEWHERE):
        assert [(b"Set-Cookie", strict + b"; SameSite=Strict")] == sticky_cookies(response, [], pin, USED, "", NEGOTIATE, NOW)
    assert pair(b"; Secure", b"secure") == [value for _, value in sticky_cookies(response, [], PIN, USED, "", NEGOTIATE, NOW)]
    assert sticky_cookies(response[:2], [], None, USED, "", DEFAULT, NOW) == []
    by = policy(secure=True, negotiate=True)
    assert [(b"Set-Cookie", strict + b"; Secure; SameSite=Strict")] == sticky_cookies(response[:2], [], None, USED, "", by, NOW)


def test_other_challenges_begin_nothing() -> None:
    """Only the scheme Negotiate."""
    response = [(b"www-authenticate", b"Negotiated"), (b"www-authenticate", b'Basic realm="negotiate"')]
    assert sticky_cookies(response, [], None, USED, "", NEGOTIATE, NOW) == []


ATTRIBUTES = st.sampled_from(
    [b"Secure", b"Partitioned", b"SameSite=None", b"SameSite=x\r\n", b"Max-Age=0", b"Max-Age=-9", b"Expires=", b"\x00", b"="]
)
METAS = st.sampled_from(
    [b"secure", b"partitioned", b"samesite=none", b"maxage=", b"expires=", b"-", b"1800000001", b"9", b"&", b"="]
)


@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=20), st.lists(ATTRIBUTES | st.binary(max_size=20), max_size=6)), max_size=4),
    st.lists(METAS, max_size=8).map(b"".join) | st.binary(max_size=40),
    st.sampled_from([None, PIN, ELSEWHERE]),
    st.booleans(),
    st.text(alphabet="/aB;%20", max_size=12).map(lambda text: "/" + text),
)
def test_what_is_written_is_always_whole_and_little(
    app: list[tuple[bytes, bytes, list[bytes]]], meta: bytes, pin: Pin | None, secure: bool, path: str
) -> None:
    """Whatever app and client send: at most four fields, each a Set-Cookie of the router's own two names and form."""
    sent = [b"; ".join([name + b"=" + value, *attributes]) for name, value, attributes in app]
    request = cookies(b"JSESSIONID=s; __VCAP_ID__=gone-9; __VCAP_ID_META__=" + meta)
    written = given_back(*sent, request=request, pin=pin, by=policy(secure=secure, negotiate=True), path=path)
    assert len(written) <= 4
    for value in written:
        assert SET_COOKIE.fullmatch(value), value
        assert not secure or b"; Secure" in value


@given(st.integers(-11_644_473_600, 253_402_300_799), st.booleans(), st.sampled_from([b"", b"; SameSite=Lax"]))
def test_the_companion_gives_back_what_it_was_given(expires: int, secure: bool, same_site: bytes) -> None:
    """A session that moves has the very attributes it began with."""
    first = given_back(request=cookies(b"JSESSIONID=s; __VCAP_ID__=x; __VCAP_ID_META__=expires=%d" % expires), pin=ELSEWHERE)[0]
    date = re.search(rb"; Expires=[^;]+", first)
    assert date is not None
    begun, meta = given_back(b"JSESSIONID=s" + date[0] + same_site + (b"; Secure" if secure else b""))
    said = meta.partition(b";")[0]
    moved = given_back(request=cookies(b"JSESSIONID=s; __VCAP_ID__=x; " + said), pin=ELSEWHERE)
    assert [begun] == moved


def test_a_route_may_name_a_session_beside_the_operators() -> None:
    """`session-cookie`: in both forms; where the operator names none it is the only one, and as secure as the operator wants."""
    both = with_session(policy(secure=True, negotiate=True), "SID")
    assert both == StickyPolicy(
        frozenset({b"JSESSIONID", b"__Host-JSESSIONID", b"SID", b"__Host-SID"}), secure=True, negotiate=True
    )
    alone = with_session(None, "SID", secure=True)
    assert alone == StickyPolicy(frozenset({b"SID", b"__Host-SID"}), secure=True, negotiate=False)
