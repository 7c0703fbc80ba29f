"""How commands ask a running router: one GET to its status endpoint, with a deadline and a bound on the answer.

Promises: the password comes from the configuration (`-c`) or from VESTIBULE_STATUS_PASS, never from the command
line, where others could read it; whatever goes wrong is a ValueError with a sentence for a person. Refuses to
talk to anything but HTTP: the endpoints listen on loopback.
"""

import argparse
import base64
import http.client
import json
import math
import os
import urllib.parse
from collections.abc import Mapping
from typing import Final, NamedTuple

from router.cli.output import cell

DEFAULT_URL: Final = "http://127.0.0.1:8082"
_MAX_BYTES: Final = 256 * 1024 * 1024
_TIMEOUT: Final = 30.0


class Place(NamedTuple):
    """Where a router's status endpoint is, and as whom to ask."""

    host: str
    port: int
    user: str
    password: str


def add_place(parser: argparse.ArgumentParser) -> None:
    """The options that name a running router."""
    parser.add_argument("--url", help=f"the status endpoint (default: {DEFAULT_URL}, or as the configuration says)")
    parser.add_argument("-c", "--config", metavar="FILE", help="take address, user and password from this configuration")
    _add_user(parser)


def add_live(parser: argparse.ArgumentParser, *, config: str) -> None:
    """The same for a command that asks a running router only where `--live` says so; `config`: what `-c` is to it."""
    parser.add_argument(
        "--live", dest="url", metavar="URL", help=f"ask the status endpoint of a running router, such as {DEFAULT_URL}"
    )
    parser.add_argument("-c", "--config", metavar="FILE", help=config)
    _add_user(parser)


def _add_user(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", help="user (default: router-status, or as the configuration says)")


def place_of(arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Place:
    """What the options of `add_place` or `add_live` say. Raises ValueError."""
    url, user, password = DEFAULT_URL, "router-status", environ.get("VESTIBULE_STATUS_PASS", "")
    if arguments.config:
        from router.cli.check import as_text, load_config

        loaded = load_config(arguments.config, environ)
        if loaded.config is None:
            raise ValueError("Error loading config\n" + as_text(loaded))
        status = loaded.config.status
        url = f"http://127.0.0.1:{status.routes.port}"
        user, password = status.user, status.password.get_secret_value() or password
    host, port = _address(arguments.url or url)
    return Place(host, port, arguments.user or user, password)


def fetch(place: Place, path: str, query: Mapping[str, str] | None = None) -> object:
    """The JSON value that the router answers to `path`. Raises ValueError."""
    connection = http.client.HTTPConnection(place.host, place.port, timeout=_TIMEOUT)
    try:
        connection.request("GET", target(path, query), headers=credentials(place))
        response = connection.getresponse()
        body = response.read(_MAX_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"no answer from {place.host}:{place.port}: {cell(error)}; is the router running?") from None
    finally:
        connection.close()
    return _decode(response.status, body)


def target(path: str, query: Mapping[str, str] | None) -> str:
    """The request target."""
    return f"{path}?{urllib.parse.urlencode(query)}" if query else path


def credentials(place: Place) -> dict[str, str]:
    """The fields that say who asks (RFC 7617)."""
    token = base64.b64encode(f"{place.user}:{place.password}".encode()).decode("ascii")
    return {"Authorization": f"Basic {token}"}


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "http" and parts.hostname and parts.username is None and parts.path in ("", "/", "/routes"):
            return parts.hostname, parts.port or 80
    except ValueError:
        pass
    raise ValueError(f"{DEFAULT_URL} is the form of the URL: http, no user, no password, no path")


def check_status(status: int, body: bytes) -> None:
    """Raises ValueError, a sentence for a person, for any status but 200."""
    said = body[:200].decode("latin-1").strip().encode("unicode_escape").decode("ascii")
    if status == http.HTTPStatus.UNAUTHORIZED:
        remedy = "give -c FILE, or --user and the environment's VESTIBULE_STATUS_PASS"
        raise ValueError(f"401: user or password is not the router's status.user and status.pass; {remedy}")
    if status == http.HTTPStatus.BAD_REQUEST:
        raise ValueError(f"the router does not accept the question: {said}")
    if status == http.HTTPStatus.NOT_FOUND:
        raise ValueError("404: nothing of that name is there; is this a router's status endpoint, and of this version?")
    if status != http.HTTPStatus.OK:
        raise ValueError(f"the answer is {status}: {said or 'nothing'}; expected 200")


def _decode(status: int, body: bytes) -> object:
    check_status(status, body)
    if len(body) > _MAX_BYTES:
        raise ValueError(f"the answer has more than {_MAX_BYTES} bytes; ask for less")
    try:
        return json.loads(body, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise ValueError("the answer is no JSON; is this a router's status endpoint?") from None


def _finite(text: str) -> float:
    """A number that can be calculated with; `1e999` and `NaN` are none. Raises ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
