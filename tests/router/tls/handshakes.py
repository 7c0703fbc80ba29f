"""One TLS handshake of ours with a real client in a thread, and what both sides say of it."""

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from OpenSSL import SSL

from authz.domain import DomainPolicy, DomainTable
from router.net.deadline import Wheel
from router.tls.certificates import ServerCertificate, read_server_certificate
from router.tls.contexts import ClientPolicy, Contexts, TlsSettings
from router.tls.session import HandshakeError, TlsStream
from tests.support.certs import Credential, authority
from tests.support.client import Client, Tls, TlsRefusedError

SECONDS = 10.0
GREETING = b"HTTP/1.1 204 No Content\r\n\r\n"


def server_certificate(*names: str) -> ServerCertificate:
    credential = authority("server").issue_server(*(names or ("localhost",)))
    return read_server_certificate(credential.chain_pem, credential.key_pem)


def domain_policy(pattern: str, client_policy: ClientPolicy) -> DomainPolicy:
    return DomainPolicy(
        pattern, "mtls_domains", "cf_identity", "cf_ou", None, None, False, "sanitize_set", "envoy", client_policy.fingerprint
    )


def contexts_of(
    domains: dict[str, ClientPolicy] | None = None,
    *,
    default: ClientPolicy | None = None,
    certificates: list[ServerCertificate] | None = None,
    settings: TlsSettings | None = None,
    previous: Contexts | None = None,
) -> Contexts:
    """Contexts for these domains, by pattern."""
    domains = domains or {}
    table = DomainTable(domain_policy(pattern, policy) for pattern, policy in domains.items())
    return Contexts(
        certificates or [server_certificate()],
        settings or TlsSettings(),
        default or ClientPolicy(),
        table,
        domains,
        previous,
    )


def context_of(policy: ClientPolicy, settings: TlsSettings | None = None) -> SSL.Context:
    """A single context with this policy."""
    return contexts_of(default=policy, settings=settings).choose(None).context


def require(*anchors: x509.Certificate, **more: Any) -> ClientPolicy:
    return ClientPolicy("require", anchors, **more)


@dataclass
class Outcome:
    """`reason` is ours ("ok" for a handshake that succeeded), `alert` what the client was told."""

    reason: str = "ok"
    detail: str = ""
    alert: int | None = None
    answered: bool = False
    resumed: bool = False
    session: Any = None
    protocol: bytes = b""
    chain: list[bytes] = field(default_factory=list)
    server_name: bytes | None = None
    version: str = ""


async def shake(context: SSL.Context, tls: Tls) -> Outcome:
    """A handshake, and one greeting where it succeeds."""
    outcome = Outcome()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = asyncio.get_running_loop().run_in_executor(None, _be_client, listener.getsockname()[1], tls, outcome)
        accepted, _ = await asyncio.get_running_loop().run_in_executor(None, listener.accept)
        await _be_server(accepted, context, outcome)
        await client
    return outcome


async def _be_server(sock: socket.socket, context: SSL.Context, outcome: Outcome) -> None:
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    stream = TlsStream(sock, context, loop, wheel)
    try:
        await stream.handshake_server(loop.time() + SECONDS)
        outcome.chain = stream.verified_chain()
        outcome.server_name = stream.tls.get_servername()
        outcome.protocol = stream.tls.get_alpn_proto_negotiated()
        outcome.version = stream.tls.get_protocol_version_name()
        await stream.recv(loop.time() + SECONDS)
        await stream.send(GREETING, loop.time() + SECONDS)
    except HandshakeError as error:
        outcome.reason, outcome.detail = error.reason, error.detail
    except OSError as error:
        outcome.reason, outcome.detail = "after the handshake", str(error)
    await stream.linger()
    wheel.close()


def _be_client(port: int, tls: Tls, outcome: Outcome) -> None:
    try:
        with Client(port, tls) as client:
            try:
                client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                outcome.answered = client.read_response().status == 204
                outcome.resumed = client.resumed
                outcome.session = client.session
            finally:
                outcome.alert = client.alert
    except TlsRefusedError as refused:
        outcome.alert = refused.alert
    except (EOFError, OSError):
        pass


def caller(name: str = "instances", **more: Any) -> Credential:
    """An instance's certificate by the authority of this name."""
    return authority(name).issue_instance("app-1", "space-1", "org-1", **more)
