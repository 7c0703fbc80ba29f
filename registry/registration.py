"""What an app says of itself: its register messages, judged before they are sent as a router will judge them.

Promises: `encode` lets nothing pass that a router would drop or use only in part; its ValueError says which field, which value
(bounded, escaped) and what was expected. Refuses to know: NATS, files, when messages are sent.

Source: GoRouter's registry message (contract b.2), as route-emitter sends it.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from registry.message import MAX_URIS, Malformed, RegistryMessage, parse_message
from registry.options import DEFAULT_LIMIT

DEFAULT_TTL = 120
"""Seconds that a plain endpoint stays without being registered again; the routers' default, and the most they give."""

COMPONENT = "vestibule-emit"
"""The tag by which the routers' metrics tell these registrations from others."""

Message: TypeAlias = Mapping[str, object]


class Announced(Protocol):
    """What is read of a route (`registry.manifest.ManifestRoute`)."""

    @property
    def uri(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def options(self) -> Mapping[str, object]: ...


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of an app: where the routers dial it. With `tls_port` they speak TLS, and its certificate must name `san`."""

    host: str
    port: int
    tls_port: int = 0
    san: str = ""
    id: str = ""
    index: int = 0

    @property
    def address(self) -> str:
        """Where it is dialled, as text."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.tls_port or self.port}"


class Cost(NamedTuple):
    """What a set of registrations costs NATS: bytes a round, and a second with so many routers listening."""

    messages: int
    instances: int
    routers: int
    interval: float
    bytes: int
    options_bytes: int

    @property
    def rate(self) -> float:
        """Bytes of payload a second."""
        return self.bytes * self.routers / self.interval

    @property
    def options_rate(self) -> float:
        """The part of it that the options make: bytes, times instances, times routers, by interval."""
        return self.options_bytes * self.routers / self.interval

    def as_json(self) -> dict[str, int | float]:
        """The figures as a JSON object."""
        rates = {"bytes_per_second": round(self.rate, 1), "options_bytes_per_second": round(self.options_rate, 1)}
        return {**self._asdict(), **rates}

    def sentence(self) -> str:
        """The figures for a person."""
        sent = f"{_count(self.messages, 'message')} of {_count(self.instances, 'instance')} to {_count(self.routers, 'router')}"
        share = f"options {self.options_rate:,.1f} bytes/s ({self.options_bytes:,} of {self.bytes:,} bytes a round)"
        return f"{sent} every {self.interval:g} s: {self.rate:,.1f} bytes/s, of which {share}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def messages_of(
    routes: Iterable[Announced], instance: Instance, *, app: str, tags: Mapping[str, str], ttl: int = DEFAULT_TTL
) -> list[dict[str, object]]:
    """The register messages of one instance: one for all routes with the same options and protocol, more where they are many.

    `ttl` in seconds. Without an id of its own an instance has one that follows from app and address, the same after a restart.
    """
    alike: dict[tuple[str, str], list[Announced]] = {}
    for route in routes:
        alike.setdefault((route.protocol, compact(route.options)), []).append(route)
    return [
        _message(some[start : start + MAX_URIS], instance, app, tags, ttl)
        for some in alike.values()
        for start in range(0, len(some), MAX_URIS)
    ]


def _message(routes: list[Announced], instance: Instance, app: str, tags: Mapping[str, str], ttl: int) -> dict[str, object]:
    message: dict[str, object] = {"host": instance.host, "port": instance.port}
    if instance.tls_port:
        message["tls_port"] = instance.tls_port
    if instance.san:
        message["server_cert_domain_san"] = instance.san
    message |= {
        "uris": [route.uri for route in routes],
        "protocol": routes[0].protocol,
        "app": app,
        "private_instance_id": instance.id or str(uuid.uuid5(uuid.NAMESPACE_URL, f"{app}@{instance.address}")),
        "private_instance_index": str(instance.index),
        "stale_threshold_in_seconds": ttl,
        "tags": dict(tags),
    }
    if routes[0].options:
        message["options"] = dict(routes[0].options)
    return message


def encode(message: Message, max_options: int = DEFAULT_LIMIT) -> bytes:
    """The message as bytes. ValueError where a router would drop it, or not use some of what it says."""
    try:
        payload = compact(message).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the registration is no JSON object: {error}") from None
    match parse_message(payload, max_options=max_options):
        case Malformed(detail=detail):
            raise ValueError(f"a router would drop this registration: {detail}")
        case read if wrong := _unused(read):
            raise ValueError(f"a router would not use all of this registration: {'; '.join(wrong)}")
    return payload


def _unused(read: RegistryMessage) -> list[str]:
    """What a router would leave out of a message that it takes."""
    options = read.endpoint.options
    return [
        *(f"uris: {uri}, expected host or host/path" for uri in read.bad_uris),
        *read.notes,
        *(
            f"options.{one.key or '*'}: {one.value} ({one.reason}); a router would use {one.in_effect}"
            for one in options.warnings
        ),
        *(f"options: {text}" for text in options.policy.warnings),
    ]


def cost(messages: Iterable[Message], *, instances: int, routers: int, interval: float) -> Cost:
    """What these messages cost when all are sent once an `interval` (seconds) and each of `routers` receives them."""
    made = list(messages)
    options = sum(len(compact(message["options"]).encode()) for message in made if "options" in message)
    return Cost(len(made), instances, routers, interval, sum(len(compact(message).encode()) for message in made), options)


def compact(value: object) -> str:
    """JSON without spaces, in ASCII: what is sent."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
