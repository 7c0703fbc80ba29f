"""A valid `Config` -> what listens, and what the L4 door is made of; apart from compile.py, so that L4 needs nothing of L7.

Promises: pure; frozen values; nothing here fails for a valid configuration. Static L7 routes come out as plain values, for
whoever has L7 to put into its tables. Refuses to know TLS contexts, sockets, and what is in force.

Source: requirements 1, 4-10, 59-61, 83, 109; K9, K10.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypedDict

from authz.networks import Networks, plain_address
from registry.endpoint import Endpoint, SendProxy
from registry.hostname import Host
from router.config.firewall import firewall_rules
from router.config.l7_policies import PolicyTerms
from router.config.listeners import Backend, ListenerConfig, ListenerRoute
from router.config.model import Config
from router.l4.listeners import NO_LIMITS, ListenerPlan, ProxyTrust
from router.l4.routes import L4Route, L4Table
from router.limits import FOREVER
from router.net.budget import BudgetLimits
from router.net.firewall import EVERYBODY, FirewallRules

_EVERY_ADDRESS: Final = ("::",)


@dataclass(frozen=True, slots=True, eq=False)
class StaticRoute:
    """A route of mode l7: a host that the operator, and no registration, has given to L7. `port` is its listener's.

    `certificate` and `key` are PEM. `san`: the name that the backends' certificates must bear; empty: the backend's own.
    """

    host: str
    port: int
    backends: tuple[Backend, ...]
    certificate: str
    key: str
    backend_tls: bool
    san: str
    http2: bool
    send_proxy: SendProxy
    policies: tuple[PolicyTerms, ...]


@dataclass(frozen=True, slots=True, eq=False)
class L4Settings:
    """One configuration generation of the L4 door."""

    listeners: tuple[ListenerPlan, ...]
    table: L4Table
    static: tuple[StaticRoute, ...]
    firewall: FirewallRules
    max_total_connections: int


def compile_l4(config: Config) -> L4Settings:
    """Everything that listens, and every route of `listeners`."""
    static = static_routes(config)
    return L4Settings(
        listeners=tuple(_listeners(config)),
        table=L4Table(_l4_routes(config), ((route.port, route.host) for route in static)),
        static=static,
        firewall=firewall_rules(config.firewall),
        max_total_connections=config.max_total_connections,
    )


def _listeners(config: Config) -> Iterator[ListenerPlan]:
    if config.l7.enabled:
        trust = _gorouters_trust(config)
        limits = _limits(config, config.max_connections, trust)
        if not config.disable_http:
            yield ListenerPlan("http", "http", config.port, _EVERY_ADDRESS, trust, **limits)
        if config.enable_ssl:
            yield ListenerPlan("https", "ssl_port", config.ssl_port, _EVERY_ADDRESS, trust, **limits)
    for listener in config.listeners:
        trust = ProxyTrust(Networks(listener.proxy_protocol_trusted)) if listener.proxy_protocol else None
        most = config.max_connections if listener.max_connections is None else listener.max_connections
        yield ListenerPlan(
            name=f"{listener.kind}:{listener.port}",
            kind=listener.kind,
            port=listener.port,
            addresses=listener.address,
            proxy=trust,
            allowed=Networks(listener.allowed_cidrs) if listener.allowed_cidrs is not None else EVERYBODY,
            **_limits(config, most, trust),
        )


def _gorouters_trust(config: Config) -> ProxyTrust | None:
    if not config.enable_proxy:
        return None
    trusted = config.proxy_protocol_trusted
    return ProxyTrust(None if trusted is None else Networks(trusted))


class _Limits(TypedDict):
    budget: BudgetLimits
    clients: BudgetLimits


def _limits(config: Config, most: int, trust: ProxyTrust | None) -> _Limits:
    whole = BudgetLimits(max_connections=most, rate=config.connection_rate)
    each = BudgetLimits(per_address=config.max_connections_per_address, rate_per_address=config.connection_rate_per_address)
    if trust is not None:
        return {"budget": whole, "clients": each}
    joined = replace(whole, per_address=each.per_address, rate_per_address=each.rate_per_address)
    return {"budget": joined, "clients": NO_LIMITS}


def _routes(config: Config) -> Iterator[tuple[ListenerConfig, ListenerRoute]]:
    return ((listener, route) for listener in config.listeners for route in listener.routes)


def _l4_routes(config: Config) -> Iterator[L4Route]:
    for listener, route in _routes(config):
        if route.mode == "l4":
            yield L4Route(
                name=f"{route.hostname or 'tcp'}:{listener.port}",
                port=listener.port,
                hosts=() if route.hostname is None else (route.hostname,),
                backends=tuple((backend.host, backend.port) for backend in route.backends),
                send_proxy="v2" if route.send_proxy_protocol == "v2-ssl-cn" else route.send_proxy_protocol,
                connect_deadline=route.connect_timeout or FOREVER,
                idle_deadline=route.idle_timeout or FOREVER,
                total_deadline=route.total_timeout or FOREVER,
            )


def static_routes(config: Config) -> tuple[StaticRoute, ...]:
    """The routes of mode l7, in the order of the file."""
    return tuple(_static_routes(config))


def held_hosts(static: Iterable[StaticRoute]) -> dict[Host, tuple[Endpoint, ...]]:
    """What a ledger is to hold for these routes."""
    return {Host(route.host): tuple(_endpoint(route, backend) for backend in route.backends) for route in static}


def _endpoint(route: StaticRoute, backend: Backend) -> Endpoint:
    return Endpoint(
        backend.host,
        backend.port,
        tls=route.backend_tls,
        san=route.san or (backend.host if route.backend_tls and plain_address(backend.host) is None else ""),
        protocol="http2" if route.http2 else "http1",
        ttl=FOREVER,
        send_proxy=route.send_proxy,
    )


def _static_routes(config: Config) -> Iterator[StaticRoute]:
    for listener, route in _routes(config):
        if route.mode == "l7" and route.hostname is not None:
            yield StaticRoute(
                host=route.hostname,
                port=listener.port,
                backends=route.backends,
                certificate=route.tls_cert,
                key=route.tls_key.get_secret_value(),
                backend_tls=route.backend_tls,
                san=route.server_cert_domain_san or "",
                http2=route.protocol == "http2",
                send_proxy=route.send_proxy_protocol,
                policies=route.l7_policies,
            )
