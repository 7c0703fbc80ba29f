"""Which apps had requests lately: what goes out as `router.active_apps`.

Promises: an app counts once however many its requests; at most MAX_APPS between two takings, in messages of at most
APPS_A_MESSAGE, each far below NATS's limit. Refuses to know when they are sent, and by whom they are read.

Source: contract b.1: a zlib-compressed JSON list of app GUIDs.
"""

import json
import zlib
from collections.abc import Iterator
from typing import Final

SUBJECT: Final = "router.active_apps"
MAX_APPS: Final = 100_000
APPS_A_MESSAGE: Final = 5_000


class ActiveApps:
    """The apps since the last `take`."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def mark(self, app: str) -> None:
        """A request went to this app; an empty one is none."""
        if app and len(self._seen) < MAX_APPS:
            self._seen.add(app)

    def take(self) -> Iterator[bytes]:
        """The messages about the apps so far, one at least; from here on they are counted anew."""
        for part in self.lists() or ([],):
            yield zlib.compress(json.dumps(part, separators=(",", ":")).encode())

    def lists(self, longest: int = APPS_A_MESSAGE) -> list[list[str]]:
        """The apps so far, in lists of at most `longest`, none if there were none; from here on they are counted anew."""
        apps, self._seen = sorted(self._seen), set()
        return [apps[start : start + longest] for start in range(0, len(apps), longest)]
