"""A load generator that can hold client certificates: `python -m bench.client JSON`, one process, no event loop.

It says "ready" when every connection stands (new-connection mode: at once), begins at the first line of its input, and says
in one line of JSON what it did. It ends when its input does. Modes: `keep` (a request at a time on each connection), `new` (a
connection a request), `idle` (one request on each connection, then silence until the input ends), `socket` (a WebSocket on each
connection and one message there and back, then silence until the input ends), `paced` (so many requests a second, whatever the
answers do), `http2` (so many streams at once on each connection).

Refuses to know: which proxy it talks to, and whose CPU counts.
"""

import json
import sys
from collections.abc import Callable
from typing import Protocol

from bench.client_http1 import Runner
from bench.client_http2 import Http2Runner
from bench.client_paced import PacedRunner
from bench.order import Done, Mode, Order


class Loads(Protocol):
    """One kind of load."""

    done: Done

    def prepare(self) -> None: ...

    def run(self) -> None: ...


KINDS: dict[Mode, Callable[[Order], Loads]] = {"paced": PacedRunner, "http2": Http2Runner}
"""Those that are not a Runner."""


def main() -> None:
    """Do what the first argument orders."""
    order = Order(**json.loads(sys.argv[1]))
    runner = KINDS.get(order.mode, Runner)(order)
    runner.prepare()
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    runner.run()
    print(runner.done.line(), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
