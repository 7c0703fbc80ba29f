"""A cf-style manifest -> its HTTP routes with their options, or every mistake in it.

Promises: never raises for what a file holds; every problem at once with file, line and path; routes only where
there is no problem at all; a route that passes registers as it stands, by the same rules and the same code as a
`router.register` message. Bounded: values, routes, findings. Refuses to know: files on disk, domains (`enforces`
is asked), what a policy decides, and every key of an application but `name`, `routes` and `no-route`.

Source: Cloud Foundry's manifest schema (`applications[].routes[]`: route, protocol, options); contract a.2, a.3,
a.5, a.6; K1, K3, K20.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Literal

from authz.policy import WITHOUT_OPTIONS
from identity.caller import parse_guid
from registry.findings import MAX_FINDINGS, Findings
from registry.ledger import Ledger, LedgerSettings
from registry.message import Malformed, RouteUri, parse_message, parse_uri
from registry.options import DEFAULT_LIMIT, parse_options
from registry.problems import Problem, Where, printable
from registry.route_limits import Scalar
from registry.route_options_check import check_options, misplaced, nearest
from registry.source import Source, read_documents
from registry.table import RouteTable
from registry.variables import NO_VARIABLES, Unfilled, fill, read_variables

__all__ = ["NO_VARIABLES", "ManifestRead", "ManifestRoute", "join_manifests", "manifest_table", "read_manifest", "read_variables"]

MAX_ROUTES = 10_000
NO_OWNERS: Mapping[str, str] = MappingProxyType({})
_MAX_NAME = 255  # characters of an application's name, as in the Cloud Controller
_ROUTE_KEYS = ("route", "protocol", "options")


class _Nothing(Enum):
    """No value to go on with: its absence or its mistake is told already."""

    NOTHING = 0


_NOTHING = _Nothing.NOTHING


@dataclass(frozen=True, slots=True)
class ManifestRoute:
    """One route of one application. `uri`: canonical host, and the path as written; `line` is the route's."""

    app: str
    uri: str
    protocol: Literal["http1", "http2"]
    options: Mapping[str, Scalar]
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class ManifestRead:
    """What a manifest holds; without routes where it has problems."""

    routes: tuple[ManifestRoute, ...]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def read_manifest(
    data: bytes,
    file: str,
    variables: Mapping[str, object] = NO_VARIABLES,
    limit: int = DEFAULT_LIMIT,
    enforces: Callable[[str], bool] | None = None,
) -> ManifestRead:
    """Read a manifest of one or several documents.

    `limit`: bytes of a route's options. `enforces(host)`: whether the host's domain demands policies; without it
    nobody is warned of a route that has none.
    """
    documents = read_documents(data)
    found = Findings(file, documents[0])
    reader = _Reader(found, variables, limit, enforces)
    for source in documents:
        found.source = source
        broken = found.flaws()
        if source.tree is not None or (not broken and len(documents) == 1):
            reader.document(source)
    problems = tuple(sorted(found.problems, key=lambda problem: (problem.line, problem.path)))
    return ManifestRead(() if problems else tuple(reader.routes), problems, tuple(found.warnings))


def join_manifests(reads: Sequence[ManifestRead]) -> ManifestRead:
    """Several manifests as one: the same rules hold between them as inside each."""
    problems = [problem for read in reads for problem in read.problems]
    firsts: dict[str, ManifestRoute] = {}
    for read in reads:
        for route in read.routes:
            first = firsts.setdefault(route.uri.lower(), route)
            clash = _clash(first, route) if first.file != route.file else None
            if clash is not None and len(problems) < MAX_FINDINGS:
                problems.append(Problem(route.file, route.line, route.uri, "", *clash))
    routes = tuple(route for read in reads for route in read.routes)
    return ManifestRead(
        () if problems else routes, tuple(problems), tuple(warning for read in reads for warning in read.warnings)
    )


def _clash(first: ManifestRoute, second: ManifestRoute) -> tuple[str, str] | None:
    """Why two applications, or one, cannot both have a route: what was expected, and the way out.

    Applications may share a route; its options are the route's, so all of them say the same.
    """
    place = f"line {first.line}" if first.file == second.file else f"line {first.line} of {printable(first.file, 120)}"
    if first.app == second.app:
        return "each route once", f"keep one of the two; the first is on {place}"
    if (first.protocol, first.options) != (second.protocol, second.options):
        return "one protocol and one set of options for a route", f"make them equal to those on {place}"
    return None


