"""Attacks 12 to 16: a session won at one door, offered at another, or after the policy behind it has changed.

A session that can be good at all is first shown to be so: where it was won it resumes.
"""

import base64
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from OpenSSL import SSL

from tests.attacks.conftest import Door, MakeRegistrar, assert_misdirected, assert_unseen
from tests.conftest import EAST, OPEN, WEST, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Alert, Client, Tls, expect_alert, render_request
from tests.support.client_hellos import vector
from tests.support.nats import NatsServer
from tests.support.register import unique_host
from tests.support.router import RouterProcess, mtls_domain


class Kind(NamedTuple):
    """How sessions are kept: TLS 1.3 or 1.2 tickets, or TLS 1.2 session ids in the server's cache."""

    version: int
    options: int
    no_certificate: int

    def tls(self, sni: str, credential: Credential | None = None, session: Any = None) -> Tls:
        return Tls(sni, credential, minimum=self.version, maximum=self.version, options=self.options, session=session)


TLS13 = Kind(SSL.TLS1_3_VERSION, 0, Alert.CERTIFICATE_REQUIRED)
TLS12 = Kind(SSL.TLS1_2_VERSION, 0, Alert.HANDSHAKE_FAILURE)
SESSION_ID = Kind(SSL.TLS1_2_VERSION, SSL.OP_NO_TICKET, Alert.HANDSHAKE_FAILURE)

kinds = pytest.mark.parametrize(
    "kind", [pytest.param(TLS13, id="tls13"), pytest.param(TLS12, id="tls12"), pytest.param(SESSION_ID, id="session-id")]
)


def win(port: int, tls: Tls, host: str, status: int = 200) -> Any:
    """A session from a connection that was served."""
    with Client(port, tls) as client:
        assert not client.resumed
        assert client.request(host).status == status
        session = client.session
        client.half_close()  # without a close_notify a server forgets the session
        assert client.closed_by_server()
        return session


def resumes_where_it_was_won(router: RouterProcess, tls: Tls, host: str) -> bool:
    """Whether it does at the worker that gave it: the sessions of each are its own, and the kernel chooses among them."""
    return any(resumes(router.ssl_port, tls, host) for _ in range(router.tries))


def resumes(port: int, tls: Tls, host: str) -> bool:
    """Whether a handshake that is served resumed its session."""
    with Client(port, tls) as client:
        assert client.request(host).status == 200
        return client.resumed


@kinds
def test_a_session_of_the_open_domain_opens_no_strict_one(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential, kind: Kind
) -> None:
    """Attack 12: won on A without a certificate, resumed with SNI B: a full handshake that demands the certificate."""
    session = win(router.ssl_port, kind.tls(open_door.host), open_door.host)
    assert resumes_where_it_was_won(router, kind.tls(open_door.host, session=session), open_door.host)
    assert (
        expect_alert(router.ssl_port, kind.tls(strict.host, session=session), render_request(strict.host)) == kind.no_certificate
    )
    assert_unseen(strict)
    assert not resumes(router.ssl_port, kind.tls(strict.host, caller, session), strict.host)


@kinds
def test_a_resumed_open_session_is_still_no_binding_to_a_strict_host(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential, kind: Kind
) -> None:
    """Attack 12: resumed on A, even with a certificate in hand, the Host B gets 421."""
    session = win(router.ssl_port, kind.tls(open_door.host, caller), open_door.host)
    resumed = False
    for _ in range(router.tries):
        with Client(router.ssl_port, kind.tls(open_door.host, caller, session)) as client:
            assert_misdirected(client.request(strict.host), strict)
            resumed |= client.resumed
    assert resumed


