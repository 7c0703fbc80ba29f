"""Walking through a YAML file that people write, and saying everything that is wrong with it.

Promises: nothing here raises for what a file holds; each problem names file, line, path, value, what was expected and the way
out (registry/findings.py bounds them). A number keeps its spelling, so that a GUID of digits stays what it was. Refuses to know
what the keys mean.
"""

from collections.abc import Iterator, Mapping, Sequence

from registry.findings import Findings
from registry.problems import Problem, Where, did_you_mean
from registry.source import read_source, spelled


class Reading:
    """One file on its way to values: `tree` is what it holds."""

    def __init__(self, data: bytes, file: str) -> None:
        source = read_source(data)
        self.tree = source.tree
        self._findings = Findings(file, source)
        self._findings.flaws()

    def wrong(self, where: Where, value: object, expected: str, remedy: str = "") -> None:
        """Note a problem with the value at `where`."""
        self._findings.wrong(where, value, expected, remedy)

    def absent(self, where: Where, expected: str, remedy: str = "") -> None:
        """Note a problem at `where` that has no value to show."""
        self._findings.absent(where, expected, remedy)

    def line(self, where: Where) -> int:
        """The line of a place, counted from 1."""
        return self._findings.source.line_of(where)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was wrong up to now, each once, by line."""
        return tuple(sorted(dict.fromkeys(self._findings.problems), key=lambda problem: (problem.line, problem.path)))

    def mapping(self, where: Where, value: object, known: Sequence[str]) -> Mapping[str, object] | None:
        """The pairs of a mapping whose keys are all in `known`; unknown ones are problems and left out."""
        if not isinstance(value, dict):
            self.wrong(where, value, f"a mapping of {', '.join(known)}", "write `key: value` pairs")
            return None
        for key in value:
            if key not in known:
                self.absent((*where, key), f"one of {', '.join(known)}", did_you_mean(key, known) or "remove it")
        return {key: value[key] for key in known if key in value}

    def named(self, where: Where, value: object, what: str) -> Iterator[tuple[str, object]]:
        """The pairs of a mapping whose keys are names; what is no mapping is a problem."""
        if isinstance(value, dict):
            yield from value.items()
        else:
            self.wrong(where, value, f"a mapping of {what}")

    def items(self, where: Where, value: object, what: str) -> Iterator[tuple[Where, object]]:
        """The items of a list, each with its place; what is no list is a problem."""
        if isinstance(value, tuple):
            yield from (((*where, index), item) for index, item in enumerate(value))
        else:
            self.wrong(where, value, f"a list of {what}", "put `- ` before each")

    def text(self, where: Where, value: object, expected: str, limit: int = 1024) -> str | None:
        """1 to `limit` characters of text, a number as it is spelled; else a problem and None."""
        text = spelled(value)
        if isinstance(text, str) and 0 < len(text) <= limit:
            return text
        self.wrong(where, value, f"{expected} (1 to {limit} characters)")
        return None

    def word(self, where: Where, value: object, words: Sequence[str]) -> str | None:
        """One of `words`; else a problem and None."""
        if isinstance(value, str) and value in words:
            return value
        self.wrong(where, value, " or ".join(words))
        return None

    def flag(self, where: Where, value: object) -> bool:
        """true or false; else a problem and False."""
        if not isinstance(value, bool):
            self.wrong(where, value, "true or false")
        return value is True
