"""Show the live routes of a running router: policy, warnings, age and owner.

Promises: asks the status endpoint, prints what it says, escaped; a GUID is never hidden behind a name, only cut short.
Refuses to judge: what a policy does is the router's own word.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from router.cli.naming import add_names, load_names
from router.cli.output import add_output, render
from router.cli.policies_table import Label, as_table, names_heard, warning_lines
from router.cli.status_client import Place, add_place, fetch, place_of
from router.cli.watch import add_watch, watch

if TYPE_CHECKING:
    from registry.names import Names

EXAMPLE = "vestibule routes -c router.yml --domain '*.apps.mtls.internal' --warnings"

_FILTERS = ("host", "app", "domain")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_place(parser)
    parser.add_argument("--host", help="only routes of this host, or of all below *.SUFFIX")
    parser.add_argument("--app", metavar="GUID", help="only routes of this app")
    parser.add_argument("--domain", metavar="PATTERN", help="only routes that this domain claims, as its configuration spells it")
    parser.add_argument("--wide", action="store_true", help="more columns, and the lists themselves")
    parser.add_argument(
        "--warnings", action="store_true", help="what deserves a look, of routes; without a filter of all else too"
    )
    add_names(parser)
    add_watch(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    try:
        place, names = place_of(arguments), load_names(arguments)

        def view() -> str:
            return _view(arguments, place, names)

        if arguments.watch is None:
            print(view())
        else:
            watch(arguments.watch, view)
    except ValueError as error:
        print(f"vestibule routes: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if arguments.watch is not None else 1
    return 0


def _view(arguments: argparse.Namespace, place: Place, names: "Names") -> str:
    """The answers of this moment in the form that is wanted. Raises ValueError."""
    query = {name: value for name in _FILTERS if (value := getattr(arguments, name)) is not None}
    answer = _asked(place, "/policies", query)
    warnings = _asked(place, "/warnings", {}) if arguments.warnings and not query else None
    value = answer if warnings is None else {**answer, "warnings": warnings}
    return render(arguments.output, value, lambda: _as_text(arguments, answer, warnings, _labels(names, answer)))


def _asked(place: Place, path: str, query: dict[str, str]) -> dict[str, Any]:
    answer = fetch(place, path, query)
    if not isinstance(answer, dict) or not isinstance(answer.get("routes"), list):
        raise ValueError(f"the answer to {path} is no table of routes; is this a router's status endpoint?")  # noqa: TRY004
    return answer


def _as_text(arguments: argparse.Namespace, answer: dict[str, Any], warnings: dict[str, Any] | None, label: Label) -> str:
    none = "no route fits" if any(getattr(arguments, name) is not None for name in _FILTERS) else "no route is registered"
    lines = [as_table(answer, label, wide=arguments.wide) if answer["routes"] else none]
    if arguments.warnings:
        lines += warning_lines(answer, warnings)
    return "\n".join(lines)


def _labels(names: "Names", answer: dict[str, Any]) -> Label:
    """The file's name, else what registrations say, each before its GUID."""
    from registry.names import Names, is_name  # not for --help

    heard = Names({guid: name for guid, name in names_heard(answer).items() if is_name(name)})

    def label(guid: str | None) -> str:
        return (heard if names.get(guid) is None else names).label(guid)

    return label
