"""How commands show what they found: a table for people, JSON or YAML for programs, colour only where it helps.

Promises: every cell is escaped and bounded, so that nothing a peer registered can steer a terminal; colour only
on a terminal and never where `NO_COLOR` is set (no-color.org). Problems go to standard error. Refuses to know what is shown.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, TextIO

if TYPE_CHECKING:
    from registry.problems import Problem

Colour = Literal["red", "green", "yellow", "bold", "dim"]
Form = Literal["table", "json", "yaml"]

MAX_CELL: Final = 120
_CODES: Final[dict[Colour, str]] = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def add_output(parser: argparse.ArgumentParser) -> None:
    """The option that every command with an output has: `-o table` for people, `-o json` or `yaml` for programs."""
    parser.add_argument(
        "-o", "--output", choices=("table", "json", "yaml"), default="table", help="form of the output (default: table)"
    )


def show(form: Form, value: object, as_text: Callable[[], str]) -> None:
    """Print `value` (plain JSON values), or for `table` what `as_text` says."""
    print(render(form, value, as_text))


def render(form: Form, value: object, as_text: Callable[[], str]) -> str:
    """As `show`, without printing."""
    match form:
        case "table":
            return as_text()
        case "json":
            return json.dumps(value, indent=2)
        case "yaml":
            import yaml  # not for --help

            text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=120)
            return text.rstrip("\n")


def counted(count: int, noun: str) -> str:
    """`1 error`, `2 errors`, `0 errors`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def tell(problems: "Iterable[Problem]", kind: str) -> None:
    """Print findings to standard error; `kind` is error or warning."""
    from registry.problems import render as told  # not for --help

    for problem in problems:
        print(told(problem, kind), file=sys.stderr)


def refuse(command: str, form: Form, problems: "tuple[Problem, ...]") -> int:
    """Tell why a command did nothing, as people or (on standard output) programs read it; its exit status."""
    if form == "table":
        tell(problems, "error")
        count = counted(len(problems), "problem")
        print(f"vestibule {command}: nothing was done: {count}; mend what is said above", file=sys.stderr)
    else:
        show(form, {"ok": False, "problems": [problem.as_json() for problem in problems]}, str)
    return 1


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns under their headers, each cell by `cell`."""
    lines = [tuple(headers), *(tuple(cell(value) for value in row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    return "\n".join("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def cell(value: object) -> str:
    """One value as printable ASCII of at most MAX_CELL characters; `-` for nothing."""
    if value is None or value == "":
        return "-"
    text = json.dumps(value) if isinstance(value, bool | int | float) else str(value)
    safe = text.encode("unicode_escape").decode("ascii")
    return safe if len(safe) <= MAX_CELL else safe[: MAX_CELL - 3] + "..."


def paint(text: str, colour: Colour, stream: TextIO | None = None) -> str:
    """`text` in a colour where `stream` (standard output) is a terminal that wants it, else as it is."""
    target = sys.stdout if stream is None else stream
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or target is None or not target.isatty():
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"
