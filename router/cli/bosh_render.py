"""Render the job's files from a deployment manifest, or say everything that is wrong with it.

Promises: nothing is written where anything is wrong, and never half of it; exit 1 then. Warnings go to standard error.
Refuses to know how rendering works (router.bosh).
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli.bosh_arguments import add_manifest, read_texts, read_variables
from router.cli.output import counted, tell

if TYPE_CHECKING:
    from router.bosh.render import Rendered

EXAMPLE = "vestibule bosh render -m deployment.yml -o enable-mtls-domain.yml --vars-file vars.yml --output job"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_manifest(parser, required=True)
    parser.add_argument(
        "--output", metavar="DIR", type=Path, required=True, help="the job's folder; an earlier rendering there is replaced"
    )


def run(arguments: argparse.Namespace) -> int:
    folder = arguments.output.absolute()
    try:
        rendered = _rendered(arguments, folder)
        if rendered.problems:
            return _refuse(rendered)
        from router.bosh.write import write_files

        write_files(rendered.files, folder)
    except (OSError, ValueError) as error:
        print(f"vestibule bosh render: {error}", file=sys.stderr)
        return 1
    tell(rendered.warnings, "warning")
    print("\n".join(f"{file.mode:04o} {folder / file.path}" for file in rendered.files))
    return 0


def _rendered(arguments: argparse.Namespace, folder: Path) -> "Rendered":
    from router.bosh.render import render

    manifest, ops = read_texts(arguments)
    variables = read_variables(arguments)
    return render(manifest, ops, variables, arguments.job, arguments.instance_group, folder, os.environ)


def _refuse(rendered: "Rendered") -> int:
    tell(rendered.problems, "error")
    tell(rendered.warnings, "warning")
    counts = f"{counted(len(rendered.problems), 'error')}, {counted(len(rendered.warnings), 'warning')}"
    print(f"nothing written: {counts}", file=sys.stderr)
    return 1
