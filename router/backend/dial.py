"""One new backend connection: resolve, connect, and for TLS endpoints verify who answers.

Promise: an `Http1Upstream` that is connected and, for TLS, whose certificate chains to the configured roots and names
`server_cert_domain_san` (a DNS name; the common name never counts), or, where a registration gives none, the address itself
as an IP SAN. Everything else is a `Fault` from the fault table; nothing was sent. Deadlines: dial and handshake each have
their own. No byte goes to an address that the operator has denied, by whatever name it was reached. Where the operator wants a
PROXY header it is the first thing that an endpoint hears: for a client, or for the router itself.
"""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from OpenSSL import SSL, crypto

from authz.deny import NO_DENY, DenyLists, denied_address
from registry.endpoint import Endpoint
from router.backend.http1 import HANDSHAKE_FAULTS, Http1Upstream
from router.faults import Fault
from router.net.deadline import Wheel
from router.net.stream import Stream
from router.tls.certificates import PrivateKey, name_matches, subject_alternative_names
from router.tls.session import HandshakeError, SessionError, TlsStream
from router.wire.proxy_protocol import SocketAddress, render_local

_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})
"""What this machine lacks (descriptors, memory, local ports) says nothing about an endpoint."""

Announce = Callable[[SocketAddress], bytes]
"""The PROXY header for whom a connection is made, given where it leads. Raises ValueError."""


