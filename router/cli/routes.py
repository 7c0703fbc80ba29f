"""Show the live route table of a running router.

Promises: asks the status endpoint once, with a deadline and a bound on the answer; prints what it says,
escaped. The password comes from the configuration (`-c`) or from VESTIBULE_STATUS_PASS, never from the
command line, where others could read it. Refuses to talk to anything but HTTP: /routes listens on loopback.
"""

import argparse
import base64
import http.client
import json
import os
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from router.cli.main import add_output

_DEFAULT_URL = "http://127.0.0.1:8082/routes"
_MAX_BYTES = 256 * 1024 * 1024
_TIMEOUT = 30.0
_COLUMNS = ("ROUTE", "ENDPOINT", "TLS", "TTL", "PROTOCOL", "SEGMENT")


class Place(NamedTuple):
    """Where the route table is, and as whom to ask."""

    url: str
    user: str
    password: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help=(f"the status endpoint (default: {_DEFAULT_URL}, or as the configuration says)"))
    parser.add_argument("-c", "--config", metavar="FILE", help=("take address, user and password from this configuration"))
    parser.add_argument("--user", help="user (default: router-status, or as the configuration says)")
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    try:
        place = _place(arguments, os.environ)
        routes = fetch(place)
    except ValueError as error:
        print(f"vestibule routes: {error}", file=sys.stderr)
        return 1
    print(json.dumps(routes, indent=2, sort_keys=True) if arguments.output == "json" else table(routes))
    return 0


def _place(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Place:
    url, user, password = _DEFAULT_URL, "router-status", environ.get("VESTIBULE_STATUS_PASS", "")
    if arguments.config:
        from router.cli.check import as_text, load_config

        loaded = load_config(arguments.config, environ)
        if loaded.config is None:
            raise ValueError("Error loading config\n" + as_text(loaded))
        status = loaded.config.status
        url = f"http://127.0.0.1:{status.routes.port}/routes"
        user, password = status.user, status.password.get_secret_value() or password
    return Place(arguments.url or url, arguments.user or user, password)


def fetch(place: Place) -> dict[str, object]:
    """The route table: URI -> list of endpoints. Raises ValueError with a sentence for a person."""
    host, port, path = _address(place.url)
    token = base64.b64encode(f"{place.user}:{place.password}".encode()).decode("ascii")
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", path, headers={"Authorization": f"Basic {token}"})
        response = connection.getresponse()
        body = response.read(_MAX_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"no answer from {host}:{port}: {error}; is the router running?") from None
    finally:
        connection.close()
    return _decode(response.status, body)


def _address(url: str) -> tuple[str, int, str]:
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "http" and parts.hostname and parts.username is None:
            return parts.hostname, parts.port or 80, parts.path or "/routes"
    except ValueError:
        pass
    raise ValueError(f"{_DEFAULT_URL} is the form of --url: http, no user, no password")


def _decode(status: int, body: bytes) -> dict[str, object]:
    if status == http.HTTPStatus.UNAUTHORIZED:
        raise ValueError("401: give -c FILE, or set VESTIBULE_STATUS_PASS to the router's status.pass")
    if status != http.HTTPStatus.OK or len(body) > _MAX_BYTES:
        raise ValueError(f"the answer is {status} with {len(body)} bytes; expected 200 and a route table")
    try:
        routes = json.loads(body)
    except (ValueError, RecursionError):
        routes = None
    match routes:
        case dict():
            return routes
        case _:
            raise ValueError("the answer is no route table; --url must end in /routes")


def table(routes: Mapping[str, object]) -> str:
    """The table as text, one line an endpoint, sorted by route; control characters escaped."""
    rows = [_COLUMNS, *(row for uri in sorted(routes) for row in _rows(uri, routes[uri]))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _rows(uri: str, endpoints: object) -> Iterator[tuple[str, ...]]:
    items = endpoints if isinstance(endpoints, list) and endpoints else [{}]
    for item in items:
        known = item if isinstance(item, dict) else {}
        cells = (
            uri,
            *(known.get(key, "-") for key in ("address", "tls", "ttl", "protocol", "isolation_segment")),
        )
        yield tuple(_cell(cell) for cell in cells)


def _cell(value: object) -> str:
    text = json.dumps(value) if isinstance(value, bool | int | float) else str(value)
    return text.encode("unicode_escape").decode("ascii")[:120] or "-"
