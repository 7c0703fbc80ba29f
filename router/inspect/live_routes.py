"""What a running router's `/policies` tells, as the route table and the callers that it was told from.

Promises: the table decides as the router's own does: the same hosts, paths, policies and owners; what is no such answer is a
ValueError with one sentence. Refuses to know how the answer came here, and the operator's domains: those are a configuration's.

Source: the shape of policies.py; docs/reference/status.md.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

from authz.policy import Callers, InvalidOptions, MtlsOptions, NoOptions, Part, PoolPolicy, RoutePolicies, Scope
from identity.caller import Caller, Guid, parse_guid, shown
from registry.endpoint import Endpoint, Pool, Route, Tags
from registry.hostname import Host, canonical_pattern
from registry.table import RouteTable
from router.inspect.callers import KnownCaller

_SCOPES: Final = ("any", "org", "space", "unknown")
_INVALID: Final = ("invalid", "invalid_mtls", "invalid_route_policy")


class LiveRoutes(NamedTuple):
    """The routes of a running router, and every registered app whose space and org its registrations tell."""

    table: RouteTable
    callers: Mapping[Guid, KnownCaller]


def read_live_routes(answer: object) -> LiveRoutes:
    """The decoded JSON of `/policies`. Raises ValueError."""
    try:
        routes = cast("dict[str, list[dict[str, Any]]]", answer)["routes"]
        table = RouteTable().changed({(route["host"], route["path"]): _route(route) for route in routes})
        return LiveRoutes(table, _callers(owner for route in routes for owner in route["owners"]))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        said = shown(str(error))
        raise ValueError(f"the answer is not what /policies tells ({said}); is it a router of this version?") from None


def _route(route: Mapping[str, Any]) -> Route:
    host, path = canonical_pattern(route["host"]), route["path"]
    if host != route["host"] or not isinstance(path, str):
        raise ValueError(f"host {shown(str(route['host']))}")
    endpoints = tuple(_endpoint(endpoint) for endpoint in route["endpoints"])
    policy = PoolPolicy(tuple(_part(part) for part in route["policy"]))
    pool = Pool(endpoints, policy, route_service_url=str(route["route_service_url"] or ""))
    return Route(str(host) + path, Host(str(host)), path, pool)


def _endpoint(endpoint: Mapping[str, Any]) -> Endpoint:
    host, _, port = str(endpoint["address"]).rpartition(":")
    tags = {str(name): str(value) for name, value in dict(endpoint["tags"]).items()}
    known = Tags(tuple(tags), tuple(tags.values()))
    return Endpoint(host.strip("[]"), int(port), tls=endpoint["tls"] is True, app=str(endpoint["app"] or ""), tags=known)


def _part(part: Mapping[str, Any]) -> Part:
    match part["options"]:
        case "no_options":
            return NoOptions()
        case "mtls":
            return MtlsOptions(_lists(part), tuple(map(str, part["named"])))
        case "route_policy" if part["scope"] in _SCOPES:
            return RoutePolicies(cast("Scope", part["scope"]), _lists(part))
        case column if column in _INVALID:
            return InvalidOptions(column)
        case column:
            raise ValueError(f"options {shown(str(column))}")


def _lists(part: Mapping[str, Any]) -> Callers:
    return Callers(_guids(part["apps"]), _guids(part["spaces"]), _guids(part["orgs"]), any=part["any"] is True)


def _guids(values: Iterable[object]) -> frozenset[Guid]:
    found = [parse_guid(str(value)) for value in values]
    if None in found:
        raise ValueError("a list of GUIDs")
    return frozenset(guid for guid in found if guid is not None)


def _callers(owners: Iterable[Mapping[str, Any]]) -> Mapping[Guid, KnownCaller]:
    """Each app once; of one whose registrations contradict each other, nothing."""
    found: dict[Guid, set[KnownCaller]] = {}
    for caller in _whole(owners):
        if caller.identity is not None:
            found.setdefault(caller.identity.app, set()).add(caller)
    return {app: each.pop() for app, each in found.items() if len({caller.identity for caller in each}) == 1}


def _whole(owners: Iterable[Mapping[str, Any]]) -> Iterator[KnownCaller]:
    for owner in owners:
        app, space, org = (parse_guid(str(owner[key] or "")) for key in ("app", "space", "org"))
        if app is not None and space is not None and org is not None:
            name = f"{owner['app_name']} ({app})" if owner["app_name"] else app
            yield KnownCaller(f"app {name}", Caller(app, space, org))
