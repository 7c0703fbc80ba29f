"""A log and counters that only remember."""

from collections import Counter
from typing import NamedTuple


class Event(NamedTuple):
    """One logged event; `level` is the method's name."""

    level: str
    name: str
    data: dict[str, object]


class RecordingLog:
    """Stands for any log of the project; `sparse` holds nothing back here."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def debug(self, event: str, **data: object) -> None:
        self.events.append(Event("debug", event, data))

    def info(self, event: str, **data: object) -> None:
        self.events.append(Event("info", event, data))

    def warning(self, event: str, **data: object) -> None:
        self.events.append(Event("warning", event, data))

    def error(self, event: str, **data: object) -> None:
        self.events.append(Event("error", event, data))

    def sparse(self, event: str, level: int = 2, /, **data: object) -> None:
        self.events.append(Event("sparse", event, data))

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def of(self, name: str) -> list[dict[str, object]]:
        """The data of all events of one name."""
        return [event.data for event in self.events if event.name == name]


class RecordingRegistryMetrics:
    """Counts by name and labels: `counts["registry_message", "app", "added"]`."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def registry_message(self, component: str, action: str) -> None:
        self.counts["registry_message", component, action] += 1

    def unregistry_message(self, component: str) -> None:
        self.counts["unregistry_message", component] += 1

    def message_dropped(self, reason: str) -> None:
        self.counts["message_dropped", reason] += 1

    def routes_pruned(self, count: int) -> None:
        self.counts["routes_pruned",] += count

    def route_options_rejected(self, reason: str) -> None:
        self.counts["route_options_rejected", reason] += 1

    def registered_at(self, updated_at_ns: int) -> None:
        self.counts["registered_at",] += 1
