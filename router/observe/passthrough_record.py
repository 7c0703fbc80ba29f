"""What the access log knows of one connection that was passed through, and its line.

    sni - [time] "L4" ending in out "client" "backend" peer:"-" route:"-" listener:"-" seconds:1.234567 dial_time:0.000123
    failed_attempts:0 broken_by:"-"

Promises: as access_line.py: one record is one line, whatever a peer said; a missing text is `-`. The JSON form has the names of
the HTTP records where the fact is the same. Refuses to know where lines go.
"""

import json

from router.observe.quote import PLAIN, escape
from router.observe.timestamp import Timestamps


class PassthroughRecord:
    """One connection. `client` is the real client, `peer` the other end of the socket (a proxy, where they differ), both
    `address:port`; bytes are those of the two peers, without any PROXY header; times in seconds, -1 where there is none.

    `ending`: how the relay ended (net/relay.py), or why no backend was reached (l4/dial.py).
    """

    __slots__ = (
        "backend",
        "broken_by",
        "bytes_in",
        "bytes_out",
        "client",
        "dial_time",
        "ending",
        "failed_attempts",
        "listener",
        "peer",
        "route",
        "seconds",
        "sni",
        "started_at",
    )

    def __init__(self, started_at: float, listener: str, route: str, sni: str, client: str, peer: str) -> None:
        self.started_at = started_at
        self.listener = listener
        self.route = route
        self.sni = sni
        self.client = client
        self.peer = peer
        self.backend = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self.seconds = -1.0
        self.dial_time = -1.0
        self.failed_attempts = 0
        self.ending = ""
        self.broken_by = ""


_LINE = " ".join(
    (
        '%s - [%s] "L4" %s %d %d "%s" "%s"',
        'peer:"%s" route:"%s" listener:"%s" seconds:%s dial_time:%s failed_attempts:%d broken_by:"%s"',
    )
)


def render_passthrough_line(record: PassthroughRecord, timestamps: Timestamps, *, hide_source: bool) -> bytes:
    """The line, without its line feed. `hide_source`: no address of the client's side."""
    sni, route, backend, listener = record.sni, record.route, record.backend, record.listener
    client, peer = ("", "") if hide_source else (record.client, record.peer)
    # One look at all that is not our own word: almost always nothing needs an escape.
    if (sni + route + backend + listener + client + peer).encode("utf-8", "surrogatepass").translate(None, PLAIN):
        sni, route, backend, listener, client, peer = map(_escaped, (sni, route, backend, listener, client, peer))
    return (
        _LINE
        % (
            sni or "-",
            timestamps.rfc3339(record.started_at),
            record.ending or "-",
            record.bytes_in,
            record.bytes_out,
            client or "-",
            backend or "-",
            peer or "-",
            route or "-",
            listener or "-",
            _seconds(record.seconds),
            _seconds(record.dial_time),
            record.failed_attempts,
            record.broken_by or "-",
        )
    ).encode()


def render_passthrough_json(record: PassthroughRecord, timestamps: Timestamps, *, hide_source: bool) -> bytes:
    """Every field as a JSON object on one line; null where there is none."""
    fields: dict[str, object] = {
        "timestamp": timestamps.rfc3339(record.started_at),
        "proto": "L4",
        "tls_sni": record.sni or None,
        "ending": record.ending or None,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "remote_addr": None if hide_source else record.client or None,
        "backend_addr": record.backend or None,
        "peer_addr": None if hide_source else record.peer or None,
        "route": record.route or None,
        "listener": record.listener or None,
        "seconds": _rounded(record.seconds),
        "dial_time": _rounded(record.dial_time),
        "failed_attempts": record.failed_attempts,
        "broken_by": record.broken_by or None,
    }
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def _escaped(value: str) -> str:
    return escape(value.encode("utf-8", "surrogatepass")).decode()


def _seconds(value: float) -> str:
    return f"{value:.6f}" if value >= 0 else '"-"'


def _rounded(value: float) -> float | None:
    return round(value, 6) if value >= 0 else None