@kinds
def test_a_session_of_another_authority_opens_no_strict_domain(
    router: RouterProcess, strict: Door, caller: Credential, stranger: Credential, kind: Kind
) -> None:
    """Attack 13: won on C with C's certificate, resumed on B: a full handshake by B's authority alone."""
    other = unique_host(WEST)
    session = win(router.ssl_port, kind.tls(other, stranger), other, status=404)
    assert (
        expect_alert(router.ssl_port, kind.tls(strict.host, stranger, session), render_request(strict.host)) == Alert.UNKNOWN_CA
    )
    assert expect_alert(router.ssl_port, kind.tls(strict.host, None, session)) == kind.no_certificate
    assert_unseen(strict)
    assert not resumes(router.ssl_port, kind.tls(strict.host, caller, session), strict.host)


@kinds
def test_a_strict_domain_never_resumes_its_own_sessions(
    router: RouterProcess, strict: Door, caller: Credential, kind: Kind
) -> None:
    """Attack 14: the certificate is shown anew on every connection: without it a session won with it is an alert."""
    session = win(router.ssl_port, kind.tls(strict.host, caller), strict.host)
    assert not resumes(router.ssl_port, kind.tls(strict.host, caller, session), strict.host)
    assert expect_alert(router.ssl_port, kind.tls(strict.host, None, session)) == kind.no_certificate


@kinds
def test_a_session_outlives_no_change_of_the_policy(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend,
    east_ca: CA, west_ca: CA, caller: Credential, stranger: Credential, kind: Kind,
) -> None:  # fmt: skip
    """Attack 14: after a reload that gives B another authority and makes A strict, no earlier session lets anybody in."""
    was_strict, was_open = unique_host(EAST), unique_host(OPEN)
    router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)])
    make_registrar(nats_server, router).register(was_strict, was_open, backend=backend, options={"mtls_allow_any": True})
    certified = win(router.ssl_port, kind.tls(was_strict, caller), was_strict)
    bare = win(router.ssl_port, kind.tls(was_open), was_open)
    assert resumes_where_it_was_won(router, kind.tls(was_open, session=bare), was_open)
    before = len(backend.received)
    router.reload(mtls_domains=[mtls_domain(f"*.{EAST}", west_ca), mtls_domain(f"*.{OPEN}", west_ca)])
    assert expect_alert(router.ssl_port, kind.tls(was_strict, caller, certified)) == Alert.UNKNOWN_CA
    assert expect_alert(router.ssl_port, kind.tls(was_strict, None, certified)) == kind.no_certificate
    assert expect_alert(router.ssl_port, kind.tls(was_open, None, bare)) == kind.no_certificate
    assert len(backend.received) == before
    assert not resumes(router.ssl_port, kind.tls(was_strict, stranger, certified), was_strict)


@kinds
def test_a_session_from_before_a_restart_is_nobody(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend, router: RouterProcess,
    east_ca: CA, caller: Credential, open_door: Door, kind: Kind,
) -> None:  # fmt: skip
    """Attack 15: sessions of another instance, or of the same one before its restart, end in full handshakes."""
    host, plain = unique_host(EAST), unique_host(OPEN)
    own = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)])
    make_registrar(nats_server, own).register(host, plain, backend=backend, options={"mtls_allow_any": True})
    foreign = win(router.ssl_port, kind.tls(open_door.host), open_door.host)
    assert not resumes(own.ssl_port, kind.tls(plain, session=foreign), plain)
    certified = win(own.ssl_port, kind.tls(host, caller), host)
    bare = win(own.ssl_port, kind.tls(plain), plain)
    own.stop()
    own.start()
    make_registrar(nats_server, own).register(host, plain, backend=backend, options={"mtls_allow_any": True})
    before = len(backend.received)
    for session in (certified, bare, foreign):
        assert expect_alert(own.ssl_port, kind.tls(host, None, session)) == kind.no_certificate
    assert len(backend.received) == before
    assert not resumes(own.ssl_port, kind.tls(plain, session=bare), plain)


