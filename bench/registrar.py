"""Registrations as Diego's route-emitters send them, and a process that repeats them.

`python -m bench.registrar PORT ROUTES INSTANCES RATE` says "ready" when all messages are made. At each line "go" it begins to
send RATE of them a second in turn, evenly; at the next line it stops and says how many it sent. It ends when its input does.
Promises: a repeated message is the same, byte for byte. Refuses to know: who listens.
"""

import contextlib
import json
import select
import socket
import sys
import time
from collections.abc import Iterator

TICKS = 100
"""A second."""


def host(number: int) -> str:
    """A host of its own for every route."""
    return f"app-{number:06d}.cf-apps.example.internal"


def registration(number: int, route: int | None = None) -> bytes:
    """What Diego's route-emitter sends for an instance, one route each unless `route` says otherwise."""
    of = number if route is None else route
    return json.dumps(
        {
            "host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            "port": 61001,
            "tls_port": 61443,
            "uris": [host(of)],
            "app": f"{of:08x}-2222-4222-8222-222222222222",
            "private_instance_id": f"{number:08x}-3333-4333-8333-3333",
            "private_instance_index": "0",
            "server_cert_domain_san": f"{number:08x}-3333-4333-8333-3333",
            "tags": {"component": "route-emitter", "organization_name": "org", "space_name": "space", "app_name": f"a{of}"},
            "options": {"mtls_allowed_apps": f"{of:08x}-4444-4444-8444-444444444444"},
        }
    ).encode()


def instances(routes: int, count: int) -> Iterator[bytes]:
    """The registrations of so many instances of so many routes."""
    return (registration(number, number % routes) for number in range(count))


def portions(routes: int, count: int, rate: int) -> list[bytes]:
    """What is sent in a tick each, as NATS's protocol wants it."""
    size = max(1, rate // TICKS)
    lines = [b"PUB router.register %d\r\n%b\r\n" % (len(message), message) for message in instances(routes, count)]
    return [b"".join(lines[start : start + size]) for start in range(0, len(lines), size)]


class Beats:
    """A connection to NATS that sends portions until told to stop."""

    def __init__(self, port: int, parts: list[bytes]) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), 10.0)
        self._sock.settimeout(None)
        self._sock.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n')
        self._parts = parts
        self._next = 0

    def send_until(self, stop: int) -> int:
        """Send at an even pace until something can be read from the descriptor `stop`; how many messages that were."""
        started, sent, ticks = time.perf_counter(), 0, 0
        while True:
            pause = max(0.0, started + ticks / TICKS - time.perf_counter())
            if select.select([stop], [], [], pause)[0]:
                return sent
            part = self._parts[self._next]
            self._sock.sendall(part)
            self._listen()
            sent += part.count(b"PUB router.register ")
            self._next = (self._next + 1) % len(self._parts)
            ticks += 1

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if b"PING" in self._sock.recv(65536, socket.MSG_DONTWAIT):
                self._sock.sendall(b"PONG\r\n")


def main() -> None:
    """Beat as the arguments say."""
    port, routes, count, rate = map(int, sys.argv[1:])
    beats = Beats(port, portions(routes, count, rate))
    print("ready", flush=True)
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as orders:  # unbuffered: `select` asks the descriptor
        while orders.readline() == b"go\n":
            sent = beats.send_until(orders.fileno())
            orders.readline()
            print(sent, flush=True)


if __name__ == "__main__":
    main()
