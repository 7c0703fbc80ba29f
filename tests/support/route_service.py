"""A route service over HTTPS, as one written for GoRouter is: it looks at a request and sends it on to X-CF-Forwarded-Url.

What it sends on, and by which connection, is the test's to change: `change` gets the headers that would go and returns those that
do, `by` makes the connection. Every answer that came back is kept in `answers`.
"""

import base64
import datetime as dt
import hashlib
import json
import os
from collections.abc import Callable
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.backend import EchoBackend, Exchange, Received
from tests.support.certs import CA, Credential, authority
from tests.support.client import Client, Response, Tls, render_request
from tests.support.router import RouterProcess

Headers = list[tuple[str, str]]

SERVICES: CA = authority("route services")
SECRET = "a robust passphrase for tests"
SIGNATURE, METADATA, FORWARDED_URL = "x-cf-proxy-signature", "x-cf-proxy-metadata", "x-cf-forwarded-url"
SEALED = (SIGNATURE, METADATA, FORWARDED_URL)
_NOT_SENT_ON = ("host", "content-length", "transfer-encoding", "connection", "expect")


class RouteService(EchoBackend):
    """Sends on to `router` once it is set; without one it answers by itself, as its scripts say."""

    def __init__(
        self,
        router: RouterProcess | None = None,
        *,
        credential: Credential | None = None,
        client_ca: CA | None = None,
        tls: bool = True,
    ) -> None:
        self.router = router
        self.answers: list[Response] = []
        self.change: Callable[[Headers], Headers] = lambda headers: headers
        self.url: Callable[[str], str] = lambda url: url
        self.by: Callable[[str, str], Client] = self._connect
        self.tls_as: Credential | None = None
        server = (credential or SERVICES.issue_server("127.0.0.1", "localhost")) if tls else None
        super().__init__("route service", credential=server, client_ca=client_ca)
        self.always(self._send_on)

    @property
    def address_url(self) -> str:
        """Its own, for `route_service_url`."""
        return f"https://127.0.0.1:{self.port}/check?by=service"

    def _connect(self, scheme: str, host: str) -> Client:
        """As a client of the URL does: by name over TLS, or in plain text."""
        assert self.router is not None
        return Client(self.router.ssl_port, Tls(host, self.tls_as)) if scheme == "https" else Client(self.router.port)

    def _send_on(self, exchange: Exchange) -> None:
        body = exchange.read_body()
        if self.router is None:
            self._reply(exchange, 200, b"from the service")
            return
        request = exchange.request
        parts = urlsplit(self.url(request.get(FORWARDED_URL) or ""))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = [(name, value) for name, value in request.headers if name not in _NOT_SENT_ON]
        answer = self.send(
            parts.scheme, parts.hostname or "", target, self.change(headers), request.request_line.split(" ")[0], body
        )
        self._reply(exchange, answer.status, answer.body, answer.get("x-cf-routererror"))

    def send(self, scheme: str, host: str, target: str, headers: Headers, method: str = "GET", body: bytes = b"") -> Response:
        """One request to the router, on a connection of its own."""
        with self.by(scheme, host) as client:
            client.send(render_request(host, target, method=method, headers=headers, body=body))
            answer = client.read_response(method)
        self.answers.append(answer)
        return answer

    @staticmethod
    def _reply(exchange: Exchange, status: int, body: bytes, error: str | None = None) -> None:
        more = f"X-Error-Seen: {error}\r\n" if error is not None else ""
        head = f"HTTP/1.1 {status} So\r\nX-Route-Service: seen\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        exchange.send(head.encode() + (b"" if exchange.request.request_line.startswith("HEAD ") else body))

    def sealed(self, number: int = -1) -> Headers:
        """The three headers of a request that it got."""
        return headers_of(self.received[number])


def headers_of(request: Received) -> Headers:
    return [(name, value) for name, value in request.headers if name in SEALED]


def sealed_for(url: str, *, secret: str = SECRET, age: float = 0.0, **more: object) -> Headers:
    """The headers of a request that a GoRouter with this secret sent away `age` seconds ago."""
    made = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    contents = {"forwarded_url": url, "requested_time": made.isoformat(), **more}
    nonce = os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha256", secret.encode(), b"", 100001, 16)
    sealed = AESGCM(key).encrypt(nonce, json.dumps(contents).encode(), b"")
    metadata = json.dumps({"nonce": base64.b64encode(nonce).decode()}).encode()
    return [
        (SIGNATURE, base64.urlsafe_b64encode(sealed).decode()),
        (METADATA, base64.urlsafe_b64encode(metadata).decode()),
        (FORWARDED_URL, url),
    ]
