"""Say whose access a change of configuration or manifests would open or close, before it is made.

Promises: exit 0 when nobody's access changes, 1 when somebody's is opened or closed (or cannot be told, since other certificates
are accepted), or when a file has problems: then all of them are said. Verdicts are those of `explain`; with `--live` the routes
and the registered apps are a running router's. Refuses to change anything.
"""

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from router.cli.files import content, from_folder, unreadable
from router.cli.manifests import add_manifests
from router.cli.output import add_output, cell, paint, refuse, show, table
from router.cli.scene_files import SceneRead, read_scene
from router.cli.status_client import add_live, fetch, place_of
from router.cli.wrong_call import WrongCall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry.problems import Problem
    from router.inspect.callers import CallersRead, KnownCaller
    from router.inspect.difference import Change
    from router.inspect.live_routes import LiveRoutes
    from router.inspect.scene import Scene

EXAMPLE = "vestibule policy diff router.yml router.yml.new -m manifest.yml --callers callers.yml"

_HEADERS: Final = ("CHANGE", "WHO", "ROUTE", "BEFORE", "AFTER")
_WIDE: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("old", metavar="OLD", help="the configuration as it is")
    add("new", metavar="NEW", nargs="?", help="the configuration as it would be (default: OLD, where only manifests change)")
    add_manifests(parser)
    for side, when in (("old", "before"), ("new", "after")):
        text = f"a manifest.yml that holds only {when} the change; may be repeated"
        add(f"--{side}-manifest", action="append", default=[], metavar="FILE", help=text)
    add("--callers", metavar="FILE", help="who is asked about by name: a file with `callers:`, such as one of expectations")
    text = "an access log of a router, in JSON: who called there is asked about by name; may be repeated"
    add("--seen", action="append", default=[], metavar="FILE", help=text)
    add("--host", metavar="PATTERN", help="only routes of this host, or of all below *.SUFFIX")
    add_live(parser, config="with --live: take user and password from this configuration (default: OLD)")
    add_output(parser)


class _Changes(NamedTuple):
    """Everything that there is to show."""

    found: "Sequence[Change]"
    authorities: "Sequence[tuple[str, str]]"
    compared: int

    def count(self, kind: str) -> int:
        return sum(change.kind == kind for change in self.found)

    @property
    def any(self) -> bool:
        """Whether somebody's access is another one than before."""
        return bool(self.count("opened") or self.count("closed") or self.authorities)


def run(arguments: argparse.Namespace) -> int:
    _check_call(arguments)
    try:
        live = _live(arguments) if arguments.url else None
        callers, seen = _callers(arguments.callers), _seen(arguments.seen)
        old, new = (_side(arguments, side, callers, live) for side in ("old", "new"))
        problems = tuple(dict.fromkeys((*callers.problems, *seen.problems, *old.problems, *new.problems)))
        if old.scene is None or new.scene is None or problems:
            return refuse("policy diff", arguments.output, problems)
        told = {caller.identity for caller in callers.callers.values()}
        known = [*callers.callers.values(), *(caller for caller in seen.callers if caller.identity not in told)]
        changes = _compare(arguments, old.scene, new.scene, known, live)
    except ValueError as error:
        print(f"vestibule policy diff: {error}", file=sys.stderr)
        return 1
    show(arguments.output, as_json(changes), lambda: as_text(changes))
    return 1 if changes.any else 0


def _check_call(arguments: argparse.Namespace) -> None:
    if arguments.new is None and not arguments.old_manifest and not arguments.new_manifest:
        raise WrongCall(
            "there is nothing to compare with; name a NEW configuration, or manifests with --old-manifest and --new-manifest"
        )
    if not (arguments.manifest or arguments.old_manifest or arguments.new_manifest or arguments.url):
        raise WrongCall("there are no routes to ask about; name manifests with -m FILE, or a running router with --live URL")


def _live(arguments: argparse.Namespace) -> "LiveRoutes":
    """The routes of a running router, asked with the credentials of OLD unless -c names another. Raises ValueError."""
    from router.inspect.live_routes import read_live_routes

    asked = argparse.Namespace(url=arguments.url, config=arguments.config or arguments.old, user=arguments.user)
    return read_live_routes(fetch(place_of(asked, os.environ), "/policies"))  # all: also who calls from elsewhere


