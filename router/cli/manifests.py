"""The manifests that a command is given: `-m FILE`, `--vars-file FILE`, `--var NAME=VALUE`.

Promises: reads the files named and nothing else; all problems of all files at once, none raised. Of variables the last
`--vars-file` wins, and `--var` over all of them. Refuses to know what a manifest means (registry/manifest.py).
"""

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from router.cli.files import content, unreadable
from router.cli.output import cell

if TYPE_CHECKING:
    from authz.domain import DomainTable
    from registry.manifest import ManifestRead
    from registry.problems import Problem


def add_manifests(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """The options that name manifests and their variables."""
    parser.add_argument("-m", "--manifest", action="append", default=[], required=required, metavar="FILE", help="a manifest.yml")
    parser.add_argument(
        "--vars-file",
        action="append",
        default=[],
        metavar="FILE",
        help="values for the manifests' ((variables))",
    )
    parser.add_argument(
        "--var",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one such value, over those of the files",
    )


def load_manifests(
    arguments: argparse.Namespace, limit: int | None = None, enforces: Callable[[str], bool] | None = None
) -> "ManifestRead":
    """All routes of all manifests named, or all problems.

    `limit`: bytes of a route's options, the router's default for None. `enforces`: see `read_manifest`.
    """
    from registry.manifest import ManifestRead, join_manifests, read_manifest
    from registry.options import DEFAULT_LIMIT

    variables, problems = _variables(arguments)
    reads = [ManifestRead((), tuple(problems))]
    for file in arguments.manifest:
        data = _content(file, "-m")
        if isinstance(data, bytes):
            reads.append(read_manifest(data, file, variables, DEFAULT_LIMIT if limit is None else limit, enforces))
        else:
            reads.append(ManifestRead((), (data,)))
    return join_manifests(reads)


def demands_policies(domains: "DomainTable") -> Callable[[str], bool]:
    """Whether a host's domain lets nobody in to a route without options; what `enforces` asks."""

    from authz.decide import TABLE, row_of

    return lambda host: TABLE[row_of(domains.claim(host))]["no_options"] == "deny"


def _variables(arguments: argparse.Namespace) -> tuple[Mapping[str, object], "list[Problem]"]:
    from registry.manifest import read_variables
    from registry.problems import Problem
    from registry.source import read_source

    variables: dict[str, object] = {}
    problems: list[Problem] = []
    for file in arguments.vars_file:
        data = _content(file, "--vars-file")
        if isinstance(data, bytes):
            found, wrong = read_variables(data, file)
            variables |= found
            problems += wrong
        else:
            problems.append(data)
    for text in arguments.var:
        name, equals, value = text.partition("=")
        source = read_source(value.encode("utf-8", "surrogateescape"))
        if not name or not equals:
            problems.append(Problem("--var", 0, "", f"'{cell(name)}'", "NAME=VALUE", "write --var name=value"))
        elif source.flaws:
            expected = f"a value in YAML: {source.flaws[0].expected}"
            problems.append(
                Problem("--var", 0, cell(name), "", expected, "put quotes around the value, for YAML and for the shell")
            )
        else:
            variables[name] = source.tree
    return variables, problems


def _content(file: str, option: str) -> "bytes | Problem":
    try:
        return content(file)
    except (OSError, ValueError) as error:
        return unreadable(file, error, option)