@dataclass(frozen=True, slots=True)
class BackendTls:
    """How backends are verified, and who the router says it is."""

    roots: tuple[x509.Certificate, ...]
    system_roots: bool
    verify: bool
    ciphers: str = ""
    chain: tuple[x509.Certificate, ...] = ()
    key: PrivateKey | None = None
    versions: tuple[int, int] = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)

    def context(self) -> SSL.Context:
        """A client context; raises ValueError or SSL.Error when OpenSSL refuses a part of it."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(self.versions[0])
        context.set_max_proto_version(self.versions[1])
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if self.ciphers:
            context.set_cipher_list(self.ciphers.encode())
        store = context.get_cert_store()
        if store is None:
            raise ValueError("OpenSSL has no certificate store")
        for root in self.roots:
            store.add_cert(crypto.X509.from_cryptography(root))
        if self.system_roots:
            context.set_default_verify_paths()
        if self.key is not None:
            context.use_privatekey(self.key)
            context.use_certificate(self.chain[0])
            for issuer in self.chain[1:]:
                context.add_extra_chain_cert(issuer)
        context.set_verify(SSL.VERIFY_PEER if self.verify else SSL.VERIFY_NONE, _note_error if self.verify else None)
        return context


def _note_error(connection: SSL.Connection, cert: crypto.X509, error: int, depth: int, ok: int) -> bool:
    if not ok:
        connection.get_app_data().error = error
    return bool(ok)


class Dialer:
    """Opens backend connections for one configuration generation."""

    def __init__(
        self,
        tls: BackendTls,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        dial_timeout: float,
        handshake_timeout: float,
        probe_interval: float = 0.0,
        deny: DenyLists = NO_DENY,
    ) -> None:
        """Times in seconds; `probe_interval` is that of TCP keep-alive probes, 0 for none."""
        self._deny = deny
        self._context = tls.context()
        self._http2_context = tls.context()
        self._http2_context.set_alpn_protos([b"h2", b"http/1.1"])
        self._verify = tls.verify
        self._loop = loop
        self._wheel = wheel
        self._dial_timeout = dial_timeout
        self.handshake_timeout = handshake_timeout
        self._probe = math.ceil(probe_interval)

    async def dial(self, endpoint: Endpoint, by: float = math.inf, within: float | None = None) -> Http1Upstream:
        """Raises Fault. `by` (seconds of the loop's clock) ends it where that is sooner than every dial's deadlines; `within`
        (seconds) is the connect's where it is not the usual one.
        """
        return await self._dial(endpoint, by, within, self._context)

    async def dial_for(self, announce: Announce, endpoint: Endpoint, by: float, within: float | None) -> Http1Upstream:
        """The same, on behalf of one client, and of no other as long as the connection lives."""
        return await self._dial(endpoint, by, within, self._context, announce)

    async def dial_http2(self, endpoint: Endpoint, by: float = math.inf) -> Http1Upstream:
        """The same, with HTTP/2 offered to a TLS endpoint, whose choice it is (`chose_http1`)."""
        return await self._dial(endpoint, by, None, self._http2_context)

    async def _dial(
        self, endpoint: Endpoint, by: float, within: float | None, context: SSL.Context, announce: Announce | None = None
    ) -> Http1Upstream:
        started = time.perf_counter()
        until = min(self._loop.time() + (self._dial_timeout if within is None else within), by)
        family, address = await self._resolve(endpoint, until)
        if (hit := denied_address(self._deny, address[0])) is not None:
            raise Fault("dial_denied", hit.detail)
        resolved = time.perf_counter()
        stream = await self._connect(family, address, until)
        upstream = Http1Upstream(stream, endpoint)
        self._check_peer(upstream)
        upstream.dns_time = resolved - started
        upstream.dial_time = time.perf_counter() - resolved
        host, port = stream.sock.getsockname()[:2]
        upstream.local_address = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        if endpoint.send_proxy:
            _introduce(upstream, announce)
        if endpoint.tls:
            before = time.perf_counter()
            upstream.stream = await self._secure(stream, endpoint, context, by)
            upstream.tls_time = time.perf_counter() - before
        return upstream

    def _check_peer(self, upstream: Http1Upstream) -> None:
        """Who answered may be another than was asked for: 0.0.0.0 is this machine, and `10.1` is an address too."""
        try:
            hit = upstream.denied(self._deny)
        except OSError as error:
            upstream.close()
            raise Fault("dial_failed", str(error)) from error
        if hit is not None:
            upstream.close()
            raise Fault("dial_denied", hit.detail)

    async def _connect(self, family: int, address: tuple[str, int], until: float) -> Stream:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise _not_connected(error.errno or 0) from error
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = Stream(sock, self._loop, self._wheel)
        try:
            if self._probe > 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, self._probe)
            code = sock.connect_ex(address)
            if code == errno.EINPROGRESS:
                await stream.writable(until)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise _not_connected(code)
        except TimeoutError as error:
            stream.close()
            raise Fault("dial_timeout") from error
        except OSError as error:
            stream.close()
            raise Fault("dial_failed", str(error)) from error
        except BaseException:
            stream.close()
            raise
        return stream

    async def _resolve(self, endpoint: Endpoint, until: float) -> tuple[int, tuple[str, int]]:
        """Registrations carry addresses; a name costs a look-up in a thread, within the dial deadline."""
        host = endpoint.host
        if host[:1].isdigit() and host.replace(".", "").isdigit():
            return socket.AF_INET, (host, endpoint.port)
        host = host.strip("[]")
        if ":" in host:
            return socket.AF_INET6, (host, endpoint.port)
        try:
            async with asyncio.timeout_at(until):
                found = await self._loop.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise Fault("dial_timeout", "name look-up") from error
        except (OSError, UnicodeError) as error:
            raise Fault("dial_failed", "name look-up failed") from error
        family, _, _, _, address = found[0]
        return family, (str(address[0]), endpoint.port)

    async def _secure(self, plain: Stream, endpoint: Endpoint, context: SSL.Context, by: float) -> TlsStream:
        stream = TlsStream(plain.detach(), context, self._loop, self._wheel)
        try:
            until = min(self._loop.time() + self.handshake_timeout, by)
            await stream.handshake_client(endpoint.san or None, until)
            if self._verify:
                _check_name(stream, endpoint)
            stream.hear_verdict()
        except (HandshakeError, SessionError) as error:
            stream.reset()
            raise Fault(HANDSHAKE_FAULTS.get(error.reason, "tls_handshake_failed"), error.detail) from error
        except TimeoutError as error:
            stream.reset()
            raise Fault("tls_handshake_timeout") from error
        except BaseException:
            stream.reset()
            raise
        return stream


def _introduce(upstream: Http1Upstream, announce: Announce | None) -> None:
    """Raises Fault: without its header the endpoint must not hear a byte."""
    sock = upstream.stream.sock
    try:
        if announce is None:
            header = render_local(1 if upstream.endpoint.send_proxy == "v1" else 2)
        else:
            header = announce(sock.getpeername()[:2])
        if sock.send(header) == len(header):  # the first bytes on it: an empty buffer takes them whole
            return
    except (OSError, ValueError):
        pass
    upstream.close()
    raise Fault("dial_failed", "its PROXY header could not be sent")


def chose_http1(upstream: Http1Upstream) -> bool:
    """Did a TLS endpoint that was offered HTTP/2 not choose it?"""
    stream = upstream.stream
    return isinstance(stream, TlsStream) and stream.tls.get_alpn_proto_negotiated() != b"h2"


def _not_connected(code: int) -> Fault:
    return Fault("out_of_descriptors" if code in _OURS else "dial_failed", errno.errorcode.get(code, str(code)))


def _check_name(stream: TlsStream, endpoint: Endpoint) -> None:
    """RFC 6125: the registered DNS name, else the address among the IP SANs (a name match is not asked of an address)."""
    cert = stream.tls.get_peer_certificate(as_cryptography=True)
    names, addresses = subject_alternative_names(cert) if cert is not None else ((), ())
    if endpoint.san:
        matched = any(name_matches(name, endpoint.san.lower()) for name in names)
    else:
        matched = endpoint.host.strip("[]") in addresses
    if not matched:
        raise Fault("tls_name_mismatch")
