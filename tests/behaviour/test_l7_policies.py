"""The promise: `l7_policies` refuse requests by User-Agent or missing header, where the operator said so and nowhere else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.behaviour.conftest import At, json_log
from tests.behaviour.place import FORBIDDEN, MISDIRECTED, places_of
from tests.support.certs import CA, Credential
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain

ANY, OPEN = "*.any.test", "*.open.example"
OK, ERROR = {'result="ok"': 1.0}, {'result="error"': 1.0}
REFUSED = (403, "l7_policy_denied", b"Forbidden")
POLICIES: list[dict[str, Any]] = [
    {"route": OPEN, "type": "user_agent_block", "value": "BadBot"},
    {"route": f"{OPEN}/admin", "type": "required_header", "value": "X-Api-Key"},
    {"route": ANY, "type": "required_header", "value": "X-Tenant"},
]
BOT = [("User-Agent", "Mozilla/5.0 (badbot/2.1)")]
KEY = [("X-Api-Key", "k")]


@pytest.fixture(scope="module")
def gate(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    directory = tmp_path_factory.mktemp("policies")
    domains = [mtls_domain(ANY, east_ca)]
    with RouterProcess(
        directory, nats=nats_server, mtls_domains=domains, access_log=json_log(directory), l7_policies=POLICIES
    ) as made:
        yield made


@pytest.fixture(scope="module")
def gate_registrar(nats_server: NatsServer, gate: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, gate) as made:
        yield made


@pytest.fixture
def at(gate: RouterProcess, gate_registrar: Registrar) -> Iterator[At]:
    yield from places_of(gate, gate_registrar)


def test_a_hit_is_logged_and_counted(at: At, gate: RouterProcess) -> None:
    """R126: which policy, in the component log; by type alone in the metric, by code in the access log.

    It stands first: the log takes ten such lines a minute.
    """
    place = at(OPEN)
    before = gate.metric("l7_policy_denied", type="user_agent_block")
    call = place.call(headers=BOT)
    assert call.record["status"] == 403
    assert call.record["x_cf_routererror"] == "l7_policy_denied"
    said = json.loads(gate.wait_for_event(lambda line: "l7-policy-denied" in line and place.host in line))["data"]
    assert (said["route"], said["type"], said["value"]) == (OPEN, "user_agent_block", "BadBot")
    assert gate.metric("l7_policy_denied", type="user_agent_block") == before + 1
    assert set(gate.metric_values("l7_policy_denied")) <= {'type="user_agent_block"', 'type="required_header"'}


def test_a_user_agent_that_is_out_is_refused(at: At) -> None:
    """R126: a part of it is enough; 403 with a code, no word of why, and the connection stays for others."""
    place = at(OPEN)
    with place.connect() as client:
        refused = place.ask(client, headers=BOT)
        assert refused.refusal == REFUSED
        assert b"bot" not in refused.response.head.lower()
        assert refused.received == []
        assert place.ask(client, headers=[("User-Agent", "curl/8")]).response.status == 200
        assert place.ask(client).response.status == 200


@pytest.mark.parametrize("path", ["/admin", "/ADMIN/x", "/%61dmin", "/x/../admin", "/admin%3Bv=1"])
def test_a_header_that_is_missing_is_refused(at: At, path: str) -> None:
    """R127, R130: below its path, in every spelling of it."""
    place = at(OPEN)
    assert place.call(path=path).refusal == REFUSED
    assert place.call(path=path, headers=[("X-Api-Key", "")]).refusal == REFUSED
    assert place.call(path=path, headers=[*KEY, ("Connection", "x-api-key")]).refusal == REFUSED
    assert place.backends[0].received == []
    assert place.call(path=path, headers=KEY).response.status == 200
    assert place.call(path="/other").response.status == 200


def test_a_policy_adds_to_the_doors_and_opens_none(at: At, alice: Credential, nameless: Credential) -> None:
    """R127: the header lets nobody in whom the route does not."""
    place = at(ANY, {"mtls_allowed_apps": "app-a"})
    tenant = [("X-Tenant", "t")]
    assert place.call(alice).refusal == REFUSED
    assert place.call(alice, headers=tenant).response.status == 200
    assert place.call(nameless, headers=tenant).refusal == FORBIDDEN


def test_the_421_comes_first_and_routes_stay_unknown(at: At, alice: Credential) -> None:
    """R130: a connection that does not fit learns nothing of policies; nor does an answer say whether there is a route."""
    place = at(ANY, {"mtls_allow_any": True})
    assert place.call(plain=True).refusal == MISDIRECTED
    assert place.call(alice, host=unique_host("any.test")).refusal == REFUSED
    assert place.call(headers=BOT, host=unique_host("open.example"), plain=True).refusal == REFUSED


def test_policies_change_with_a_reload_on_open_connections_too(at: At, gate: RouterProcess) -> None:
    """R130: at the next request; a file with an unknown type leaves those of before in force (R128)."""
    place = at(OPEN)
    with place.connect(plain=True) as client:
        assert place.ask(client, headers=BOT).refusal == REFUSED
        try:
            assert gate.reload(l7_policies=None) == OK
            assert place.ask(client, headers=BOT).response.status == 200
        finally:
            assert gate.reload(l7_policies=POLICIES) == OK
        assert place.ask(client, headers=BOT).refusal == REFUSED
        try:
            assert gate.reload(l7_policies=[{"route": OPEN, "type": "ip_block", "value": "x"}]) == ERROR
            assert place.ask(client, headers=BOT).refusal == REFUSED
        finally:
            assert gate.reload(l7_policies=POLICIES) == OK
