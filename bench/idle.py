"""What an idle TLS connection holds: resident memory of the proxy, before and after thousands of them.

Promises: each has carried one request, as connections have that are kept. Refuses to know: where the memory goes.
"""

import time
from collections.abc import Sequence

from bench.findings import Finding, Report, spread
from bench.load import client
from bench.machine import Cores, resident_kib
from bench.proxies import Proxy

CONNECTIONS, WARM = 2000, 100
SETTLE_SECONDS = 1.0


def idle(cores: Cores, proxies: Sequence[Proxy]) -> Report:
    """KiB a connection, once for each proxy; the aim is Vestibule's."""
    findings = []
    for number, proxy in enumerate(proxies):
        _hold(proxy, WARM, cores)
        before = resident_kib(proxy.pid)
        each = (_hold(proxy, CONNECTIONS, cores) - before) / CONNECTIONS
        aim = 40.0 if number == 0 else None
        findings.append(Finding("idle", f"{proxy.name}: a connection", spread([each]), "KiB", aim))
    return Report(tuple(findings), (f"idle: {CONNECTIONS:,} TLS connections, one request on each.",))


def _hold(proxy: Proxy, count: int, cores: Cores) -> int:
    """Resident KiB while so many connections are idle."""
    with client("idle", proxy.tls, count, 0.0, cores.rest):
        time.sleep(SETTLE_SECONDS)
        return resident_kib(proxy.pid)
