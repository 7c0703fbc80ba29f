"""Names for people beside the GUIDs that commands show: the option `--names` and what stands in the file.

Promises: every problem of the file at once, as a ValueError with its lines; without the option no names. Refuses to decide
anything by a name.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from registry.names import Names

_MAX_BYTES: Final = 4 * 1024 * 1024


def add_names(parser: argparse.ArgumentParser) -> None:
    """The option that every command with GUIDs in its output has."""
    parser.add_argument(
        "--names", metavar="FILE", help="show the names of this file (apps, spaces, orgs: {GUID: name}) beside GUIDs"
    )


def load_names(arguments: argparse.Namespace) -> "Names":
    """What `--names` names. Raises ValueError, a sentence for a person."""
    from registry.names import NO_NAMES, read_names  # not for --help
    from registry.problems import printable, render

    if not arguments.names:
        return NO_NAMES
    try:
        with Path(arguments.names).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file name"
        raise ValueError(f"--names {printable(arguments.names, 200)}: {reason}; name a file that can be read") from None
    names, problems = read_names(data, arguments.names)
    if problems:
        raise ValueError("the names file has problems\n" + "\n".join(render(problem, "error") for problem in problems))
    return names
