"""router/l4/listeners.py: whose PROXY headers are believed."""

from ipaddress import ip_network

import pytest

from authz.networks import Networks
from router.l4.listeners import ListenerPlan, ProxyTrust
from router.net.firewall import EVERYBODY


@pytest.mark.parametrize(
    ("peer", "believed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fd00::1%eth0", True),
        ("11.0.0.1", False),
        ("fe00::1", False),
        ("", False),
        ("unix:", False),
    ],
)
def test_only_listed_peers_are_believed(peer: str, believed: bool) -> None:
    """R226; attack 71: whatever the spelling; what cannot be read is nobody."""
    trust = ProxyTrust(Networks([ip_network("10.0.0.0/8"), ip_network("fd00::/8")]))
    assert trust.believes(peer) is believed


def test_without_a_list_everybody_is_believed_and_an_empty_one_is_nobody() -> None:
    """GoRouter's enable_proxy; the check warns of the one and refuses the other."""
    assert ProxyTrust(None).believes("203.0.113.1")
    assert not ProxyTrust(Networks()).believes("203.0.113.1")


def test_a_plan_believes_limits_and_refuses_nothing_by_itself() -> None:
    """R97: no PROXY parsing unless asked for."""
    plan = ListenerPlan("tls:8443", "tls", 8443, ("::",))
    assert (plan.proxy, plan.allowed, plan.budget.max_connections) == (None, EVERYBODY, 0)
