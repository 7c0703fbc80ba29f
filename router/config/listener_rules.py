"""What contradicts what among listeners and their routes: two claims to one port, or to one name, and keys of the other mode.

Promises: as rules.py: reads the tree as the file has it, whatever its types, and never raises. A conflict names both sides. What
would pass a connection by a lock (an mTLS domain, a trusted list, an allow list) is an error, never a warning.

Source: requirements 4, 5, 8, 12, 72, 77, 128, 224, 226; attack 75; K9-K11, K47.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from registry.hostname import canonical_pattern, covers
from registry.problems import Where, path_text, printable
from router.config.legacy import Tree
from router.config.listeners import MODES
from router.config.rules import Broken, as_mapping, domain_entries
from router.config.scalars import boolean

_L4_ONLY: Final = ("connect_timeout", "idle_timeout", "total_timeout")
_L7_ONLY: Final = ("l7_policies", "protocol", "server_cert_domain_san")


class _Listener(NamedTuple):
    where: Where
    tree: Tree
    kind: object
    port: int | None


class _Route(NamedTuple):
    where: Where
    tree: Tree
    listener: _Listener
    mode: str | None  # l4, l7; None: not to be told
    spelling: object
    host: str | None


def broken_listeners(tree: Tree) -> list[Broken]:
    """Every rule about listeners that the tree breaks."""
    return [broken for rule in _RULES for broken in rule(tree)]


def _listeners(tree: Tree) -> Iterator[_Listener]:
    items = tree.get("listeners")
    for index, item in enumerate(items if isinstance(items, tuple) else ()):
        if isinstance(item, dict):
            yield _Listener(("listeners", index), item, item.get("kind"), _port(item.get("port")))


def _port(value: object) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _routes(tree: Tree) -> Iterator[_Route]:
    for listener in _listeners(tree):
        items = listener.tree.get("routes")
        for index, item in enumerate(items if isinstance(items, tuple) else ()):
            if isinstance(item, dict):
                yield _route((*listener.where, "routes", index), item, listener)


def _route(where: Where, tree: Tree, listener: _Listener) -> _Route:
    spelling = tree.get("mode", tree.get("protocol_hint", ""))
    host = tree.get("hostname")
    mode = MODES.get(spelling) if isinstance(spelling, str) else None
    return _Route(where, tree, listener, mode, spelling, canonical_pattern(host) if isinstance(host, str) else None)


def _one_listener_a_port(tree: Tree) -> Iterator[Broken]:
    """Routes are found by their port, so a port has one owner, whatever the addresses."""
    seen = dict(_other_ports(tree))
    for listener in _listeners(tree):
        if listener.port is None:
            continue
        if listener.port in seen:
            other = seen[listener.port]
            expected = f"each port once: {listener.port} is also {other}"
            yield Broken((*listener.where, "port"), expected, "take another, or list several addresses under one listener")
        seen.setdefault(listener.port, path_text(listener.where))


def _other_ports(tree: Tree) -> Iterator[tuple[int, str]]:
    """Every other port that the file opens, defaults included; the first to name one owns it."""
    status = as_mapping(tree.get("status"))
    found: list[tuple[str, object]] = []
    if _l7_is_on(tree):
        if boolean(tree.get("disable_http")) is not True:
            found.append(("`port`", tree.get("port", 80)))
        if boolean(tree.get("enable_ssl")) is True:
            found.append(("`ssl_port`", tree.get("ssl_port", 443)))
    if boolean(status.get("enable_nontls_health_checks")) is not False:
        found.append(("`status.port`", status.get("port", 8080)))
    if as_mapping(status.get("tls")).get("certificate"):
        found.append(("`status.tls.port`", as_mapping(status.get("tls")).get("port", 8443)))
    found.append(("`status.routes.port`", as_mapping(status.get("routes")).get("port", 8082)))
    found.append(("`prometheus.port`", as_mapping(tree.get("prometheus")).get("port")))
    numbers: dict[int, str] = {}
    for name, value in found:
        if (number := _port(value)) is not None and number > 0:
            numbers.setdefault(number, name)
    yield from numbers.items()


def _l7_is_on(tree: Tree) -> bool:
    return boolean(as_mapping(tree.get("l7")).get("enabled")) is not False


def _proxy_protocol(tree: Tree) -> Iterator[Broken]:
    for listener in _listeners(tree):
        trusted = listener.tree.get("proxy_protocol_trusted")
        if boolean(listener.tree.get("proxy_protocol")) is True and not trusted:
            remedy = "list the networks of the balancers in front: anybody else could name any client"
            yield Broken((*listener.where, "proxy_protocol"), "`true` only beside proxy_protocol_trusted", remedy)
    if boolean(tree.get("enable_proxy")) is True and tree.get("proxy_protocol_trusted") == ():
        remedy = "list the networks of the balancers in front, or remove the key to believe everybody, as GoRouter does"
        yield Broken(("proxy_protocol_trusted",), "at least one network beside enable_proxy", remedy)


def _allow_lists(tree: Tree) -> Iterator[Broken]:
    for listener in _listeners(tree):
        if "allowed_cidrs" in listener.tree and listener.tree["allowed_cidrs"] in (None, ()):
            remedy = "remove the key to let everybody connect, or list who may"
            yield Broken((*listener.where, "allowed_cidrs"), "at least one network", remedy)


def _kinds(tree: Tree) -> Iterator[Broken]:
    for listener in _listeners(tree):
        routes = listener.tree.get("routes", ())
        if listener.kind == "tcp" and isinstance(routes, tuple) and len(routes) != 1:
            remedy = "raw TCP is explicit: one port, one route; name the other ports as listeners of their own"
            yield Broken((*listener.where, "routes"), "exactly one route beside `kind: tcp`", remedy)
        if listener.kind == "http" and routes:
            remedy = "remove them: plain HTTP serves registered routes and those of mode l7; use `kind: tls` for these"
            yield Broken((*listener.where, "routes"), "no routes beside `kind: http`", remedy)
        if listener.kind == "http" and not _l7_is_on(tree):
            yield Broken((*listener.where, "kind"), "`tls` or `tcp` beside l7.enabled: false", "remove the listener")
    for route in _routes(tree):
        yield from _fits_its_listener(route, l7=_l7_is_on(tree))


def _fits_its_listener(route: _Route, *, l7: bool) -> Iterator[Broken]:
    kind, where = route.listener.kind, route.where
    at: Where = (*where, "protocol_hint" if "protocol_hint" in route.tree and "mode" not in route.tree else "mode")
    if kind == "tcp":
        if route.mode == "l7" or route.spelling == "tls_passthrough":
            yield Broken(
                at, "`l4` or `tcp_raw` beside `kind: tcp`", "use `kind: tls` to route by server name or to terminate TLS"
            )
        if route.tree.get("hostname"):
            remedy = "remove it, or use `kind: tls`: without TLS there is no name to route by"
            yield Broken((*where, "hostname"), "no hostname beside `kind: tcp`", remedy)
    if kind == "tls":
        if route.spelling == "tcp_raw":
            yield Broken(at, "another mode than `tcp_raw` beside `kind: tls`", "use `kind: tcp` for raw TCP: one port, one route")
        if not route.tree.get("hostname"):
            remedy = "say which server name this route is for; `kind: tcp` takes everything"
            yield Broken((*where, "hostname"), "a hostname beside `kind: tls`", remedy)
    if route.mode == "l7" and route.host is not None and route.host.startswith("*."):
        remedy = "write one route a host; registered routes may have wildcards"
        yield Broken((*where, "hostname"), "a whole host name in mode l7", remedy)
    if route.mode == "l7" and not l7:
        yield Broken(at, "`l4` beside l7.enabled: false", "remove the route, or remove l7.enabled")
    yield from _keys_of_the_mode(route)


def _keys_of_the_mode(route: _Route) -> Iterator[Broken]:
    if route.mode == "l4":
        for key in _L7_ONLY:
            if route.tree.get(key):
                remedy = "remove it, or use `mode: l7`: what is passed through cannot be looked at"
                yield Broken((*route.where, key), "this key in mode l7 only", remedy)
        if route.tree.get("send_proxy_protocol") == "v2-ssl-cn":
            remedy = "use `true`: the backend terminates TLS, so there is nothing to tell"
            yield Broken((*route.where, "send_proxy_protocol"), "`true`, `v1` or `v2` in mode l4", remedy)
    if route.mode == "l7":
        for key in _L4_ONLY:
            if key in route.tree:
                remedy = "remove it: endpoint_dial_timeout, frontend_idle_timeout and endpoint_timeout hold for requests"
                yield Broken((*route.where, key), "this key in mode l4 only", remedy)
        if route.tree.get("protocol") == "http2" and route.tree.get("send_proxy_protocol") not in (None, "", False, "false"):
            remedy = "remove one: requests of several clients share an HTTP/2 connection, and a PROXY header names one client"
            yield Broken((*route.where, "send_proxy_protocol"), "no PROXY header beside `protocol: http2`", remedy)
        if route.tree.get("server_cert_domain_san") and boolean(route.tree.get("backend_tls")) is not True:
            yield Broken((*route.where, "server_cert_domain_san"), "only beside backend_tls: true", "add that, or remove this")


def _names(tree: Tree) -> Iterator[Broken]:
    """A name has one route on a port, and one in L7 at all, where routes are found by their host alone."""
    by_port: dict[tuple[int | None, str], _Route] = {}
    in_l7: dict[str, _Route] = {}
    for route in _routes(tree):
        if route.host is None or route.listener.kind != "tls":
            continue
        other = by_port.setdefault((route.listener.port, route.host), route)
        if other is not route:
            yield _claimed_twice(route, other, f"on port {route.listener.port}")
        elif route.mode == "l7" and (other := in_l7.setdefault(route.host, route)) is not route:
            yield _claimed_twice(route, other, "in mode l7")


def _claimed_twice(route: _Route, other: _Route, place: str) -> Broken:
    name = printable(str(route.host), 80)
    expected = f"each name once {place}: `{name}` ({route.mode}) is also {path_text(other.where)} ({other.mode})"
    return Broken((*route.where, "hostname"), expected, "remove one of the two")


def _names_of_domains(tree: Tree) -> Iterator[Broken]:
    """What a domain claims must not be passed by its door."""
    domains: list[tuple[Where, str]] = []
    for where, entry in domain_entries(tree):
        text = entry.get("domain", entry.get("name"))
        if isinstance(text, str) and (pattern := canonical_pattern(text)) is not None:
            domains.append((where, pattern))
    for route in _routes(tree):
        host = route.host
        if route.mode != "l4" or host is None:
            continue
        for where, domain in domains:
            if covers(domain, host) or covers(host, domain):
                name, claimed = printable(host, 80), printable(domain, 80)
                expected = f"no L4 route under an mTLS domain: `{name}` and {path_text(where)} `{claimed}` claim the same hosts"
                remedy = "remove one of the two, or narrow the route: passed through, nobody here asks for a certificate"
                yield Broken((*route.where, "hostname"), expected, remedy)
                break


def _without_l7(tree: Tree) -> Iterator[Broken]:
    if _l7_is_on(tree):
        return
    if boolean(tree.get("enable_ssl")) is True:
        yield Broken(("enable_ssl",), "false beside l7.enabled: false", "remove it, or remove l7.enabled")
    for key in ("mtls_domains", "domains"):
        if tree.get(key):
            yield Broken(
                (key,), "no domains beside l7.enabled: false", "remove them, or remove l7.enabled: nobody would enforce them"
            )
    if not tree.get("listeners"):
        yield Broken(("l7", "enabled"), "`false` only beside `listeners`", "add a listener: as it stands nothing is served")


_RULES: Final[tuple[Callable[[Tree], Iterator[Broken]], ...]] = (
    _one_listener_a_port,
    _proxy_protocol,
    _allow_lists,
    _kinds,
    _names,
    _names_of_domains,
    _without_l7,
)
