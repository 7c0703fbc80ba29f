"""`deny`: what an operator puts out is out at the next reload, on open connections too, and in again as fast."""

import json
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.behaviour.conftest import At, json_log, later_domain
from tests.behaviour.place import FORBIDDEN, MISDIRECTED, Seen, counted, places_of
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA, Credential
from tests.support.client import render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, wait_until

ANY, REPORT, DEAF, READING, LATER, OPEN = (
    "*.any.test", "*.report.test", "*.deaf.test", "*.reading.test", "*.later.test", "*.open.example",
)  # fmt: skip
OK, ERROR = {'result="ok"': 1.0}, {'result="error"': 1.0}
ANYBODY: Final = {"mtls_allow_any": True}
CLOSED: Final = (403, "access_denied", b"Forbidden")
OWNER: Final = {"organization_id": "org-9", "space_id": "space-9"}

Deny = Callable[..., None]
Make = Callable[..., EchoBackend]


@pytest.fixture(scope="module")
def gate(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router with a domain of every kind, whose lists the tests change."""
    directory = tmp_path_factory.mktemp("gate")
    domains = [
        mtls_domain(ANY, east_ca),
        mtls_domain(REPORT, east_ca, authorization={"mode": "cf_identity", "report_only": True}),
        mtls_domain(READING, east_ca, mode="none"),
        {"domain": DEAF, "ca_certs": east_ca.pem},
    ]
    later = [later_domain(LATER, east_ca)]
    with RouterProcess(directory, nats=nats_server, mtls_domains=domains, domains=later, access_log=json_log(directory)) as made:
        yield made


@pytest.fixture(scope="module")
def gate_registrar(nats_server: NatsServer, gate: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, gate) as made:
        yield made


@pytest.fixture
def at(gate: RouterProcess, gate_registrar: Registrar) -> Iterator[At]:
    yield from places_of(gate, gate_registrar)


@pytest.fixture
def deny(gate: RouterProcess) -> Iterator[Deny]:
    """Reload with these lists alone; afterwards nobody is denied."""

    def reload(**lists: list[str]) -> None:
        assert gate.reload(deny=lists) == OK

    yield reload
    assert gate.reload(deny=None, backends=None) == OK


def test_an_org_is_out_at_once_and_in_again_on_the_same_connection(at: At, deny: Deny, alice: Credential) -> None:
    """R237: the next request of a kept-alive connection is a 403 that says nothing; taking the entry out lets the org in."""
    place = at(ANY, ANYBODY)
    with place.connect(alice) as client:
        place.ask(client).assert_allowed("route:mtls_allow_any")
        deny(orgs=["org-1"])
        refused = place.ask(client)
        refused.assert_denied("deny:orgs", "caller org org-1 is on deny.orgs")
        assert b"org" not in refused.response.head
        deny()
        place.ask(client).assert_allowed("route:mtls_allow_any")


def test_a_hit_is_logged_and_counted(at: At, deny: Deny, alice: Credential) -> None:
    """R237: the component log names list, caller and host, the metric the list."""
    place = at(ANY, ANYBODY)
    before = place.router.metric("mtls_decisions", domain=ANY, result="deny", reason="deny_orgs")
    deny(orgs=["org-1"])
    place.call(alice)
    said = json.loads(place.router.wait_for_event(lambda line: "deny-list-hit" in line and place.host in line))["data"]
    assert (said["list"], said["host"], said["reason"]) == ("orgs", place.host, "caller org org-1 is on deny.orgs")
    assert (said["caller_app"], said["caller_space"], said["caller_org"]) == ("app-a", "space-1", "org-1")
    assert place.router.metric("mtls_decisions", domain=ANY, result="deny", reason="deny_orgs") == before + 1


@pytest.mark.parametrize(
    ("name", "guid", "kind"), [("apps", "app-a", "app"), ("spaces", "space-1", "space"), ("orgs", "org-1", "org")]
)
def test_a_caller_is_out_by_its_app_its_space_or_its_org(
    at: At, deny: Deny, alice: Credential, bob: Credential, name: str, guid: str, kind: str
) -> None:
    """R237: and nobody else is."""
    place = at(ANY, ANYBODY)
    deny(**{name: [guid]})
    place.call(alice).assert_denied(f"deny:{name}", f"caller {kind} {guid} is on deny.{name}")
    place.call(bob).assert_allowed("route:mtls_allow_any")


@pytest.mark.parametrize("domain", [REPORT, READING, LATER])
def test_a_caller_is_out_wherever_a_domain_reads_identities(at: At, deny: Deny, alice: Credential, domain: str) -> None:
    """R237: report-only, an open policy and the second dialect soften nothing."""
    place = at(domain, ANYBODY if domain == REPORT else None)
    assert place.call(alice).response.status == 200
    deny(apps=["app-a"])
    place.call(alice).assert_denied("deny:apps", "caller app app-a is on deny.apps")


def test_where_no_identity_is_read_nobody_is_denied_by_it(at: At, deny: Deny, alice: Credential, nameless: Credential) -> None:
    """OUs are a stranger's words there; and who names no org is on no list of orgs."""
    deaf, reading = at(DEAF), at(READING)
    deny(orgs=["org-1"], apps=["app-a"])
    assert deaf.call(alice).response.status == 200
    assert reading.call(nameless).response.status == 200


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"apps": ["app-9"]}, "endpoint app app-9 is on deny.apps"),
        ({"spaces": ["space-9"]}, "endpoint space space-9 is on deny.spaces"),
        ({"orgs": ["org-9"]}, "endpoint org org-9 is on deny.orgs"),
    ],
)
@pytest.mark.parametrize("domain", [ANY, REPORT, OPEN])
def test_the_routes_of_an_owner_are_out_for_everybody(
    at: At, deny: Deny, alice: Credential, domain: str, lists: dict[str, list[str]], said: str
) -> None:
    """R237: by the app and the tags that the endpoints registered; on open hosts too."""
    place = at(domain, ANYBODY, app="app-9", tags=OWNER)
    caller = None if domain == OPEN else alice
    assert place.call(caller).response.status == 200
    deny(**lists)
    call = place.call(caller)
    assert call.refusal == (CLOSED if domain == OPEN else FORBIDDEN)
    assert call.received == []
    assert call.seen == Seen("denied", f"deny:{next(iter(lists))}", said)