def _callers(path: str | None) -> "CallersRead":
    from router.inspect.callers import CallersRead, read_callers

    if path is None:
        return CallersRead({}, ())
    try:
        return read_callers(content(path), path, from_folder(Path(path).parent))
    except (OSError, ValueError) as error:
        return CallersRead({}, (unreadable(path, error),))


class _Seen(NamedTuple):
    """Who has called, or why some log does not tell."""

    callers: "tuple[KnownCaller, ...]"
    problems: "tuple[Problem, ...]"


def _seen(paths: list[str]) -> _Seen:
    """The callers of these access logs."""
    from registry.problems import Problem
    from router.inspect.callers_seen import MAX_LINE, callers_seen

    callers: list[KnownCaller] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            with Path(path).open("rb") as stream:
                found = callers_seen(iter(partial(stream.readline, MAX_LINE + 1), b""))
        except (OSError, ValueError) as error:
            problems.append(unreadable(path, error, "--seen"))
            continue
        callers += found.callers
        if found.more:
            remedy = "name the log of a shorter time with --seen"
            problems.append(Problem(path, 0, "", "", f"at most {len(found.callers)} callers", remedy))
        if found.others and not found.records:
            remedy = "set access_log.format: json, or name the right file with --seen"
            problems.append(Problem(path, 1, "", "", "an access log: a JSON object a line", remedy))
    return _Seen(tuple({caller.identity: caller for caller in callers}.values()), tuple(problems))


def _side(arguments: argparse.Namespace, side: str, callers: "CallersRead", live: "LiveRoutes | None") -> SceneRead:
    config = arguments.old if side == "old" else arguments.new or arguments.old
    manifests = [*arguments.manifest, *getattr(arguments, f"{side}_manifest")]
    named = argparse.Namespace(manifest=manifests, vars_file=arguments.vars_file, var=arguments.var)
    return read_scene(config, named, callers.callers, live.table if live is not None else None)


def _compare(
    arguments: argparse.Namespace, old: "Scene", new: "Scene", known: "Sequence[KnownCaller]", live: "LiveRoutes | None"
) -> _Changes:
    """Raises ValueError where there is too much to compare."""
    from router.inspect.answers import asker
    from router.inspect.difference import authorities, compare, pairs

    registered = live.callers if live is not None else {}
    asked = pairs(old, new, known, registered, _pattern(arguments.host))
    now = time.time()
    return _Changes(compare(asked, asker(old, now), asker(new, now)), authorities(old, new), len(asked))


def _pattern(text: str | None) -> str | None:
    from registry.hostname import canonical_pattern

    pattern = canonical_pattern(text) if text is not None else None
    if text is not None and pattern is None:
        raise ValueError(f"--host {cell(text)!r} is no host; write a host name without a port, or *.SUFFIX")
    return pattern


def as_json(changes: _Changes) -> "Mapping[str, object]":
    """`changes`, `authorities`, and `counts` of each kind and of all pairs that were compared."""
    kinds = {kind: changes.count(kind) for kind in ("opened", "closed", "rule")}
    return {
        "changes": [change.as_json() for change in changes.found],
        "authorities": [{"old": old, "new": new} for old, new in changes.authorities],
        "counts": {**kinds, "compared": changes.compared},
    }


def as_text(changes: _Changes) -> str:
    """A line a change, the widest first; where nobody can tell; and one line that sums up."""
    header, *lines = table(_HEADERS, map(_row, changes.found)).splitlines()
    parts = [paint(header, "bold"), *(_coloured(line, change) for line, change in zip(lines, changes.found, strict=True))]
    shown = [*parts, ""] if lines else []
    shown += [
        paint(f"{old} -> {new}: other client certificates are accepted than before; for whom, no list of GUIDs can tell", "red")
        for old, new in changes.authorities
    ]
    opened, closed, rule = (changes.count(kind) for kind in ("opened", "closed", "rule"))
    return "\n".join(
        [
            *shown,
            f"{opened} opened, {closed} closed, {rule} by another rule: {changes.compared} pairs of caller and route compared",
        ]
    )


def _row(change: "Change") -> tuple[object, ...]:
    person, place = change.pair
    asked = place.host + place.path
    where = asked if place.route in (asked, asked.removesuffix("/")) else f"{place.route} at {asked}"
    return (change.kind, person.caller.name, where, change.old.answer, change.new.answer)


def _coloured(line: str, change: "Change") -> str:
    if change.kind == "opened":
        return paint(line, "red" if change.pair.who.width <= _WIDE else "yellow")
    return line
