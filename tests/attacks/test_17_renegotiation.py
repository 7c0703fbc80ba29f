"""Attack 17: a client that changes its mind, or its certificate, after the policy was decided."""

import socket
import subprocess

import pytest
from OpenSSL import SSL

from tests.attacks.conftest import Door, assert_unseen
from tests.support.certs import CA, Credential
from tests.support.client import Client, Tls, TlsRefusedError, render_request
from tests.support.router import RouterProcess

WARNING_NO_RENEGOTIATION = "TLS 1.2, Alert [length 0002], warning no_renegotiation"


@pytest.mark.parametrize("behind", ["open", "strict"])
def test_renegotiation_is_refused_before_and_after_a_request(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential, behind: str
) -> None:
    """Attack 17: a TLS 1.2 client that asks to renegotiate gets the alert no_renegotiation and nothing else of it."""
    door = open_door if behind == "open" else strict
    tls = Tls(door.host, caller, maximum=SSL.TLS1_2_VERSION)
    for served in (False, True):
        with Client(router.ssl_port, tls) as client:
            assert client.tls is not None
            if served:
                assert client.request(door.host).status == 200
            assert client.tls.renegotiate()
            with pytest.raises(TlsRefusedError, match="no renegotiation"):
                client.handshake()
            assert client.tls.total_renegotiations() <= 1  # asked for, never done
    assert len(door.backend.received) == 1


def test_a_renegotiation_never_adds_a_certificate_to_an_open_connection(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential
) -> None:
    """Attack 17: OpenSSL's client, certificate in hand: it is told no_renegotiation, and no second ServerHello ever comes."""
    chain, key = caller.files()
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{router.ssl_port}",
        "-servername",
        open_door.host,
        "-tls1_2",
        "-msg",
    ]
    command += ["-cert", str(chain), "-key", str(key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        while b"Verify return code" not in said:  # the last line of the first handshake's account
            said += process.stdout.readline()
        process.stdin.write(b"R\n")
        process.stdin.flush()
        said += process.stdout.read()
        process.wait(10)
    assert b"RENEGOTIATING" in said
    assert WARNING_NO_RENEGOTIATION.encode() in said
    assert said.count(b"ServerHello\n") == 1
    assert_unseen(strict, open_door)


def test_tls13_never_asks_after_the_handshake(router: RouterProcess, strict: Door, open_door: Door, caller: Credential) -> None:
    """Attack 17: a TLS 1.3 client that offers post-handshake authentication is not asked; Host B stays misdirected."""
    chain, key = caller.files()
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{router.ssl_port}",
        "-servername",
        open_door.host,
        "-tls1_3",
        "-msg",
    ]
    command += ["-enable_pha", "-ign_eof", "-cert", str(chain), "-key", str(key)]
    asked = render_request(open_door.host) + render_request(strict.host, headers=[("Connection", "close")])
    done = subprocess.run(command, input=asked, capture_output=True, check=False, timeout=20)
    assert b"HTTP/1.1 200 OK" in done.stdout
    assert b"HTTP/1.1 421 Misdirected Request" in done.stdout
    assert b"CertificateRequest" not in done.stdout
    assert_unseen(strict)


def test_a_second_certificate_changes_nobody(router: RouterProcess, strict: Door, east_ca: CA, caller: Credential) -> None:
    """Attack 17: the identity of a connection is that of its one handshake; a renegotiated one cannot replace it."""
    with Client(router.ssl_port, Tls(strict.host, caller, maximum=SSL.TLS1_2_VERSION)) as client:
        assert client.tls is not None
        assert client.request(strict.host).status == 200
        other = east_ca.issue_instance("other-app")
        client.tls.use_certificate(other.certificate)
        client.tls.use_privatekey(other.key)
        client.tls.renegotiate()
        with pytest.raises(TlsRefusedError, match="no renegotiation"):
            client.handshake()
    assert len(strict.backend.received) == 1


def test_a_plain_request_inside_a_tls_connection_ends_it(router: RouterProcess, strict: Door, caller: Credential) -> None:
    """Attack 17: bytes that are no TLS record after the handshake end the connection and are nobody's request."""
    with Client(router.ssl_port, Tls(strict.host, caller)) as client:
        assert client.request(strict.host).status == 200
        raw = socket.socket(fileno=socket.dup(client.socket.fileno()))
        with raw:
            raw.sendall(render_request(strict.host))
        assert client.closed_by_server()
    assert len(strict.backend.received) == 1
