"""Tests of registry/table.py: the right route for a host and a path, and generations that share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.policy import NO_POLICY
from registry.endpoint import Balancing, Pool, Route
from registry.hostname import Host
from registry.table import MAX_PATH, HostRoutes, RouteTable, endpoint_json
from tests.registry.parts import endpoint, tags

POOL = Pool((endpoint(),), NO_POLICY)
EMPTY = Pool((), NO_POLICY)


def route(key: str, pool: Pool = POOL) -> Route:
    host, slash, rest = key.partition("/")
    return Route(key, Host(host), slash + rest, pool)


def table(*keys: str, empty: tuple[str, ...] = ()) -> RouteTable:
    routes = [*map(route, keys), *(route(key, EMPTY) for key in empty)]
    return RouteTable().changed({(each.host, each.path): each for each in routes})


def found(routes: RouteTable, host: str, path: str) -> str | None:
    selected = routes.lookup(host, path)
    return selected.key if selected else None


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("a.b.c", "/", "a.b.c"),
        ("a.b.c", "", "a.b.c"),
        ("a.b.c", "*", "a.b.c"),
        ("a.b.c", "/x", "a.b.c/x"),
        ("a.b.c", "/X/", "a.b.c/x"),
        ("a.b.c", "/x/y", "a.b.c/x/y"),
        ("a.b.c", "/x/y/z/w", "a.b.c/x/y"),
        ("a.b.c", "/xy", "a.b.c"),
        ("a.b.c", "/x%2fy", "a.b.c"),
        ("a.b.c", "//x", "a.b.c"),
        ("z.b.c", "/", "*.b.c"),
        ("y.z.b.c", "/", "*.b.c"),
        ("z.c", "/", "*.c"),
        ("y.z.c", "/deep/er", "*.c/deep"),
        ("p.b.c", "/only/this", "p.b.c/only"),
        ("p.b.c", "/other", "*.b.c"),
        ("c", "/", None),
        ("a.b.d", "/", None),
        ("", "/", None),
        ("[::1]", "/", None),
    ],
)
def test_the_longest_prefix_of_the_exact_host_then_of_ever_wider_wildcards(host: str, path: str, expected: str | None) -> None:
    """Contract c: whole segments, without case; the path is kept during the wildcard search."""
    routes = table("a.b.c", "a.b.c/x", "a.b.c/x/y", "*.b.c", "*.c", "*.c/deep", "p.b.c/only")
    assert expected == found(routes, host, path)


@pytest.mark.parametrize(
    ("full", "empty", "path", "expected"),
    [
        (("a.b",), ("a.b/x",), "/x", "a.b"),
        (("a.b/x",), ("a.b",), "/x", "a.b/x"),
        (("a.b/x",), ("a.b",), "/", "a.b"),
        ((), ("a.b", "a.b/x"), "/x/y", "a.b/x"),
        (("a.b/x",), ("a.b/x/y", "a.b"), "/x/y/z", "a.b/x"),
        (("*.b",), ("a.b",), "/", "a.b"),
    ],
)
def test_an_empty_route_yields_to_a_shorter_one_with_endpoints(
    full: tuple[str, ...], empty: tuple[str, ...], path: str, expected: str
) -> None:
    """Contract c: if all are empty the deepest answers (503); an exact host never yields to a wildcard."""
    assert expected == found(table(*full, empty=empty), "a.b", path)


def test_the_next_generation_shares_what_did_not_change() -> None:
    """Only the shard of a touched host is copied; the table before stays as it was."""
    before = table(*(f"h{number}.example" for number in range(200)))
    after = before.changed({("h7.example", ""): None, ("new.example", "/x"): route("new.example/x")})
    assert (len(before), len(after)) == (200, 200)
    assert before.generation + 1 == after.generation
    assert 2 >= sum(old is not new for old, new in zip(before.shards, after.shards, strict=True)) >= 1
    assert (found(before, "h7.example", "/"), found(after, "h7.example", "/")) == ("h7.example", None)
    assert (found(before, "new.example", "/x"), found(after, "new.example", "/x")) == (None, "new.example/x")


def test_hosts_are_spread_over_the_shards() -> None:
    """A shard stays small, so that a change copies little."""
    routes = table(*(f"h{number}.example" for number in range(4096)))
    assert max(map(len, routes.shards)) < 32


HOSTS = st.sampled_from(["a.b.c", "b.c", "c", "x.b.c", "y.x.b.c", "*.b.c", "*.c", "*.x.b.c"])
PATHS = st.lists(st.sampled_from(["x", "y", "X", "", "%2f"]), max_size=4).map(lambda parts: "".join("/" + p for p in parts))


def naive(routes: dict[tuple[str, str], bool], host: str, path: str) -> str | None:
    """The contract's words, without any index: try every host, then every registered path."""
    labels = host.split(".")
    for name in [host, *("*." + ".".join(labels[at:]) for at in range(1, len(labels)))]:
        fitting = [
            (bool(full), len(prefix), name + prefix)
            for (known, prefix), full in routes.items()
            if known == name and (path.lower() + "/").startswith(prefix + "/")
        ]
        if fitting:
            return max(fitting)[2]
    return None


