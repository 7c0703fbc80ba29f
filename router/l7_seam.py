"""Between the two sides of L7: what those who serve connections have of those who know the routes.

Promise: plain values, the same whether both sides live in one process or in several. Refuses to know either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from registry.active_apps import ActiveApps
from registry.endpoint import Endpoint
from router.live import Live
from router.observe.tap import Tap


class L7Seam(NamedTuple):
    """The snapshots, and who is told what. `prune`: a TLS endpoint of a route (by its key) that is not who it said."""

    live: Live
    prune: Callable[[str, Endpoint], object]
    tap: Tap
    active: ActiveApps | None
