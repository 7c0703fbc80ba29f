"""What is to be registered: the routes of a manifest, for the instances that were named.

Promises: every message has been judged as a router will judge it; whatever is wrong is found at once, and then there is nothing
to send. Refuses to know: files, NATS, health.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

from identity.caller import parse_guid, shown
from registry.manifest import ManifestRoute
from registry.options import DEFAULT_LIMIT
from registry.registration import COMPONENT, DEFAULT_TTL, Cost, Instance, cost, encode, messages_of

T = TypeVar("T", int, str)

MAX_INSTANCES: Final = 1000


class Named(NamedTuple):
    """An instance as it was given: of this application, or of the only one there is (None)."""

    app: str | None
    instance: Instance


class Planned(NamedTuple):
    """One instance of one application with all its messages."""

    app: str
    instance: Instance
    messages: tuple[dict[str, object], ...]


class Wishes(NamedTuple):
    """What the caller says beside manifest and instances. `guids`: application name -> GUID; `ttl` in seconds; `first_index`:
    the number of each application's first instance; `max_options`: the routers' limit in bytes.
    """

    guids: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    ttl: int = DEFAULT_TTL
    first_index: int = 0
    max_options: int = DEFAULT_LIMIT


class Plan(NamedTuple):
    """What will be registered: nothing where there are problems. `notes`: what is legal but may not be meant."""

    planned: tuple[Planned, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def messages(self) -> list[dict[str, object]]:
        """Every message."""
        return [message for one in self.planned for message in one.messages]

    def cost(self, routers: int, interval: float) -> Cost:
        """What it costs NATS."""
        return cost(self.messages, instances=len(self.planned), routers=routers, interval=interval)


def read_instances(
    texts: Sequence[str], *, tls_ports: Sequence[int] = (), sans: Sequence[str] = (), ids: Sequence[str] = ()
) -> tuple[Named, ...]:
    """`[APP=]HOST:PORT[,HOST:PORT...]`, each with its TLS port, SAN and id: one for all, or one for each. Raises ValueError."""
    places = [place for text in texts for place in _places(text)]
    if len(places) > MAX_INSTANCES:
        raise ValueError(f"{len(places)} instances, at most {MAX_INSTANCES} of one emitter")
    if sans and not tls_ports:
        raise ValueError("--san is for TLS; give --tls-port too")
    if len(ids) not in (0, len(places)) or len(set(ids)) != len(ids):
        raise ValueError(f"--instance-id: give one for each of {len(places)} instances, all different")
    all_ids = _for_each("--instance-id", ids, len(places), "")
    all_ports = _for_each("--tls-port", tls_ports, len(places), 0)
    all_sans = _for_each("--san", sans, len(places), "")
    return tuple(
        Named(app, Instance(host, port, tls_port, san, own))
        for (app, host, port), tls_port, san, own in zip(places, all_ports, all_sans, all_ids, strict=True)
    )


def plan(routes: Iterable[ManifestRoute], instances: Sequence[Named], wishes: Wishes) -> Plan:
    """Give each application's routes to its instances."""
    by_app: dict[str, list[ManifestRoute]] = {}
    for route in routes:
        by_app.setdefault(route.app, []).append(route)
    problems = list(_misunderstandings(by_app.keys(), instances, wishes))
    planned: list[Planned] = []
    notes: list[str] = []
    for app, its_routes in () if problems else by_app.items():
        own = [one.instance for one in instances if one.app in (None, app)]
        if not own:
            notes.append(f"application {shown(app)} has no instance here: its routes are not registered")
        for index, instance in enumerate(own, wishes.first_index):
            messages = _messages(its_routes, replace(instance, index=index), app, wishes)
            problems += [f"{shown(app)} at {instance.address}: {problem}" for problem in _judged(messages, wishes)]
            planned.append(Planned(app, instance, messages))
    return Plan((), tuple(problems)) if problems else Plan(tuple(planned), (), tuple(notes))


def _messages(routes: list[ManifestRoute], instance: Instance, app: str, wishes: Wishes) -> tuple[dict[str, object], ...]:
    guid = wishes.guids.get(app)
    name = {} if guid is None else {"app_name": app}
    tags = {"component": COMPONENT, **name, **wishes.tags}
    return tuple(messages_of(routes, instance, app=guid or app, tags=tags, ttl=wishes.ttl))


def _judged(messages: Iterable[dict[str, object]], wishes: Wishes) -> Iterable[str]:
    for message in messages:
        try:
            encode(message, wishes.max_options)
        except ValueError as error:
            yield str(error)


def _misunderstandings(apps: Iterable[str], instances: Sequence[Named], wishes: Wishes) -> Iterable[str]:
    """What does not fit together, before any message is made."""
    known = list(apps)
    listed = ", ".join(map(shown, known[:10]))
    if not known:
        yield "the manifest has no route; add applications[].routes"
        return
    if len(known) > 1 and any(one.app is None for one in instances):
        yield f"the manifest has {len(known)} applications ({listed}): say whose instance it is, --instance NAME=HOST:PORT"
    for name in {one.app for one in instances if one.app is not None and one.app not in known}:
        yield f"--instance {shown(name)}=...: no application of that name has routes; there is {listed}"
    for name, guid in wishes.guids.items():
        if name not in known:
            yield f"--app {shown(name)}=...: no application of that name has routes; there is {listed}"
        if parse_guid(guid) is None:
            yield f"--app {shown(name)}={shown(guid)}: expected a GUID of 1 to 64 letters, digits, `-` or `_`"
    for index, one in enumerate(instances):
        if any((one.app, one.instance.address) == (other.app, other.instance.address) for other in instances[:index]):
            yield f"--instance {one.instance.address} is named twice; name it once"


def _places(text: str) -> Iterable[tuple[str | None, str, int]]:
    name, named, rest = text.rpartition("=")
    for part in rest.split(","):
        host, _, port = part.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        bare = host[1:-1] if bracketed else host
        if not bare or (":" in bare and not bracketed) or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"--instance {shown(part)}: expected HOST:PORT, an IPv6 address in brackets")
        yield (name if named else None), bare, int(port)


def _for_each(option: str, values: Sequence[T], count: int, absent: T) -> list[T]:
    if len(values) < 2:
        return [values[0] if values else absent] * count
    if len(values) != count:
        raise ValueError(f"{option}: {len(values)} values for {count} instances; give one for all, or one for each")
    return list(values)
