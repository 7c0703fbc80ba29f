"""Attacks 49 to 51: heads that are not exactly HTTP/1.1's. Nothing is repaired, nothing reaches a backend."""

from collections.abc import Iterator

import pytest

from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site


@pytest.fixture(scope="module")
def place(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar) as made:
        yield made


def _refused(place: Site, head: bytes, status: int, code: str, reason: str) -> None:
    before = place.router.metric("malformed_requests", reason=reason)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: %b\r\n\r\n" % place.host.encode()
    place.refuses(head.replace(b"HOST", place.host.encode()) + smuggled, status, code)
    assert place.backend.received == []
    assert place.router.metric("malformed_requests", reason=reason) == before + 1


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"GET / HTTP/1.1\nHost: HOST\n\n", "bare_lf"),
        (b"GET / HTTP/1.1\r\nHost: HOST\n\r\n", "bare_lf"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\n\n", "bare_lf"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\nY: b\r\n\r\n", "bare_lf"),
        (b"GET / HTTP/1.1\rHost: HOST\r\r", "bare_cr"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\rY: b\r\n\r\n", "bare_cr"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\r\r\n\r\n", "bare_cr"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\r\n b\r\n\r\n", "folded_line"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\r\n\tb\r\n\r\n", "folded_line"),
        (b"GET / HTTP/1.1\r\n Host: HOST\r\n\r\n", "folded_line"),
        (b"GET / HTTP/1.1\r\nHost : HOST\r\n\r\n", "bad_field_name"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX\t: a\r\n\r\n", "bad_field_name"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\n: a\r\n\r\n", "bad_field_name"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nno colon\r\n\r\n", "bad_field_name"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX(y): a\r\n\r\n", "bad_field_name"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX\xe9: a\r\n\r\n", "bad_field_name"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\x00b\r\n\r\n", "control_byte"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\x7fb\r\n\r\n", "control_byte"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\x08b\r\n\r\n", "control_byte"),
        (b" GET / HTTP/1.1\r\nHost: HOST\r\n\r\n", "leading_blank"),
        (b"\tGET / HTTP/1.1\r\nHost: HOST\r\n\r\n", "leading_blank"),
        (b"\r\nGET / HTTP/1.1\r\nHost: HOST\r\n\r\n", "leading_blank"),
        (b"\nGET / HTTP/1.1\r\nHost: HOST\r\n\r\n", "leading_blank"),
    ],
)
def test_a_line_that_is_not_exactly_one_is_refused(place: Site, head: bytes, reason: str) -> None:
    """Attack 49: bare CR or LF, a folded line, a blank before the colon or before the head is 400 and close."""
    _refused(place, head, 400, "malformed_request", reason)


@pytest.mark.parametrize(
    ("head", "code", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "empty_host", "host_missing"),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "empty_host", "empty_host"),
        (b"GET / HTTP/1.1\r\nHost: \t \r\n\r\n", "empty_host", "empty_host"),
        (b"GET / HTTP/1.0\r\n\r\n", "empty_host", "empty_host"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n", "malformed_request", "host_repeated"),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nhost: other.example\r\n\r\n", "malformed_request", "host_repeated"),
        (b"GET / HTTP/1.0\r\nHost: HOST\r\nHost: HOST\r\n\r\n", "malformed_request", "host_repeated"),
        *(
            (b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", "malformed_request", "bad_host")
            for host in (
                b"HOST/",
                b"HOST/path",
                b"user@HOST",
                b"user:pass@HOST",
                b"@HOST",
                b"HOST,other.example",
                b"HOST, HOST",
                b"HOST other.example",
                b"HOST:",
                b"HOST:0",
                b"HOST:65536",
                b"HOST:99999",
                b"HOST:100000",
                b"HOST:port",
                b"HOST:80:80",
                b"HOST:-1",
                b"HOST:+80",
                b":80",
                b"HOST?x",
                b"HOST#x",
                b"HOST\\x",
                b"HO%53T",
                b"[::1",
                b"[HOST]",
                b"[::1%25lo]",
                b"::1",
                b"http://HOST",
                b".HOST",
                b"a..HOST",
                b"*.HOST",
                b"HOST\xe9",
                b"a" * 64 + b".example",
                b"a." * 200 + b"example",
            )
        ),
    ],
)
def test_a_host_that_is_no_plain_authority_is_refused(place: Site, head: bytes, code: str, reason: str) -> None:
    """Attack 50: a Host that is missing, repeated, empty or anything but name and port is 400 and close."""
    _refused(place, head, 400, code, reason)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (b"http://other.example/", "host_mismatch"),
        (b"http://HOST.other.example/", "host_mismatch"),
        (b"http://HOST:81/", "host_mismatch"),
        (b"https://HOST:80/", "host_mismatch"),
        (b"http://user@HOST/", "host_mismatch"),
        (b"http://user:pass@HOST/", "host_mismatch"),
        (b"http://HOST@other.example/", "host_mismatch"),
        (b"http://HOST\\@other.example/", "host_mismatch"),
        (b"http:///", "host_mismatch"),
        (b"http://HOST:/", "host_mismatch"),
        (b"http:/HOST/", "bad_target"),
        (b"http:HOST", "bad_target"),
        (b"ftp://HOST/", "bad_target"),
        (b"ws://HOST/", "bad_target"),
        (b"file:///etc/passwd", "bad_target"),
        (b"HOST/", "bad_target"),
        (b"HOST:80", "bad_target"),
        (b"path", "bad_target"),
        (b"*", "bad_target"),
        (b"?x", "bad_target"),
    ],
)
def test_a_target_that_differs_from_the_host_is_refused(place: Site, target: bytes, reason: str) -> None:
    """Attack 50: an absolute target with another authority, userinfo or scheme, or no target form at all, is 400 and close."""
    _refused(place, b"GET " + target + b" HTTP/1.1\r\nHost: HOST\r\n\r\n", 400, "malformed_request", reason)