@given(
    st.dictionaries(st.tuples(HOSTS, PATHS.map(lambda path: path.lower().rstrip("/"))), st.booleans(), max_size=12),
    HOSTS.map(lambda host: host.replace("*", "star")),
    PATHS,
)
def test_a_lookup_finds_what_a_search_through_all_routes_finds(routes: dict[tuple[str, str], bool], host: str, path: str) -> None:
    """The same route as the naive model, for every set of routes, host and path."""
    keys = {full: [h + p for (h, p), f in routes.items() if f == full] for full in (True, False)}
    assert naive(routes, host, path) == found(table(*keys[True], empty=tuple(keys[False])), host, path)


def test_the_route_list_has_gorouters_shape() -> None:
    """Contract h: its names, in its order; empty ones are left out; tags always there."""
    full = endpoint(
        tls=True,
        instance_id="i",
        san="s",
        isolation_segment="seg",
        availability_zone="z1",
        tags=tags(component="route-emitter"),
        ttl=60.0,
    )
    pool = Pool((full, endpoint(2)), NO_POLICY, Balancing("hash", "X-T", 1.25), "https://rs.example")
    listed = [endpoint_json(each, pool) for each in pool.endpoints]
    common = {"route_service_url": "https://rs.example"}
    hashed = {"load_balancing_algorithm": "hash", "hash_header": "X-T", "hash_balance": 1.25}
    first = {
        "address": "10.0.0.1:8080",
        "availability_zone": "z1",
        "protocol": "http1",
        "tls": True,
        "ttl": 60,
        "tags": {"component": "route-emitter"},
        **common,
        "isolation_segment": "seg",
        "private_instance_id": "i",
        "server_cert_domain_san": "s",
        **hashed,
    }
    second = {
        "address": "10.0.0.2:8080",
        "availability_zone": "",
        "protocol": "http1",
        "tls": False,
        "ttl": 120,
        "tags": {},
        **common,
        **hashed,
    }
    assert [first, second] == listed
    assert list(first) == list(listed[0])


class Asked(dict[str, Route]):
    """Paths that remember the longest that they were asked for."""

    longest = 0

    def get(self, key: str, default: object = None) -> Route | None:  # type: ignore[override]
        self.longest = max(self.longest, len(key))
        return super().get(key)


@pytest.mark.parametrize(
    ("path", "expected"), [("/x/" + "b" * 9000, "/x"), ("/" + "b" * 9000 + "/x" * 500, None), ("/x" * 500, "/x")]
)
def test_a_long_path_costs_no_more_than_a_registered_one_may_have(path: str, expected: str | None) -> None:
    """Attack 78: a route of hundreds of segments does not make a request's 64 KiB of path be hashed hundreds of times."""
    deep = "/a" * 450
    paths = Asked({each: route("h" + each) for each in (deep, "/x")})
    selected = HostRoutes(None, paths, 450).longest(path)
    assert expected == (selected.path if selected else None)
    assert paths.longest <= MAX_PATH


def test_a_path_as_long_as_may_be_registered_is_found() -> None:
    """At the bound, and with more behind it."""
    longest = "/" + "b" * (MAX_PATH - 1)
    routes = table("a.b" + longest, "a.b")
    assert "a.b" + longest == found(routes, "a.b", longest)
    assert "a.b" + longest == found(routes, "a.b", longest + "/more")
    assert found(routes, "a.b", longest + "b") == "a.b"


def test_iteration_yields_every_route_once() -> None:
    """As many as `len` says."""
    routes = table("a.b", "a.b/x", "*.c")
    assert sorted(each.key for each in routes) == ["*.c", "a.b", "a.b/x"]
    assert len(routes) == 3


def test_a_route_is_found_under_just_its_own_name() -> None:
    """No prefix, no wildcard: what the ledger asks."""
    made = table("a.b", "a.b/x", "*.b")
    assert [route.key for route in (made.exact("a.b", ""), made.exact("a.b", "/x"), made.exact("*.b", "")) if route] == [
        "a.b",
        "a.b/x",
        "*.b",
    ]
    assert (made.exact("a.b", "/x/y"), made.exact("c.b", ""), made.exact("*.b", "/x")) == (None, None, None)
    assert {route.key for route in made.of_host("a.b")} == {"a.b", "a.b/x"}
    assert not list(made.of_host("c.b"))
