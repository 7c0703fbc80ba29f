"""Hold a file of expectations (who calls what, allow or deny) against a configuration and manifests, without a router.

Promises: exit 0 when everything is as expected, 1 when something is not, or when a file has problems: then all of them are said
and nothing is judged. Verdicts are those of `explain`. Refuses to touch the network.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from router.cli.files import content, from_folder, reason_of, unreadable
from router.cli.manifests import add_manifests
from router.cli.output import add_output, cell, paint, refuse, show, table, tell
from router.cli.scene_files import SceneRead, read_scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.problems import Problem
    from router.inspect.expectations import Case, Expectations
    from router.inspect.judgement import Verdict

EXAMPLE = "vestibule policy test expectations.yml -c router.yml -m manifest.yml --junit report.xml"

_HEADERS: Final = ("RESULT", "CASE", "CALLER", "ASKS FOR", "EXPECTED", "SEEN")
_MAX_UNTOUCHED: Final = 20
_MAX_TEXT: Final = 600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("expectations", metavar="FILE", help="the expectations (YAML); docs/policy-testing.md shows the form")
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration, instead of the one that the file names")
    add_manifests(parser)
    parser.add_argument("--junit", metavar="FILE", help="also write the verdicts as JUnit XML")
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    from router.inspect.answers import asker
    from router.inspect.judgement import judge, untouched

    expectations, problems = _expectations(arguments.expectations)
    place = _place(arguments, expectations)
    problems = (*problems, *place.problems)
    if place.scene is None or problems:
        return refuse("policy test", arguments.output, problems)
    verdicts = judge(expectations.cases, asker(place.scene, time.time()))
    idle = untouched(place.scene.table, verdicts)
    good = all(verdict.holds for verdict in verdicts)
    if arguments.output == "table":
        tell(place.warnings, "warning")
    show(arguments.output, as_json(verdicts, idle, place.warnings), lambda: as_text(verdicts, idle))
    written = not arguments.junit or _write_junit(arguments.junit, arguments.expectations, verdicts)
    return 0 if good and written else 1


def _expectations(path: str) -> "tuple[Expectations, tuple[Problem, ...]]":
    from router.inspect.expectations import Expectations, read_expectations

    file = Path(path)
    try:
        read = read_expectations(content(file), path, from_folder(file.parent))
    except (OSError, ValueError) as error:
        return Expectations(), (unreadable(path, error),)
    return read.expectations, read.problems


def _place(arguments: argparse.Namespace, expectations: "Expectations") -> SceneRead:
    """Where the cases are judged. A file with problems names nothing that could be believed."""
    from registry.problems import Problem

    folder = Path(arguments.expectations).parent
    config = arguments.config or (str(folder / expectations.config) if expectations.config is not None else None)
    if config is None:
        expected, remedy = "a configuration: it says which domains ask for what", "add `config:`, or name one with -c FILE"
        return SceneRead(
            None, (Problem(arguments.expectations, 0, "config", "", expected, remedy),) if expectations.cases else ()
        )
    manifests = [*(str(folder / name) for name in expectations.manifests), *arguments.manifest]
    named = argparse.Namespace(manifest=manifests, vars_file=arguments.vars_file, var=arguments.var)
    return read_scene(config, named, expectations.callers)


def _write_junit(path: str, file: str, verdicts: "Sequence[Verdict]") -> bool:
    from router.inspect.junit import junit

    try:
        Path(path).write_bytes(junit(file, verdicts))
    except (OSError, ValueError) as error:
        said = f"--junit {cell(path)}: {reason_of(error)}; name a file that can be written"
        print(f"vestibule policy test: {said}", file=sys.stderr)
        return False
    return True


def as_json(verdicts: "Sequence[Verdict]", idle: "Sequence[str]", warnings: "Sequence[Problem]") -> dict[str, object]:
    """`ok`, `cases`, `untouched` (routes that no case came to), `warnings` (of the manifests)."""
    return {
        "ok": all(verdict.holds for verdict in verdicts),
        "cases": [verdict.as_json() for verdict in verdicts],
        "untouched": list(idle),
        "warnings": [warning.as_json() for warning in warnings],
    }


def as_text(verdicts: "Sequence[Verdict]", idle: "Sequence[str]") -> str:
    """A line a case, then everything about each that failed, what nobody asked about, and one line that sums up."""
    header, *lines = table(_HEADERS, map(_row, verdicts)).splitlines()
    shown = [line if verdict.holds else paint(line, "red") for line, verdict in zip(lines, verdicts, strict=True)]
    failed = [verdict for verdict in verdicts if not verdict.holds]
    parts = [paint(header, "bold"), *shown, *map(_failure, failed)]
    if idle:
        more = f", and {len(idle) - _MAX_UNTOUCHED} more" if len(idle) > _MAX_UNTOUCHED else ""
        parts.append(paint(f"\nno case asks about: {', '.join(map(cell, idle[:_MAX_UNTOUCHED]))}{more}", "yellow"))
    verdict = paint("as expected", "green") if not failed else paint("not as expected", "red")
    return "\n".join([*parts, f"\n{verdict}: {len(verdicts)} cases, {len(failed)} failed"])


def _row(verdict: "Verdict") -> tuple[object, ...]:
    case, seen = verdict.case, verdict.seen
    return ("ok" if verdict.holds else "FAIL", case.name, case.caller.name, case.host + case.path, _wanted(case), seen.answer)


def _wanted(case: "Case") -> str:
    return " ".join(str(part) for part in (case.expect, case.status, case.rule) if part is not None)


def _failure(verdict: "Verdict") -> str:
    from registry.problems import printable

    case, seen = verdict.case, verdict.seen
    lines = [paint(f"\nFAIL line {case.line}: {cell(case.name)}", "red")]
    told = [("differs", difference) for difference in verdict.differences]
    told += [("reason", seen.reason), ("remedy", seen.remedy or "")]
    return "\n".join(lines + [f"    {name + ':':<9}{printable(text, _MAX_TEXT)}" for name, text in told if text])