def test_of_a_shared_route_only_the_others_serve(at: At, deny: Deny, alice: Credential, second_backend: EchoBackend) -> None:
    """R237: with one owner out, no request fails and none reaches it."""
    place = at(ANY, ANYBODY, app="app-8")
    place.register(ANYBODY, backend=second_backend, app="app-9", index=1, tags=OWNER)
    deny(orgs=["org-9"])
    assert [place.call(alice).response.status for _ in range(6)] == [200] * 6
    assert second_backend.received == []
    deny()
    wait_until(lambda: place.call(alice).response.status == 200 and second_backend.received, "its turn")


def test_the_policy_of_an_owner_that_is_out_still_holds(
    at: At, deny: Deny, alice: Credential, bob: Credential, second_backend: EchoBackend
) -> None:
    """Decision 4: taking an endpoint out never admits anybody."""
    place = at(ANY, ANYBODY)
    place.register({"mtls_allowed_apps": "app-a"}, backend=second_backend, app="app-9", index=1)
    deny(apps=["app-9"])
    assert place.call(alice).response.status == 200
    assert place.call(bob).response.status == 403


@pytest.mark.parametrize("plain", [False, True])
def test_a_host_is_out_in_every_spelling(at: At, deny: Deny, plain: bool) -> None:
    """R239: case, final dot and port are the same host; over plain HTTP as over TLS, and its neighbours are served."""
    place, neighbour = at(OPEN), at(OPEN)
    deny(hosts=[place.host.upper() + "."])
    for host in (place.host, place.host.upper(), place.host + ".", place.host + ":8080", place.host.title() + ".:443"):
        call = place.call(host=host, plain=plain)
        assert call.refusal == CLOSED
        assert call.seen == Seen("denied", "deny:hosts", f"host {place.host} is on deny.hosts ({place.host})")
    assert place.call(path=f"http://{place.host.upper()}.", plain=plain).refusal == CLOSED
    assert place.backends[0].received == []
    assert neighbour.call(plain=plain).response.status == 200