@kinds
def test_an_identity_that_is_optional_is_not_kept_in_a_session_either(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend, east_ca: CA,
    caller: Credential, kind: Kind,
) -> None:  # fmt: skip
    """Attack 15: with `client_cert_validation: request` a session won with a certificate brings no XFCC without it."""
    host = unique_host(OPEN)
    router = make_router(client_cert_validation="request", client_ca_certs=east_ca.pem, only_trust_client_ca_certs=True)
    make_registrar(nats_server, router).register(host, backend=backend)
    session = win(router.ssl_port, kind.tls(host, caller), host)
    assert not resumes(router.ssl_port, kind.tls(host, None, session), host)
    assert [len(request.all("x-forwarded-client-cert")) for request in backend.received] == [1, 0]


# 0-RTT: OpenSSL's own client, with a session into which the promise of early data was forged.


def s_client(port: int, sni: str, *more: str, said: bytes) -> str:
    """What `openssl s_client` prints of a TLS 1.3 connection on which it says this and waits for the server's close."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", sni, "-tls1_3", "-ign_eof", *more]
    done = subprocess.run(command, input=said, capture_output=True, check=False, timeout=20)
    return (done.stdout + done.stderr).decode("latin-1")


def closing(host: str, target: str = "/") -> bytes:
    return render_request(host, target, headers=[("Connection", "close")])


def forge_early_data(pem: str, name: str) -> str:
    """The session as if it had been won at `name` and promised early data: so OpenSSL's client will send some with it."""
    lines = pem.strip().splitlines()
    der = base64.b64decode("".join(lines[1:-1]))
    fields: list[bytes] = []
    at = 4
    while at < len(der):
        long = der[at + 1] & 0x7F if der[at + 1] & 0x80 else 0
        end = at + 2 + long + (int.from_bytes(der[at + 2 : at + 2 + long]) if long else der[at + 1])
        fields.append(der[at:end])
        at = end
    assert not any(field[0] == 0xAF for field in fields), "the server promised early data by itself"
    fields = [field for field in fields if field[0] != 0xA6]
    fields += [b"\xa6" + vector(1, b"\x04" + vector(1, name.encode())), bytes.fromhex("af0402024000")]  # name, max_early_data
    parts = sorted(fields, key=lambda field: field[0] & 0x1F if field[0] >= 0xA0 else -1)
    forged = b"".join(parts)
    body = base64.encodebytes(b"0\x82" + vector(2, forged)).decode()
    return f"{lines[0]}\n{body}{lines[-1]}\n"


def test_no_session_promises_early_data(router: RouterProcess, open_door: Door) -> None:
    """Attack 16: the router's tickets, of open domains only, allow no byte of 0-RTT."""
    session = win(router.ssl_port, TLS13.tls(open_door.host), open_door.host)
    assert SSL._lib.SSL_SESSION_get_max_early_data(session._session) == 0  # type: ignore[attr-defined]


def test_early_data_is_not_accepted(router: RouterProcess, strict: Door, open_door: Door, tmp_path: Path) -> None:
    """Attack 16: early data sent all the same is thrown away on an open domain, and comes to an alert on a strict one."""
    ticket, forged, early = tmp_path / "ticket", tmp_path / "forged", tmp_path / "early"
    s_client(router.ssl_port, open_door.host, "-sess_out", str(ticket), said=closing(open_door.host, "/won"))
    forged.write_text(forge_early_data(ticket.read_text(), open_door.host))
    early.write_bytes(render_request(open_door.host, "/replayed"))
    options = ("-sess_in", str(forged), "-early_data", str(early))
    output = s_client(router.ssl_port, open_door.host, *options, said=closing(open_door.host, "/late"))
    assert "Early data was rejected" in output
    assert "HTTP/1.1 200 OK" in output
    assert [request.request_line for request in open_door.backend.received] == ["GET /won HTTP/1.1", "GET /late HTTP/1.1"]
    forged.write_text(forge_early_data(ticket.read_text(), strict.host))
    early.write_bytes(render_request(strict.host, "/replayed"))
    output = s_client(router.ssl_port, strict.host, *options, said=closing(strict.host))
    assert "alert certificate required" in output
    assert "HTTP/1.1" not in output
    assert_unseen(strict)
