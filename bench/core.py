"""The pure parts on their own: decide, heartbeat, and the table of 100,000 routes (with a real router for its memory).

Promises: CPU time by `timeit`, several repetitions, the loop's own cost left in. Refuses to know: sockets; registrations of
the real router come over NATS as ever.
"""

import json
import time
import timeit
from collections.abc import Callable
from typing import NamedTuple

from authz.binding import BOUND_DOMAIN
from authz.decide import decide
from authz.decision import Allow
from authz.domain import DomainPolicy
from authz.policy import conjunction, route_policy
from bench.findings import Finding, Report, Spread, spread
from bench.machine import cpu_seconds, pinned, resident_kib
from bench.proxies import StartError, Vestibule
from bench.site import Site
from identity.caller import Caller, Guid
from registry.intake import REGISTER, Intake, IntakeLimits
from registry.ledger import Ledger, LedgerSettings
from registry.subscriber_nats import PUBLISH_SECONDS, PUBLISH_SHARE
from router.observe.log import LEVELS, Logger, Output
from router.observe.metrics import Metrics
from router.observe.registry_counts import RegistryCounts
from router.observe.sink import DescriptorTarget, Sink

ROUTES = 100_000
REPEATS = 7
FILL_SECONDS = 120.0


def decisions(site: Site) -> Report:
    """One decision of each outcome, a route that names 30 apps, as on a connection's first request to a route."""
    guids = [Guid(f"{number:08x}-1111-4111-8111-111111111111") for number in range(32)]
    domain = DomainPolicy(
        "*.east.example", "mtls_domains", "cf_identity", "cf_ou", frozenset({guids[31]}), None, False, "sanitize_set", "raw", "p"
    )
    policy = conjunction([route_policy({"mtls_allowed_apps": ",".join(guids[:30])}, (), "ok", ())])
    allowed, denied = Caller(guids[7], guids[30], guids[31]), Caller(guids[30], guids[30], guids[31])
    assert isinstance(decide(BOUND_DOMAIN, domain, allowed, policy), Allow)
    assert not isinstance(decide(BOUND_DOMAIN, domain, denied, policy), Allow)
    with pinned(site.cores.proxy):
        allow = _microseconds(lambda: decide(BOUND_DOMAIN, domain, allowed, policy), 20_000)
        deny = _microseconds(lambda: decide(BOUND_DOMAIN, domain, denied, policy), 20_000)
    return Report((Finding("decide", "allow", allow, "µs", 2.0), Finding("decide", "deny", deny, "µs", 2.0)))


def heartbeats(site: Site) -> Report:
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
    return Report((Finding("heartbeat", "an unchanged one", seen, "µs", 5.0),), (note,))


def routes(site: Site) -> Report:
    """100,000 routes: memory of a real router that heard them over NATS; lookup and publication in this process."""
    filled = _fill(site)
    intake, ledger = _intake()
    for number in range(ROUTES):
        intake.take(REGISTER, registration(number), 0.0)
    table = ledger.publish()
    hosts = [host(number * 7919 % ROUTES) for number in range(1000)]

    def look_up() -> None:
        for name in hosts:
            assert table.lookup(name, "/v2/apps/info") is not None

    with pinned(site.cores.proxy):
        lookup = _microseconds(look_up, 20, len(hosts))
        published = spread([_publish(ledger, intake, number) for number in range(50)])
    return Report(
        (
            Finding("routes", f"resident with {ROUTES:,}", spread([filled.resident_kib / 1024]), "MiB", 400 * 1e6 / (1 << 20)),
            Finding("routes", "a registration", spread([filled.cpu_us]), "µs"),
            Finding("routes", "a lookup", lookup, "µs", 5.0),
            Finding("routes", "a change published in", published, "ms", 10.0),
        ),
        (
            f"routes: the real router heard them over NATS and had all in its table after {filled.seconds:.1f} s.",
            "routes: the time of a change includes that for which the subscriber gathers more.",
        ),
    )


def host(number: int) -> str:
    """A host of its own for every route."""
    return f"app-{number:06d}.cf-apps.example.internal"


def registration(number: int) -> bytes:
    """What Diego's route-emitter sends, one route an instance."""
    return json.dumps(
        {
            "host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            "port": 61001,
            "tls_port": 61443,
            "uris": [host(number)],
            "app": f"{number:08x}-2222-4222-8222-222222222222",
            "private_instance_id": f"{number:08x}-3333-4333-8333-3333",
            "private_instance_index": "0",
            "server_cert_domain_san": f"{number:08x}-3333-4333-8333-3333",
            "tags": {"component": "route-emitter", "organization_name": "org", "space_name": "space", "app_name": f"a{number}"},
            "options": {"mtls_allowed_apps": f"{number:08x}-4444-4444-8444-444444444444"},
        }
    ).encode()


class _Filled(NamedTuple):
    """A router that holds all routes: its memory, its CPU for each, and the seconds until it did."""

    resident_kib: float
    cpu_us: float
    seconds: float


def _fill(site: Site) -> _Filled:
    """Register them with a router of its own. StartError where they do not arrive."""
    router = Vestibule(site, logging={"level": "warn"})
    try:
        router.start()
        wanted = router.metric("total_routes") + ROUTES
        started, cpu = time.monotonic(), cpu_seconds(router.pid)
        with pinned(site.cores.rest):
            site.register(map(registration, range(ROUTES)))
        while router.metric("total_routes") < wanted:
            if time.monotonic() - started > FILL_SECONDS:
                raise StartError(f"the router has {router.metric('total_routes'):,.0f} routes, expected {wanted:,.0f}")
            time.sleep(0.1)
        seconds = time.monotonic() - started
        return _Filled(resident_kib(router.pid), (cpu_seconds(router.pid) - cpu) / ROUTES * 1e6, seconds)
    finally:
        router.stop()


def _publish(ledger: Ledger, intake: Intake, number: int) -> float:
    """Milliseconds from one message of a new route to the table that has it, the subscriber's wait for more included."""
    message = registration(ROUTES + number)
    started = time.perf_counter()
    intake.take(REGISTER, message, 0.0)
    table = ledger.publish()
    took = time.perf_counter() - started
    assert table.lookup(host(ROUTES + number), "/") is not None
    least, most = PUBLISH_SECONDS
    return (took + min(max(least, PUBLISH_SHARE * took), most)) * 1000


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
