"""`vestibule COMMAND`: finds the command, gives it its arguments, turns its result into an exit status.

Promises: 0 all is well, 1 the command failed, 2 it was called wrongly; `--help` imports no command. Refuses
to know what a command does: each is a module of this package with `add_arguments(parser)` and `run(arguments)
-> int`. The module of `policy test` is `policy_test`.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol, cast

COMMANDS = {
    "run": "start the router",
    "check": "say everything that is wrong with a configuration",
    "routes": "show the live route table of a running router",
    "demo": "start a whole small world and show what is let in and what is not",
}
"""The words of a command -> what it does. Words with the same first one are verbs of one noun."""


class Command(Protocol):
    """What a command's module offers. `__doc__`: its help."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a wrong call
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:  # the reader of our output has gone; say nothing more, not even at exit
        sys.stdout = None
        return 1


def _dispatch(words: list[str]) -> int:
    name = next((said for count in (2, 1) if (said := " ".join(words[:count])) in COMMANDS), None)
    if name is None:
        _frame(words[:1]).parse_args(words)
        return 2
    command = load(name)
    return command.run(own_parser(name, command).parse_args(words[name.count(" ") + 1 :]))


def load(name: str) -> Command:
    """Import the module of one of COMMANDS."""
    return cast("Command", importlib.import_module(f"router.cli.{name.replace(' ', '_').replace('-', '_')}"))


def own_parser(name: str, command: Command) -> argparse.ArgumentParser:
    """The parser of one command's own arguments."""
    parser = argparse.ArgumentParser(prog=f"vestibule {name}", description=_first_line(command.__doc__), allow_abbrev=False)
    command.add_arguments(parser)
    return parser


def _frame(words: list[str]) -> argparse.ArgumentParser:
    """The parser for what names no command: help, or what is wrong. After a noun it speaks of its verbs."""
    nouns = {name.partition(" ")[0] for name in COMMANDS if " " in name}
    noun = words[0] if words and words[0] in nouns else ""
    shown = {name: about for name, about in COMMANDS.items() if not noun or name.startswith(f"{noun} ")}
    width = max(map(len, shown)) + 2
    listing = "\n".join(f"  {name:<{width}}{about}" for name, about in shown.items())
    parser = argparse.ArgumentParser(
        prog=f"vestibule {noun}".rstrip(),
        description="A router that asks at two doors: the operator's domain and the developer's route.",
        epilog=f"commands:\n{listing}\n\n`vestibule COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if noun:
        parser.add_argument("noun", choices=[noun], help=argparse.SUPPRESS)
    choices = [name.removeprefix(f"{noun} ") if noun else name.partition(" ")[0] for name in shown]
    parser.add_argument("command", choices=list(dict.fromkeys(choices)), metavar="COMMAND", help="what to do; see below")
    return parser


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
