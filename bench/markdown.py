"""A run as the table of docs/performance.md: a line a figure, a column a proxy.

Refuses to know: how anything is measured.
"""

from collections.abc import Sequence

from bench.findings import Finding, Report, number

OURS = "vestibule"


def markdown(facts: Sequence[str], reports: Sequence[Report]) -> str:
    """The whole run."""
    findings = [finding for report in reports for finding in report.findings]
    columns = list(dict.fromkeys([OURS, *(finding.who or OURS for finding in findings)]))
    rows: dict[tuple[str, str], dict[str, Finding]] = {}
    for finding in findings:
        unit = f", {finding.unit}" if finding.unit else ""
        rows.setdefault((finding.scenario, f"{finding.what}{unit}"), {})[finding.who or OURS] = finding
    lines = [_line(["scenario", "what", *columns]), _line(["---"] * (2 + len(columns)))]
    for key, cells in rows.items():
        lines.append(_line([*key, *(_cell(cells[column]) if column in cells else "" for column in columns)]))
    notes = [f"- {note}" for report in reports for note in report.notes]
    return "\n".join([*(f"- {fact}" for fact in facts), "", *lines, "", *notes])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(finding: Finding) -> str:
    """The median, least and greatest, and the verdict where there is an aim."""
    seen = finding.seen
    text = number(seen.median)
    if seen.least != seen.greatest:
        text += f" ({number(seen.least)}\N{EN DASH}{number(seen.greatest)})"
    if not finding.verdict:
        return text
    bound = f"≤ {number(finding.at_most)}" if finding.at_most is not None else f"≥ {number(finding.at_least or 0.0)}"
    return f"{text}; {bound}: **{finding.verdict.lower()}**"
