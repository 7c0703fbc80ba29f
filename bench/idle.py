"""What an idle connection holds: resident memory of the proxy, before and after thousands of them.

Promises: each has carried something, as connections have that are kept. Refuses to know: where the memory goes.
"""

import time
from collections.abc import Sequence

from bench.client import Mode
from bench.findings import Finding, Report, Spread, spread
from bench.load import Target, client
from bench.machine import Cores, resident_kib
from bench.proxies import Proxy
from bench.site import SOCKET

CONNECTIONS, SOCKETS, WARM = 2000, 1000, 100
SETTLE_SECONDS = 1.0


def idle(cores: Cores, proxies: Sequence[Proxy]) -> Report:
    """KiB a connection, once for each proxy; the aim is Vestibule's."""
    findings = []
    for number, proxy in enumerate(proxies):
        each = _each("idle", proxy, proxy.tls, CONNECTIONS, cores)
        findings.append(Finding("idle", f"{proxy.name}: a connection", each, "KiB", 40.0 if number == 0 else None))
    return Report(tuple(findings), (f"idle: {CONNECTIONS:,} TLS connections, one request on each.",))


def websockets(cores: Cores, proxies: Sequence[Proxy]) -> Report:
    """KiB a WebSocket, once for each proxy and kind of connection; the aim is Vestibule's."""
    findings = []
    for number, proxy in enumerate(proxies):
        for kind, target in (("TLS", proxy.tls), ("mutual TLS", proxy.mtls)):
            each = _each("socket", proxy, target._replace(path=SOCKET), SOCKETS, cores)
            aim = 60.0 if number == 0 else None
            findings.append(Finding("websockets", f"{proxy.name}: a WebSocket over {kind}", each, "KiB", aim))
    return Report(tuple(findings), (f"websockets: {SOCKETS:,} of them, one message of 1 KiB there and back on each.",))


def _each(mode: Mode, proxy: Proxy, target: Target, count: int, cores: Cores) -> Spread:
    """KiB, of a proxy just started: what earlier connections left to the allocator would be used again without showing. The first
    ones bring up what all share, and stay.
    """
    proxy.stop()
    proxy.start()
    with client(mode, target, WARM, 0.0, cores.rest):
        time.sleep(SETTLE_SECONDS)
        few = resident_kib(proxy.pid)
        with client(mode, target, count, 0.0, cores.rest):
            time.sleep(SETTLE_SECONDS)
            return spread([(resident_kib(proxy.pid) - few) / count])
