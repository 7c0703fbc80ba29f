"""A TLS session on the descriptor itself: the one module that knows how TLS bytes move.

Promise: the verbs of `Stream`, encrypted. OpenSSL reads and writes the socket (no memory BIO), so its alerts reach the peer
when a handshake fails. A failed handshake is a `HandshakeError` with a reason from `REASONS` (a bounded set: it is a metric
label); a truncated stream (no close_notify) reads as the end, because HTTP framing says what is complete.

Refuses to know: policy. Which context a session starts with was chosen before OpenSSL saw a byte (`router/tls/contexts.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import ClassVar, Final

from OpenSSL import SSL
from OpenSSL import crypto as openssl_crypto

from router.net.deadline import Wheel
from router.net.stream import Stream

CERTIFICATE_METADATA: Final = -1
LEAF_IS_CA: Final = -2
LEAF_UNREADABLE: Final = -3
"""The error numbers of our own checks (`contexts.py`), beside OpenSSL's positive ones."""

_VERIFY_REASONS: Final = {
    CERTIFICATE_METADATA: "certificate_metadata",
    LEAF_IS_CA: "leaf_is_ca",
    LEAF_UNREADABLE: "bad_certificate",
    2: "unknown_ca",
    3: "crl_missing",
    7: "bad_signature",
    9: "not_yet_valid",
    10: "expired",
    11: "crl_stale",
    12: "crl_stale",
    18: "unknown_ca",
    19: "unknown_ca",
    20: "unknown_ca",
    21: "unknown_ca",
    23: "revoked",
    24: "bad_ca",
    25: "path_length",
    26: "bad_purpose",
    32: "bad_ca",
    47: "name_constraint",
    48: "name_constraint",
    79: "bad_ca",
}
"""OpenSSL's X509_V_ERR_* numbers, those that a client can provoke, and ours; any other is `bad_certificate`."""

_ERROR_REASONS: Final = (
    ("peer did not return a certificate", "no_certificate"),
    ("no shared cipher", "no_shared_cipher"),
    ("unsupported protocol", "protocol_version"),
    ("version too low", "protocol_version"),
    ("http request", "not_tls"),
    ("wrong version number", "not_tls"),
    ("no suitable signature algorithm", "no_shared_cipher"),
    ("bad signature", "bad_signature"),
    ("unexpected eof", "peer_left"),
    ("alert certificate required", "certificate_required"),
    ("alert handshake failure", "handshake_failure"),
    ("alert unknown ca", "alert_unknown_ca"),
    ("alert bad certificate", "alert_bad_certificate"),
    ("alert certificate expired", "alert_bad_certificate"),
    ("alert certificate unknown", "alert_bad_certificate"),
    ("alert certificate revoked", "alert_bad_certificate"),
    ("alert unsupported certificate", "alert_bad_certificate"),
    ("alert protocol version", "protocol_version"),
    ("alert", "alert"),
)

REASONS: Final = frozenset(
    {*_VERIFY_REASONS.values(), *(reason for _, reason in _ERROR_REASONS)}
    | {"bad_certificate", "timeout", "other", "sni_changed", "shed"}
)


_ENCRYPTED_ALERT: Final = bytes.fromhex("1703030013")
"""The header of a TLS 1.3 record with an alert: two bytes, one for the inner type, sixteen of authentication."""


class HandshakeError(Exception):
    """A handshake that failed; `reason` is one of REASONS, `detail` OpenSSL's own words (for the log, bounded)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail[:200]


class SessionError(ConnectionAbortedError):
    """A finished handshake's session ended in an error; `reason` as in HandshakeError: in TLS 1.3 the peer's verdict on our
    certificate comes this late.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail[:200])
        self.reason = reason
        self.detail = detail[:200]


class VerifyNote:
    """What the verify callback saw, kept as the connection's app data: the first error number, and who said it."""

    __slots__ = ("error", "subjects")

    def __init__(self) -> None:
        self.error = 0
        self.subjects: list[openssl_crypto.X509] = []


def reason_of(error: SSL.Error, note: VerifyNote) -> tuple[str, str]:
    """Why TLS ended: one of REASONS, and OpenSSL's own words. What the verify callback noted comes first."""
    detail = "; ".join(str(part[-1]) for part in error.args[0]) if error.args else ""
    if note.error:
        return _VERIFY_REASONS.get(note.error, "bad_certificate"), detail
    lowered = detail.lower()
    for text, reason in _ERROR_REASONS:
        if text in lowered:
            return reason, detail
    return "other", detail


