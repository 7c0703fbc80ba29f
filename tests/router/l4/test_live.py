"""router/l4/live.py: what is in force for new connections."""

from dataclasses import replace
from ipaddress import ip_network

from authz.networks import Networks
from router.config.compile_l4 import L4Settings
from router.l4.listeners import ListenerPlan
from router.l4.live import L4Live
from router.l4.routes import L4Route, L4Table
from router.limits import Limits
from router.net.budget import BudgetLimits
from router.net.firewall import EVERYBODY, NO_RULES, FirewallRules
from tests.router.l4.static import static_route

PLAN = ListenerPlan("tls:443", "tls", 443, ("::",))
ROUTE = L4Route("a", 443, ("a.example",), (("10.0.0.1", 443),))


def settings(firewall: FirewallRules = NO_RULES) -> L4Settings:
    return L4Settings((PLAN,), L4Table([ROUTE]), (static_route(443, "www.example"),), firewall, 0)


def test_plans_are_found_by_their_listener_and_names_by_their_port() -> None:
    """A name that is terminated on one port is nobody's on another."""
    live = L4Live(settings(), Limits())
    assert live.plans == {"tls:443": PLAN}
    assert live.table.claim(443, "a.example") is ROUTE
    assert (live.terminates(443, "www.example"), live.terminates(8443, "www.example")) == (True, False)
    assert live.terminates(443, "other.example") is None


def test_a_reload_changes_all_of_it_but_the_counts_of_the_firewall() -> None:
    """R136: nobody gains new turns by a reload."""
    once = FirewallRules(rate_limit=1, rate_window=60.0)
    live = L4Live(settings(once), Limits())
    assert live.judge("192.0.2.1", 1.0, EVERYBODY) is None
    live.adopt(L4Settings((), L4Table(), (), once, 0), Limits(hello_deadline=1.0))
    assert (live.plans, live.terminates(443, "www.example"), live.limits.hello_deadline) == ({}, None, 1.0)
    blocked = live.judge("192.0.2.1", 2.0, EVERYBODY)
    assert blocked is not None
    assert blocked.reason == "rate"


def test_what_a_client_holds_outlives_a_reload_and_its_limit_does_not() -> None:
    """Who is connected is still counted; how many he may have is today's."""
    live = L4Live(settings(), Limits())
    budget = live.clients(PLAN)
    assert budget.admit("192.0.2.1", 1.0) is None
    tighter = replace(PLAN, clients=BudgetLimits(per_address=1))
    live.adopt(L4Settings((tighter,), L4Table(), (), NO_RULES, 0), Limits())
    assert live.clients(tighter) is budget
    assert budget.admit("192.0.2.1", 2.0) == "per_address"


def test_a_listeners_own_list_comes_with_the_question() -> None:
    """One firewall, a list of its own for each listener."""
    live = L4Live(settings(), Limits())
    mine = Networks([ip_network("192.0.2.0/24")])
    assert live.judge("192.0.2.1", 1.0, mine) is None
    blocked = live.judge("198.51.100.1", 1.0, mine)
    assert blocked is not None
    assert blocked.reason == "not_allowed"
