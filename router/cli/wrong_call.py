"""How a wrong call is answered: the usage, what was wrong, the nearest that is right, and where to read on.

Promises: exit 2 on standard error, as argparse does; words of the caller are shown escaped and bounded; the last line
of every such answer is a command to type.
"""

import argparse
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from router.cli.output import cell


class WrongCall(Exception):
    """Options that do not go together: a command's `run` raises it, with what is wrong and what to give instead."""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Argparse's help, which also says which options may be repeated."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, note = super()._get_help_string(action), "may be repeated"
        return f"{text}; {note}" if text and note not in text and isinstance(action, argparse._AppendAction) else text


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors say what to do. Options are never abbreviated."""

    def __init__(self, prog: str, about: str, example: str = "") -> None:
        super().__init__(
            prog=prog,
            description=about,
            epilog=f"example: {example}" if example else None,
            formatter_class=_Help,
            allow_abbrev=False,
        )

    def understand(self, words: Sequence[str]) -> argparse.Namespace:
        """As `parse_args`, with the nearest option for one that is not there."""
        arguments, rest = self.parse_known_args(words)
        if rest:
            known = {option: option for action in self._actions for option in action.option_strings}
            self.error(f"{cell(rest[0])!r} is not understood{did_you_mean(rest[0], known)}")
        return arguments

    def error(self, message: str) -> NoReturn:
        """Print usage, error and hint to standard error; exit 2."""
        self.exit(2, f"{self.format_usage()}{self.prog}: error: {message}\ntry: {self.prog} --help\n")


def did_you_mean(word: str, meant: Mapping[str, str]) -> str:
    """`; did you mean ...?` for the key of `meant` that is nearest to `word`, naming its value; nothing where none is near."""
    near = difflib.get_close_matches(word[:80], meant, n=1)
    return f"; did you mean {meant[near[0]]!r}?" if near else ""


def spellings(names: Iterable[str]) -> dict[str, str]:
    """How commands may have been meant: by all their words, joined in any way, or by their last word alone."""
    found: dict[str, str] = {}
    for name in names:
        for form in (name, name.replace(" ", "-"), name.rpartition(" ")[2]):
            found.setdefault(form, name)
    return found
