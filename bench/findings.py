"""What was measured, and how it is shown: a table for people, JSON for programs.

Promises: every number with its unit; of several rounds the median with the least and the greatest; a verdict only where an
aim stands. Refuses to know: how anything is measured.
"""

import json
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

WIDTH = 118


class Spread(NamedTuple):
    """Several measurements of one thing."""

    median: float
    least: float
    greatest: float


def spread(values: Sequence[float]) -> Spread:
    """Summarise at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(figures: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, Spread]]:
    """The first one's figures divided by those of each other, round by round, by the other's name."""
    ours, *peers = figures
    for name in peers:
        yield name, spread([mine / theirs for mine, theirs in zip(figures[ours], figures[name], strict=True)])


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. `at_most` or `at_least` is the aim in the same unit, None where there is none; `who`: the proxy,
    with `what` ending in "to" the one that Vestibule is compared with; empty: Vestibule.
    """

    scenario: str
    what: str
    seen: Spread
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    who: str = ""

    @property
    def label(self) -> str:
        """What was seen of whom."""
        if not self.who:
            return self.what
        return f"{self.what} {self.who}" if self.what.endswith(" to") else f"{self.who}: {self.what}"

    @property
    def verdict(self) -> str:
        """Whether the median reaches the aim; empty without one."""
        if self.at_most is None and self.at_least is None:
            return ""
        low = self.at_least is not None and self.seen.median < self.at_least
        return "MISSED" if low or (self.at_most is not None and self.seen.median > self.at_most) else "reached"

    @property
    def aim(self) -> str:
        """In words; empty without one."""
        if self.at_most is not None:
            return f"<= {number(self.at_most)} {self.unit}".rstrip()
        return "" if self.at_least is None else f">= {number(self.at_least)} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Report:
    """What one scenario found, and what its reader must know."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


def table(facts: Sequence[str], reports: Sequence[Report]) -> str:
    """The whole run as text."""
    rows = [("scenario", "what", "seen", "least - most", "aim", "verdict")]
    rows += [_row(finding) for report in reports for finding in report.findings]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [*facts, ""]
    for row in rows:
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    lines.insert(len(facts) + 2, "-" * (sum(widths) + 2 * len(widths) - 2))
    lines.append("")
    for report in reports:
        for note in report.notes:
            lines += textwrap.wrap(note, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(lines)


def as_json(facts: Sequence[str], reports: Sequence[Report]) -> str:
    """The whole run for programs."""
    findings = [
        {**asdict(finding), "seen": finding.seen._asdict(), "verdict": finding.verdict}
        for report in reports
        for finding in report.findings
    ]
    notes = [note for report in reports for note in report.notes]
    return json.dumps({"machine": list(facts), "findings": findings, "notes": notes}, indent=2)


def _row(finding: Finding) -> tuple[str, str, str, str, str, str]:
    seen, unit = finding.seen, finding.unit
    between = "" if seen.least == seen.greatest else f"{number(seen.least)} - {number(seen.greatest)}"
    return finding.scenario, finding.label, f"{number(seen.median)} {unit}".rstrip(), between, finding.aim, finding.verdict


def number(value: float) -> str:
    """Three digits that matter, whole numbers from a hundred on."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
