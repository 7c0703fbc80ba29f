"""Whom a backend connection is made for, as a PROXY header says it.

Promises: the client's address as the router itself knows it, never one from a header field; of TLS only what the handshake
proved. A certificate with several common names has none: one of them would be a choice, and the backend's trust would hang on it.
Refuses to know how the connection is made and when the header is sent.

Source: the PROXY protocol of HAProxy, 2.2.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from registry.endpoint import SendProxy
from router.backend.dial import Announce
from router.downstream import MAX_KNOWN_CLIENTS, Downstream
from router.tls.certificates import UNREADABLE
from router.tls.session import TlsStream
from router.wire.proxy_protocol import SocketAddress, TlsFacts, render_v1, render_v2


def announcing(party: Downstream, form: SendProxy) -> Announce:
    """What begins a connection for `party`."""
    client = party.address, party.port

    def announce(destination: SocketAddress) -> bytes:
        if form == "v1":
            return render_v1(client, destination)
        return render_v2(client, destination, _tls_facts(party) if form == "v2-ssl-cn" else None)

    return announce


def _tls_facts(party: Downstream) -> TlsFacts | None:
    stream, binding, client = party.stream, party.binding, party.client
    if not isinstance(stream, TlsStream) or binding is None:
        return None
    return TlsFacts(
        version=stream.tls.get_protocol_version_name(),
        server_name=binding.sni,
        verified=binding.verified,
        common_name=_common_name(client.der) if client is not None else None,
    )


@lru_cache(maxsize=MAX_KNOWN_CLIENTS)  # one certificate makes many requests
def _common_name(der: bytes) -> str | None:
    """Of a verified leaf; None where there is none, or more than one, or none that is text."""
    try:
        found = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        name = found[0].value if len(found) == 1 else None
    except UNREADABLE:
        return None
    return name if isinstance(name, str) else None
