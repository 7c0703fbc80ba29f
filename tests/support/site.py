"""A host of one's own with its backend on a router, and what a refusal by the router looks like to a client."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.backend import EchoBackend, Received
from tests.support.client import Client, Response, Tls
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until


@dataclass(frozen=True, slots=True)
class Site:
    """A registered host, its backend and the router that serves it."""

    router: RouterProcess
    host: str
    backend: EchoBackend

    def client(self, tls: Tls | None = None) -> Client:
        """A fresh connection: plain, or over TLS."""
        return Client(self.router.port if tls is None else self.router.ssl_port, tls)

    def seen(self) -> Received:
        """The one whole request that the backend received since it was last asked; AssertionError for none or several.

        Heads of requests that were broken off in their body do not count: they may arrive long after their client was refused.
        """
        whole = self.backend.wait_for(1)
        self.backend.clear()
        assert len(whole) == 1, f"the backend received {[one.request_line for one in whole]}"
        return whole[0]

    def refuses(self, data: bytes, status: int, code: str = "malformed_request", *, tls: Tls | None = None) -> Response:
        """Send `data` on a fresh connection: the only answer is this refusal of the router's, then the connection ends, and
        the backend never had a whole request.
        """
        with self.client(tls) as client:
            client.send(data)
            response = client.read_response("HEAD" if data.startswith(b"HEAD ") else "GET")
            assert (status, code) == (response.status, response.get("x-cf-routererror")), response
            assert client.closed_by_server()
        whole = [one.request_line for one in self.backend.received if one.complete]
        assert whole == [], f"the backend received {whole}"
        return response

    def wait_for_connections(self, count: int) -> None:
        """Wait until the backend has exactly `count` open connections."""
        wait_until(lambda: self.backend.open_connections == count, f"{count} open connections at the backend")


@contextlib.contextmanager
def site(router: RouterProcess, registrar: Registrar, domain: str = "open.example", **more: Any) -> Iterator[Site]:
    """A host under `domain` with an echo backend; `more` is of the registration."""
    host = unique_host(domain)
    with EchoBackend() as backend:
        registrar.register(host, backend=backend, **more)
        try:
            yield Site(router, host, backend)
        finally:
            registrar.unregister(host, backend=backend, wait=False, **more)
