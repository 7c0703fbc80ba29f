"""router/inspect/warnings.py: what `/warnings` tells."""

from typing import Any

from registry.problems import Problem
from registry.table import RouteTable
from router.config.expiry import SOON
from router.inspect.warnings import render_warnings
from router.live import Snapshot
from tests.router.inspect.shop import said, snapshot_of, table_of, whole
from tests.support.certs import authority
from tests.support.router import mtls_domain

EMPTY = RouteTable()


def answer(snapshot: Snapshot, table: RouteTable = EMPTY, now: float = 0.0, epoch: float = 0.0, config: Any = ()) -> Any:
    return whole(render_warnings(snapshot, table, config, now, epoch))


def test_where_all_is_well_nothing_is_told() -> None:
    with snapshot_of() as snapshot:
        table = table_of(said("a.east.example", options={"mtls_allow_any": True}), said("a.open.example", port=10))
        assert answer(snapshot, table) == {
            "generation": 7, "config": [], "certificates": [], "routes": [], "silent_endpoints": [], "domains": [],
        }  # fmt: skip


def test_the_warnings_of_the_running_configuration_are_told() -> None:
    """As `check` and the log told them."""
    with snapshot_of() as snapshot:
        problem = Problem("router.yml", 3, "nats", "'x'", "more", "do it")
        assert answer(snapshot, config=[problem])["config"] == [problem.as_json()]


def test_routes_with_warnings_are_told_with_their_apps() -> None:
    with snapshot_of() as snapshot:
        options = {"mtls_allow_any": True}
        table = table_of(said("a.open.example", app="one", options=options), said("a.east.example", port=10, options=options))
        (route,) = answer(snapshot, table)["routes"]
        assert (route["route"], route["domain"], route["apps"]) == ("a.open.example", None, ["one"])
        assert route["warnings"] == ["route specifies mtls_allow_any but its domain is no mTLS domain; rules ignored"]


def test_a_domain_without_a_route_is_told() -> None:
    """A name that nobody uses is often misspelt; a wildcard route counts."""
    ca = authority("east instance identity")
    with snapshot_of(mtls_domains=[mtls_domain("*.east.example", ca), mtls_domain("*.west.example", ca)]) as snapshot:
        found = answer(snapshot, table_of(said("*.deep.west.example")))["domains"]
        assert found == [{"domain": "*.east.example", "warning": "no route is registered in this domain"}]


def test_certificates_that_end_soon_are_told_with_the_key_that_names_them() -> None:
    """Authorities too; 30 days before, and after."""
    ca = authority("east instance identity")
    ends = ca.certificate.not_valid_after_utc.timestamp()
    with snapshot_of(client_ca_certs=ca.pem, mtls_domains=[mtls_domain("*.east.example", ca)]) as snapshot:
        assert answer(snapshot, epoch=ends - SOON.total_seconds() - 1)["certificates"] == []
        found = answer(snapshot, epoch=ends - 60)["certificates"]
        assert {"tls_pem[0]", "mtls_domains[*.east.example].ca_certs", "client_ca_certs"} == {one["key"] for one in found}
        (domain,) = (one for one in found if one["key"].startswith("mtls_domains"))
        assert (domain["subject"], domain["expires_in_seconds"]) == ("CN=east instance identity", 60)
        ended = answer(snapshot, epoch=ends + 5)["certificates"]
        assert [one["expires_in_seconds"] for one in ended if one["key"] == "client_ca_certs"] == [-5]


def test_endpoints_that_are_silent_for_their_ttl_are_told() -> None:
    """TLS endpoints stay in the table; others do while NATS is away."""
    with snapshot_of() as snapshot:
        table = table_of(said("a.open.example", app="one"), now=100.0)
        assert answer(snapshot, table, now=219.9)["silent_endpoints"] == []
        assert answer(snapshot, table, now=221.0)["silent_endpoints"] == [
            {"route": "a.open.example", "address": "127.0.0.1:9", "app": "one", "silent_for_seconds": 121.0}
        ]
