"""The pure parts on their own: decisions, heartbeats, lookups and publications.

Promises: CPU time by `timeit`, several repetitions, the loop's own cost left in. Refuses to know: sockets.
"""

import time
import timeit
from collections.abc import Callable, Sequence

from authz.binding import BOUND_DOMAIN
from authz.decide import decide
from authz.decision import Allow
from authz.domain import DomainPolicy
from authz.policy import conjunction, route_policy
from bench.aims import DECIDE_US, HEARTBEAT_US
from bench.exchanges import Plan
from bench.findings import Finding, Report, Spread, spread
from bench.machine import pinned
from bench.registrar import host, instances, registration
from bench.site import Site
from identity.caller import Caller, Guid
from registry.intake import REGISTER, Intake, IntakeLimits
from registry.ledger import Ledger, LedgerSettings
from registry.subscriber_nats import PUBLISH_SECONDS, PUBLISH_SHARE
from router.observe.log import LEVELS, Logger, Output
from router.observe.metrics import Metrics
from router.observe.registry_counts import RegistryCounts
from router.observe.sink import DescriptorTarget, Sink

REPEATS = 7


def decisions(site: Site, plan: Plan, peers: Sequence[str]) -> Report:
    """One decision of each outcome, a domain of one space, as on a connection's first request to a route."""
    allow, deny = a_decision(site, 1)
    return Report((Finding("decide", "allow", allow, "µs", DECIDE_US), Finding("decide", "deny", deny, "µs", DECIDE_US)))


def a_decision(site: Site, spaces: int) -> tuple[Spread, Spread]:
    """Microseconds to allow and to deny: a route that names 30 apps, in a domain that admits so many spaces."""
    apps = [Guid(f"{number:08x}-1111-4111-8111-111111111111") for number in range(30)]
    space, org = Guid("space"), Guid("org")
    admitted = frozenset({*(Guid(f"{number:08x}-5555-4555-8555-555555555555") for number in range(spaces - 1)), space})
    domain = DomainPolicy(
        "*.east.example", "mtls_domains", "cf_identity", "cf_ou", None, admitted, False, "sanitize_set", "raw", "p"
    )
    policy = conjunction([route_policy({"mtls_allowed_apps": ",".join(apps)}, (), "ok", ())])
    allowed, denied = Caller(apps[7], space, org), Caller(Guid("nobody"), space, org)
    assert isinstance(decide(BOUND_DOMAIN, domain, allowed, policy), Allow)
    assert not isinstance(decide(BOUND_DOMAIN, domain, denied, policy), Allow)
    with pinned(site.cores.proxy):
        return (
            _microseconds(lambda: decide(BOUND_DOMAIN, domain, allowed, policy), 20_000),
            _microseconds(lambda: decide(BOUND_DOMAIN, domain, denied, policy), 20_000),
        )


def heartbeats(site: Site, plan: Plan, peers: Sequence[str]) -> Report:
    """A registration that changes nothing, from NATS's callback on: the cost in our code."""
    intake, _ = _intake()
    messages = [registration(number) for number in range(1000)]
    for message in messages:
        intake.take(REGISTER, message, 0.0)

    def all_again() -> None:
        for message in messages:
            intake.take(REGISTER, message, 1.0)

    with pinned(site.cores.proxy):
        seen = _microseconds(all_again, 20, len(messages))
    note = f"heartbeat: {len(messages)} endpoints in turn, {len(messages[0])} bytes a message."
    return Report((Finding("heartbeat", "an unchanged one", seen, "µs", HEARTBEAT_US),), (note,))


def a_lookup(site: Site, count: int) -> Spread:
    """Microseconds in a table of so many routes."""
    _, ledger = _filled(count)
    table = ledger.publish()
    hosts = [host(number * 7919 % count) for number in range(1000)]

    def look_up() -> None:
        for name in hosts:
            assert table.lookup(name, "/v2/apps/info") is not None

    with pinned(site.cores.proxy):
        return _microseconds(look_up, 20, len(hosts))


def publications(site: Site, count: int) -> Spread:
    """Milliseconds from a new route's message to a table of so many that has it."""
    intake, ledger = _filled(count)
    ledger.publish()
    with pinned(site.cores.proxy):
        return spread([_publish(ledger, intake, count + number) for number in range(50)])


def _publish(ledger: Ledger, intake: Intake, number: int) -> float:
    """The subscriber's wait for more is included."""
    message = registration(number)
    started = time.perf_counter()
    intake.take(REGISTER, message, 0.0)
    table = ledger.publish()
    took = time.perf_counter() - started
    assert table.lookup(host(number), "/") is not None
    least, most = PUBLISH_SECONDS
    return (took + min(max(least, PUBLISH_SHARE * took), most)) * 1000


def _filled(count: int) -> tuple[Intake, Ledger]:
    intake, ledger = _intake()
    for message in instances(count, count):
        intake.take(REGISTER, message, 0.0)
    return intake, ledger


def _intake() -> tuple[Intake, Ledger]:
    """The registry as the router builds it, its log held back at `error`."""
    ledger = Ledger(LedgerSettings())
    log = Logger(Output(Sink(DescriptorTarget(2)), LEVELS["error"], "rfc3339"))
    return Intake(ledger, log, RegistryCounts(Metrics(per_app=False)), IntakeLimits()), ledger


def _microseconds(call: Callable[[], object], number: int, parts: int = 1) -> Spread:
    """A call's CPU time (or that of one of its parts), over several repetitions."""
    return spread(
        [
            seconds / number / parts * 1e6
            for seconds in timeit.repeat(call, timer=time.process_time, number=number, repeat=REPEATS)
        ]
    )
