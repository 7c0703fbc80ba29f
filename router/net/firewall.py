"""The firewall: whether a client's address may connect at all, before anything it sends is looked at. Pure, bounded memory.

Promises: `admit` answers with None or with a `Blocked`, whose reason is one of a few (a metric label) and whose rule is what the
operator wrote. Ten thousand networks cost what ten do. The address is the real client's, as a PROXY header from a trusted peer or
the socket gives it; IPv4 inside IPv6 is IPv4. An address that cannot be read passes no rule. Counts of the rate limit outlive a
change of the rules. Refuses to know: sockets, clocks, and how a database of countries is read (countries.py).

Source: requirements 94, 95, 134, 136.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from authz.networks import Address, Networks, plain_address
from router.net.budget import OWN, SITE_BYTES, Counters

Reason: TypeAlias = Literal["not_allowed", "blocked_address", "blocked_country", "rate", "unreadable_address"]
CountryOf: TypeAlias = Callable[[Address], str | None]

EVERYBODY: Final = Networks()


class Blocked(NamedTuple):
    """Why a connection is refused: the reason for metrics, the rule (a network, a country, a limit) for the log."""

    reason: Reason
    rule: str


@dataclass(frozen=True, slots=True, eq=False)
class FirewallRules:
    """One configuration's rules; the empty ones block nobody. Countries by ISO 3166 code; `rate_limit` 0: none.

    `rate_limit`: new connections of one address (IPv6: of one /64) in `rate_window` seconds.
    """

    blocked: Networks = EVERYBODY
    countries: frozenset[str] = frozenset()
    country_of: CountryOf | None = None
    rate_limit: int = 0
    rate_window: float = 60.0

    empty: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "empty", not (self.blocked or self.countries or self.rate_limit))


NO_RULES: Final = FirewallRules()


class Firewall:
    """The rules in force, and how often each address came of late. A reload replaces `rules`."""

    __slots__ = ("_recent", "rules")

    def __init__(self, rules: FirewallRules = NO_RULES, counters: Counters = OWN) -> None:
        self.rules = rules
        self._recent = counters.firewall()

    def admit(self, address: str, now: float, allowed: Networks = EVERYBODY) -> Blocked | None:
        """Judge a new connection. `allowed`: the listener's own list, empty where it has none; `now`: seconds, monotonic."""
        rules = self.rules
        if rules.empty and (allowed is EVERYBODY or not allowed):
            return None
        client = plain_address(address)
        if client is None:
            return Blocked("unreadable_address", "")
        blocked = _judge(rules, client, allowed)
        if blocked is None and rules.rate_limit and self._too_often(rules, client, now):
            return Blocked("rate", f"{rules.rate_limit} in {rules.rate_window:g}s")
        return blocked

    def _too_often(self, rules: FirewallRules, client: Address, now: float) -> bool:
        return self._recent.count(client.packed[:SITE_BYTES], now, rules.rate_window) > rules.rate_limit


def _judge(rules: FirewallRules, client: Address, allowed: Networks) -> Blocked | None:
    """What stands in lists: the listener's first, then the networks, then the countries."""
    if allowed and allowed.find(client) is None:
        return Blocked("not_allowed", "")
    if rules.blocked and (network := rules.blocked.find(client)) is not None:
        return Blocked("blocked_address", str(network))
    if rules.countries and rules.country_of is not None:
        country = rules.country_of(client)
        if country in rules.countries:
            return Blocked("blocked_country", str(country))
    return None
