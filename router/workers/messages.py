"""What a supervisor and its workers say to each other.

Promise: what a worker says is JSON, checked before anybody acts on it, for a worker faces clients: `read_up` gives a whole
message or None, and never raises. What a supervisor says is believed: whoever could say it could do more.
Refuses to know how it travels (channel.py), and what follows from it.
"""

from __future__ import annotations

import json
import pickle
from typing import Any, Final, NamedTuple, TypeAlias

from router.config.model import Config
from router.listening import Place
from router.workers.heard_names import Named
from router.workers.tap_pipe import Asked

LONGEST_DOWN: Final = 256 * 1024 * 1024
LONGEST_UP: Final = 2 * 1024 * 1024
MAX_WHY: Final = 4096
MAX_NAME: Final = 4096
"""Characters of a route's key, an endpoint's address or id."""

_ROUTES: Final = b"R"
_OTHER: Final = b"P"


# ---- down


class Begin(NamedTuple):
    """Who the worker is: its number in logs, its row of the shared memory, and how a successor of the supervisor is found.

    Its descriptors: the lock of the standard output's lines, that of the access log's, the shared memory.
    """

    worker: int
    row: int
    successor: str


class Sockets(NamedTuple):
    """Listening sockets for the configuration that follows: a descriptor each."""

    places: tuple[Place, ...]


class Prepare(NamedTuple):
    """Build this configuration, and say whether it can be had. `ports` False: they stay as they are."""

    generation: int
    config: Config
    ports: bool


class Adopt(NamedTuple):
    """What was prepared under this number is in force from now on."""

    generation: int


class Discard(NamedTuple):
    """Nothing comes of it."""

    generation: int


class Routes(NamedTuple):
    """A piece of the table, or a change of it (routes.py)."""

    data: bytes


class Names(NamedTuple):
    """What registrations call their owners."""

    named: Named


class Seek(NamedTuple):
    """What the tap's streams look for."""

    asked: list[Asked]


class HealthIs(NamedTuple):
    """The router's state (`HealthState`)."""

    state: int


class Open(NamedTuple):
    """Accept connections."""


class Ask(NamedTuple):
    """Tell the numbers of this moment, and then this one."""

    number: int


class Drain(NamedTuple):
    """No new connections; those that are open get this many seconds."""

    seconds: float


class End(NamedTuple):
    """Every connection ends now, and the worker with them."""


Down: TypeAlias = Begin | Sockets | Prepare | Adopt | Discard | Routes | Names | Seek | HealthIs | Open | Ask | Drain | End


def write_down(message: Down) -> bytes:
    """As bytes."""
    if isinstance(message, Routes):
        return _ROUTES + message.data
    return _OTHER + pickle.dumps(message, pickle.HIGHEST_PROTOCOL)


def read_down(data: bytes) -> Down:
    """What `write_down` wrote; from the supervisor alone."""
    if data[:1] == _ROUTES:
        return Routes(data[1:])
    message: Down = pickle.loads(memoryview(data)[1:])  # noqa: S301 - see above
    return message


# ---- up


class Ready(NamedTuple):
    """Everything is loaded: it can begin."""


class Alive(NamedTuple):
    """It hears what it is told."""


class Prepared(NamedTuple):
    """Whether a configuration can be had: an empty `why` says yes."""

    generation: int
    why: str


class Serving(NamedTuple):
    """It accepts connections."""


class Told(NamedTuple):
    """What the numbers grew by (merge.py); also says that the worker is alive."""

    entries: list[object]


class Answered(NamedTuple):
    """All numbers of that question are told."""

    number: int


class Prune(NamedTuple):
    """A TLS endpoint of a route that is not who it said."""

    key: str
    address: str
    instance_id: str


class Apps(NamedTuple):
    """Apps that had requests (active_apps.py)."""

    apps: object


class Tapped(NamedTuple):
    """An event for a stream of the tap (tap_pipe.py)."""

    event: object


class Drained(NamedTuple):
    """The drain is over; were all connections?"""

    whole: bool


Up: TypeAlias = Ready | Alive | Prepared | Serving | Told | Answered | Prune | Apps | Tapped | Drained


def write_up(message: Up) -> bytes:
    """As bytes."""
    return json.dumps([type(message).__name__, *message], separators=(",", ":")).encode("ascii")


def read_up(data: bytes) -> Up | None:
    """None for what is no message."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return None
    match said:
        case ["Ready"]:
            return Ready()
        case ["Alive"]:
            return Alive()
        case ["Serving"]:
            return Serving()
        case ["Prepared", int() as generation, str() as why] if len(why) <= MAX_WHY:
            return Prepared(generation, why)
        case ["Answered", int() as number]:
            return Answered(number)
        case ["Drained", bool() as whole]:
            return Drained(whole)
        case ["Told", list() as entries]:
            return Told(entries)
        case ["Apps", apps]:
            return Apps(apps)
        case ["Tapped", event]:
            return Tapped(event)
        case ["Prune", *words]:
            return _prune(words)
        case _:
            return None


def _prune(words: list[Any]) -> Prune | None:
    if len(words) != len(Prune._fields) or not all(isinstance(word, str) and len(word) <= MAX_NAME for word in words):
        return None
    return Prune(*words)
