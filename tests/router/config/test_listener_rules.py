"""Listeners and routes that contradict each other: errors that name both."""

from typing import Any

import pytest

from router.config.listener_rules import broken_listeners
from router.config.load import Loaded
from tests.router.config.support import errors, loaded
from tests.support.certs import CA

AUTHORITY = CA("listener rule tests")
SERVED = AUTHORITY.issue_server("a.example", "b.example", "*.c.example")
BACKENDS = ["10.0.0.7:443"]


def l4(hostname: str | None = "a.example", **more: Any) -> dict[str, Any]:
    return ({} if hostname is None else {"hostname": hostname}) | {"backends": BACKENDS, **more}


def l7(hostname: str = "a.example", **more: Any) -> dict[str, Any]:
    return l4(hostname, **{"mode": "l7", "tls_cert": SERVED.chain_pem, "tls_key": SERVED.key_pem, **more})


def tls(*routes: dict[str, Any], port: int = 8443, **more: Any) -> dict[str, Any]:
    return {"port": port, "kind": "tls", "routes": list(routes), **more}


def tcp(*routes: dict[str, Any], port: int = 5432) -> dict[str, Any]:
    return {"port": port, "kind": "tcp", "routes": list(routes)}


def found(*listeners: dict[str, Any], **more: Any) -> Loaded:
    return loaded({"listeners": list(listeners), **more})


FIRST = "listeners[0].routes[0]"


@pytest.mark.parametrize(
    ("mapping", "path"),
    [
        ({"listeners": [tls(proxy_protocol=True)]}, "listeners[0].proxy_protocol"),
        ({"listeners": [tls(proxy_protocol="yes", proxy_protocol_trusted=[])]}, "listeners[0].proxy_protocol"),
        ({"enable_proxy": True, "proxy_protocol_trusted": []}, "proxy_protocol_trusted"),
        ({"listeners": [tls(allowed_cidrs=[])]}, "listeners[0].allowed_cidrs"),
        ({"listeners": [tls(allowed_cidrs=None)]}, "listeners[0].allowed_cidrs"),
        ({"listeners": [tcp()]}, "listeners[0].routes"),
        ({"listeners": [tcp(l4(None), l4(None))]}, "listeners[0].routes"),
        ({"listeners": [tcp(l4())]}, f"{FIRST}.hostname"),
        ({"listeners": [tcp(l4(None, mode="tls_passthrough"))]}, f"{FIRST}.mode"),
        ({"listeners": [tcp(l4(None, protocol_hint="tls_passthrough"))]}, f"{FIRST}.protocol_hint"),
        ({"listeners": [tls(l4(mode="tcp_raw"))]}, f"{FIRST}.mode"),
        ({"listeners": [tls(l4(None))]}, f"{FIRST}.hostname"),
        ({"listeners": [tls(l7("*.c.example"))]}, f"{FIRST}.hostname"),
        ({"listeners": [{"port": 8081, "kind": "http", "routes": [l4()]}]}, "listeners[0].routes"),
        ({"listeners": [tls(l4(l7_policies=[{"type": "required_header", "value": "X"}]))]}, f"{FIRST}.l7_policies"),
        ({"listeners": [tls(l4(protocol="http2"))]}, f"{FIRST}.protocol"),
        ({"listeners": [tls(l4(server_cert_domain_san="x.example"))]}, f"{FIRST}.server_cert_domain_san"),
        ({"listeners": [tls(l4(send_proxy_protocol="v2-ssl-cn"))]}, f"{FIRST}.send_proxy_protocol"),
        ({"listeners": [tls(l7(send_proxy_protocol=True, protocol="http2"))]}, f"{FIRST}.send_proxy_protocol"),
        ({"listeners": [tls(l7(idle_timeout="1m"))]}, f"{FIRST}.idle_timeout"),
        ({"listeners": [tls(l7(server_cert_domain_san="x.example"))]}, f"{FIRST}.server_cert_domain_san"),
        ({"l7": {"enabled": False}}, "l7.enabled"),
        ({"l7": {"enabled": False}, "listeners": [tls(l7())]}, f"{FIRST}.mode"),
        ({"l7": {"enabled": False}, "listeners": [{"port": 8081, "kind": "http"}]}, "listeners[0].kind"),
        (
            {
                "l7": {"enabled": "no"},
                "listeners": [tls()],
                "mtls_domains": [{"domain": "*.d.example", "ca_certs": AUTHORITY.pem}],
            },
            "mtls_domains",
        ),
    ],
)
def test_a_contradiction_is_one_error_at_its_whole_path(mapping: dict[str, Any], path: str) -> None:
    """R4, R8, R59, R72, R77, R128, R226, R227; K47: what would open, break or do nothing is said before it does."""
    assert errors(mapping) == [path]


def test_l7_switched_off_excludes_gorouters_tls_port() -> None:
    """R61: nothing of L7 is left, so nothing may ask for it."""
    pair = {"cert_chain": SERVED.chain_pem, "private_key": SERVED.key_pem}
    assert errors({"l7": {"enabled": False}, "listeners": [tls()], "enable_ssl": True, "tls_pem": [pair]}) == ["enable_ssl"]


