"""Show something again and again: `--watch`.

Promises: on a terminal each view replaces the one before and never scrolls it away; elsewhere a line `---` stands between
them; Ctrl-C ends it well. Refuses to know what is shown.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

SEPARATOR: Final = "---"
_CLEAR: Final = "\x1b[H\x1b[2J"
_DEFAULT: Final = 2.0
_SHORTEST, _LONGEST = 0.1, 86_400.0


def add_watch(parser: argparse.ArgumentParser) -> None:
    """The option `--watch`, with the seconds between two views."""
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=_DEFAULT,
        metavar="SECONDS",
        help=f"show it again every so many seconds (default: {_DEFAULT:g}), until Ctrl-C",
    )


def watch(seconds: float, view: Callable[[], str], stream: TextIO | None = None) -> None:
    """Show `view()` now and every `seconds`, until Ctrl-C. Raises the first view's ValueError; a later one is shown instead."""
    out = sys.stdout if stream is None else stream
    text = view()
    try:
        while True:
            _draw(text, out)
            time.sleep(seconds)
            try:
                text = view()
            except ValueError as error:
                text = str(error)
            if not out.isatty():
                print(SEPARATOR, file=out)
    except KeyboardInterrupt:
        return


def _draw(text: str, out: TextIO) -> None:
    if out.isatty():
        lines = text.split("\n")
        room = max(shutil.get_terminal_size().lines - 2, 1)
        if len(lines) > room:
            lines[room:] = [f"... and {len(lines) - room} lines more"]
        text = _CLEAR + "\n".join(lines)
    print(text, file=out, flush=True)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of seconds from {_SHORTEST:g} to {_LONGEST:g}")
    return seconds
