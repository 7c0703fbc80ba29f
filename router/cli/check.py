"""Say everything that is wrong with a configuration and with manifests, at once, without starting anything.

Promises: the same loading as `run` and `emit`; exit 0 when the files would do (warnings or not), 1 when not. With `--diff OLD`
also what changes in meaning. Refuses to touch the network.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli.manifests import add_manifests, demands_policies, load_manifests
from router.cli.output import add_output, counted, show
from router.cli.wrong_call import WrongCall

if TYPE_CHECKING:
    from registry.manifest import ManifestRead
    from registry.problems import Problem
    from registry.source import Source
    from router.cli.config_changes import Changes
    from router.config.load import Loaded
    from router.config.model import Config

EXAMPLE = "vestibule check -c router.yml -m manifest.yml --diff router.yml.old"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration file")
    parser.add_argument("--diff", metavar="OLD", help="also show what changes from this configuration to the other")
    add_manifests(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    _check_call(arguments)
    loaded = _configuration(arguments)
    manifests = _manifests(arguments, loaded.config)
    found = replace(
        loaded,
        problems=(*loaded.problems, *manifests.problems),
        warnings=(*loaded.warnings, *manifests.warnings, *_beside(arguments, loaded.config, manifests)),
    )
    old, changes = _changes(arguments, loaded)
    found = replace(found, problems=(*found.problems, *old))
    verdict = "would not start" if loaded.problems else "refused"
    value = as_json(found) | (changes.as_json() if changes is not None else {})
    show(arguments.output, value, lambda: as_text(found, verdict, changes))
    return 1 if found.problems else 0


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


def as_text(loaded: "Loaded", bad: str = "would not start", changes: "Changes | None" = None) -> str:
    """Every finding as text, errors first, what changes, and one line that sums up; it begins with `bad` for errors."""
    from registry.problems import render

    parts = [render(problem, "error") for problem in loaded.problems]
    parts += [render(warning, "warning") for warning in loaded.warnings]
    parts += [changes.as_text()] if changes is not None else []
    verdict = bad if loaded.problems else "good"
    return "\n".join([*parts, f"{verdict}: {_counts(loaded)}"])


def _counts(loaded: "Loaded") -> str:
    return f"{counted(len(loaded.problems), 'error')}, {counted(len(loaded.warnings), 'warning')}"


def as_json(loaded: "Loaded") -> dict[str, object]:
    """`{"ok", "errors": [...], "warnings": [...]}`; each finding has file, line, path, value, expected,
    remedy.
    """
    errors = [problem.as_json() for problem in loaded.problems]
    warnings = [warning.as_json() for warning in loaded.warnings]
    return {"ok": not errors, "errors": errors, "warnings": warnings}


def _check_call(arguments: argparse.Namespace) -> None:
    if not arguments.config and not arguments.manifest:
        raise WrongCall("there is nothing to check; name a configuration with -c FILE, or a manifest with -m FILE")
    if arguments.diff and not arguments.config:
        raise WrongCall("--diff compares two configurations; name the new one with -c FILE")
    if (arguments.vars_file or arguments.var) and not arguments.manifest:
        raise WrongCall("--vars-file and --var are for manifests; name one with -m FILE")


def _configuration(arguments: argparse.Namespace) -> "Loaded":
    from router.config.load import Loaded

    return load_config(arguments.config, os.environ) if arguments.config else Loaded(None, (), ())


def _manifests(arguments: argparse.Namespace, config: "Config | None") -> "ManifestRead":
    """The manifests by the configuration's limit and domains, where there is one."""
    from router.config.compile import compile_domains

    if config is None:
        return load_manifests(arguments)
    return load_manifests(arguments, config.max_route_options_size, demands_policies(compile_domains(config)[0]))


def _beside(arguments: argparse.Namespace, config: "Config | None", manifests: "ManifestRead") -> "list[Problem]":
    """What only manifests and configuration together show."""
    from registry.problems import Problem, path_text
    from router.config.compile import compile_domains
    from router.config.manifest_advice import advise_routes, idle_domains

    if config is None or not arguments.manifest or manifests.problems:
        return []
    lines, domains = _lines(arguments.config), compile_domains(config)[0]
    idle = [
        Problem(arguments.config, lines.line_of(where), path_text(where), "", said, remedy)
        for where, said, remedy in idle_domains(manifests.routes, config, domains)
    ]
    return [*advise_routes(manifests.routes, domains), *idle]


def _changes(arguments: argparse.Namespace, new: "Loaded") -> "tuple[tuple[Problem, ...], Changes | None]":
    """The problems of the old configuration, or what changes from it."""
    from router.cli.config_changes import changes

    if not arguments.diff:
        return (), None
    old = load_config(arguments.diff, os.environ)
    if old.config is None or new.config is None:
        return old.problems, None
    return (), changes(old.config, new.config)


def _lines(path: str) -> "Source":
    """Where the keys of a configuration stand that has been read already; no lines where it cannot be read again."""
    from registry.source import Source, read_source

    try:
        return read_source(Path(path).read_bytes())
    except OSError:
        return Source()