@pytest.mark.parametrize(
    ("listeners", "more", "path", "other"),
    [
        ([tls(), tls()], {}, "listeners[1].port", "listeners[0]"),
        ([tls(address="192.0.2.1"), tls(address="192.0.2.2")], {}, "listeners[1].port", "listeners[0]"),
        ([tls(port=80)], {}, "listeners[0].port", "`port`"),
        ([tls(port=8000)], {"port": 8000}, "listeners[0].port", "`port`"),
        ([tls(port=8080)], {}, "listeners[0].port", "`status.port`"),
        ([tls(port=8082)], {}, "listeners[0].port", "`status.routes.port`"),
        ([tls(port=9100)], {"prometheus": {"port": 9100}}, "listeners[0].port", "`prometheus.port`"),
        (
            [tls(port=443)],
            {"enable_ssl": True, "tls_pem": [{"cert_chain": SERVED.chain_pem, "private_key": SERVED.key_pem}]},
            "listeners[0].port",
            "`ssl_port`",
        ),
    ],
)
def test_a_port_has_one_owner(listeners: list[dict[str, Any]], more: dict[str, Any], path: str, other: str) -> None:
    """Routes are found by their port: two lists of them on one would be a race."""
    (problem,) = found(*listeners, **more).problems
    assert problem.path == path
    assert f"is also {other}" in problem.expected


def test_a_port_that_is_not_opened_is_free() -> None:
    """80 without HTTP, 443 without TLS, and both without L7."""
    assert found(tls(port=443)).problems == ()
    assert found(tls(port=80), disable_http=True).problems == ()
    assert found(tls(port=80), l7={"enabled": False}).problems == ()
    assert found(tls(port=8080), status={"port": 8181}).problems == ()


@pytest.mark.parametrize("spelling", ["a.example", "A.Example."])
@pytest.mark.parametrize(("first", "second"), [(l4, l7), (l7, l4), (l4, l4), (l7, l7)])
def test_a_name_is_claimed_once_on_a_port(first: Any, second: Any, spelling: str) -> None:
    """R8, R224; attack 75: a conflict that names both, whatever the spelling; there is no race because there is no start."""
    (problem,) = found(tls(first(), second(spelling))).problems
    assert problem.path == "listeners[0].routes[1].hostname"
    assert f"{FIRST} ({'l7' if first is l7 else 'l4'})" in problem.expected
    assert f"`a.example` ({'l7' if second is l7 else 'l4'})" in problem.expected


def test_a_name_may_be_passed_through_on_one_port_and_terminated_on_another() -> None:
    """R8, R109: the conflict is of name and port; L4 and L7 share a listener as long as their names differ."""
    assert found(tls(l4(), l7("b.example")), tls(l7(), port=9443)).problems == ()


def test_a_name_is_terminated_by_one_route_only() -> None:
    """L7 finds routes by their host, whatever the port."""
    (problem,) = found(tls(l7()), tls(l7(), port=9443)).problems
    assert problem.path == "listeners[1].routes[0].hostname"
    assert "in mode l7" in problem.expected


def test_a_suffix_and_a_name_below_it_are_no_conflict() -> None:
    """The most specific wins, whichever mode it has."""
    assert found(tls(l4("*.example"), l4("a.example"), l7("b.example"), l4("*.a.example"))).problems == ()


@pytest.mark.parametrize("key", ["mtls_domains", "domains"])
@pytest.mark.parametrize(
    ("domain", "host", "conflict"),
    [
        ("*.d.example", "x.d.example", True),
        ("*.d.example", "x.y.d.example", True),
        ("*.d.example", "*.d.example", True),
        ("*.d.example", "*.x.d.example", True),
        ("*.d.example", "*.example", True),
        ("d.example", "*.example", True),
        ("D.Example.", "d.example", True),
        ("*.d.example", "d.example", False),
        ("d.example", "x.d.example", False),
        ("*.d.example", "x.e.example", False),
    ],
)
def test_no_l4_route_passes_by_an_mtls_domain(key: str, domain: str, host: str, conflict: bool) -> None:
    """K6: no host can fall out of mutual TLS by another door; the conflict names both."""
    problems = found(tls(l4(host)), **{key: [{"domain": domain, "ca_certs": AUTHORITY.pem}]}).problems
    assert [problem.path for problem in problems] == ([f"{FIRST}.hostname"] if conflict else [])
    assert all(f"{key}[0]" in problem.expected for problem in problems)


def test_an_l7_route_may_stand_under_an_mtls_domain() -> None:
    """Its requests pass the domain's door like all others."""
    assert found(tls(l7()), mtls_domains=[{"domain": "*.example", "ca_certs": AUTHORITY.pem}]).problems == ()


def test_a_good_edge_and_a_good_origin_break_no_rule() -> None:
    """R119, R138: passthrough with PROXY v2 on the one side, a trusted PROXY listener with both modes on the other."""
    edge = tls(l4("*.example", send_proxy_protocol=True), port=443)
    assert found(edge, tcp(l4(None, mode="tcp_raw")), l7={"enabled": False}).problems == ()
    origin = tls(l4("db.example"), l7(), proxy_protocol=True, proxy_protocol_trusted=["10.0.0.0/8"])
    assert found(origin, {"port": 8081, "kind": "http"}).problems == ()


@pytest.mark.parametrize("value", [5, "x", (), {}, (1, None, {"port": "x", "kind": 3, "routes": 7}), None, True])
@pytest.mark.parametrize("key", ["listeners", "status", "l7", "firewall", "mtls_domains", "prometheus", "proxy_protocol_trusted"])
def test_no_type_in_a_wrong_place_makes_a_rule_raise(key: str, value: object) -> None:
    listener = {
        "port": True,
        "kind": value,
        "routes": ({"hostname": value, "mode": value}, value),
        "proxy_protocol_trusted": value,
    }
    broken_listeners({"listeners": (listener,), key: value})
    broken_listeners({"listeners": ({**listener, "kind": "tls", "routes": ({"hostname": 7, "mode": "l4"},)},), key: value})
