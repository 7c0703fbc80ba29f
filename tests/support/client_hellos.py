"""ClientHellos: built by hand, split over records, and captured from real clients.

``python -m tests.support.client_hellos`` writes fixtures/client_hello/ anew. The captures come from the
clients of the machine it runs on (curl, openssl s_client, Python's ssl, pyOpenSSL with its own newer
OpenSSL); the Chromium-size one is built here, with the extensions, GREASE values and key shares that
Chromium sends, since a browser is not at hand everywhere.
"""

import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from OpenSSL import SSL

FIXTURES = Path(__file__).parents[2] / "fixtures" / "client_hello"
HOST = "app.apps.mtls.internal"


def vector(width: int, value: bytes) -> bytes:
    """A TLS vector: its length in ``width`` bytes, then its bytes."""
    return len(value).to_bytes(width) + value


def server_name(*names: bytes, kind: int = 0) -> tuple[int, bytes]:
    """A server_name extension with this list of names."""
    return 0, vector(2, b"".join([bytes([kind]) + vector(2, name) for name in names]))


def alpn(*protocols: bytes) -> tuple[int, bytes]:
    """An ALPN extension that offers these protocols."""
    return 16, vector(2, b"".join([vector(1, name) for name in protocols]))


def message(extensions: Iterable[tuple[int, bytes]] | None, ciphers: bytes = b"\x13\x01\xc0\x2b") -> bytes:
    """A ClientHello handshake message; with ``None`` it ends before the extensions."""
    body = b"\x03\x03" + bytes(range(32)) + vector(1, bytes(range(32))) + vector(2, ciphers) + vector(1, b"\0")
    if extensions is not None:
        body += vector(2, b"".join([kind.to_bytes(2) + vector(2, value) for kind, value in extensions]))
    return b"\x01" + vector(3, body)


def in_records(handshake: bytes, size: int = 1 << 14) -> bytes:
    """A handshake message in records of at most ``size`` bytes each."""
    parts = [handshake[at : at + size] for at in range(0, len(handshake), size)]
    return b"".join([b"\x16\x03\x01" + vector(2, part) for part in parts])


def split_again(hello: bytes, size: int) -> bytes:
    """A ClientHello of one record, in records of at most ``size`` bytes each."""
    assert len(hello) == 5 + int.from_bytes(hello[3:5])
    return in_records(hello[5:], size)


def chromium_size() -> bytes:
    """A hello of the size and shape of Chromium's: GREASE, a post-quantum and a classical key share."""
    post_quantum, classical, sealed = bytes(1216), bytes(32), bytes(239)
    shares = b"\x3a\x3a" + vector(2, b"\0") + b"\x11\xec" + vector(2, post_quantum)
    shares += b"\x00\x1d" + vector(2, classical)
    versions, groups = bytes.fromhex("dada03040303"), bytes.fromhex("3a3a11ec001d00170018")
    signatures = bytes.fromhex("04030804040105030805050108060601")
    ciphers = bytes.fromhex("2a2a130113021303c02bc02fc02cc030cca9cca8c013c014009c009d002f0035")
    extensions = [
        (0x4A4A, b""), (51, vector(2, shares)), (10, vector(2, groups)), (27, b"\x02\x00\x02"),
        (43, vector(1, versions)), (0xFE0D, b"\0\0\1\0\1\x17" + vector(2, classical) + vector(2, sealed)),
        (11, b"\1\0"), (5, b"\1\0\0\0\0"), (23, b""), (17613, vector(2, vector(1, b"h2"))),
        alpn(b"h2", b"http/1.1"), (13, vector(2, signatures)), (45, b"\1\1"), (18, b""), (35, b""),
        (0xFF01, b"\0"), server_name(HOST.encode()), (0x5A5A, b"\0"),
    ]  # fmt: skip
    return in_records(message(extensions, ciphers))


def _from_command(*command: str) -> bytes:
    """What a client says first to the port that replaces ``{port}`` in its command line."""
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as nothing:
        port = str(listener.getsockname()[1])
        client = subprocess.Popen(
            [part.replace("{port}", port) for part in command], stdin=nothing, stdout=nothing, stderr=nothing
        )
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            said = connection.recv(5)
            said += connection.recv(int.from_bytes(said[3:5]), socket.MSG_WAITALL)
        client.wait(10)
    return said


def _from_ssl(maximum: ssl.TLSVersion) -> bytes:
    context = ssl.create_default_context()
    context.maximum_version = maximum
    context.set_alpn_protocols(["http/1.1"])
    said = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), said, server_hostname=HOST)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return said.read()
    raise AssertionError("a client cannot finish a handshake alone")


def _from_pyopenssl(name: bytes | None) -> bytes:
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    if name is not None:
        connection.set_tlsext_host_name(name)
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return connection.bio_read(1 << 16)
    raise AssertionError("a client cannot finish a handshake alone")


def main() -> None:
    hellos = {
        "curl": _from_command("curl", "-sk", "--resolve", HOST + ":{port}:127.0.0.1", "https://" + HOST + ":{port}/"),
        "openssl-s-client": _from_command(
            "openssl", "s_client", "-connect", "127.0.0.1:{port}", "-servername", HOST, "-alpn", "h2,http/1.1"
        ),
        "python-ssl": _from_ssl(ssl.TLSVersion.TLSv1_3),
        "python-ssl-tls12": _from_ssl(ssl.TLSVersion.TLSv1_2),
        "openssl4-post-quantum": _from_pyopenssl(HOST.encode()),
        "chromium-size": chromium_size(),
    }
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, hello in hellos.items():
        (FIXTURES / f"{name}.bin").write_bytes(hello)
        for size in (1, 16, 200):
            (FIXTURES / f"{name}.records-{size}.bin").write_bytes(split_again(hello, size))
    odd = {"no-name": None, "upper-case-final-dot": b"App.Apps.MTLS.Internal.", "address": b"192.0.2.7"}
    for name, asked in odd.items():
        (FIXTURES / f"openssl4-{name}.bin").write_bytes(_from_pyopenssl(asked))


if __name__ == "__main__":
    main()
