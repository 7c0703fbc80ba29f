"""router/l4/routes.py: who claims a connection, against a plain model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.l4.routes import NO_L4_ROUTES, L4Route, L4Table

BACKENDS = (("10.0.0.1", 5432),)
LABELS = st.sampled_from(["a", "b", "c"])
HOSTS = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
PATTERNS = HOSTS | HOSTS.map(lambda host: "*." + host)
PORTS = st.sampled_from([443, 8443])


def route(*hosts: str, port: int = 443) -> L4Route:
    return L4Route(f"tls/{port}/{','.join(hosts)}", port, hosts, BACKENDS)


@given(st.sets(st.tuples(PORTS, PATTERNS), max_size=8), st.sets(st.tuples(PORTS, HOSTS), max_size=4), PORTS, HOSTS)
def test_the_most_specific_route_of_the_port_claims_and_none_claims_what_l7_terminates(
    places: set[tuple[int, str]], terminated: set[tuple[int, str]], port: int, name: str
) -> None:
    """R8, R60; attack 75: exact, else the longest suffix; on another port the name means nothing."""
    places -= terminated
    table = L4Table([route(host, port=at) for at, host in places], terminated)
    fitting = [
        host for at, host in places if at == port and (host == name or (host.startswith("*.") and name.endswith(host[1:])))
    ]
    best = max(fitting, key=lambda host: (host == name, len(host)), default=None)
    expected = None if best is None or (port, name) in terminated else (best,)
    found = table.claim(port, name)
    assert expected == (None if found is None else found.hosts)


def test_a_connection_without_a_name_has_no_route() -> None:
    """Attack 74: no SNI is no route, never a default one."""
    assert L4Table([route("*.example")]).claim(443, None) is None
    assert NO_L4_ROUTES.claim(443, "a.example") is None


def test_a_suffix_covers_any_depth_but_not_itself() -> None:
    """As domains do, so that one rule holds for both doors."""
    one = route("*.example")
    table = L4Table([one])
    assert [table.claim(443, name) for name in ("x.example", "x.y.example", "example", ".example")] == [one, one, None, None]


def test_one_route_may_have_several_names() -> None:
    """Each of them leads there."""
    one = route("a.example", "*.b.example")
    table = L4Table([one])
    assert table.claim(443, "a.example") is one
    assert table.claim(443, "x.b.example") is one
    assert table.routes == (one,)


def test_raw_tcp_is_found_by_its_port_alone() -> None:
    """R4, R220: one port, one route, and no name reaches it."""
    raw = L4Route("tcp/5432", 5432, (), BACKENDS)
    table = L4Table([raw, route("a.example")])
    assert table.raw(5432) is raw
    assert table.raw(443) is None
    assert table.claim(5432, "a.example") is None


@pytest.mark.parametrize(
    "routes",
    [
        [route("a.example"), route("a.example")],
        [route("*.a.example"), route("b.example", "*.a.example")],
        [route(port=5432), route(port=5432)],
        [route("gone.example")],
    ],
)
def test_two_routes_of_one_place_are_a_mistake(routes: list[L4Route]) -> None:
    """R8: the configuration's check says it first, with both names; no table is ever built of such."""
    with pytest.raises(ValueError, match="has two"):
        L4Table(routes, terminated=[(443, "gone.example")])
