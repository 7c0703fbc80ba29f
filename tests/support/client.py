"""A raw HTTP client: it sends exactly the bytes it is given, over TCP or TLS, and reads responses one by one.

TLS is pyOpenSSL, so that SNI is free (any bytes, or none), the version and ALPN can be chosen, sessions can
be kept and offered again, and the fatal alert that the server sent is known by its number.
"""

import contextlib
import select
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from cryptography import x509
from OpenSSL import SSL, crypto

from tests.support.certs import CA, Credential

TIMEOUT = 15.0
"""Seconds any single read or write may take before TimeoutError."""

ALERT_SECONDS = 2.0
"""How long `expect_alert` waits for the server's verdict on our certificate before it sends a request."""

READ_ALERT = 0x4004
"""OpenSSL's SSL_CB_READ_ALERT: the information callback saw an alert that the peer sent."""


class Alert:
    """TLS alert numbers (RFC 8446, section 6.2) that tests name."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    DECODE_ERROR = 50
    PROTOCOL_VERSION = 70
    NO_RENEGOTIATION = 100
    UNRECOGNIZED_NAME = 112
    CERTIFICATE_REQUIRED = 116


class TlsRefusedError(Exception):
    """The server ended TLS; `alert` is the number of the fatal alert it sent, None where it sent none."""

    def __init__(self, alert: int | None, detail: str) -> None:
        super().__init__(f"alert {alert}: {detail}")
        self.alert = alert


class Response(NamedTuple):
    """One final response; `interim` are the statuses of the 1xx responses before it."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    interim: list[int]
    trailers: list[tuple[str, str]]
    head: bytes

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name.lower()]

    def get(self, name: str) -> str | None:
        """The only value of a header; None where it is absent. Two values are a failure."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS. `sni=None` sends none; `trust` verifies the server's certificate, not its name."""

    sni: str | bytes | None = None
    credential: Credential | None = None
    trust: CA | None = None
    minimum: int = SSL.TLS1_2_VERSION
    maximum: int = SSL.TLS1_3_VERSION
    alpn: Sequence[bytes] = field(default_factory=tuple)
    session: Any = None
    options: int = 0  # of OpenSSL, SSL.OP_NO_TICKET for one


