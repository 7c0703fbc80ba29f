"""Attack 3: attacks 1, 2 and 4 over HTTP/2: each stream of a connection is judged by itself, and refused by itself."""

import pytest

from tests.attacks.conftest import Door, assert_unseen
from tests.conftest import EAST
from tests.support.certs import Credential
from tests.support.client import Tls
from tests.support.http2_client import Answer, Code, FrameClient, Http2Client
from tests.support.register import unique_host
from tests.support.router import RouterProcess


def assert_misdirected(answer: Answer, *untouched: Door) -> None:
    """A 421 that says nothing more, whole, and backends that saw nothing of it."""
    assert (*answer.refusal, answer.body) == (421, "mtls_domain_mismatch", b"")
    assert answer.reset in (None, Code.NO_ERROR)
    assert_unseen(*untouched)


@pytest.mark.parametrize("certified", [False, True], ids=["bare", "certified"])
def test_a_strict_authority_behind_an_open_handshake_is_misdirected(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential, certified: bool
) -> None:
    """Attack 3: SNI A, `:authority` B: 421 for that stream, counted and logged; streams to A are served."""
    before = router.metric("mtls_misdirected", domain=f"*.{EAST}")
    with Http2Client(router.ssl_port, Tls(open_door.host, caller if certified else None)) as client:
        assert_misdirected(client.request(strict.host, "/one"), strict, open_door)
        assert client.request(open_door.host).status == 200
        assert_misdirected(client.request(strict.host, "/two"), strict)
        assert client.request(open_door.host).status == 200
        assert client.goodbye is None
    assert router.metric("mtls_misdirected", domain=f"*.{EAST}") == before + 2
    assert '"GET /one HTTP/2.0" 421 ' in router.wait_for_log(lambda line: strict.host in line and "/one" in line)


def test_streams_that_run_side_by_side_are_judged_one_by_one(router: RouterProcess, strict: Door, open_door: Door) -> None:
    """Attack 3: many at once, opened before any was answered: each has its own verdict."""
    with Http2Client(router.ssl_port, Tls(open_door.host)) as client:
        streams = [client.open(host) for host in [open_door.host, strict.host, unique_host(EAST), "nowhere.open.example"] * 10]
        assert [client.response(stream).status for stream in streams] == [200, 421, 421, 404] * 10
    assert_unseen(strict)
    assert len(open_door.backend.received) == 10


def test_a_strict_connection_serves_no_authority_outside_its_domain(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential
) -> None:
    """Attack 3: browsers join connections by certificate (RFC 9113 section 9.1.1); A and C over B's handshake are 421 each."""
    other = unique_host("west.example")
    with Http2Client(router.ssl_port, Tls(strict.host, caller)) as client:
        assert client.request(strict.host).status == 200
        assert_misdirected(client.request(open_door.host), open_door)
        assert_misdirected(client.request(other), open_door)
        assert client.request(strict.host).status == 200
        assert client.goodbye is None


@pytest.mark.parametrize(
    ("authority", "status"),
    [
        ("{HOST}", 421),
        ("{host}.", 421),
        ("{host}:443", 421),
        ("{HOST}.:8443", 421),
        ("x.y.{host}", 421),
        ("*.{host}", 400),
        ("{host}@{open}", 400),
        ("{open}@{host}", 400),
        ("{host},{open}", 400),
        ("{open}#{host}", 400),
        ("[{host}]", 400),
    ],
)
def test_no_spelling_of_a_strict_authority_gets_in(
    router: RouterProcess, strict: Door, open_door: Door, authority: str, status: int
) -> None:
    """Attack 3: 421 or 400 for each, or a reset; never B, and never A in its name."""
    text = authority.format(host=strict.host, HOST=strict.host.upper(), open=open_door.host)
    with FrameClient(router.ssl_port, Tls(open_door.host)) as client:
        answer = client.response(client.ask(client.head(text)))
        assert answer.status == status or (status == 400 and answer.reset == Code.PROTOCOL_ERROR)
        assert client.response(client.ask(client.head(open_door.host, "/next"))).status == 200
    assert_unseen(strict)
    assert [one.request_line for one in open_door.backend.received] == ["GET /next HTTP/1.1"]


def test_forwarding_fields_do_not_choose_the_host(router: RouterProcess, strict: Door, open_door: Door) -> None:
    """Attack 3: X-Forwarded-Host and Forwarded that name B do not lead to B over HTTP/2 either."""
    inwards = [("x-forwarded-host", strict.host), ("forwarded", f"host={strict.host}")]
    with Http2Client(router.ssl_port, Tls(open_door.host)) as client:
        assert client.request(open_door.host, headers=inwards).status == 200
    assert_unseen(strict)
    assert len(open_door.backend.received) == 1


def test_identity_fields_of_a_client_are_dropped(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential
) -> None:
    """Attack 3: attack 34 over HTTP/2: what speaks for somebody is removed, on the strict door and on the open one."""
    forged = [("x-forwarded-client-cert", 'Hash=00;Subject="CN=x,OU=app:root"'), ("client-cert", ":AA==:"), ("proxy", "x")]
    with Http2Client(router.ssl_port, Tls(strict.host, caller)) as client:
        assert client.request(strict.host, headers=forged, trailers=forged).status == 200
    with Http2Client(router.ssl_port, Tls(open_door.host)) as client:
        assert client.request(open_door.host, headers=forged, trailers=forged).status == 200
    (seen,) = strict.backend.received
    assert "app:caller-app" in (seen.get("x-forwarded-client-cert") or "")
    assert "root" not in (seen.get("x-forwarded-client-cert") or "")
    assert seen.all("client-cert") == seen.all("proxy") == []
    assert seen.trailers == []
    (seen,) = open_door.backend.received
    assert seen.all("x-forwarded-client-cert") == seen.all("client-cert") == seen.all("proxy") == []
    assert seen.trailers == []
