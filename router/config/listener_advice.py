"""What is legal but unwise about listeners, the PROXY protocol and the firewall: warnings about a configuration that loads.

Promises: one warning a finding; changes nothing, raises nothing. Refuses to know errors (listener_rules.py).

Source: requirements 78, 79, 227; K47.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from authz.networks import Network
from registry.problems import Where
from registry.source import SpelledInt
from router.config.legacy import Notice, Tree
from router.config.listeners import ListenerRoute
from router.config.model import Config
from router.config.scalars import parse_duration

_DURATIONS: Final = frozenset({"connect_timeout", "idle_timeout", "total_timeout", "rate_window"})
_EVERYBODY = "list the balancers' networks only"


def advise_listeners(config: Config, tree: Tree) -> Iterator[Notice]:
    """Every warning, in the order of the file's keys."""
    yield from _gorouters(config)
    for index, listener in enumerate(config.listeners):
        where: Where = ("listeners", index)
        trusted: Where = (*where, "proxy_protocol_trusted")
        if listener.proxy_protocol_trusted and not listener.proxy_protocol:
            yield Notice(trusted, "without `proxy_protocol: true` no PROXY header is read", "add that, or remove this")
        yield from _wide(trusted, listener.proxy_protocol_trusted)
        for number, route in enumerate(listener.routes):
            yield from _route((*where, "routes", number), route)
    if config.firewall.geoip_db is not None and not config.firewall.blocked_countries:
        yield Notice(("firewall", "geoip_db"), "no effect without blocked_countries", "list countries, or remove the database")
    yield from _nanoseconds((), {key: tree.get(key) for key in ("listeners", "firewall")})


def _nanoseconds(where: Where, value: object) -> Iterator[Notice]:
    """Durations that were meant as seconds: everything below these keys that is one, and so short that nothing could happen."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _nanoseconds((*where, key), item)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _nanoseconds((*where, index), item)
    elif isinstance(value, SpelledInt) and where[-1] in _DURATIONS and 0 < parse_duration(value) < 1e-3:
        said = f"a bare number is nanoseconds: this is {value.spelling} ns"
        yield Notice(where, said, f"write {value.spelling}s if seconds are meant")


def _gorouters(config: Config) -> Iterator[Notice]:
    trusted = config.proxy_protocol_trusted
    if config.enable_proxy and trusted is None:
        said = "every peer's PROXY header is believed, as in GoRouter: whoever reaches the port can name any client"
        yield Notice(("enable_proxy",), said, "list the balancers' networks in proxy_protocol_trusted")
    if trusted and not config.enable_proxy:
        yield Notice(("proxy_protocol_trusted",), "no effect without enable_proxy: true", "add that, or remove this")
    yield from _wide(("proxy_protocol_trusted",), trusted or ())


def _wide(where: Where, networks: Iterable[Network]) -> Iterator[Notice]:
    for index, network in enumerate(networks):
        if network.prefixlen == 0:
            yield Notice((*where, index), "every peer's PROXY header is believed", _EVERYBODY)


def _route(where: Where, route: ListenerRoute) -> Iterator[Notice]:
    if route.mode == "l4" and (route.tls_cert or route.tls_key.get_secret_value()):
        key = "tls_cert" if route.tls_cert else "tls_key"
        yield Notice((*where, key), "no effect in mode l4: the backend terminates TLS", "remove it, or set mode: l7")
