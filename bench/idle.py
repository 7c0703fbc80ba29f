"""What an idle connection holds: resident memory of the proxy, before and after thousands of them.

Promises: each has carried something, as connections have that are kept. Refuses to know: where the memory goes.
"""

import time
from collections.abc import Sequence

from bench.aims import IDLE_KIB, WEBSOCKET_KIB
from bench.findings import Finding, Report, Spread, spread
from bench.load import Target, client, ordered
from bench.machine import Cores, raise_descriptor_limit, resident_kib
from bench.order import Mode
from bench.proxies import Proxy
from bench.site import SOCKET

CONNECTIONS, SOCKETS, WARM = 10_000, 1000, 100
SPARE_DESCRIPTORS = 1500
"""Of a process's limit, for all but the idle connections."""
SETTLE_SECONDS = 1.0


def idle(cores: Cores, proxies: Sequence[Proxy]) -> Report:
    """KiB a connection, once for each proxy; the aim is Vestibule's."""
    limit = raise_descriptor_limit()
    count = min(CONNECTIONS, max(WARM, limit - SPARE_DESCRIPTORS))
    findings = []
    for number, proxy in enumerate(proxies):
        each = _each("idle", proxy, proxy.tls, count, cores)
        findings.append(Finding("idle", "a connection", each, "KiB", IDLE_KIB if number == 0 else None, who=proxy.name))
    fewer = "" if count == CONNECTIONS else f" FEWER than {CONNECTIONS:,}: a process may open {limit:,} descriptors."
    return Report(tuple(findings), (f"idle: {count:,} TLS connections, one request on each.{fewer}",))


def websockets(cores: Cores, proxies: Sequence[Proxy]) -> Report:
    """KiB a WebSocket, once for each proxy and kind of connection; the aim is Vestibule's."""
    findings = []
    for number, proxy in enumerate(proxies):
        for kind, target in (("TLS", proxy.tls), ("mutual TLS", proxy.mtls)):
            each = _each("socket", proxy, target._replace(path=SOCKET), SOCKETS, cores)
            aim = WEBSOCKET_KIB if number == 0 else None
            findings.append(Finding("websockets", f"a WebSocket over {kind}", each, "KiB", aim, who=proxy.name))
    return Report(tuple(findings), (f"websockets: {SOCKETS:,} of them, one message of 1 KiB there and back on each.",))


def _each(mode: Mode, proxy: Proxy, target: Target, count: int, cores: Cores) -> Spread:
    """KiB, of a proxy just started: what earlier connections left to the allocator would be used again without showing. The first
    ones bring up what all share, and stay.
    """
    proxy.stop()
    proxy.start()
    with client(ordered(mode, target, WARM, 0.0), cores.rest):
        time.sleep(SETTLE_SECONDS)
        few = resident_kib(*proxy.pids)
        with client(ordered(mode, target, count, 0.0), cores.rest):
            time.sleep(SETTLE_SECONDS)
            return spread([(resident_kib(*proxy.pids) - few) / count])
