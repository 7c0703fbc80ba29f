"""Names for people beside the GUIDs that commands show: the option `--names` and what stands in the file.

Promises: every problem of the file at once, as a ValueError with its lines; without the option the names of the configuration
(`logging.names_file`) where the command is given one, which is told by whoever reads it if it is wrong, else none. Refuses to
decide anything by a name.
"""

import argparse
from typing import TYPE_CHECKING

from router.cli.files import needed

if TYPE_CHECKING:
    from registry.names import Names


def add_names(parser: argparse.ArgumentParser) -> None:
    """The option that every command with GUIDs in its output has."""
    parser.add_argument(
        "--names",
        metavar="FILE",
        help="show the names of this file (apps, spaces, orgs: {GUID: name}) beside GUIDs (default: as the configuration says)",
    )


def load_names(arguments: argparse.Namespace) -> "Names":
    """What `--names` names, or the configuration. Raises ValueError, a sentence for a person."""
    from registry.names import NO_NAMES, read_names  # not for --help
    from registry.problems import render

    if not arguments.names:
        return _configured(arguments.config) if arguments.config else NO_NAMES
    names, problems = read_names(needed(arguments.names, "--names"), arguments.names)
    if problems:
        raise ValueError("the names file has problems\n" + "\n".join(render(problem, "error") for problem in problems))
    return names


def _configured(file: str) -> "Names":
    from registry.names import NO_NAMES
    from router.config.load import load

    config = load(file).config
    return NO_NAMES if config is None or config.logging.names_file is None else config.logging.names_file
