"""Every command in one tree, and what a page about one says: the source of completion, manual page and reference.

Promises: what is described is what the commands' own parsers accept; the same description on every version of Python and
whatever the terminal is, so none of argparse's own layout is used. Imports every command: not for `--help`.
"""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from router.cli.main import ABOUT, COMMANDS, Version, first_line, load, own_parser

FILES = frozenset({"FILE", "OLD", "NEW"})
"""The metavars of arguments that name a file; `DIR` names a folder."""


class Argument(NamedTuple):
    """One option or positional argument: its spellings (none: positional), the form of its value (empty: none), its help."""

    flags: tuple[str, ...]
    value: str
    about: str
    required: bool
    repeats: bool

    def spelled(self, flag: str) -> str:
        """One spelling with its value."""
        return f"{flag} {self.value}".strip()


class Page(NamedTuple):
    """What there is to say about one command."""

    name: str
    about: str
    description: str
    example: str
    arguments: tuple[Argument, ...]

    @property
    def synopsis(self) -> str:
        """How it is called: what must be there, then what may."""
        return " ".join([f"vestibule {self.name}", *(_in_synopsis(one) for one in ordered(self.arguments))])


def pages() -> tuple[Page, ...]:
    """All commands, in their order."""
    return tuple(_page(name, about) for name, about in COMMANDS.items())


def whole_tree() -> argparse.ArgumentParser:
    """One parser of all commands, verbs below their nouns."""
    root = argparse.ArgumentParser("vestibule", description=ABOUT)
    root.add_argument("--version", action=Version, help="show the version, and exit")
    top = root.add_subparsers(metavar="COMMAND")
    verbs: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for name, about in COMMANDS.items():
        noun, _, verb = name.partition(" ")
        if verb and noun not in verbs:
            verbs[noun] = top.add_parser(noun, help=noun_about(noun)).add_subparsers(metavar="COMMAND")
        place = verbs[noun] if verb else top
        load(name).add_arguments(place.add_parser(verb or noun, help=about))
    return root


def noun_about(noun: str) -> str:
    """What a noun's verbs do."""
    return "; ".join(about for name, about in COMMANDS.items() if name.startswith(f"{noun} "))


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """What a parser accepts, those of the commands below it too."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from actions(below)


def ordered(arguments: tuple[Argument, ...]) -> list[Argument]:
    """Positional arguments first, then what is required."""
    return sorted(arguments, key=lambda one: (bool(one.flags), not one.required))


def _page(name: str, about: str) -> Page:
    command = load(name)
    parser = own_parser(name, command)
    shown = (
        action for action in parser._actions if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
    )
    arguments = tuple(_argument(action, parser.prog) for action in shown)
    return Page(name, about, first_line(command.__doc__), command.EXAMPLE, arguments)


def _argument(action: argparse.Action, program: str) -> Argument:
    return Argument(
        flags=tuple(action.option_strings),
        value=_value(action),
        about=" ".join(((action.help or "") % {**vars(action), "prog": program}).split()),
        required=action.required if action.option_strings else action.nargs not in ("?", "*"),
        repeats=isinstance(action, argparse._AppendAction) or action.nargs in ("+", "*"),
    )


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    return f"[{value}]" if action.option_strings and action.nargs == "?" else value


def _in_synopsis(one: Argument) -> str:
    text = one.spelled(one.flags[0]) if one.flags else one.value
    text = text if one.required else f"[{text}]"
    return f"{text} ..." if one.repeats else text
