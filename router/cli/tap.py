"""Listen to the decisions and exchanges of one host or one caller, live.

Promises: one line an exchange, with the trail of checks below it where the caller was not let in, or would not be; what was
missed is told; it never connects again by itself, and says why it ended. Refuses to keep anything.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from router.cli.event_stream import Event, listen
from router.cli.naming import add_names, load_names
from router.cli.output import Colour, add_output, cell, paint, render
from router.cli.status_client import add_place, place_of
from router.cli.wrong_call import WrongCall

if TYPE_CHECKING:
    from registry.names import Names

EXAMPLE = "vestibule tap -c router.yml --host orders.apps.mtls.internal"

_FILTERS: Final = ("host", "app", "space", "org")
_VERDICTS: Final[dict[str, tuple[str, Colour]]] = {
    "allowed": ("allowed", "green"),
    "denied": ("DENIED", "red"),
    "would_deny": ("would deny", "yellow"),
    "not_enforced": ("not enforced", "yellow"),
}
_EXPLAINED: Final = frozenset({"DENIED", "MISDIRECTED", "would deny"})
_WIDTH: Final = 12
_LONGEST: Final = 1e9
"""Seconds; a number that is more was not measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_place(parser)
    parser.add_argument("--host", help="exchanges with this host, or with all below *.SUFFIX")
    for kind in ("app", "space", "org"):
        parser.add_argument(f"--{kind}", metavar="GUID", help=f"exchanges of callers of this {kind}")
    parser.add_argument("--count", type=_count, metavar="N", help="end after N exchanges (default: after 15 minutes)")
    add_names(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    query = {name: value for name in _FILTERS if (value := getattr(arguments, name)) is not None}
    if not query:
        raise WrongCall("everything at once is too much; give --host, --app, --space or --org")
    try:
        names = load_names(arguments)
        events = listen(place_of(arguments), "/tap", query)
        try:
            return _follow(arguments, events, names)
        finally:
            events.close()
    except ValueError as error:
        print(f"vestibule tap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _follow(arguments: argparse.Namespace, events: Iterator[Event], names: "Names") -> int:
    """Print what comes; 0 when that was all that was wanted, or all that the router gives."""
    heard = 0
    for event in events:
        if event.name == "exchange":
            heard += 1
            _show(arguments.output, event.data, names)
            if heard == arguments.count:
                return 0
        elif event.name == "start":
            print("listening; Ctrl-C ends it", file=sys.stderr, flush=True)
        elif event.name == "end":
            print(f"vestibule tap: the router ends every stream after a while; {heard} exchanges were shown", file=sys.stderr)
            return 0
    print("vestibule tap: the router ended the connection; is it stopping?", file=sys.stderr)
    return 1


def _show(form: str, data: dict[str, Any], names: "Names") -> None:
    match form:
        case "json":
            import json

            print(json.dumps(data, separators=(",", ":")), flush=True)
        case "yaml":
            print("---\n" + render("yaml", data, str), flush=True)
        case _:
            print("\n".join(lines(data, names)), flush=True)


def lines(data: dict[str, Any], names: "Names") -> Iterator[str]:
    """One exchange for a person."""
    if missed := data.get("missed"):
        yield paint(f"... {cell(missed)} more, too many to show", "dim")
    word, colour = verdict(data)
    caller = data.get("caller")
    app = caller.get("app") if isinstance(caller, dict) else None
    seconds = data.get("response_time")
    parts = [
        str(cell(data.get("time")))[11:23],
        paint(f"{word:<{_WIDTH}}", colour),
        cell(data.get("status")),
        cell(data.get("method")),
        cell(f"{data.get('host') or ''}{data.get('path') or ''}"),
        f"by {names.label(app)}" if isinstance(app, str) else "by nobody known",
        f"to {cell(data.get('backend'))}" if data.get("backend") else cell(data.get("router_error") or "no backend"),
        f"{seconds * 1000:.1f} ms" if isinstance(seconds, int | float) and 0 <= seconds < _LONGEST else "-",
        cell(data.get("rule")),
        cell(data.get("request_id")),
    ]
    yield "  ".join(parts)
    trail = data.get("trail")
    if word in _EXPLAINED and isinstance(trail, list):
        yield from (_check(check) for check in trail if isinstance(check, dict))


def verdict(data: dict[str, Any]) -> tuple[str, Colour]:
    """What became of the exchange, in a word."""
    known = _VERDICTS.get(str(data.get("mtls_auth")))
    if known is not None:
        return known
    if data.get("status") == 421:
        return "MISDIRECTED", "red"
    return ("refused", "yellow") if data.get("router_error") else ("forwarded", "dim")


def _check(check: dict[str, Any]) -> str:
    passed = check.get("passed")
    mark = paint("passed", "green") if passed else paint("FAILED", "red")
    return f"    {mark}  {cell(check.get('layer')):<8}  {cell(check.get('rule'))}: {cell(check.get('detail'))}"


def _count(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number from 1 to 999999999")
    return number
