"""The collector of what is wrong, or only unwise, in one file that a person wrote.

Promises: each finding gets its file, line and path; at most MAX_FINDINGS of either kind are kept, and the last of
them says that there are more. Refuses to know what the file means.
"""

from dataclasses import dataclass, field

from registry.problems import Problem, Where, path_text, show
from registry.source import Source

MAX_FINDINGS = 200


@dataclass(slots=True)
class Findings:
    """Problems and warnings of one file; `source` is the document that is being read, and may be replaced."""

    file: str
    source: Source
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether there is no use in looking for more problems."""
        return len(self.problems) >= MAX_FINDINGS

    def wrong(self, where: Where, value: object, expected: str, remedy: str) -> None:
        """A problem at `where`; the value is shown bounded and escaped, a `None` as nothing."""
        self._add(self.problems, where, show(value, where), expected, remedy)

    def absent(self, where: Where, expected: str, remedy: str) -> None:
        """A problem at `where` that has no value to show."""
        self._add(self.problems, where, "", expected, remedy)

    def unwise(self, where: Where, said: str, remedy: str) -> None:
        """A warning at `where`."""
        self._add(self.warnings, where, "", said, remedy)

    def flaws(self) -> bool:
        """Take over what the YAML of the document itself gets wrong; whether there was any."""
        for flaw in self.source.flaws:
            self._add(self.problems, flaw.where, flaw.value, flaw.expected, flaw.remedy, flaw.line)
        return bool(self.source.flaws)

    def _add(self, kept: list[Problem], where: Where, value: str, expected: str, remedy: str, line: int | None = None) -> None:
        if len(kept) >= MAX_FINDINGS:
            return
        at = (self.source.line_of(where) or 1) if line is None else line
        if len(kept) == MAX_FINDINGS - 1:
            value, expected, remedy = "", "no more problems than this", f"mend these {MAX_FINDINGS - 1} first: there are more"
        kept.append(Problem(self.file, at, path_text(where), value, expected, remedy))
