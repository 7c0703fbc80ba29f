"""What the attacks on the client-certificate policy share: a host behind each door, and a caller who may enter the strict one.

Each host has a backend of its own, so that a test can say of a refused request that nobody saw it.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.conftest import EAST, OPEN
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Response
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess

MakeRegistrar = Callable[[NatsServer, RouterProcess], Registrar]


class Door(NamedTuple):
    """A registered host and the backend behind it."""

    host: str
    backend: EchoBackend


@pytest.fixture
def strict(registrar: Registrar, make_backend: Callable[..., EchoBackend]) -> Door:
    """A host of the strict domain B (*.east.example) that lets in every caller with an identity."""
    door = Door(unique_host(EAST), make_backend("strict"))
    registrar.register(door.host, backend=door.backend, options={"mtls_allow_any": True})
    return door


@pytest.fixture
def open_door(registrar: Registrar, make_backend: Callable[..., EchoBackend]) -> Door:
    """A host of the open domain A."""
    door = Door(unique_host(OPEN), make_backend("open"))
    registrar.register(door.host, backend=door.backend)
    return door


@pytest.fixture(scope="session")
def caller(east_ca: CA) -> Credential:
    """A certificate of B's authority."""
    return east_ca.issue_instance("caller-app", "caller-space", "caller-org")


@pytest.fixture(scope="session")
def stranger(west_ca: CA) -> Credential:
    """A certificate of C's authority, with the same names in it."""
    return west_ca.issue_instance("caller-app", "caller-space", "caller-org")


def assert_misdirected(response: Response, *untouched: Door) -> None:
    """A 421 that says nothing more, and backends that saw nothing of it."""
    assert (response.status, response.get("x-cf-routererror"), response.body) == (421, "mtls_domain_mismatch", b"")
    assert_unseen(*untouched)


def assert_unseen(*untouched: Door) -> None:
    """No request has reached these backends."""
    assert [door.backend.received for door in untouched] == [[]] * len(untouched)