class TlsStream(Stream):
    """A `Stream` whose bytes OpenSSL encrypts."""

    __slots__ = ("note", "tls")

    chunk: ClassVar[int] = 16384  # a read never yields more than one record
    half_closes: ClassVar[bool] = False  # to most, a close_notify ends both ways (RFC 8446 section 6.1 lets it end one)

    def __init__(self, sock: socket.socket, context: SSL.Context, loop: asyncio.AbstractEventLoop, wheel: Wheel) -> None:
        super().__init__(sock, loop, wheel)
        self.tls = SSL.Connection(context, sock)
        self.note = VerifyNote()
        self.tls.set_app_data(self.note)

    async def handshake_server(self, until: float) -> None:
        """Raises HandshakeError, TimeoutError."""
        self.tls.set_accept_state()
        await self._handshake(until)

    async def handshake_client(self, server_name: str | None, until: float) -> None:
        """Raises HandshakeError, TimeoutError. `server_name` is sent as SNI; the certificate's names are for the caller to
        check.
        """
        if server_name:
            self.tls.set_tlsext_host_name(server_name.encode("ascii", "ignore"))
        self.tls.set_connect_state()
        await self._handshake(until)

    async def _handshake(self, until: float) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                await self.readable(until)
            except SSL.WantWriteError:
                await self.writable(until)
            except (SSL.SysCallError, SSL.ZeroReturnError, OSError) as error:
                raise HandshakeError("peer_left", str(error)) from error
            except SSL.Error as error:
                raise HandshakeError(*self._explain(error)) from error
            else:
                return

    def _explain(self, error: SSL.Error) -> tuple[str, str]:
        return reason_of(error, self.note)

    def _try_recv(self, size: int) -> bytes | None:
        try:
            return self.tls.recv(size)
        except SSL.WantReadError:
            return None
        except SSL.ZeroReturnError:
            return b""
        except SSL.WantWriteError:
            return None
        except SSL.SysCallError as error:
            if error.args and error.args[0] == -1:
                return b""
            raise ConnectionResetError(*error.args) from error
        except SSL.Error as error:
            raise SessionError(*self._explain(error)) from error

    def _try_send(self, data: bytes | bytearray | memoryview) -> int:
        """To a backend OpenSSL writes one record a call: that it took no more than that does not mean that the kernel is full.
        To a client it writes all of them, and those of a message that did not leave whole it counts when the rest is sent.
        """
        sent = 0
        try:
            sent = self.tls.send(data)
            if sent < len(data):
                rest = memoryview(data)
                while sent < len(data):
                    sent += self.tls.send(rest[sent:])
        except (SSL.WantWriteError, SSL.WantReadError):
            pass
        except SSL.SysCallError as error:
            if not sent:  # what has left is told first, for the resend rule; the next try fails again
                raise BrokenPipeError(*error.args) from error
        except (SSL.ZeroReturnError, SSL.Error) as error:
            if not sent:
                raise ConnectionAbortedError(str(error)[:200]) from error
        return sent

    def hear_verdict(self) -> None:
        """Raises SessionError if the peer has already ended the session with an alert: once a write fails it cannot be read."""
        try:
            self.tls.recv(1, socket.MSG_PEEK)
        except (SSL.WantReadError, SSL.WantWriteError, SSL.ZeroReturnError, SSL.SysCallError):
            return
        except SSL.Error as error:
            raise SessionError(*self._explain(error)) from error

    def has_unread_alert(self) -> bool:
        """After a write that failed: does an alert lie unread? OpenSSL reads no more then, but nothing else that TLS 1.3 sends
        right after a handshake is as short.
        """
        try:
            return self.sock.recv(len(_ENCRYPTED_ALERT), socket.MSG_PEEK) == _ENCRYPTED_ALERT
        except OSError:
            return False

    def end_writing(self) -> None:
        with contextlib.suppress(SSL.Error):
            self.tls.shutdown()
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if not self.closed and not self.tls.get_shutdown() & SSL.SENT_SHUTDOWN:  # a second call would wait for the peer's
            with contextlib.suppress(SSL.Error, OSError):
                self.tls.shutdown()
        super().close()

    def reset(self) -> None:
        if not self.closed:
            self.tls.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        super().reset()

    def verified_chain(self, most: int | None = None) -> list[bytes]:
        """The verified chain as DER, leaf first, `most` of it; empty when the peer gave no certificate or none was verified."""
        chain = self.tls.get_verified_chain() or []
        return [openssl_crypto.dump_certificate(openssl_crypto.FILETYPE_ASN1, cert) for cert in chain[:most]]
