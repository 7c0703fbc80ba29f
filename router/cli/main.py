"""`vestibule COMMAND`: finds the command, gives it its arguments, turns its result into an exit status.

Promises: 0 all is well, 1 the command failed, 2 it was called wrongly; `--help` imports no command but the one that is meant.
Refuses to know what a command does: each is a module of this package with `EXAMPLE`, `add_arguments(parser)` and
`run(arguments) -> int`. The module of `policy test` is `policy_test`. The first line of its docstring and its example stand in
its `--help`; what COMMANDS says of it, its options and its example in the manual page and in docs/reference/cli.md.
"""

import argparse
import errno
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, cast

from router.cli.output import cell
from router.cli.wrong_call import Parser, WrongCall, did_you_mean, spellings

COMMANDS = {
    "run": "start the router",
    "check": "say everything that is wrong with a configuration",
    "explain": "say what would come of a call, layer by layer, and what would change it",
    "policy test": "hold expectations of who may call what against a configuration and manifests",
    "policy diff": "say whose access a change would open or close",
    "routes": "show the live routes of a running router: policy, warnings, age, owner",
    "tap": "listen to the exchanges of one host or one caller, live",
    "emit": "keep an app's routes registered over NATS while it is healthy",
    "bosh render": "render the job's files from a deployment manifest, ops-files and variables",
    "bosh security-group": "print the security group that lets apps reach the routers",
    "demo": "start a whole small world and show what is let in and what is not",
    "completion": "print the completion of these commands for a shell",
    "man": "print the manual page",
}
"""The words of a command -> what it does. Words with the same first one are verbs of one noun."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a write says where there is no more room, or no disk any more. Commands see to the files that they open themselves."""

ABOUT = "A router that asks at two doors: the operator's domain and the developer's route."


class Command(Protocol):
    """What a command's module offers. `__doc__`: its help; `EXAMPLE`: one line that a person could type."""

    __doc__: str | None
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _status(words)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone; say nothing more, not even at exit
        sys.stdout = None
        return 1
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        sys.stdout = None
        print(f"vestibule: the output could not be written: {error.strerror}; make room, or send it elsewhere", file=sys.stderr)
        return 1
    return status


def _status(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a wrong call
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return 1


def _dispatch(words: list[str]) -> int:
    name = next((said for count in (2, 1) if (said := " ".join(words[:count])) in COMMANDS), None)
    if name is None:
        return _no_command(words)
    command = load(name)
    parser = own_parser(name, command)
    try:
        return command.run(parser.understand(words[name.count(" ") + 1 :]))
    except WrongCall as error:
        parser.error(str(error))


def load(name: str) -> Command:
    """Import the module of one of COMMANDS."""
    return cast("Command", importlib.import_module(f"router.cli.{name.replace(' ', '_').replace('-', '_')}"))


def own_parser(name: str, command: Command) -> Parser:
    """The parser of one command's own arguments."""
    parser = Parser(f"vestibule {name}", first_line(command.__doc__), command.EXAMPLE)
    command.add_arguments(parser)
    return parser


def first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _no_command(words: list[str]) -> int:
    """Help, the version, or what is wrong. After a noun it speaks of its verbs."""
    nouns = {name.partition(" ")[0] for name in COMMANDS if " " in name}
    noun = words[0] if words and words[0] in nouns else ""
    shown = {name: about for name, about in COMMANDS.items() if not noun or name.startswith(f"{noun} ")}
    parser = _frame(noun, shown)
    said = " ".join(words[:2] if noun else words[:1])
    if said != noun and not words[bool(noun)].startswith("-"):
        parser.error(f"{cell(said)!r} is no command{did_you_mean(said, spellings(shown))}")
    parser.understand(words[bool(noun) :])
    parser.error(f"which command? {', '.join(shown)}")


def _frame(noun: str, shown: Mapping[str, str]) -> Parser:
    """The parser for what names no command."""
    width = max(map(len, shown)) + 2
    listing = "\n".join(f"  {name:<{width}}{about}" for name, about in shown.items())
    parser = Parser(f"vestibule {noun}".rstrip(), ABOUT)
    parser.usage = f"{parser.prog} [-h] [--version] COMMAND ..."
    parser.epilog = f"commands:\n{listing}\n\n`vestibule COMMAND --help` tells more."
    parser.add_argument("--version", action=Version, help="show the version, and exit")
    return parser


class Version(argparse.Action):
    """`--version`: what is installed."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"vestibule {version()}")
        parser.exit()


def version() -> str:
    """The version of the installed package; `unknown` where the source runs without being installed."""
    from importlib import metadata  # not for --help

    try:
        return metadata.version("vestibule")
    except metadata.PackageNotFoundError:
        return "unknown"
