"""router/inspect/policies.py: what `/policies` says of domains and routes."""

from collections.abc import Iterator
from typing import Any

import pytest

from authz.decide import Row
from authz.policy import InvalidOptions, NoOptions
from registry.hostname import Host
from registry.table import RouteTable
from router.inspect.policies import BYTES_A_PIECE, LOOKED_AT_A_PIECE, Wanted, effect, joined, render_policies
from router.live import Snapshot
from tests.authz.parts import pool
from tests.router.inspect.shop import said, snapshot_of, table_of, whole
from tests.support.certs import authority
from tests.support.router import mtls_domain

HOST = "orders.east.example"
TAGS = {
    "app_id": "orders", "app_name": "the orders", "space_id": "s", "space_name": "dev", "organization_id": "o",
    "organization_name": "acme",
}  # fmt: skip


@pytest.fixture(scope="module")
def snapshot() -> Iterator[Snapshot]:
    with snapshot_of() as made:
        yield made


def routes(snapshot: Snapshot, table: RouteTable, now: float = 0.0, **wanted: Any) -> list[dict[str, Any]]:
    """What the answer says of the routes, sorted."""
    answer = whole(render_policies(snapshot, table, now, Wanted(**wanted)))
    return sorted(answer["routes"], key=lambda route: str(route["route"]))


def test_a_domain_is_told_with_its_boundary_and_its_authorities() -> None:
    """By subject and expiry, never as PEM; open to every org where it has no list, to nobody where the list is empty."""
    ca = authority("east instance identity")
    domains = [mtls_domain("*.east.example", ca, orgs=["o-2", "o-1"]), {"domain": "partner.example", "ca_certs": ca.pem}]
    with snapshot_of(mtls_domains=domains) as snapshot:
        answer = whole(render_policies(snapshot, RouteTable(), 0.0))
        assert answer["generation"] == 7
        east, partner = answer["domains"]
        fingerprint = snapshot.client_policy("*.east.example")
        assert fingerprint is not None
        (shown,) = east.pop("authorities")
        assert shown["subject"] == "CN=east instance identity"
        assert shown["not_after"].endswith("Z")
        assert east == {
            "domain": "*.east.example", "dialect": "mtls_domains", "mode": "cf_identity", "identity_extractor": "cf_ou",
            "orgs": ["o-1", "o-2"], "spaces": None, "report_only": False, "forwarded_client_cert": "sanitize_set",
            "xfcc_format": "envoy", "client_policy": fingerprint.fingerprint,
        }  # fmt: skip
        assert (partner["mode"], partner["orgs"], partner["spaces"]) == ("none", None, None)


def test_a_route_is_told_with_its_policy_its_owner_and_its_endpoints(snapshot: Snapshot) -> None:
    """All that a person needs to say why a caller gets in, in one place."""
    options = {"mtls_allowed_apps": "b,a", "mtls_allowed_orgs": "o"}
    table = table_of(said(HOST + "/Pay", app="orders", index=3, options=options, tags=TAGS), now=100.0)
    endpoint = next(iter(table)).pool.endpoints[0]
    endpoint.pulse.in_flight, endpoint.pulse.failed_until = 2, 120.0
    (route,) = routes(snapshot, table, 110.5)
    (shown,) = route.pop("endpoints")
    assert route == {
        "route": f"{HOST}/pay", "host": HOST, "path": "/pay", "domain": "*.east.example", "row": "cf_identity",
        "effect": "enforce", "report_only": False, "denied": None,
        "policy": [
            {
                "options": "mtls", "outcome": "enforce", "scope": None, "any": False, "apps": ["a", "b"], "spaces": [],
                "orgs": ["o"], "named": ["mtls_allowed_apps", "mtls_allowed_orgs"],
            }
        ],
        "warnings": [],
        "owners": [
            {"app": "orders", "app_name": "the orders", "space": "s", "space_name": "dev", "org": "o", "org_name": "acme"}
        ],
        "load_balancing_algorithm": "round-robin", "route_service_url": None,
    }  # fmt: skip
    assert shown == {
        "address": "127.0.0.1:9", "app": "orders", "instance_id": "orders-3-9", "instance_index": "3", "tls": False,
        "server_cert_domain_san": None, "protocol": "http1", "availability_zone": None, "isolation_segment": None, "tags": TAGS,
        "ttl_seconds": 120, "age_seconds": 10.5, "expires_in_seconds": 109.5, "in_flight": 2, "failed": True, "healthy": True,
        "denied": None,
    }  # fmt: skip


def test_requests_in_flight_may_be_known_to_others(snapshot: Snapshot) -> None:
    """Where workers have them and the supervisor tells."""
    table = table_of(said(HOST))
    answer = whole(render_policies(snapshot, table, 0.0, in_flight=lambda pulse: 7))
    assert answer["routes"][0]["endpoints"][0]["in_flight"] == 7


def test_several_owners_are_each_told_once(snapshot: Snapshot) -> None:
    """A route may be shared; an app has many instances."""
    table = table_of(
        said(HOST, app="one", port=1),
        said(HOST, app="one", port=2, index=1),
        said(HOST, app="two", port=3, tags={"app_name": "second"}),
    )
    (route,) = routes(snapshot, table)
    assert [(owner["app"], owner["app_name"]) for owner in route["owners"]] == [("one", None), ("two", "second")]
    assert len(route["endpoints"]) == 3


