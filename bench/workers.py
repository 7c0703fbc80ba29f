"""Two workers on two cores against one on one.

Promises: the two routers take turns. Where no cores are left for the load, the two workers share theirs with it, so that requests
a second say nothing: then the ratio is formed of CPU a request, which is the same if workers do not hinder each other.
"""

from collections.abc import Sequence

from bench.aims import WORKERS_RATIO
from bench.exchanges import Plan, keep, remarks, take_turns
from bench.findings import Finding, Report, spread
from bench.machine import cores
from bench.site import Site
from bench.vestibule import Vestibule

LEAST_CORES_BESIDE = 2


def workers(site: Site, plan: Plan, peers: Sequence[str]) -> Report:
    """Plain HTTP, keep-alive."""
    one_core, two_cores = cores(1), cores(2)
    apart = len(set(two_cores.rest) - set(two_cores.proxy)) >= LEAST_CORES_BESIDE
    one = Vestibule(site, cores=one_core.proxy, workers=1)
    two = Vestibule(site, cores=two_cores.proxy, workers=2)
    one.name, two.name = "one worker", "two workers"
    short = Plan(plan.rounds, plan.seconds, two_cores)
    try:
        one.start()
        two.start()
        rounds = take_turns(short, (one, two), lambda router: router.plain, keep)
    finally:
        one.stop()
        two.stop()
    pairs = list(zip(rounds[one.name], rounds[two.name], strict=True))
    gained = spread([two.rate / one.rate if apart else 2 * one.cpu_us / two.cpu_us for one, two in pairs])
    how = "requests a second" if apart else "computed from CPU a request"
    findings = [
        *(Finding("workers", "requests a second", spread([r.rate for r in seen]), "", who=name) for name, seen in rounds.items()),
        *(Finding("workers", "CPU a request", spread([r.cpu_us for r in seen]), "µs", who=name) for name, seen in rounds.items()),
        Finding("workers", f"two to one, {how}", gained, "", at_least=WORKERS_RATIO),
    ]
    note = (
        ()
        if apart
        else ("workers: TOO FEW CORES to tell by requests a second; two for the workers and two beside them are needed.",)
    )
    return Report(tuple(findings), (*note, *remarks("workers", rounds)))