def test_every_host_below_a_suffix_is_out_registered_or_not(at: At, deny: Deny, alice: Credential) -> None:
    """R239: at any depth; nobody learns which of them exist, and the suffix itself is not below itself."""
    place = at(ANY, ANYBODY)
    below = unique_host(place.host)
    deny(hosts=[f"*.{place.host}"])
    for host in (f"a.{place.host}", f"a.b.c.{place.host}", below):
        assert place.call(alice, host=host).refusal == FORBIDDEN
    place.call(alice).assert_allowed("route:mtls_allow_any")


def test_a_denied_caller_does_not_learn_which_routes_exist(at: At, deny: Deny, alice: Credential) -> None:
    """R237: 403 for a host that nobody registered, as for every other."""
    place = at(ANY, ANYBODY)
    deny(orgs=["org-1"])
    assert place.call(alice, host=unique_host("any.test")).refusal == FORBIDDEN


def test_the_421_comes_first(at: At, deny: Deny, alice: Credential) -> None:
    """Decision 3: a connection that does not fit learns nothing of the lists."""
    place = at(ANY, ANYBODY)
    deny(hosts=[place.host], orgs=["org-1"])
    assert place.call(plain=True).refusal == MISDIRECTED
    assert place.call(sni="x.open.example").refusal == MISDIRECTED
    assert place.call(alice).refusal == FORBIDDEN


def test_a_node_is_out_and_the_others_serve(at: At, deny: Deny, make_backend: Make) -> None:
    """R238: no request reaches an address of a denied network; where all are denied it is a 403, not a 503."""
    bad = make_backend("bad", host="127.0.0.2")
    place = at(OPEN)
    place.register(backend=bad, index=1)
    deny(backend_networks=["127.0.0.2"])
    assert [place.call().response.status for _ in range(6)] == [200] * 6
    assert bad.received == []
    deny(backend_networks=["127.0.0.0/30"])
    call = place.call()
    assert call.refusal == CLOSED
    assert call.seen.rule == "deny:backend_networks"
    deny()
    wait_until(lambda: place.call().response.status == 200 and bad.received, "the node's turn")  # a worker has turns of its own


def test_a_retry_does_not_go_to_a_node_that_is_out(at: At, deny: Deny, make_backend: Make) -> None:
    """R238: with the only other endpoint gone the request fails."""
    bad = make_backend("bad", host="127.0.0.2")
    place = at(OPEN)
    place.register(backend=bad, index=1)
    deny(backend_networks=["127.0.0.2/32"])
    place.backends[0].stop()
    assert [place.call().response.status for _ in range(3)] == [502] * 3
    assert bad.connections == 0


