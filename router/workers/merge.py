"""The metrics of many processes as one scrape: what a worker's grew by goes up, and is counted in the supervisor's own.

Promises: names, types, labels and help texts are those of one process; a counter or histogram never goes back, whichever worker
dies: what it told is counted already, and what it did not tell (the last second at most) was never shown; a gauge is the sum over
the processes that live, but for LARGEST; what only the supervisor knows is not asked of a worker. A worker faces clients, so its
word is checked entry by entry: what is unknown, misshapen, negative or huge is dropped and counted.
Refuses to know how the words travel, and when they are asked for (gathering.py).

An entry is `[name, [label value, ...], told]`: what a counter grew by, `[[what each bucket grew by], what the sum grew by]` of a
histogram, a gauge's value. Entries come in lists short enough for one message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeGuard

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router.observe.meters import MAX_LABEL, Counter, Family, Histogram, Labels, Sampled, Single, Vector, render
from router.observe.metrics import Metrics

MAX_ENTRIES: Final = 512
"""Entries of one message."""
MAX_SIZE: Final = 64 * 1024
"""Characters of one message's label values and numbers, about."""
MAX_GROWTH: Final = 2**53
"""What one entry can say at most: JSON's largest exact number."""

OF_SUPERVISOR: Final = frozenset(
    {
        "registry_message", "unregistry_message", "routes_pruned", "routes_registered", "routes_unregistered",
        "total_routes", "ms_since_last_registry_update", "route_registration_latency", "nats_connected",
        "buffered_messages", "total_dropped_messages", "nats_messages_dropped", "route_options_rejected",
        "backend_health_checks", "backends_unhealthy", "certificate_expiry_seconds", "config_reloads",
        "workers_serving", "workers_replaced", "worker_reports_rejected", "process_start_time_seconds",
        "process_max_fds", "empty_content_length_header",
    }
)  # fmt: skip
"""What a worker does not tell and is not believed: the supervisor alone knows, all would say the same, or it follows from what is
told already.
"""
LARGEST: Final = frozenset({"file_descriptors", "process_open_fds"})
"""Gauges of which the largest of all processes is shown, for the limit beside them is each process's own."""

_Told = int | float | tuple[list[int], float]
_Key = tuple[str, Labels]
_Flat = tuple[str, str, Labels, float]


class Growth:
    """A worker's side: what its metrics grew by since they were told last. A child that is new is told even at zero."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: dict[_Key, _Told] = {}

    def take(self) -> Iterator[list[object]]:
        """The entries, in lists of at most MAX_ENTRIES; each is told once it is taken."""
        entries: list[object] = []
        size = 0
        for entry in self._entries():
            entries.append(entry)
            size += len(str(entry))
            if len(entries) >= MAX_ENTRIES or size >= MAX_SIZE:
                yield entries
                entries, size = [], 0
        if entries:
            yield entries

    def _entries(self) -> Iterator[list[object]]:
        for name, labels, meter in _meters(self._metrics.families):
            if name not in OF_SUPERVISOR:
                told = self._count((name, labels), meter) if isinstance(meter, Counter) else self._observe((name, labels), meter)
                if told is not None:
                    yield [name, list(labels), told]
        for name, kind, labels, value in _flat(self._metrics):
            if name not in OF_SUPERVISOR:
                number = self._sample((name, labels), kind, value)
                if number is not None:
                    yield [name, list(labels), number]

    def _count(self, key: _Key, meter: Counter) -> int | None:
        before = self._told.get(key)
        self._told[key] = meter.value
        grown = meter.value - (before if isinstance(before, int) else 0)
        return grown if grown or before is None else None

    def _observe(self, key: _Key, meter: Histogram) -> list[object] | None:
        before = self._told.get(key)
        counts, total = before if isinstance(before, tuple) else ([0] * len(meter.counts), 0.0)
        if before is not None and counts == meter.counts:
            return None
        # A sum that a step back of a clock made smaller is told when it has caught up.
        self._told[key] = list(meter.counts), max(total, meter.total)
        return [[now - then for now, then in zip(meter.counts, counts, strict=True)], max(0.0, meter.total - total)]

    def _sample(self, key: _Key, kind: str, value: float) -> float | None:
        before = self._told.get(key)
        self._told[key] = value
        if kind == "gauge":
            return value if value != before else None
        grown = value - (before if isinstance(before, int | float) else 0)
        return max(0, grown) if grown or before is None else None


class Merged:
    """The supervisor's side, and the scrape: its own `metrics`, in which all that the workers tell is counted."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._families = {family.name: family for family in metrics.families}
        self._kinds: dict[_Key, str] = {(name, labels): kind for name, kind, labels, _ in _flat(metrics)}
        self._grown: dict[_Key, float] = {}
        self._gauges: dict[int, dict[_Key, float]] = {}
        self._scraped = CollectorRegistry(auto_describe=False)
        self._scraped.register(_Processes(metrics.process, self._total))

    def take(self, worker: int, told: object) -> int:
        """Count what a worker tells; return how many of its entries were dropped. Never raises."""
        if not isinstance(told, list) or len(told) > MAX_ENTRIES:
            return self._reject("message")
        return sum(self._entry(worker, entry) for entry in told)

    def forget(self, worker: int) -> None:
        """A worker is gone: its gauges go, what it counted stays."""
        self._gauges.pop(worker, None)

    def render(self) -> bytes:
        """What a scrape reads."""
        return render(map(self._shown, self._metrics.families)) + generate_latest(self._scraped)

    def _entry(self, worker: int, entry: object) -> int:
        match entry:
            case [str() as name, list() as values, told] if name not in OF_SUPERVISOR:
                labels = tuple(value for value in values if isinstance(value, str) and len(value) <= MAX_LABEL)
                if len(labels) != len(values):
                    return self._reject("labels")
                if (name, labels) in self._kinds:
                    return self._flat(worker, (name, labels), told)
                return self._meter(name, labels, told)
            case [str(), list(), _]:
                return self._reject("unknown")
            case _:
                return self._reject("entry")

    def _meter(self, name: str, labels: Labels, told: object) -> int:
        family = self._families.get(name)
        if not isinstance(family, Single | Vector):
            return self._reject("unknown")
        if len(labels) != len(family.label_names):
            return self._reject("labels")
        growth = _growth(family.meter if isinstance(family, Single) else family.make(), told)
        if growth is None:
            return self._reject("number")
        _grow(family.meter if isinstance(family, Single) else family.labels(*labels), growth)
        return 0

    def _flat(self, worker: int, key: _Key, told: object) -> int:
        if not _is_number(told):
            return self._reject("number")
        if self._kinds[key] == "gauge":
            self._gauges.setdefault(worker, {})[key] = told
        else:
            self._grown[key] = self._grown.get(key, 0) + told
        return 0

    def _reject(self, reason: str) -> int:
        self._metrics.worker_reports_rejected.labels(reason).inc()
        return 1

    def _shown(self, family: Family) -> Family:
        if not isinstance(family, Sampled) or family.name in OF_SUPERVISOR:
            return family
        total = self._total((family.name, ()), family.source())
        shown = Sampled(family.name, family.kind, family.help)
        shown.source = lambda: total
        return shown

    def _total(self, key: _Key, own: float) -> float:
        """The supervisor's own value with those of the workers."""
        told = [gauges[key] for gauges in self._gauges.values() if key in gauges]
        if key[0] in LARGEST:
            return max(own, *told) if told else own
        return own + sum(told) + self._grown.get(key, 0)


