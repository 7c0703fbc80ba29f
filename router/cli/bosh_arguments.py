"""What the `bosh` commands share: a deployment manifest, ops-files and variables, by the BOSH CLI's options.

Promises: files are read with a bound; whatever cannot be read is a ValueError with a sentence. Refuses to know what
they mean (router.bosh).
"""

import argparse
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from router.cli.files import needed

if TYPE_CHECKING:
    from router.bosh.render import Text

_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)


def add_manifest(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """`-m -o -v --var-file --vars-file --instance-group --job`."""
    parser.add_argument("-m", "--manifest", metavar="FILE", required=required, help="the deployment manifest")
    parser.add_argument(
        "-o",
        "--ops-file",
        metavar="FILE",
        action="append",
        default=[],
        help="change the manifest by these operations, in the order given",
    )
    parser.add_argument("--vars-file", metavar="FILE", action="append", default=[], help="YAML of variables; a later one wins")
    parser.add_argument(
        "-v", "--var", metavar="NAME=VALUE", type=_pair, action="append", default=[], help="one variable; wins over files"
    )
    parser.add_argument(
        "--var-file", metavar="NAME=PATH", type=_pair, action="append", default=[], help="one variable, with a file's text"
    )
    parser.add_argument("--instance-group", metavar="NAME", help="the instance group (default: the only one with the job)")
    parser.add_argument("--job", metavar="NAME", type=_job, default="vestibule", help="the job (default: vestibule)")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("NAME=VALUE is the form")
    return name, value


def _job(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("letters, digits, `.`, `_` and `-` make a name")
    return text


def read_texts(arguments: argparse.Namespace) -> "tuple[Text, list[Text]]":
    """The manifest and the ops-files. Raises ValueError."""
    from router.bosh.render import Text

    manifest, *ops = [Text(name, needed(name)) for name in (arguments.manifest, *arguments.ops_file)]
    return manifest, ops


def read_variables(arguments: argparse.Namespace) -> Mapping[str, object]:
    """The variables of all options. Raises ValueError."""
    from registry.problems import render
    from registry.variables import read_variables as parse

    variables: dict[str, object] = {}
    for name in arguments.vars_file:
        values, problems = parse(needed(name), name)
        if problems:
            raise ValueError("\n" + "\n".join(render(problem, "error") for problem in problems))
        variables.update(values)
    for name, path in arguments.var_file:
        try:
            variables[name] = needed(path).decode()
        except UnicodeDecodeError:
            raise ValueError(f"{path}: UTF-8 text is expected") from None
    for name, value in arguments.var:
        variables[name] = _value(value, name)
    return variables


def _value(text: str, name: str) -> object:
    """What YAML makes of it, as in the BOSH CLI: `-v port=443` is a number."""
    from registry.source import read_source

    source = read_source(text.encode("utf-8", "surrogateescape"))
    for flaw in source.flaws:
        raise ValueError(f"-v {name}: {flaw.expected} is expected; {flaw.remedy}")
    return source.tree
