"""Which apps had requests, told by the workers to the supervisor, which tells NATS.

Promises: what goes up comes in lists that fit one message; what is no list of apps as registrations name them is refused whole.
Refuses to know how the words travel.
"""

from __future__ import annotations

from typing import Final

from registry.active_apps import ActiveApps

APPS_A_MESSAGE: Final = 1_000
MAX_APP: Final = 1024
"""Characters of an app's id, as registrations have it."""


def hear(active: ActiveApps, told: object) -> bool:
    """Mark the apps that a worker told; False: they are none."""
    if not isinstance(told, list) or len(told) > APPS_A_MESSAGE or not all(map(_is_app, told)):
        return False
    for app in told:
        active.mark(app)
    return True


def _is_app(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_APP and value.isascii() and value.isprintable()
