"""What `check --diff OLD` shows: what changes between two configurations, and what each change takes.

Promises: the differences of router/config/compare.py, each with whether a reload carries it out, and the domains whose
connections get a 421 after it. Refuses to know how to read a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.cli.output import paint

if TYPE_CHECKING:
    from router.config.compare import Difference, Misdirected
    from router.config.model import Config


@dataclass(frozen=True, slots=True)
class Changes:
    """`restart`: the top-level keys whose change waits for a restart."""

    differences: "tuple[Difference, ...]"
    restart: frozenset[str]
    misdirected: "tuple[Misdirected, ...]"

    def needs_restart(self, path: str) -> bool:
        """Whether a reload reports the change at `path` without carrying it out."""
        return path != "logging.level" and path.partition(".")[0].partition("[")[0] in self.restart

    def as_json(self) -> dict[str, object]:
        """`{"changes": [{path, old, new, restart}], "misdirected": [{domain, why}]}`."""
        changes = [{**one._asdict(), "restart": self.needs_restart(one.path)} for one in self.differences]
        return {"changes": changes, "misdirected": [one._asdict() for one in self.misdirected]}

    def as_text(self) -> str:
        """A few lines a change."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if not self.differences:
            yield "nothing changes"
        for one in self.differences:
            yield f"change: {one.path}"
            yield f"    old:      {one.old}"
            yield f"    new:      {one.new}"
            if self.needs_restart(one.path):
                yield paint("    restart:  a reload reports it and leaves it; restart the router", "yellow")
        for domain, why in self.misdirected:
            yield f"421: {domain}: {why}; they are closed and made anew"


def changes(old: "Config", new: "Config") -> Changes:
    """Compare two valid configurations."""
    from router.config.compare import compare, misdirected
    from router.config.compile import compile_domains
    from router.parts import needs_restart

    moved = misdirected(compile_domains(old)[0], compile_domains(new)[0])
    return Changes(compare(old, new), frozenset(needs_restart(old, new)), moved)
