"""router/inspect/owners.py: the GUIDs of a manifest's applications, where a file of callers knows them."""

from identity.caller import Caller, Guid
from registry.manifest import manifest_table, read_manifest
from registry.table import RouteTable
from router.inspect.callers import KnownCaller
from router.inspect.owners import with_owners

MANIFEST = b"""\
applications:
- name: front
  routes: [{route: front.example}, {route: "*.front.example/v1"}]
- name: back
  routes: [{route: back.example}]
"""


def table() -> RouteTable:
    read = read_manifest(MANIFEST, "manifest.yml")
    assert read.problems == ()
    return manifest_table(read.routes)


def test_an_application_with_the_name_of_a_caller_is_that_caller() -> None:
    caller = KnownCaller("front", Caller(Guid("a-1"), Guid("s-1"), Guid("o-1")))
    owned = with_owners(table(), {"front": caller})
    for host, path in (("front.example", "/"), ("x.front.example", "/v1/y")):
        route = owned.lookup(host, path)
        assert route is not None
        (endpoint,) = route.pool.endpoints
        expected = {"app_name": "front", "app_id": "a-1", "space_id": "s-1", "organization_id": "o-1"}
        assert (endpoint.app, dict(endpoint.tags)) == ("a-1", expected)


def test_whoever_no_caller_names_stays_as_they_were() -> None:
    """Nothing is guessed: neither of a name that nobody has, nor of a caller without GUIDs."""
    before = table()
    callers = {"other": KnownCaller("other", Caller(Guid("a-1"))), "back": KnownCaller("back")}
    assert sorted(with_owners(before, callers), key=str) == sorted(before, key=str)


def test_what_a_caller_does_not_tell_is_not_made_up() -> None:
    owned = with_owners(table(), {"back": KnownCaller("back", Caller(Guid("a-2")))})
    route = owned.lookup("back.example", "/")
    assert route is not None
    assert dict(route.pool.endpoints[0].tags) == {"app_name": "back", "app_id": "a-2"}
