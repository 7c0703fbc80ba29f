"""The older endpoints beside /health: /healthz, and /varz with numbers for those who still read them there.

Promises: /varz only with the right user and password; it says what the metrics say, under the older names. Refuses to know who
wants it; off unless `status.enable_deprecated_varz_healthz_endpoints`. Source: contract h.
"""

import json
from collections.abc import Callable

from router.observe.endpoints import Handler, Response, authenticated, health_handlers
from router.observe.health import Health
from router.observe.metrics import Metrics
from router.wire.http1 import RequestHead


def older_handlers(
    credentials: tuple[str, str], health: Health, metrics: Metrics, index: int, uptime: Callable[[], float]
) -> dict[str, Handler]:
    """/healthz and /varz; `uptime` in seconds."""

    def varz(_: RequestHead) -> Response:
        body = json.dumps(numbers(metrics, index, uptime()), indent=1).encode() + b"\n"
        return Response(200, [(b"content-type", b"application/json")], body)

    return {"/healthz": health_handlers(health)["/health"], "/varz": authenticated(*credentials, varz)}


def numbers(metrics: Metrics, index: int, uptime: float) -> dict[str, object]:
    """What /varz says."""
    seconds = int(uptime)
    statuses = {f"responses_{group}": metrics.responses.labels(group).value for group in ("2xx", "3xx", "4xx", "5xx", "xxx")}
    return {
        "type": "Router",
        "index": index,
        "uptime": f"{seconds // 86400}d:{seconds // 3600 % 24}h:{seconds // 60 % 60}m:{seconds % 60}s",
        "urls": int(metrics.total_routes.source()),
        "requests": sum(statuses.values()),
        "bad_requests": metrics.rejected_requests.value,
        "bad_gateways": metrics.bad_gateways.value,
        **statuses,
        "ms_since_last_registry_update": int(metrics.ms_since_last_registry_update.source()),
    }
