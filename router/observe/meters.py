"""Counters, gauges and histograms small enough for the data path, and their text form.

Promises: counting is an attribute addition, observing a bisection and two additions, a child is looked up
once and then kept by whoever counts; a vector never holds more than MAX_CHILDREN label sets (what comes later
is counted under `other`), so that no peer can grow it; label values are bounded and escaped.
Refuses to know what is counted (metrics.py). Our own and not the client library's, because that one prints
`x_total` for a counter `x`, while GoRouter's names have no such suffix. Serves one thread.

Source: the Prometheus text exposition format 0.0.4.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, Literal, TypeVar

MAX_CHILDREN = 1000
MAX_LABEL = 256
OTHER = "other"

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]


class Counter:
    """A number that only grows. On the hottest paths `counter.value += 1` saves the call."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Count `amount` more."""
        self.value += amount

    def samples(self, name: str, labels: str) -> Iterator[str]:
        """The lines of this meter."""
        yield f"{name}{_braced(labels)} {self.value}"


class Histogram:
    """Observations in buckets; `bounds` ascending, each the largest value of its bucket."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def samples(self, name: str, labels: str) -> Iterator[str]:
        """The lines of this meter: cumulative buckets, sum and count."""
        comma = "," if labels else ""
        seen = 0
        for bound, count in zip((*map(number, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {seen}'
        yield f"{name}_sum{_braced(labels)} {number(self.total)}"
        yield f"{name}_count{_braced(labels)} {seen}"


Meter = TypeVar("Meter", Counter, Histogram)


class Family(ABC):
    """One metric name with its help text; what a scrape prints and the reference page lists."""

    __slots__ = ("help", "kind", "label_names", "name")

    def __init__(self, name: str, kind: Kind, help_text: str, label_names: Labels = ()) -> None:
        self.name = name
        self.kind: Kind = kind
        self.help = help_text
        self.label_names = label_names

    @abstractmethod
    def samples(self) -> Iterator[str]:
        """The lines of every child."""

    def render(self) -> Iterator[str]:
        """HELP, TYPE and the samples."""
        escaped = self.help.replace("\\", "\\\\").replace("\n", "\\n")
        yield f"# HELP {self.name} {escaped}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self.samples()


class Single(Family, Generic[Meter]):
    """A metric without labels."""

    __slots__ = ("meter",)

    def __init__(self, name: str, kind: Kind, help_text: str, meter: Meter) -> None:
        super().__init__(name, kind, help_text)
        self.meter: Meter = meter

    def samples(self) -> Iterator[str]:
        """As Family.samples."""
        return self.meter.samples(self.name, "")


class Vector(Family, Generic[Meter]):
    """A metric with labels: a child for each set of label values, at most `max_children` of them."""

    __slots__ = ("_children", "_max_children", "make")

    def __init__(
        self,
        name: str,
        kind: Kind,
        help_text: str,
        label_names: Labels,
        make: Callable[[], Meter],
        max_children: int = MAX_CHILDREN,
    ) -> None:
        super().__init__(name, kind, help_text, label_names)
        self.make: Callable[[], Meter] = make
        self._max_children = max_children
        self._children: dict[Labels, Meter] = {}

    def children(self) -> list[tuple[Labels, Meter]]:
        """Every child with its label values, as of now."""
        return list(self._children.items())

    def labels(self, *values: str) -> Meter:
        """The child of these values, in the order of `label_names`; `other` where no more fit."""
        child = self._children.get(values)
        return child if child is not None else self._adopt(values)

    def _adopt(self, values: Labels) -> Meter:
        if len(values) != len(self.label_names):
            raise TypeError(f"{self.name} has the labels {self.label_names}, got {len(values)} values")
        values = tuple(value[:MAX_LABEL] for value in values)
        if len(self._children) >= self._max_children - 1:  # the last place belongs to `other`
            values = (OTHER,) * len(values) if values not in self._children else values
        return self._children.setdefault(values, self.make())

    def samples(self) -> Iterator[str]:
        """As Family.samples."""
        for values, child in self.children():
            yield from child.samples(self.name, label_text(self.label_names, values))


class Sampled(Family):
    """A number that somebody else keeps: `source` is called at each scrape; 0 until one is set."""

    __slots__ = ("source",)

    def __init__(self, name: str, kind: Kind, help_text: str) -> None:
        super().__init__(name, kind, help_text)
        self.source: Callable[[], float] = _zero

    def samples(self) -> Iterator[str]:
        """As Family.samples."""
        yield f"{self.name} {number(self.source())}"


class SampledVector(Family):
    """Numbers that somebody else keeps, by label values; the first MAX_CHILDREN of them are printed."""

    __slots__ = ("source",)

    def __init__(self, name: str, kind: Kind, help_text: str, label_names: Labels) -> None:
        super().__init__(name, kind, help_text, label_names)
        self.source: Callable[[], Mapping[Labels, float]] = dict

    def samples(self) -> Iterator[str]:
        """As Family.samples."""
        for values, value in list(self.source().items())[:MAX_CHILDREN]:
            yield f"{self.name}{{{label_text(self.label_names, values)}}} {number(value)}"


def render(families: Iterable[Family]) -> bytes:
    """What a scrape reads of these."""
    return "".join(f"{line}\n" for family in families for line in family.render()).encode()


def label_text(names: Sequence[str], values: Sequence[str]) -> str:
    """`a="1",b="2"`, values bounded and escaped."""
    return ",".join(f'{name}="{_escaped(value[:MAX_LABEL])}"' for name, value in zip(names, values, strict=True))


def number(value: float) -> str:
    """`value` as Go prints it where that is shortest: whole numbers without a fraction."""
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value != value:  # the one number that differs from itself
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _escaped(value: str) -> str:
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return text.encode("utf-8", "backslashreplace").decode()


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _zero() -> float:
    return 0.0
