"""Show the live route table of a running router.

Promises: asks the status endpoint once; prints what it says, escaped.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping

from router.cli.output import add_output, show, table
from router.cli.status_client import add_place, fetch, place_of

EXAMPLE = "vestibule routes -c router.yml"

_COLUMNS = ("ROUTE", "ENDPOINT", "TLS", "TTL", "PROTOCOL", "SEGMENT")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_place(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    try:
        routes = fetch(place_of(arguments), "/routes")
    except ValueError as error:
        print(f"vestibule routes: {error}", file=sys.stderr)
        return 1
    if not isinstance(routes, dict):
        print("vestibule routes: the answer is no route table; is this a router's status endpoint?", file=sys.stderr)
        return 1
    show(arguments.output, routes, lambda: as_text(routes))
    return 0


def as_text(routes: Mapping[str, object]) -> str:
    """The table as text, one line an endpoint, sorted by route; control characters escaped."""
    return table(_COLUMNS, (row for uri in sorted(routes) for row in _rows(uri, routes[uri])))


def _rows(uri: str, endpoints: object) -> Iterator[tuple[object, ...]]:
    items = endpoints if isinstance(endpoints, list) and endpoints else [{}]
    for item in items:
        known = item if isinstance(item, dict) else {}
        yield (uri, *(known.get(key) for key in ("address", "tls", "ttl", "protocol", "isolation_segment")))
