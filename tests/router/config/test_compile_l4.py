"""A configuration becomes what listens, and the L4 routes."""

import subprocess
import sys
from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from registry.endpoint import Endpoint
from registry.hostname import Host, covers
from router.config.compile_l4 import L4Settings, compile_l4, held_hosts
from router.limits import FOREVER
from router.net.budget import BudgetLimits
from router.net.firewall import NO_RULES
from tests.router.config.support import config, loaded
from tests.support.certs import CA

AUTHORITY = CA("compile l4 tests")
SERVED = AUTHORITY.issue_server("api.example.com")
L7 = {
    "hostname": "api.example.com",
    "mode": "l7",
    "tls_cert": SERVED.chain_pem,
    "tls_key": SERVED.key_pem,
    "backends": ["app:8080"],
}


def compiled(*listeners: dict[str, Any], **more: Any) -> L4Settings:
    return compile_l4(config({"listeners": list(listeners), **more}))


def test_gorouters_ports_are_listeners_like_all_others() -> None:
    """R59: on every address; they differ only in what becomes of a name that nobody claims."""
    pair = {"cert_chain": SERVED.chain_pem, "private_key": SERVED.key_pem}
    http, https = compiled(enable_ssl=True, tls_pem=[pair]).listeners
    assert (http.name, http.kind, http.port, http.addresses, http.proxy) == ("http", "http", 80, ("::",), None)
    assert (https.name, https.kind, https.port, https.proxy) == ("https", "ssl_port", 443, None)
    assert [plan.name for plan in compiled({"port": 1, "kind": "http"}, disable_http=True).listeners] == ["http:1"]


def test_without_l7_only_the_section_listens() -> None:
    """R61: GoRouter's ports are L7's."""
    found = compiled({"port": 8443, "kind": "tls"}, l7={"enabled": False})
    assert [(plan.name, plan.kind) for plan in found.listeners] == [("tls:8443", "tls")]


def test_a_listener_has_its_own_addresses_trust_and_limits() -> None:
    """R72, R84, R123; K33: 0 connections means any number, absent the number of all others."""
    entry = {"port": 8443, "kind": "tls", "address": ["192.0.2.1", "::1"], "proxy_protocol": True}
    lists = {"proxy_protocol_trusted": ["10.0.0.0/8"], "allowed_cidrs": ["198.51.100.0/24"], "max_connections": 0}
    first, second = compiled(
        {**entry, **lists}, {"port": 1, "kind": "http"}, disable_http=True, max_connections=7, connection_rate=3
    ).listeners
    assert first.addresses == ("192.0.2.1", "::1")
    assert first.allowed.listed == (ip_network("198.51.100.0/24"),)
    assert first.proxy is not None
    assert [first.proxy.believes(peer) for peer in ("10.1.2.3", "::ffff:10.1.2.3", "192.0.2.9", "?")] == [
        True,
        True,
        False,
        False,
    ]
    assert first.budget == BudgetLimits(rate=3)
    assert (second.proxy, bool(second.allowed), second.budget) == (None, False, BudgetLimits(7, rate=3))


def test_enable_proxy_believes_the_listed_or_everybody() -> None:
    """GoRouter's own key, on GoRouter's own ports and on no other."""
    first, other = compiled({"port": 8443, "kind": "tls"}, enable_proxy=True).listeners
    assert first.proxy is not None
    assert first.proxy.believes("203.0.113.9")
    assert other.proxy is None
    (listed,) = compiled(enable_proxy=True, proxy_protocol_trusted=["10.0.0.0/8"]).listeners
    assert listed.proxy is not None
    assert [listed.proxy.believes(peer) for peer in ("10.0.0.1", "203.0.113.9")] == [True, False]


def test_limits_of_an_address_are_asked_when_the_address_is_known() -> None:
    """R45, R95: behind a balancer every socket is the balancer's; one address there is everybody."""
    limits = {"max_connections": 9, "max_connections_per_address": 4, "connection_rate": 3, "connection_rate_per_address": 2}
    headers = {"proxy_protocol": True, "proxy_protocol_trusted": ["10.0.0.0/8"]}
    plain, behind = compiled(
        {"port": 8443, "kind": "tls"}, {"port": 9443, "kind": "tls", **headers}, disable_http=True, **limits
    ).listeners
    assert (plain.budget, plain.clients) == (BudgetLimits(9, 4, 3, 2), BudgetLimits())
    assert (behind.budget, behind.clients) == (BudgetLimits(9, 0, 3, 0), BudgetLimits(0, 4, 0, 2))


def test_l4_routes_come_out_whole() -> None:
    """R83: name, hosts, backends, PROXY version and deadlines; 0 and absent are for ever."""
    tls = {"hostname": "*.Db.example", "backends": ["[fd00::7]:5432", "db.internal:5432"], "send_proxy_protocol": True}
    raw = {"mode": "tcp_raw", "backend": "10.0.0.7:22", "send_proxy_protocol": "v1", "idle_timeout": 0, "total_timeout": "1h"}
    table = compiled({"port": 8443, "kind": "tls", "routes": [tls]}, {"port": 2222, "kind": "tcp", "routes": [raw]}).table
    one = table.claim(8443, "x.db.example")
    assert one is not None
    assert (one.name, one.port, one.hosts) == ("*.db.example:8443", 8443, ("*.db.example",))
    assert one.backends == (("fd00::7", 5432), ("db.internal", 5432))
    assert (one.send_proxy, one.connect_deadline, one.idle_deadline, one.total_deadline) == ("v2", 5.0, 3600.0, FOREVER)
    other = table.raw(2222)
    assert other is not None
    assert (other.name, other.hosts, other.send_proxy, other.idle_deadline, other.total_deadline) == (
        "tcp:2222", (), "v1", FOREVER, 3600.0,
    )  # fmt: skip


