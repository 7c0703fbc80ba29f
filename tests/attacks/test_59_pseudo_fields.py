"""Attack 59: pseudo-fields that would write another request line, or of which there are too many, too few or unknown ones."""

from collections.abc import Iterator

import pytest

from tests.attacks.floods import assert_refused_alone, attacker
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

GOOD = {":method": "GET", ":scheme": "https", ":authority": "{host}", ":path": "/bad"}


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(place: Site) -> None:
    place.backend.clear()


def _refused(place: Site, pairs: list[tuple[str, str]]) -> None:
    with attacker(place) as client:
        stream = client.ask(client.block([(name, value.replace("{host}", place.host)) for name, value in pairs]))
        assert_refused_alone(client, stream, place)


def _with(name: str, value: str) -> list[tuple[str, str]]:
    return list({**GOOD, name: value}.items())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (":path", ""),
        (":path", "bad"),
        (":path", "*"),
        (":path", "/a b"),
        (":path", "/bad HTTP/1.1\r\nX-Forwarded-Client-Cert: x\r\nX: y"),
        (":path", "/bad\r\n\r\nGET /smuggled HTTP/1.1"),
        (":path", "/bad\n"),
        (":path", "/bad\0"),
        (":path", "/bad\t"),
        (":path", "/bad\x7f"),
        (":path", "/bad\xe9"),
        (":path", "/bad#fragment"),
        (":path", "https://other.open.example/bad"),
        (":path", "other.open.example:443"),
        (":method", ""),
        (":method", "GET "),
        (":method", "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nGET"),
        (":method", "GE\tT"),
        (":method", "G\0T"),
        (":method", "G(T"),
        (":scheme", ""),
        (":scheme", "ftp"),
        (":scheme", "https://x/?"),
        (":scheme", "http\r\n"),
        (":authority", "user@{host}"),
        (":authority", "user:secret@{host}"),
        (":authority", "{host}@other.open.example"),
        (":authority", "{host}/bad"),
        (":authority", "{host}?x"),
        (":authority", "{host}#x"),
        (":authority", "{host}\\x"),
        (":authority", "{host}:80:80"),
        (":authority", "{host}:x"),
        (":authority", "{host}:99999"),
        (":authority", "{host},{host}"),
        (":authority", "{host} "),
        (":authority", " {host}"),
        (":authority", "{host}\r\nX: y"),
        (":authority", "{host}\0"),
        (":authority", ""),
    ],
)
def test_a_pseudo_field_that_is_no_such_thing_is_refused(place: Site, name: str, value: str) -> None:
    """Attack 59: no value can write a request line of its own; 400 or a reset for that stream alone."""
    _refused(place, _with(name, value))


@pytest.mark.parametrize("name", list(GOOD))
def test_a_pseudo_field_that_is_missing_is_refused(place: Site, name: str) -> None:
    """Attack 59: each of the four is needed, where no Host stands for the authority."""
    _refused(place, [pair for pair in GOOD.items() if pair[0] != name])


@pytest.mark.parametrize("name", list(GOOD))
@pytest.mark.parametrize("same", [True, False], ids=["the same again", "another value"])
def test_a_pseudo_field_that_comes_twice_is_refused(place: Site, name: str, same: bool) -> None:
    """Attack 59: no pseudo-field may come twice, not even with the same value."""
    _refused(place, [*GOOD.items(), (name, GOOD[name] if same else "/other" if name == ":path" else "other.open.example")])


@pytest.mark.parametrize(
    "more",
    [(":status", "200"), (":unknown", "x"), (":", "x"), (":Path", "/x"), (":protocol", "websocket"), (":host", "x")],
    ids=lambda pair: pair[0],
)
def test_a_pseudo_field_that_no_request_has_is_refused(place: Site, more: tuple[str, str]) -> None:
    """Attack 59: of responses, of extensions that are not offered, or made up."""
    _refused(place, [*GOOD.items(), more])


@pytest.mark.parametrize("name", list(GOOD))
def test_a_pseudo_field_behind_a_field_is_refused(place: Site, name: str) -> None:
    """Attack 59: pseudo-fields come first (RFC 9113 section 8.3)."""
    rest = [pair for pair in GOOD.items() if pair[0] != name]
    _refused(place, [*rest, ("x", "y"), (name, GOOD[name])])


def test_all_of_a_path_that_is_allowed_reaches_the_backend(place: Site) -> None:
    """Attack 59: strange but well-formed targets pass byte for byte, so it is the grammar and nothing else that refuses."""
    target = "/a%0d%0aX:%20y//../;p=1?q=%00&r=a/b?c[]"
    with attacker(place) as client:
        assert client.response(client.ask(client.head(place.host, target))).status == 200
    assert place.seen().request_line == f"GET {target} HTTP/1.1"
