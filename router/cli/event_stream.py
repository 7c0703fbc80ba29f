"""How commands listen to a running router: the events of one stream, as they come.

Promises: a line of at most _MAX_LINE bytes, SILENCE_SECONDS without even a comment end it; whatever goes wrong is a ValueError
with a sentence for a person. Refuses to connect again: who listens should know when something was missed.

Source: the event stream of the HTML standard, section 9.2 (server-sent events), as far as router/observe/tap.py uses it.
"""

import contextlib
import http.client
import json
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final, NamedTuple

from router.cli.output import cell
from router.cli.status_client import Place, check_status, credentials, target

SILENCE_SECONDS: Final = 60.0
_MAX_LINE: Final = 256 * 1024
_MAX_REFUSAL: Final = 1024


class Event(NamedTuple):
    """One event and its data, a JSON object."""

    name: str
    data: dict[str, Any]


def listen(place: Place, path: str, query: Mapping[str, str], silence: float = SILENCE_SECONDS) -> Generator[Event, None, None]:
    """The events until the router ends the stream, well or by leaving. Raises ValueError."""
    connection = http.client.HTTPConnection(place.host, place.port, timeout=silence)
    try:
        connection.request("GET", target(path, query), headers=credentials(place))
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            check_status(response.status, response.read(_MAX_REFUSAL))
        with contextlib.closing(response):  # it holds the socket where the stream has no length
            yield from _events(response)
    except TimeoutError:
        raise ValueError(
            f"nothing was heard of {place.host}:{place.port} for {silence:g} seconds; is the router alive?"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"no answer from {place.host}:{place.port}: {cell(error)}; is the router running?") from None
    finally:
        connection.close()


def _events(response: http.client.HTTPResponse) -> Iterator[Event]:
    """Comments are passed over; an event is complete with an empty line."""
    name, data = "message", ""
    while True:
        try:
            line = response.readline(_MAX_LINE + 1)
        except (ConnectionError, http.client.HTTPException):
            return
        if len(line) > _MAX_LINE:
            raise ValueError(f"a line of the stream has more than {_MAX_LINE} bytes; is this a router's status endpoint?")
        if not line:
            return
        field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        match field:
            case "event":
                name = value.strip()
            case "data":
                data = value
            case "" if not line.strip() and data:
                yield Event(name, _object(data))
                name, data = "message", ""
            case _:
                pass


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError("an event of the stream is no JSON object; is this a router's status endpoint?")  # noqa: TRY004
    return value
