"""The access log over syslog: RFC 5424 messages, a datagram each (RFC 5426) or line by line over TCP (RFC
6587, 3.4.2).

Promises: connecting, sending and failing never raise and wait at most CONNECT_SECONDS and SEND_SECONDS; after
a failure the lines of that batch are lost and counted, and the next try is at least RETRY_SECONDS later.
Meant for a Sink's thread.
Refuses to know the line; it cuts one that is longer than `truncate` bytes (0: only at what a datagram can
carry).
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Literal

from router.observe.timestamp import Timestamps

CONNECT_SECONDS = 2.0
SEND_SECONDS = 2.0
RETRY_SECONDS = 1.0
MAX_DATAGRAM = 65_400
"""Bytes of a record that still fit one UDP datagram with its header; GoRouter's figure."""

_PRIORITY = 8 + 6  # facility user, severity informational, as GoRouter sends


class SyslogTarget:
    """A Target (see sink.py) for `address` (`host:port`) that connects when the first batch comes."""

    def __init__(
        self,
        network: Literal["udp", "tcp"],
        address: tuple[str, int],
        app_name: str,
        truncate: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._network = network
        self._address = address
        self._limit = min(truncate or MAX_DATAGRAM, MAX_DATAGRAM)
        self._clock = clock
        self._timestamps = Timestamps()
        self._tail = f" {socket.gethostname() or '-'} {app_name or '-'} {os.getpid()} - - \ufeff".encode()
        self._socket: socket.socket | None = None
        self._retry_at = float("-inf")

    def write(self, lines: Sequence[bytes]) -> int:
        """As Target.write."""
        connection = self._socket or self._connect()
        if connection is None:
            return len(lines)
        now = self._timestamps.rfc3339(self._clock()).encode()
        head = b"<%d>1 %b%b" % (_PRIORITY, now, self._tail)
        messages = [head + line[: self._limit] for line in lines]
        try:
            if self._network == "tcp":
                connection.sendall(b"\n".join(messages) + b"\n")
            else:
                for message in messages:
                    connection.send(message)
        except OSError:
            self._disconnect()
            return len(lines)
        return 0

    def reopen(self) -> Callable[[], None]:
        """As Target.reopen: the next batch connects anew."""
        return self._disconnect

    def close(self) -> None:
        """As Target.close."""
        self._disconnect()

    def _connect(self) -> socket.socket | None:
        if self._clock() < self._retry_at:
            return None
        self._retry_at = self._clock() + RETRY_SECONDS
        try:
            self._socket = _connected(self._network, self._address)
        except OSError:
            return None
        return self._socket

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connected(network: Literal["udp", "tcp"], address: tuple[str, int]) -> socket.socket:
    if network == "tcp":
        connection = socket.create_connection(address, timeout=CONNECT_SECONDS)
    else:
        family, kind, protocol, _, where = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
        connection = socket.socket(family, kind, protocol)
        connection.connect(where)
    connection.settimeout(SEND_SECONDS)
    return connection
