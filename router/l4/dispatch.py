"""What becomes of a new connection: passed through, terminated, served as plain HTTP, or refused. Pure.

Promise: the answer follows from the listener's kind, the port, what the client's first bytes said and the tables alone; there is
no default behind which a name could slip. A name that is passed through is never terminated on the same port, and the other way
round (`L4Table` sees to that). Every refusal has a bounded reason, for the metrics; the client sees the same reset for each.

    kind      what decides                                        no match
    tls       the SNI: an L4 route's name, or a terminated one    refused
    ssl_port  the SNI: an L4 route's name                         terminated, with the default certificate
    tcp       the port                                            refused
    http      nothing: plain HTTP                                 -

An encrypted ClientHello shows its public name only. Browsers send the extension's look also where nothing is encrypted, so a
name that has a route is followed; where it has none, the reason says that the true one may be hidden.
Source: requirements 1, 2, 11, 59, 97, 137; attacks 74 and 75; decision 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from router.l4.listeners import Kind
from router.l4.routes import L4Route, L4Table
from router.wire.client_hello import ClientHello
from router.wire.malformed import Malformed

Terminates: TypeAlias = Callable[[int, str], bool]


class Passthrough(NamedTuple):
    """Joined to a backend of this route, untouched. `server_name`: None for raw TCP."""

    route: L4Route
    server_name: str | None = None


class Terminate(NamedTuple):
    """A TLS handshake here, with the certificate that the name asks for."""

    hello: ClientHello


class PlainHttp(NamedTuple):
    """HTTP from the first byte."""


class Refuse(NamedTuple):
    """Reset. `reason`: not_tls and what else a hello can break, no_sni, unknown_sni, ech, no_route, l7_disabled."""

    reason: str


Choice: TypeAlias = Passthrough | Terminate | PlainHttp | Refuse


def reads_hello(kind: Kind) -> bool:
    """Must the client's first bytes be here before `dispatch` can be asked?"""
    return kind in ("tls", "ssl_port")


def dispatch(
    kind: Kind, port: int, hello: ClientHello | Malformed | None, table: L4Table, terminates: Terminates | None
) -> Choice:
    """`hello`: None where the kind reads none. `terminates(port, name)`: does L7 answer for that name; None: L7 is off."""
    if kind == "http":
        return PlainHttp() if terminates is not None else Refuse("l7_disabled")
    if kind == "tcp":
        route = table.raw(port)
        return Passthrough(route) if route is not None else Refuse("no_route")
    if not isinstance(hello, ClientHello):
        return Refuse(hello.reason if hello is not None else "not_tls")
    route = table.claim(port, hello.server_name)
    if route is not None:
        return Passthrough(route, hello.server_name)
    return _without_route(kind, port, hello, terminates)


def _without_route(kind: Kind, port: int, hello: ClientHello, terminates: Terminates | None) -> Choice:
    name = hello.server_name
    if terminates is not None and (kind == "ssl_port" or (name is not None and terminates(port, name))):
        return Terminate(hello)
    if kind == "ssl_port":
        return Refuse("l7_disabled")
    if name is None:
        return Refuse("no_sni")
    return Refuse("ech" if hello.ech else "unknown_sni")
