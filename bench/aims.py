"""What the figures are held against: one table, so that no aim hides in the code that measures.

A ratio is Vestibule's figure divided by the peer's in the same round. Refuses to know: how anything is measured.
"""

from collections.abc import Mapping

CPU_RATIO: Mapping[tuple[str, str], float] = {
    ("plain", "nginx"): 1.5,
    ("plain", "envoy"): 1.0,
    ("plain", "gorouter"): 0.3,
    ("tls", "nginx"): 1.5,
    ("tls", "envoy"): 1.0,
    ("tls", "gorouter"): 0.3,
    ("mtls", "nginx"): 1.5,
    ("mtls", "envoy"): 1.0,
    ("mtls", "gorouter"): 0.3,
    ("http2", "envoy"): 1.0,
    ("new-tls", "nginx"): 1.1,
    ("new-mtls", "nginx"): 0.6,
    ("new-mtls", "envoy"): 1.2,
    ("bulk http/1.1", "nginx"): 0.6,
    ("bulk h2", "nginx"): 0.6,
    ("l4-bulk", "haproxy"): 0.5,
    ("l4-new", "haproxy"): 1.3,
}
"""At most, by scenario and peer: CPU a request, a new connection or a MB."""

LATENCY_RATIO: Mapping[str, float] = {"haproxy": 1.5}
"""At most, by peer: the 99th percentile at 500 requests a second."""

IDLE_KIB, WEBSOCKET_KIB, L4_IDLE_KIB = 30.0, 60.0, 16.0
"""At most, of resident memory for each."""

WORKERS_RATIO = 1.8
"""At least, of two workers on two cores to one on one."""

ROUTER_MIB, WORKER_MIB = 300e6 / (1 << 20), 150e6 / (1 << 20)
"""At most, resident with 100,000 routes: the process that holds the registry (the only one, or the supervisor), and a worker."""
REGISTRATION_US = 31.0
"""At most, GoRouter's own, as it was once measured."""
LOOKUP_US, PUBLISH_MS = 5.0, 10.0
DECIDE_US, HEARTBEAT_US = 2.0, 5.0

STORM_SHARE = 0.30
"""At most, of a core, for 12,500 heartbeats a second."""
STORM_P99_RATIO = 1.1
"""At most, of p99 with the storm to p99 without: unchanged, as far as it can be told."""

AUTHORIZED_EXTRA_US = 5.0
POLICY_RATIO = 1.1
"""At most, of CPU a request where 10,000 may call to where 25 may."""