class Client:
    """One connection. All methods block, each read at most TIMEOUT seconds."""

    def __init__(self, port: int, tls: Tls | None = None, *, host: str = "127.0.0.1", handshake: bool = True) -> None:
        self.alert: int | None = None
        self._buffer = b""
        self.socket = socket.create_connection((host, port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.tls = self._tls(tls) if tls is not None else None
            if self.tls is not None and handshake:
                self.handshake()
        except BaseException:
            self.socket.close()
            raise

    def handshake(self) -> None:
        """Finish the TLS handshake; TlsRefusedError where the server ends it (TLS 1.3: perhaps in a read)."""
        assert self.tls is not None
        try:
            self.tls.do_handshake()
        except SSL.Error as error:
            self._refused(error)

    def send(self, data: bytes) -> None:
        if self.tls is None:
            self.socket.sendall(data)
            return
        try:
            self.tls.sendall(data)
        except SSL.Error as error:
            self._refused(error)

    def recv(self, size: int = 65536) -> bytes:
        """Up to `size` bytes; empty at the end. TimeoutError, ConnectionResetError, TlsRefusedError."""
        if self._buffer:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
            return data
        if self.tls is None:
            return self.socket.recv(size)
        try:
            return self.tls.recv(size)
        except SSL.ZeroReturnError:
            return b""
        except SSL.WantReadError:
            raise TimeoutError(f"nothing came within {TIMEOUT} s") from None
        except SSL.Error as error:
            return self._ended(error)

    def read_response(self, method: str = "GET") -> Response:
        """One final response, framed as RFC 9112, section 6.3; EOFError where the server closes inside it."""
        interim: list[int] = []
        while True:
            head = self._head()
            status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
            _, _, rest = status_line.partition(" ")
            code, _, reason = rest.partition(" ")
            headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
            if 100 <= int(code) < 200 and int(code) != 101:
                interim.append(int(code))
                continue
            trailers: list[tuple[str, str]] = []
            body = self._body(method, int(code), headers, trailers)
            return Response(int(code), reason, headers, body, interim, trailers, head)

    def request(
        self,
        host: str,
        target: str = "/",
        *,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        version: str = "HTTP/1.1",
    ) -> Response:
        """Send a proper request and read its response."""
        self.send(render_request(host, target, method=method, headers=headers, body=body, version=version))
        return self.read_response(method)

    def read_all(self) -> bytes:
        """Everything up to the end of the connection."""
        pieces = []
        while piece := self.recv():
            pieces.append(piece)
        return b"".join(pieces)

    def ended_within(self, seconds: float) -> bool:
        """Whether the server ends TLS by itself in this time; session tickets that come are taken in."""
        assert self.tls is not None
        end = time.monotonic() + seconds
        self.socket.setblocking(False)
        try:
            while select.select([self.socket], [], [], max(0.0, end - time.monotonic()))[0]:
                try:
                    self._buffer += self.tls.recv(1)
                except SSL.WantReadError:
                    continue
                except SSL.ZeroReturnError:
                    return True
                except SSL.Error as error:
                    self._ended(error)
                    return True
                return False
            return False
        finally:
            self.socket.setblocking(True)

    def closed_by_server(self) -> bool:
        """Whether the server closes without sending anything more. Waits for it up to TIMEOUT."""
        try:
            return self.recv() == b""
        except (ConnectionError, TlsRefusedError):
            return True

    @property
    def session(self) -> Any:
        """The TLS session, to be offered again by `Tls(session=...)`; read a response first (TLS 1.3)."""
        assert self.tls is not None
        return self.tls.get_session()

    @property
    def resumed(self) -> bool:
        """Whether this handshake resumed the session it offered."""
        assert self.tls is not None
        return bool(SSL._lib.SSL_session_reused(self.tls._ssl))  # type: ignore[attr-defined]

    @property
    def server_certificate(self) -> x509.Certificate:
        assert self.tls is not None
        certificate = self.tls.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        return certificate

    def half_close(self) -> None:
        """No more bytes from us (TLS: close_notify first)."""
        if self.tls is not None:
            with contextlib.suppress(SSL.Error):
                self.tls.shutdown()
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tls(self, tls: Tls) -> SSL.Connection:
        # A blocking descriptor with the kernel's time-outs: Python's own would show as WantReadError at once.
        self.socket.settimeout(None)
        limit = struct.pack("ll", int(TIMEOUT), 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection = SSL.Connection(client_context(tls, self._saw), self.socket)
        if tls.sni is not None:
            connection.set_tlsext_host_name(tls.sni if isinstance(tls.sni, bytes) else tls.sni.encode())
        if tls.session is not None:
            # pyOpenSSL insists on the context that won it; an attacker would not.
            SSL._lib.SSL_set_session(connection._ssl, tls.session._session)  # type: ignore[attr-defined]
        connection.set_connect_state()
        return connection

    def _saw(self, _connection: SSL.Connection, where: int, value: int) -> None:
        if where == READ_ALERT and value >> 8 == 2:
            self.alert = value & 0xFF

    def _refused(self, error: SSL.Error) -> None:
        if isinstance(error, SSL.WantReadError | SSL.WantWriteError):
            raise TimeoutError(f"TLS came to a halt for {TIMEOUT} s") from None
        # A write may fail (reset) before the alert that explains it was read.
        if self.alert is None and self.tls is not None:
            with contextlib.suppress(SSL.Error):
                self.tls.recv(1)
        raise TlsRefusedError(self.alert, repr(error)) from None

    def _ended(self, error: SSL.Error) -> bytes:
        if self.alert is None and isinstance(error, SSL.SysCallError):
            if error.args[0] in (-1, 0):
                return b""
            raise ConnectionResetError(*error.args) from None
        raise TlsRefusedError(self.alert, repr(error)) from None

    def _fill(self) -> None:
        kept, self._buffer = self._buffer, b""
        data = self.recv()
        if not data:
            raise EOFError(f"the server closed; left over: {kept[:200]!r}")
        self._buffer = kept + data

    def _head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _exactly(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            piece = self.recv(min(size, 1 << 20))
            if not piece:
                raise EOFError(f"the server closed {size} bytes before the end of a body")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _body(self, method: str, status: int, headers: list[tuple[str, str]], trailers: list[tuple[str, str]]) -> bytes:
        if method == "HEAD" or status in (101, 204, 304):
            return b""
        named = dict(headers)
        if named.get("transfer-encoding", "").lower() == "chunked":
            pieces: list[bytes] = []
            while size := int(self._line().split(b";")[0], 16):
                pieces.append(self._exactly(size))
                self._line()
            while line := self._line():
                name, _, value = line.decode("latin-1").partition(":")
                trailers.append((name.lower(), value.strip()))
            return b"".join(pieces)
        if "content-length" in named:
            return self._exactly(int(named["content-length"]))
        return self.read_all()


def render_request(
    host: str,
    target: str = "/",
    *,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    version: str = "HTTP/1.1",
) -> bytes:
    """A proper request as bytes; Content-Length is added where there is a body and no Transfer-Encoding."""
    lines = [
        f"{method} {target} {version}",
        f"Host: {host}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    if body and not any(name.lower() == "transfer-encoding" for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def get(port: int, host: str, target: str = "/", *, tls: Tls | None = None, **request: Any) -> Response:
    """One request on a connection of its own. With `tls`, its SNI is `host` unless it names one itself."""
    with Client(port, tls) as client:
        return client.request(host, target, **request)


def expect_alert(port: int, tls: Tls, request: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> int | None:
    """The alert by which the server ends this connection: in the handshake or, in TLS 1.3, just after it.

    None: it closed without one. AssertionError where it answers the request instead.
    """
    try:
        with Client(port, tls) as client:
            if not client.ended_within(ALERT_SECONDS):
                client.send(request)
            answer = client.recv()
            assert answer == b"", f"expected a TLS alert, got {answer[:200]!r}"
            return client.alert
    except TlsRefusedError as refused:
        return refused.alert
    except ConnectionError:
        return None


class CurlResult(NamedTuple):
    """What curl printed, and how it ended (35: handshake failed; 56: alert while reading)."""

    exit_status: int
    status: int
    output: str
    errors: str


def curl(*arguments: str, timeout: float = TIMEOUT) -> CurlResult:
    """Run the curl binary: silent, response headers and body in `output`."""
    command = ["curl", "--silent", "--show-error", "--include", "--max-time", str(timeout), *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=timeout + 5)
    output = done.stdout.decode("latin-1")
    last_head = output.split("\r\n", 1)[0].split(" ")
    status = int(last_head[1]) if len(last_head) > 1 and last_head[1].isdigit() else 0
    return CurlResult(done.returncode, status, output, done.stderr.decode("latin-1"))


def client_context(tls: Tls, saw: Any) -> SSL.Context:
    """What `tls` asks for, SNI and session aside; `saw` is OpenSSL's information callback."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(tls.minimum)
    context.set_max_proto_version(tls.maximum)
    context.set_options(tls.options)
    context.set_info_callback(saw)
    if tls.trust is not None:
        context.load_verify_locations(str(tls.trust.file))
        context.set_verify(SSL.VERIFY_PEER, lambda _c, _x, _e, _d, ok: bool(ok))
    if tls.credential is not None:
        held: object = tls.credential.certificate
        if isinstance(held, crypto.X509):  # one that OpenSSL can send, and cryptography cannot read
            SSL._lib.SSL_CTX_use_certificate(context._context, held._x509)  # type: ignore[attr-defined]
        else:
            context.use_certificate(tls.credential.certificate)
        context.use_privatekey(tls.credential.key)
        for intermediate in tls.credential.intermediates:
            context.add_extra_chain_cert(intermediate)
    if tls.alpn:
        context.set_alpn_protos(list(tls.alpn))
    return context