def test_an_instance_that_is_asked_for_is_not_reached_when_it_is_out(at: At, deny: Deny, make_backend: Make) -> None:
    """R238: X-CF-App-Instance does not lead around the lists."""
    app = "0b0b0b0b-1111-4111-8111-0b0b0b0b0b0b"
    bad = make_backend("bad", host="127.0.0.2")
    place = at(OPEN, app=app)
    place.register(backend=bad, app=app, index=1)
    deny(backend_networks=["127.0.0.2/32"])
    assert place.call(headers=[("X-CF-App-Instance", f"{app}:0")]).response.status == 200
    assert place.call(headers=[("X-CF-App-Instance", f"{app}:1")]).response.status == 400
    assert bad.received == []


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "[::FFFF:7F00:1]", "localhost", "0.0.0.0"])
def test_no_other_name_of_a_node_leads_to_it(at: At, deny: Deny, host: str) -> None:
    """R238: an IPv4 address inside IPv6, a name that resolves to it, and the address of every interface: no byte is sent."""
    place = at(OPEN, host=host)
    deny(backend_networks=["127.0.0.0/8", "::1"])
    call = place.call()
    assert call.refusal == CLOSED
    assert call.received == []
    assert call.seen.auth == "denied"
    assert call.seen.rule == "deny:backend_networks"


def test_a_name_that_leads_to_a_denied_node_costs_no_attempt(at: At, deny: Deny, make_backend: Make) -> None:
    """R238: it was no candidate; the endpoint that is one serves, even where one attempt is all there is."""
    good = make_backend("good", host="127.0.0.2")
    place = at(OPEN, host="localhost")
    place.register(backend=good, index=1)
    assert place.router.reload(backends={"max_attempts": 1}) == OK
    deny(backend_networks=["127.0.0.1", "::1"])
    assert [place.call().response.status for _ in range(4)] == [200] * 4
    assert len(good.received) == 4
    assert place.backends[0].received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_idle_connections_to_a_node_end_with_the_reload(at: At, deny: Deny, host: str) -> None:
    """R238: whatever name they were made by; those to others are kept."""
    place, other = at(OPEN, host=host), at(OPEN, backend=EchoBackend("other", host="127.0.0.2"))
    assert place.call().response.status == 200
    assert other.call().response.status == 200
    assert place.backends[0].open_connections == 1
    deny(backend_networks=["127.0.0.1", "::1"])
    wait_until(lambda: place.backends[0].open_connections == 0, "the idle connection to end")
    assert other.call().response.status == 200
    assert 1 <= other.backends[0].connections <= place.router.width


def test_a_connection_that_was_busy_during_the_reload_is_not_used_again(at: At, deny: Deny) -> None:
    """R238: requests in flight end as they began; the next one is not sent over the connection they leave behind."""
    place = at(OPEN, host="localhost")

    def slow(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        wait_until(lambda: denied, "the reload")
        exchange.send(b"half")

    denied: list[bool] = []
    place.backends[0].script(slow)
    with place.connect(plain=True) as client:
        client.send(render_request(place.host))
        wait_until(lambda: place.backends[0].received, "the request")
        deny(backend_networks=["127.0.0.1", "::1"])
        denied.append(True)
        assert client.read_response().body == b"halfhalf"
        assert place.ask(client).refusal == CLOSED
    assert len(place.backends[0].received) == 1


def test_a_list_that_cannot_be_read_leaves_the_old_ones_in_force(
    at: At, gate: RouterProcess, deny: Deny, alice: Credential
) -> None:
    """R271: an error with its path and line; whoever was out stays out."""
    place = at(ANY, ANYBODY)
    deny(orgs=["org-1"])
    assert gate.reload(deny={"orgs": ["org-2", "no guid"]}) == ERROR
    said = json.loads(gate.wait_for_event(lambda line: "config-problem" in line and "deny.orgs[1]" in line))["data"]
    assert said["line"] > 0
    assert place.call(alice).response.status == 403


def test_hits_of_open_hosts_are_counted_without_a_domain(at: At, deny: Deny) -> None:
    """R235: the label is the list, never the host."""
    place = at(OPEN)
    before = counted(place.router, "mtls_decisions", domain="", reason="deny_hosts")
    deny(hosts=[place.host])
    place.call()
    after = counted(place.router, "mtls_decisions", domain="", reason="deny_hosts")
    assert sum(after.values()) == sum(before.values()) + 1
    assert place.host not in place.router.metrics()
