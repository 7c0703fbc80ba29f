"""A registered host of a test's own, calls to it by callers with certificates, and everything that can be seen of each call."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.support.backend import EchoBackend, Received
from tests.support.certs import Credential
from tests.support.client import Client, Response, Tls
from tests.support.register import Registrar, message, unique_host
from tests.support.router import RouterProcess

FORBIDDEN = (403, "mtls_authorization_denied", b"Forbidden")
MISDIRECTED = (421, "mtls_domain_mismatch", b"")

_numbers = itertools.count(1)


class Seen(NamedTuple):
    """What the access log says of a decision."""

    auth: str | None
    rule: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was answered: the response, and what the log and the backends know of it."""

    router: RouterProcess
    target: str
    response: Response
    backends: Sequence[EchoBackend]

    @property
    def refusal(self) -> tuple[int, str | None, bytes]:
        """What a client sees of a refusal: status, code, body."""
        return self.response.status, self.response.get("x-cf-routererror"), self.response.body

    @property
    def received(self) -> list[Received]:
        """What the backends received of it."""
        return [one for backend in self.backends for one in backend.received if one.request_line.split(" ")[1] == self.target]

    @property
    def at_backend(self) -> Received:
        """The one request that a backend received."""
        (one,) = self.received
        return one

    @property
    def record(self) -> dict[str, Any]:
        """Its line of the access log, which is JSON on the routers of these tests."""
        found: dict[str, Any] = json.loads(self.router.wait_for_log(f'"uri":"{self.target}"'))
        return found

    @property
    def seen(self) -> Seen:
        record = self.record
        return Seen(record["mtls_auth"], record["mtls_rule"], record["mtls_denied_reason"])

    def assert_allowed(self, rule: str) -> None:
        """It reached one backend, and log and client say nothing but that."""
        assert (self.response.status, self.response.get("x-cf-routererror")) == (200, None), self.response
        assert len(self.received) == 1
        assert self.seen == Seen("allowed", rule, None)

    def assert_denied(self, rule: str, reason: str) -> None:
        """403 with the code and nothing more; the reason stands in the log alone; no backend saw it."""
        assert self.refusal == FORBIDDEN
        assert self.received == []
        assert self.seen == Seen("denied", rule, reason)
        assert reason.encode() not in self.response.head


@dataclass(slots=True)
class Place:
    """A host on a router, with the backends that serve it; unregistered and stopped by the fixture that made it."""

    router: RouterProcess
    registrar: Registrar
    host: str
    backends: list[EchoBackend] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)

    def register(self, options: object = None, *, backend: EchoBackend | None = None, **more: Any) -> EchoBackend:
        """(Re-)register with these options (any JSON); without a backend, the first one of this place."""
        if backend is None:
            backend = self.backends[0] if self.backends else EchoBackend()
        if backend not in self.backends:
            self.backends.append(backend)
        body = message(self.host, backend=backend, **more)
        if options is not None:
            body["options"] = options
        self.registrar.publish("router.register", body, wait=False)
        self.registrar.settle()
        self.sent.append(body)
        return backend

    def call(
        self,
        caller: Credential | None = None,
        *,
        sni: str | None = None,
        host: str | None = None,
        plain: bool = False,
        **request: Any,
    ) -> Call:
        """One request on a connection of its own. `sni` and `host` are this host's unless given."""
        with self.connect(caller, sni=sni, plain=plain) as client:
            return self.ask(client, host=host, **request)

    def connect(self, caller: Credential | None = None, *, sni: str | None = None, plain: bool = False) -> Client:
        if plain:
            return Client(self.router.port)
        return Client(self.router.ssl_port, Tls(sni or self.host, caller))

    def ask(self, client: Client, *, host: str | None = None, path: str = "", **request: Any) -> Call:
        """One more request on a connection."""
        target = f"{path}/call-{next(_numbers)}-{self.host}"
        return Call(self.router, target, client.request(host or self.host, target, **request), self.backends)

    def leave(self) -> None:
        for body in self.sent:
            self.registrar.publish("router.unregister", body, wait=False)
        for backend in self.backends:
            backend.stop()


def make_place(router: RouterProcess, registrar: Registrar, domain: str) -> Place:
    """A place under `domain`; a domain without a `*.` in front is the host itself."""
    host = unique_host(domain.removeprefix("*.")) if domain.startswith("*.") else domain
    return Place(router, registrar, host)


def places_of(router: RouterProcess, registrar: Registrar) -> Iterator[Callable[..., Place]]:
    """Makes places under a domain, registered with `options` (none: without any); at the end all of them leave."""
    places: list[Place] = []

    def make(domain: str, options: object = None, **more: Any) -> Place:
        place = make_place(router, registrar, domain)
        places.append(place)
        place.register(options, **more)
        return place

    yield make
    for place in places:
        place.leave()


def counted(router: RouterProcess, name: str, **labels: str) -> Mapping[str, float]:
    """Samples of a metric whose labels include these; for "it grew by one" assertions."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return {text: value for text, value in router.metric_values(name).items() if all(part in text for part in wanted)}