def test_both_dialects_are_told_part_by_part(snapshot: Snapshot) -> None:
    """Every part must admit a caller, so every part is told."""
    options = {"mtls_allow_any": True, "route_policy_scope": "org", "route_policy_sources": "cf:app:a,cf:space:s"}
    (route,) = routes(snapshot, table_of(said(HOST, options=options)))
    assert [(part["options"], part["scope"], part["any"], part["apps"], part["spaces"]) for part in route["policy"]] == [
        ("mtls", None, True, [], []),
        ("route_policy", "org", False, ["a"], ["s"]),
    ]


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        ("open", [{}], "forward"),
        ("open", [{"mtls_allow_any": True}], "not_enforced"),
        ("open", [{"route_policy_scope": "any", "route_policy_sources": "cf:any"}], "deny"),
        ("cf_identity", [{}], "deny"),
        ("cf_identity", [{"mtls_allow_any": True}], "enforce"),
        ("cf_identity", [{"mtls_allow_any": True}, {}], "deny"),
        ("cf_identity", [{"mtls_allowed_apps": ""}], "deny"),
        ("cf_identity", [{"route_policy_scope": "galaxy", "route_policy_sources": "cf:any"}], "deny"),
        ("none", [{"mtls_allowed_apps": "a", "route_policy_scope": "any", "route_policy_sources": "cf:any"}], "enforce"),
    ],
)
def test_the_effect_is_that_of_all_parts_together(row: Row, options: list[dict[str, object]], expected: str) -> None:
    """`deny`: whoever calls."""
    assert expected == effect(row, pool(*options).parts)


def test_invalid_options_deny_where_the_domain_enforces() -> None:
    assert [effect(row, [InvalidOptions("invalid")]) for row in ("open", "cf_identity")] == ["forward", "deny"]
    assert effect("open", [NoOptions()]) == "forward"


def test_warnings_of_a_route_are_sentences_and_told_once(snapshot: Snapshot) -> None:
    """What the policy, the options and the domain have to say, whichever endpoint said it."""
    options = {"mtls_allowed_app": "x", "mtls_allow_any": True, "loadbalancing": "fastest"}
    table = table_of(*(said(HOST, "open.example", port=port, index=port, options=options) for port in (1, 2)))
    opened, enforced = routes(snapshot, table)
    dropped, unknown, algorithm = enforced["warnings"]
    assert "it is dropped" in dropped
    assert "'mtls_allowed_app' has no effect" in unknown
    assert algorithm == "option loadbalancing is 'fastest' (bad_value); in effect: the route's algorithm stays"
    assert "route specifies mtls_allow_any but its domain is no mTLS domain; rules ignored" in opened["warnings"]


def test_a_route_on_a_bare_suffix_is_warned_of(snapshot: Snapshot) -> None:
    """Decision 2: `*.suffix` does not claim `suffix`."""
    (route,) = routes(snapshot, table_of(said("east.example")))
    assert (route["domain"], route["row"]) == (None, "open")
    assert route["warnings"] == ["*.east.example does not claim its bare suffix: east.example is open to everybody"]


def test_a_wildcard_route_is_in_the_domain_that_claims_all_its_hosts(snapshot: Snapshot) -> None:
    shown = routes(snapshot, table_of(said("*.east.example", "*.deep.east.example", "*.example")))
    assert [(route["host"], route["domain"]) for route in shown] == [
        ("*.deep.east.example", "*.east.example"), ("*.east.example", "*.east.example"), ("*.example", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["a.east.example", "a.open.example", "b.east.example"]),
        ({"host": Host("a.east.example")}, ["a.east.example"]),
        ({"host": Host("*.east.example")}, ["a.east.example", "b.east.example"]),
        ({"app": "one"}, ["a.east.example", "a.open.example"]),
        ({"domain": "*.east.example"}, ["a.east.example", "b.east.example"]),
        ({"domain": "*.east.example", "app": "one"}, ["a.east.example"]),
        ({"domain": "*.nowhere.example"}, []),
    ],
)
def test_filters_are_exact_and_all_must_fit(snapshot: Snapshot, wanted: dict[str, Any], expected: list[str]) -> None:
    table = table_of(said("a.east.example", "a.open.example", app="one"), said("b.east.example", app="two", port=10))
    assert [route["route"] for route in routes(snapshot, table, **wanted)] == expected


def test_deny_lists_are_told_and_whom_they_put_out() -> None:
    """R237 to R239: as the operator wrote them, at the route whose host and at the endpoints whose owner or address is out."""
    deny = {"orgs": ["o"], "hosts": ["*.west.example"], "backend_networks": ["10.0.0.0/8"]}
    with snapshot_of(deny=deny) as snapshot:
        table = table_of(said("a.open.example", tags=TAGS), said("a.open.example", port=8), said("b.west.example", port=7))
        answer = whole(render_policies(snapshot, table, 0.0))
        assert answer["deny"] == {"apps": [], "spaces": [], **deny}
        opened, west = sorted(answer["routes"], key=lambda route: str(route["route"]))
        assert (opened["denied"], "*.west.example" in west["denied"]) == (None, True)
        assert [endpoint["denied"] is not None for endpoint in opened["endpoints"]] == [True, False]


def test_a_large_table_comes_in_pieces(snapshot: Snapshot) -> None:
    """By bytes, as one route may have a thousand endpoints, and where nothing fits: requests have their turn in between."""
    assert [len(piece) > 0 for piece in joined({"n": "x" * BYTES_A_PIECE} for _ in range(2))] == [True, True, False]
    assert list(joined(None for _ in range(2 * LOOKED_AT_A_PIECE))) == [b"", b"", b""]
    table = table_of(*(said(f"h{n}.example", port=n + 1) for n in range(200)))
    pieces = list(render_policies(snapshot, table, 0.0))
    assert len(pieces) > 3
    assert len(whole(iter(pieces))["routes"]) == 200
