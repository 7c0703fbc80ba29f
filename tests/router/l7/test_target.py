"""A request names one host and one path, or it is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.hostname import Host
from router.l7.target import Target, _read_authority, normalised_path, readings, resolve_target, trimmed
from router.wire.http1 import NO_BODY, Malformed, RequestHead

_ANY_PATH = st.text(st.sampled_from("aB0~-./%2eE5fF"), max_size=24).map("/".__add__)


def _head(target: bytes, host: bytes | None = b"b.example", method: bytes = b"GET") -> RequestHead:
    fields = [] if host is None else [(b"host", host)]
    return RequestHead(method, target, 1, fields, host, NO_BODY, True, False, frozenset(), None, 0)


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"/", b"b.example", "/"),
        (b"/a/b?c=d", b"b.example", "/a/b"),
        (b"/?%zz", b"b.example", "/"),
        (b"/a?http://c/", b"b.example", "/a"),
        (b"//c.example/a", b"b.example", "//c.example/a"),
        (b"/%41%2F", b"b.example", "/%41%2F"),
        (b"http://b.example/a?b", b"b.example", "/a"),
        (b"HTTP://B.example", b"b.example", "/"),
        (b"http://b.example?x", b"b.example", "/"),
        (b"http://b.example:80/", b"b.example", "/"),
        (b"https://b.example/", b"b.example:443", "/"),
        (b"http://b.example:8080/", b"B.EXAMPLE.:8080", "/"),
    ],
)
def test_a_target_is_understood_and_goes_on_byte_for_byte(target: bytes, host: bytes, path: str) -> None:
    """R11, decision 10: the route sees one path without the query, the backend the target as it was sent."""
    assert Target("b.example", path, target) == resolve_target(_head(target, host))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", [b"B.Example", b"b.example.", b"b.example:8443", b"B.EXAMPLE.:1"])
def test_every_spelling_of_a_host_is_one_host(host: bytes) -> None:
    """R14, attack 2: case, one trailing dot and a port change nothing."""
    target = resolve_target(_head(b"/", host))
    assert isinstance(target, Target)
    assert target.host == "b.example"


@pytest.mark.parametrize(
    "host",
    [
        b"b.example/", b"/b.example", b"a@b.example", b"b.example,c.example", b"b example", b" ",
        b"b.example:", b"b.example:0", b"b.example:65536", b"b.example:99999999", b"b.example:+80",
        b"b.example:8o", b":80",
        b"*.example", b"b%2eexample", b"<script>", b"b.example#", b"b.example?", b"[::1", b"::1", b"[::1]x",
        b"b..example", b"..", b".", b"b\xc3\xbc.example", b"a" * 300, b"b.example:80:80",
    ],
)  # fmt: skip
def test_a_host_that_is_none_is_refused(host: bytes) -> None:
    """Attack 50: an authority that two readers could read in two ways gets 400."""
    assert Malformed("bad_host", 400) == resolve_target(_head(b"/", host))


@pytest.mark.parametrize("host", [None, b""])
def test_no_host_is_an_empty_host(host: bytes | None) -> None:
    """Attack 50: a request without Host is refused, also where its target names one."""
    assert Malformed("empty_host", 400) == resolve_target(_head(b"/", host))
    assert Malformed("empty_host", 400) == resolve_target(_head(b"http://b.example/", host))


def test_a_host_that_is_the_clients_own_address_counts_as_empty() -> None:
    """A load balancer that probes by HTTP/1.0 names itself: 400, as GoRouter answers."""
    assert Malformed("empty_host", 400) == resolve_target(_head(b"/", b"192.0.2.1:80"), peer="192.0.2.1")
    assert isinstance(resolve_target(_head(b"/", b"192.0.2.1:80"), peer="192.0.2.2"), Target)


@pytest.mark.parametrize(
    "target",
    [
        b"http://c.example/", b"http://b.example:81/", b"https://b.example:80/", b"http://u@b.example/",
        b"http://u:p@b.example/", b"http:///a", b"http://b.example:x/", b"http://c.example?b.example/",
    ],
)  # fmt: skip
def test_an_absolute_target_that_differs_from_host_is_refused(target: bytes) -> None:
    """Attack 50: two names for one request mean 400, as does userinfo."""
    assert Malformed("host_mismatch", 400) == resolve_target(_head(target))


@pytest.mark.parametrize("target", [b"ftp://b.example/", b"b.example:80", b"*", b"a/b", b"http:/b.example/", b"?"])
def test_a_target_of_no_known_form_is_refused(target: bytes) -> None:
    """Attack 50: another scheme, a bare authority, an asterisk of another method than OPTIONS: 400."""
    assert Malformed("bad_target", 400) == resolve_target(_head(target))


def test_options_may_ask_for_the_whole_server() -> None:
    """`OPTIONS *` is looked up under the host's root and goes on as an asterisk."""
    asked = resolve_target(_head(b"*", method=b"OPTIONS"))
    assert asked == ("b.example", "/", b"*")


