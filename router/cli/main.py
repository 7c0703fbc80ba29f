"""`vestibule COMMAND`: finds the command, gives it its arguments, turns its result into an exit status.

Promises: 0 all is well, 1 the command failed, 2 it was called wrongly; `--help` imports no command. Refuses
to know what a command does: each is a module of this package with `add_arguments(parser)` and `run(arguments)
-> int`.
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
    parser = _parser()
    chosen = parser.parse_args(words[:1]).command
    command = cast("Command", importlib.import_module(f"router.cli.{chosen}"))
    own = argparse.ArgumentParser(prog=f"vestibule {chosen}", description=_first_line(command.__doc__))
    command.add_arguments(own)
    return command.run(own.parse_args(words[1:]))


def _parser() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:<10}{about}" for name, about in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="vestibule",
        description="A router that asks at two doors: the operator's domain and the developer's route.",
        epilog=f"commands:\n{listing}\n\n`vestibule COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="what to do; see below")
    return parser


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def add_output(parser: argparse.ArgumentParser) -> None:
    """The option that every command with an output has: `-o table` for people, `-o json` for programs."""
    parser.add_argument(
        "-o",
        "--output",
        choices=("table", "json"),
        default="table",
        help="form of the output (default: table)",
    )
