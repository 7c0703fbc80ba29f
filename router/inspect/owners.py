"""Whose the applications of a manifest are: a manifest names them, and only a file of callers knows their GUIDs.

Promises: an application whose name is a caller's gets that caller's app, space and org, as if it had registered with them, so
that `route_policy_scope` and deny lists of owners mean here what they mean in a running router; every other stays without.
Refuses to guess: a name that no caller has says nothing.
"""

from collections.abc import Mapping
from dataclasses import replace

from registry.endpoint import Endpoint, Route, Tags
from registry.table import RouteTable
from router.inspect.callers import KnownCaller


def with_owners(table: RouteTable, callers: Mapping[str, KnownCaller]) -> RouteTable:
    """`table`, a manifest's, with the owners that `callers` know by name."""
    changed = {(route.host, route.path): _owned(route, callers) for route in table}
    return table.changed({key: route for key, route in changed.items() if route is not None})


def _owned(route: Route, callers: Mapping[str, KnownCaller]) -> Route | None:
    """The route with its owners; None where nobody knows any."""
    endpoints = tuple(_told(endpoint, callers.get(endpoint.tags.get("app_name", ""))) for endpoint in route.pool.endpoints)
    if endpoints == route.pool.endpoints:
        return None
    return replace(route, pool=replace(route.pool, endpoints=endpoints))


def _told(endpoint: Endpoint, owner: KnownCaller | None) -> Endpoint:
    if owner is None or owner.identity is None:
        return endpoint
    who = owner.identity
    told = {"app_id": who.app, "space_id": who.space, "organization_id": who.org}
    tags = {**endpoint.tags, **{name: guid for name, guid in told.items() if guid is not None}}
    return replace(endpoint, app=who.app, tags=Tags(tuple(tags), tuple(tags.values())))