def manifest_table(routes: Iterable[ManifestRoute], owners: Mapping[str, str] = NO_OWNERS) -> RouteTable:
    """The route table as if each application had registered one endpoint for each of its routes.

    `owners`: application name -> app GUID, where known. The endpoints' addresses are made up (RFC 5737): nobody
    answers there. Raises ValueError for a route that `read_manifest` would not have made.
    """
    ledger = Ledger(LedgerSettings())
    addresses: dict[str, int] = {}
    for route in routes:
        number = addresses.setdefault(route.app, len(addresses))
        data = _registration(route, number, owners.get(route.app, ""))
        match parse_message(data, max_bytes=sys.maxsize, max_options=sys.maxsize):
            case Malformed(_, detail):
                raise ValueError(f"{printable(route.uri, 80)} is no route of a manifest: {detail}")
            case message:
                ledger.register(message, data, 0.0)
    return ledger.publish()


def _registration(route: ManifestRoute, number: int, owner: str) -> bytes:
    guid = parse_guid(owner)
    fields = {
        "host": f"192.0.2.{1 + number % 254}",
        "port": 8080 + number // 254,
        "uris": [route.uri],
        "app": guid or "",
        "protocol": route.protocol,
        "options": dict(route.options),
        "tags": {"app_name": route.app, **({"app_id": guid} if guid else {})},
    }
    return json.dumps(fields).encode()