@pytest.mark.parametrize("target", [b"b.example:443", b"/", b"*", b"http://b.example/"])
def test_connect_is_refused_in_every_form(target: bytes) -> None:
    """K27: no tunnel to anywhere: 405."""
    assert Malformed("connect", 405) == resolve_target(_head(target, method=b"CONNECT"))


@pytest.mark.parametrize("target", [b"/%", b"/%2", b"/a%zz", b"/%%41", b"http://b.example/%g0", b"/%4?%41"])
def test_a_bad_escape_in_the_path_is_refused(target: bytes) -> None:
    """A percent sign without two hexadecimal digits is 400; only in the path, for a query is never judged."""
    assert Malformed("bad_escape", 400) == resolve_target(_head(target))


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/a//b", "/a/b"),
        ("//a", "/a"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/../../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/a//", "/a/"),
        ("/%61dmin", "/admin"),
        ("/%7e%5F%2d%39%5a", "/~_-9Z"),
        ("/%252e%252e/a", None),
        ("/a%2Fb", None),
        ("/a%2f..%2fb", None),
        ("/a/..b/.c", None),
        ("/%40%5B%60%7b%5c%00", None),
        ("/a/", None),
        ("/", None),
    ],
)
def test_a_path_has_one_normal_form(path: str, normal: str | None) -> None:
    """Decision 10: escapes of unreserved characters, `//` and dot segments hide no route."""
    assert normal == normalised_path(path)


@given(_ANY_PATH)
def test_a_normal_path_stays_as_it_is(path: str) -> None:
    """Normalising twice is normalising once."""
    normal = normalised_path(path) or path
    assert normalised_path(normal) is None
    assert normal.startswith("/")


@given(st.binary(max_size=60), st.one_of(st.none(), st.binary(max_size=40)), st.binary(min_size=1, max_size=8))
def test_nothing_that_a_client_sends_raises(target: bytes, host: bytes | None, method: bytes) -> None:
    """Every head becomes a target or a reason."""
    assert isinstance(resolve_target(_head(target, host, method)), Target | Malformed)


def test_a_host_that_is_too_long_is_not_remembered() -> None:
    """Attack 52: thousands of Hosts of 60 KiB leave nothing behind; what is remembered is short."""
    before = _read_authority.cache_info().currsize
    target = _head(b"/", b"a" * 60_000)
    assert resolve_target(target) == Malformed("bad_host", 400)
    assert before == _read_authority.cache_info().currsize


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (b"/api/v1?q=/api", b"/v1?q=/api"),
        (b"/api", b"/"),
        (b"/api?q", b"/?q"),
        (b"/api/", b"/"),
        (b"/API/V1", b"/V1"),
        (b"/api/a%7Eb%2F;x=1", b"/a%7Eb%2F;x=1"),
        (b"/api/x//y/../z", b"/x//y/../z"),
        (b"http://b.example/api/v1?q", b"http://b.example/v1?q"),
        (b"http://b.example/api?q", b"http://b.example/?q"),
    ],
)
def test_what_is_left_of_a_target_is_as_it_was_sent(raw: bytes, left: bytes) -> None:
    """R11: the route's path goes, and not one other byte; an empty path is `/` (RFC 9112 section 3.2.1)."""
    target = resolve_target(_head(raw))
    assert isinstance(target, Target)
    assert trimmed(target, "/api") == left


@pytest.mark.parametrize(
    "path",
    [
        "/api//evil.example/x",
        "/api/\\evil.example",
        "/api/../api/x",
        "/api/x/../../api/y",
        "/api/%2e%2e/api/x",
        "/api/..",
        "/other",
    ],
)
def test_a_target_that_would_be_ambiguous_is_not_trimmed(path: str) -> None:
    """What is left would lead out of the route's path, or pass for an authority."""
    assert trimmed(Target(Host("b.example"), path, path.encode()), "/api") is None


@given(_ANY_PATH)
def test_trimming_and_normalising_commute(rest: str) -> None:
    """A backend that normalises sees below the route's path what the router saw below it."""
    path = "/a/b" + rest
    left = trimmed(Target(Host("b.example"), path, path.encode()), "/a/b")
    if left is not None:
        assert left == rest.encode()
        assert (normalised_path(path) or path) == "/a/b" + (normalised_path(rest) or rest)


@given(_ANY_PATH)
def test_the_readings_of_a_path_include_itself_and_its_normal_form(path: str) -> None:
    """A few, all lower-case."""
    found = readings(path)
    assert path.lower() in found
    assert 1 <= len(found) <= 9
    assert all(one == one.lower() for one in found)
    if "%" not in path.replace("%2e", "").replace("%2E", ""):
        assert (normalised_path(path) or path).lower() in found | {path.lower()}
