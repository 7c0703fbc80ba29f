"""The house of the behaviour tests: one router with a domain of every kind, whose access log is JSON, and the people who call.

Tests register hosts of their own (`at(DOMAIN)`) and never change the router; a test that needs another configuration makes its
own router.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.place import Place, places_of
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential, authority
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess, mtls_domain
from tests.support.workers import is_whole

ANY, ORGS, SPACES = "*.any.test", "*.orgs.test", "*.spaces.test"
REPORT, UNENFORCED, PARTNER = "*.report.test", "*.unenforced.test", "*.partner.test"
RAW, FORWARD, ALWAYS = "*.raw.test", "*.forward.test", "*.always.test"
LATER, WEST, EXACT, OPEN = "*.later.test", "*.west.test", "exact.test", "*.open.example"

At = Callable[..., Place]


def later_domain(name: str, ca: CA, **more: Any) -> dict[str, Any]:
    """An entry of `domains`, the second dialect."""
    return {"name": name, "ca_certs": ca.pem, "xfcc_format": "envoy", **more}


def json_log(directory: Path) -> dict[str, str]:
    """The value of `access_log` for a router in this directory whose log tests read as JSON."""
    return {"file": str(directory / "access.log"), "format": "json"}


@pytest.fixture(scope="session")
def partner_ca() -> CA:
    return authority("partners and devices")


@pytest.fixture(scope="session")
def house(
    nats_server: NatsServer, east_ca: CA, west_ca: CA, partner_ca: CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RouterProcess]:
    directory = tmp_path_factory.mktemp("house")
    domains = [
        mtls_domain(ANY, east_ca),
        mtls_domain(ORGS, east_ca, orgs=["org-1", "org-2"]),
        mtls_domain(SPACES, east_ca, spaces=["space-1"]),
        mtls_domain(
            REPORT,
            east_ca,
            orgs=["org-1"],
            authorization={"mode": "cf_identity", "report_only": True, "config": {"orgs": ["org-1"]}},
        ),
        mtls_domain(UNENFORCED, east_ca, mode="none"),
        mtls_domain(WEST, west_ca),
        mtls_domain(EXACT, east_ca),
        mtls_domain(RAW, east_ca, xfcc_format="raw"),
        mtls_domain(FORWARD, east_ca, mode="none", forwarded_client_cert="forward"),
        mtls_domain(ALWAYS, east_ca, mode="none", xfcc_format="raw", forwarded_client_cert="always_forward"),
        {"domain": PARTNER, "ca_certs": partner_ca.pem},
    ]
    later = [later_domain(LATER, east_ca)]
    with RouterProcess(
        directory, nats=nats_server, mtls_domains=domains, domains=later, access_log=json_log(directory)
    ) as process:
        yield process


@pytest.fixture(scope="session")
def house_registrar(nats_server: NatsServer, house: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, house) as made:
        yield made


@pytest.fixture(scope="session", name="_crew")
def _shared_crew(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    with RouterProcess(tmp_path_factory.mktemp("crew"), nats=nats_server, workers=2) as process:
        yield process


@pytest.fixture
def crew(_crew: RouterProcess) -> RouterProcess:
    """A router with two workers, both of whom serve and have no clients. Tests may kill one, and reload what they restore."""
    is_whole(_crew)
    return _crew


@pytest.fixture(scope="session")
def crew_registrar(nats_server: NatsServer, _crew: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, _crew) as made:
        yield made


@pytest.fixture
def at(house: RouterProcess, house_registrar: Registrar) -> Iterator[At]:
    """A place under a domain of the house, registered with `options` (none: without any)."""
    yield from places_of(house, house_registrar)


@pytest.fixture(scope="session")
def alice(east_ca: CA) -> Credential:
    """app-a in space-1 of org-1."""
    return east_ca.issue_instance("app-a", "space-1", "org-1")


@pytest.fixture(scope="session")
def bob(east_ca: CA) -> Credential:
    """app-b in space-2 of org-2."""
    return east_ca.issue_instance("app-b", "space-2", "org-2")


@pytest.fixture(scope="session")
def carol(east_ca: CA) -> Credential:
    """app-c in space-3 of org-3, whom no list names."""
    return east_ca.issue_instance("app-c", "space-3", "org-3")


@pytest.fixture(scope="session")
def nameless(east_ca: CA) -> Credential:
    """A certificate of the right authority that names no app."""
    return east_ca.issue_instance(extra_ous=["web servers"])


@pytest.fixture
def second_backend() -> Iterator[EchoBackend]:
    with EchoBackend("second") as made:
        yield made


@pytest.fixture(scope="session")
def west_ca_caller(west_ca: CA) -> Credential:
    """The names of alice, in a certificate of the other foundation."""
    return west_ca.issue_instance("app-a", "space-1", "org-1")