@pytest.mark.parametrize(
    ("line", "status", "code", "reason"),
    [
        (b"GET\t/ HTTP/1.1", 400, "malformed_request", "bad_request_line"),
        (b"GET /\tHTTP/1.1", 400, "malformed_request", "bad_request_line"),
        (b"GET  / HTTP/1.1", 400, "malformed_request", "bad_request_line"),
        (b"GET /  HTTP/1.1", 400, "malformed_request", "bad_request_line"),
        (b"GET / HTTP/1.1 ", 400, "malformed_request", "bad_request_line"),
        (b"GET / x HTTP/1.1", 400, "malformed_request", "bad_request_line"),
        (b"GET /\x0bx HTTP/1.1", 400, "malformed_request", "control_byte"),
        (b"GET /\x00 HTTP/1.1", 400, "malformed_request", "control_byte"),
        (b"G\x00T / HTTP/1.1", 400, "malformed_request", "control_byte"),
        (b"GET /\xe9 HTTP/1.1", 400, "malformed_request", "bad_target"),
        (b"GET /\xff HTTP/1.1", 400, "malformed_request", "bad_target"),
        (b"GET /\x7f HTTP/1.1", 400, "malformed_request", "control_byte"),
        (b"GET /#fragment HTTP/1.1", 400, "malformed_request", "bad_target"),
        (b"GET /?q#fragment HTTP/1.1", 400, "malformed_request", "bad_target"),
        (b"GET /", 400, "malformed_request", "bad_request_line"),
        (b"GET", 400, "malformed_request", "bad_request_line"),
        (b"GET / HTTP/1.1\x00", 400, "malformed_request", "control_byte"),
        (b"GET / http/1.1", 400, "malformed_request", "bad_request_line"),
        (b"GET / HTTP/1", 400, "malformed_request", "bad_request_line"),
        (b"GET / HTTP/01.1", 400, "malformed_request", "bad_request_line"),
        (b"GET / HTTP/1.10", 400, "malformed_request", "bad_request_line"),
        (b"GET / HTTP 1.1", 400, "malformed_request", "bad_request_line"),
        (b"GET / XTTP/1.1", 400, "malformed_request", "bad_request_line"),
        (b"G,T / HTTP/1.1", 400, "malformed_request", "bad_request_line"),
        (b'"GET" / HTTP/1.1', 400, "malformed_request", "bad_request_line"),
        (b"GET / HTTP/0.9", 505, "malformed_request", "version_not_supported"),
        (b"GET / HTTP/1.2", 505, "malformed_request", "version_not_supported"),
        (b"GET / HTTP/2.0", 505, "malformed_request", "version_not_supported"),
        (b"GET / HTTP/3.0", 505, "malformed_request", "version_not_supported"),
        (b"GET /" + b"a" * 65536 + b" HTTP/1.1", 414, "malformed_request", "start_line_too_long"),
        (b"G" * 65537 + b" / HTTP/1.1", 400, "malformed_request", "start_line_too_long"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_a_request_line_that_is_not_exactly_one_is_refused(place: Site, line: bytes, status: int, code: str, reason: str) -> None:
    """Attack 51: a request line with other blanks, control or high bytes, a fragment, another version or 64 KiB of target is
    400, 414 or 505, and close.
    """
    _refused(place, line + b"\r\nHost: HOST\r\n\r\n", status, code, reason)


def test_connect_is_refused(place: Site) -> None:
    """Attack 51: CONNECT opens no tunnel: 405, with the methods that are served, and close."""
    response = place.refuses(b"CONNECT HOST:443 HTTP/1.1\r\nHost: HOST:443\r\n\r\n".replace(b"HOST", place.host.encode()), 405)
    assert "CONNECT" not in (response.get("allow") or "CONNECT")