class _Processes(Collector):
    """What the client library knows of this process, with what the workers told of theirs."""

    def __init__(self, own: CollectorRegistry, total: Callable[[_Key, float], float]) -> None:
        self._own = own
        self._total = total

    def collect(self) -> Iterator[Metric]:
        for metric in self._own.collect():
            text = metric.documentation.removesuffix(".")
            shown = Metric(metric.name, f"{text}, {_of_which(metric.name)}.", metric.type)
            for sample in metric.samples:
                key = sample.name, tuple(sample.labels.values())
                value = sample.value if sample.name in OF_SUPERVISOR else self._total(key, sample.value)
                shown.add_sample(sample.name, sample.labels, value)
            yield shown


def _of_which(name: str) -> str:
    match name:
        case "process_start_time_seconds":
            return "of the supervisor"
        case "process_max_fds":
            return "of each process"
        case name if name in LARGEST:
            return "of the process that has most"
    return "of all processes together"


def _meters(families: Iterable[Family]) -> Iterator[tuple[str, Labels, Counter | Histogram]]:
    for family in families:
        if isinstance(family, Single):
            yield family.name, (), family.meter
        elif isinstance(family, Vector):
            for labels, meter in family.children():
                yield family.name, labels, meter


def _flat(metrics: Metrics) -> Iterator[_Flat]:
    """Name, kind, label values and number of everything that is only sampled, the client library's metrics of a process too."""
    for family in metrics.families:
        if isinstance(family, Sampled):
            yield family.name, family.kind, (), family.source()
    for metric in metrics.process.collect():
        for sample in metric.samples:
            yield sample.name, metric.type, tuple(sample.labels.values()), sample.value


def _growth(like: Counter | Histogram, told: object) -> _Told | None:
    """What a meter like this one grew by; None: it cannot have."""
    if isinstance(like, Counter):
        return told if _is_count(told) else None
    match told:
        case [list() as counts, total] if len(counts) == len(like.counts) and all(map(_is_count, counts)) and _is_number(total):
            return counts, total
    return None


def _grow(meter: Counter | Histogram, growth: _Told) -> None:
    if isinstance(meter, Counter):
        assert isinstance(growth, int)
        meter.value += growth
    else:
        assert isinstance(growth, tuple)
        counts, total = growth
        meter.counts = [now + more for now, more in zip(meter.counts, counts, strict=True)]
        meter.total += total


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MAX_GROWTH


def _is_number(value: object) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value <= MAX_GROWTH  # which NaN and the infinities are not