def test_l7_routes_are_plain_values_and_no_suffix_of_l4_covers_them() -> None:
    """R60, R107, R109: two tables; on one port the more specific name wins, whichever side it is on."""
    suffix = {"hostname": "*.example.com", "backends": ["10.0.0.7:443"]}
    more = {
        "backend_tls": True,
        "server_cert_domain_san": "app.internal",
        "send_proxy_protocol": "v2-ssl-cn",
    }
    policies = {"l7_policies": [{"type": "user_agent_block", "value": "bot"}]}
    found = compiled({"port": 8443, "kind": "tls", "routes": [suffix, {**L7, **more, **policies}]})
    (static,) = found.static
    assert (static.host, static.port, static.backends) == ("api.example.com", 8443, (("app", 8080),))
    assert (static.certificate, static.key) == (SERVED.chain_pem, SERVED.key_pem)
    assert (static.backend_tls, static.san, static.http2, static.send_proxy) == (True, "app.internal", False, "v2-ssl-cn")
    assert [(policy.type, policy.value) for policy in static.policies] == [("user_agent_block", "bot")]
    assert found.table.claim(8443, "api.example.com") is None
    assert found.table.claim(8443, "other.example.com") is not None


def test_the_firewall_is_that_of_the_section() -> None:
    """One for all listeners."""
    assert compiled().firewall is NO_RULES
    assert compiled(firewall={"rate_limit": 5}).firewall.rate_limit == 5


def test_all_listeners_together_have_a_limit_of_their_own() -> None:
    """None unless configured."""
    assert compiled().max_total_connections == 0
    assert compiled(max_total_connections=7).max_total_connections == 7


def test_compiling_l4_loads_nothing_of_l7() -> None:
    """R9, R59, R61: the L4 door stands without it."""
    code = (
        "import sys, router.config.load, router.config.compile_l4\n"
        "print([name for name in sys.modules if name.startswith(('router.l7', 'router.tls', 'router.backend', 'OpenSSL'))])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_a_ledger_holds_for_static_routes() -> None:
    """R75, R102; K12, K15, K28: backends as if they had registered for ever; TLS is verified by a name, or by the address."""
    more = {"backends": ["app.internal:8443", "[fd00::7]:8443"], "backend_tls": True}
    plain = compiled({"port": 8443, "kind": "tls", "routes": [L7]}, disable_http=True)
    (endpoint,) = held_hosts(plain.static)[Host("api.example.com")]
    assert endpoint == Endpoint("app", 8080, ttl=FOREVER)
    secure = compiled({"port": 8443, "kind": "tls", "routes": [{**L7, **more, "protocol": "http2"}]})
    assert held_hosts(secure.static) == {
        "api.example.com": (
            Endpoint("app.internal", 8443, tls=True, san="app.internal", protocol="http2", ttl=FOREVER),
            Endpoint("fd00::7", 8443, tls=True, protocol="http2", ttl=FOREVER),
        )
    }
    told = compiled({"port": 8443, "kind": "tls", "routes": [{**L7, "send_proxy_protocol": "v2-ssl-cn"}]})
    assert [one.send_proxy for one in held_hosts(told.static)[Host("api.example.com")]] == ["v2-ssl-cn"]
    named = compiled({"port": 8443, "kind": "tls", "routes": [{**L7, **more, "server_cert_domain_san": "x.internal"}]})
    assert {one.san for one in held_hosts(named.static)[Host("api.example.com")]} == {"x.internal"}


EVERY = AUTHORITY.issue_server("a.example", "b.example", "*.d.example")
TERMINATED = {"mode": "l7", "tls_cert": EVERY.chain_pem, "tls_key": EVERY.key_pem}
SPELLINGS = st.sampled_from(["a.example", "A.Example.", "*.example", "*.a.example", "b.example", "*.d.example", "x.d.example"])
ROUTES = st.builds(
    lambda host, l7: {"hostname": host, "backends": ["app:1"], **(TERMINATED if l7 else {})}, SPELLINGS, st.booleans()
)
LISTENERS = st.builds(
    lambda port, kind, routes: {"port": port, "kind": kind, "routes": routes},
    st.sampled_from([8443, 9443, 80]),
    st.sampled_from(["tls", "tls", "tcp"]),
    st.lists(ROUTES, max_size=4),
)


@given(st.lists(LISTENERS, max_size=3), st.sampled_from(["", "*.d.example", "a.example"]))
def test_what_the_check_lets_through_compiles_and_every_name_has_one_door(listeners: list[dict[str, Any]], domain: str) -> None:
    """R8, R224; attack 75: no configuration is good and yet ambiguous, or lets L4 pass by a domain."""
    domains = [{"domain": domain, "ca_certs": AUTHORITY.pem}] if domain else []
    found = loaded({"listeners": listeners, "mtls_domains": domains}).config
    if found is None:
        return
    made = compile_l4(found)
    held = held_hosts(made.static)
    assert len(held) == len(made.static)
    for name in ("a.example", "b.example", "x.d.example", "d.example", "y.a.example"):
        for port in (8443, 9443, 80):
            route = made.table.claim(port, name)
            terminated = any((one.port, one.host) == (port, name) for one in made.static)
            assert not (route is not None and terminated)
            assert not (route is not None and domain and covers(domain, name))