@dataclass(slots=True)
class _Reader:
    """Walks the documents; what it finds goes to `found`, good routes to `routes`."""

    found: Findings
    variables: Mapping[str, object]
    limit: int
    enforces: Callable[[str], bool] | None
    routes: list[ManifestRoute] = field(default_factory=list)
    _keys: dict[str, dict[str, ManifestRoute]] = field(default_factory=dict)
    _apps: dict[str, int] = field(default_factory=dict)  # name -> line

    def document(self, source: Source) -> None:
        """All applications of one document."""
        tree = source.tree
        if not isinstance(tree, dict):
            self.found.wrong((), tree, "a mapping with `applications`", "write `applications:` and a list of them")
            return
        if "applications" not in tree:
            self.found.absent(("applications",), "this key: a list of applications", "add it; routes stand in an application")
            return
        for number, application in enumerate(self._list(("applications",), tree["applications"], "applications")):
            self._application(("applications", number), application)

    def _application(self, where: Where, raw: object) -> None:
        app = self._filled(where, raw)
        if app is _NOTHING or self.found.full:
            return
        if not isinstance(app, dict):
            self.found.wrong(where, app, "an application: a mapping with `name` and `routes`", "write `- name: ...`")
            return
        name = self._name(where, app)
        for key in filter(misplaced, app):
            self.found.absent((*where, key), "no option of a route beside `name`", "move it to routes[].options")
        routes = self._list((*where, "routes"), app.get("routes"), "routes")
        if routes and app.get("no-route") is True:
            self.found.wrong((*where, "no-route"), True, "no `no-route: true` beside `routes`", "remove one of the two")
        for number, route in enumerate(routes):
            self._route((*where, "routes", number), route, name)

    def _name(self, where: Where, app: Mapping[str, object]) -> str:
        at = (*where, "name")
        if "name" not in app:
            self.found.absent(at, "this key: the application's name", "add `name: ...`")
            return ""
        name = self._filled(at, app["name"])
        if name is _NOTHING:
            return ""
        if not isinstance(name, str) or not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
            self.found.wrong(at, name, f"a printable text of at most {_MAX_NAME} characters", "name the application")
            return ""
        line = self.found.source.line_of(at)
        if name in self._apps:
            self.found.wrong(at, name, "each application once", f"keep one of the two; the first is on line {self._apps[name]}")
        self._apps.setdefault(name, line)
        return name

    def _route(self, where: Where, raw: object, app: str) -> None:
        entry = self._filled(where, raw)
        if entry is _NOTHING or self.found.full:
            return
        if not isinstance(entry, dict):
            self.found.wrong(where, entry, "a mapping with `route`", "write `- route: host/path`")
            return
        before = len(self.found.problems)
        self._unknown_keys(where, entry)
        uri = self._uri(where, entry)
        protocol = self._protocol(where, entry)
        options = self._options(where, entry)
        if len(self.found.problems) > before or uri is None or protocol is None:
            return
        line = self.found.source.line_of((*where, "route"))
        route = ManifestRoute(app, uri.host + uri.context_path, protocol, options, self.found.file, line)
        self._add(where, uri, route)

    def _add(self, where: Where, uri: RouteUri, route: ManifestRoute) -> None:
        at = (*where, "route")
        firsts = self._keys.setdefault(uri.key, {})  # by application; all of them say the same
        first = firsts.get(route.app) or next(iter(firsts.values()), None)
        clash = _clash(first, route) if first is not None else None
        firsts.setdefault(route.app, route)
        if clash is not None:
            self.found.wrong(at, route.uri, *clash)
        elif len(self.routes) >= MAX_ROUTES:
            self.found.wrong(at, route.uri, f"at most {MAX_ROUTES} routes", "split the manifest")
        else:
            self.routes.append(route)
            self._without_policy(where, uri, route)

    def _without_policy(self, where: Where, uri: RouteUri, route: ManifestRoute) -> None:
        """A route that its domain will keep shut."""
        if self.enforces is None or not self.enforces(uri.host):
            return
        if parse_options(dict(route.options), self.limit).policy == WITHOUT_OPTIONS:
            said = (
                f"{printable(uri.host, 80)} is on a domain that demands a policy, and this route has none: every caller gets 403"
            )
            self.found.unwise((*where, "options"), said, 'add mtls_allowed_apps: "<guid>,..." or mtls_allow_any: true')

    def _unknown_keys(self, where: Where, entry: Mapping[str, object]) -> None:
        for key in entry:
            if key in _ROUTE_KEYS or self.found.full:
                continue
            if misplaced(key):
                self.found.absent((*where, key), "no option beside `route`", "move it to `options`")
            else:
                self.found.wrong((*where, key), entry[key], "a known key of a route", nearest(key, _ROUTE_KEYS))

    def _uri(self, where: Where, entry: Mapping[str, object]) -> RouteUri | None:
        at = (*where, "route")
        text = self._filled(at, entry.get("route", _NOTHING))
        if "route" not in entry:
            self.found.absent(at, "this key: host or host/path", "add `route: ...`")
        if text is _NOTHING:
            return None
        uri = parse_uri(text) if isinstance(text, str) and "?" not in text and "#" not in text else None
        if uri is None:
            self.found.wrong(at, text, "host or host/path, as a request could ask for it", _way_out(text))
        return uri

    def _protocol(self, where: Where, entry: Mapping[str, object]) -> Literal["http1", "http2"] | None:
        at = (*where, "protocol")
        match self._filled(at, entry.get("protocol", "http1")):
            case "http1" | None:
                return "http1"
            case "http2":
                return "http2"
            case "tcp":
                self.found.wrong(at, "tcp", "http1 or http2", "TCP routes are no HTTP routes: give them to the TCP router")
            case _Nothing():
                pass
            case other:
                self.found.wrong(at, other, "http1 or http2", "write one of the two, or remove it: http1 is the default")
        return None

    def _options(self, where: Where, entry: Mapping[str, object]) -> Mapping[str, Scalar]:
        at = (*where, "options")
        raw = self._filled(at, entry.get("options"))
        if raw is None or raw is _NOTHING:
            return {}
        if not isinstance(raw, dict):
            self.found.wrong(at, raw, "a mapping of options", "write `name: value`, one a line")
            return {}
        values: dict[str, object] = {}
        for key, value in raw.items():
            if self.found.full:
                return {}
            values[key] = self._filled((*at, key), value)
        unfilled = {key for key, value in values.items() if value is _NOTHING}
        return check_options(values, at, self.found, self.limit, unfilled)

    def _list(self, where: Where, raw: object, what: str) -> tuple[object, ...]:
        value = self._filled(where, raw)
        if isinstance(value, tuple | list | None):
            return tuple(value or ())
        if value is not _NOTHING:
            self.found.wrong(where, value, f"a list of {what}", "begin each with `- `")
        return ()

    def _filled(self, where: Where, raw: object) -> object:
        """The value with its variables filled in; _NOTHING where that is not possible."""
        if not isinstance(raw, str):
            return raw
        value = fill(raw, self.variables)
        if isinstance(value, Unfilled):
            self.found.wrong(where, raw, value.expected, value.remedy)
            return _NOTHING
        return value


def _way_out(text: object) -> str:
    match text:
        case str() if "://" in text:
            return "remove the scheme: host/path only"
        case str() if "?" in text or "#" in text:
            return "remove `?` or `#` and what follows"
        case str() if ":" in text:
            return "remove the port; TCP routes are no HTTP routes"
        case str() if "*" in text:
            return "`*.` stands only at the beginning, for one label or more"
        case str():
            return "letters, digits, `-`, `_` and dots, then perhaps a path without empty or dot segments"
    return "write a text, such as app.apps.mtls.internal/admin"
