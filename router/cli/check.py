"""Say everything that is wrong with a configuration, at once, without starting anything.

Promises: the same loading as `run`; exit 0 when the file would start (warnings or not), 1 when not. Refuses
to touch the network.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from router.cli.output import add_output, show

if TYPE_CHECKING:
    from router.config.load import Loaded

EXAMPLE = "vestibule check -c router.yml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="the configuration file")
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    loaded = load_config(arguments.config, os.environ)
    show(arguments.output, as_json(loaded), lambda: as_text(loaded))
    return 1 if loaded.problems else 0


def load_config(path: str, environ: Mapping[str, str]) -> "Loaded":
    """What `run` and `check` both do with a file."""
    from registry.problems import Problem
    from router.config.compile import why_not  # heavy; --help must not wait
    from router.config.load import load

    loaded = load(path, environ)
    error = why_not(loaded.config) if loaded.config is not None else None
    if error is None:
        return loaded
    return replace(loaded, config=None, problems=(Problem(path, 0, error.path, "", error.why, "correct the key"),))


def as_text(loaded: "Loaded") -> str:
    """Every finding as text, errors first, and one line that sums up."""
    from registry.problems import render

    parts = [render(problem, "error") for problem in loaded.problems]
    parts += [render(warning, "warning") for warning in loaded.warnings]
    verdict = "would not start" if loaded.problems else "good"
    return "\n".join([*parts, f"{verdict}: {len(loaded.problems)} errors, {len(loaded.warnings)} warnings"])


def as_json(loaded: "Loaded") -> dict[str, object]:
    """`{"ok", "errors": [...], "warnings": [...]}`; each finding has file, line, path, value, expected,
    remedy.
    """
    errors = [problem.as_json() for problem in loaded.problems]
    warnings = [warning.as_json() for warning in loaded.warnings]
    return {"ok": not errors, "errors": errors, "warnings": warnings}
