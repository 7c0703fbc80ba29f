"""The global client-certificate settings: what a handshake outside every domain asks for, and that domains do not heed them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.behaviour.conftest import ANY, OPEN, json_log
from tests.behaviour.place import Call, Place, make_place
from tests.support.certs import CA, Credential, authority, plain_name
from tests.support.client import Alert, Tls, expect_alert
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess, mtls_domain

XFCC = "x-forwarded-client-cert"
Made = Callable[..., RouterProcess]


@pytest.fixture(scope="module")
def made(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Routers by their settings, each started once for this file."""
    running: dict[str, RouterProcess] = {}

    def make(**config: Any) -> RouterProcess:
        name = repr(sorted(config.items(), key=lambda item: item[0]))
        if name not in running:
            directory = tmp_path_factory.mktemp("validation")
            domains = [mtls_domain(ANY, east_ca)]
            settings = {"mtls_domains": domains, "access_log": json_log(directory), **config}
            running[name] = RouterProcess(directory, nats=nats_server, **settings).start()
        return running[name]

    yield make
    for process in running.values():
        process.stop()


@pytest.fixture
def place_on(nats_server: NatsServer) -> Iterator[Callable[[RouterProcess, str], Place]]:
    places: list[Place] = []

    def make(process: RouterProcess, domain: str = OPEN) -> Place:
        place = make_place(process, Registrar(nats_server.port, process), domain)
        places.append(place)
        place.register({"mtls_allow_any": True} if domain == ANY else None)
        return place

    yield make
    for place in places:
        place.leave()
        place.registrar.close()


@pytest.fixture(scope="session")
def device(partner_ca: CA) -> Credential:
    return partner_ca.issue(plain_name("device-1"))


@pytest.fixture
def asking(made: Made, partner_ca: CA) -> RouterProcess:
    return made(client_cert_validation="request", client_ca_certs=partner_ca.pem, only_trust_client_ca_certs=True)


@pytest.fixture
def requiring(made: Made, partner_ca: CA) -> RouterProcess:
    return made(client_cert_validation="require", client_ca_certs=partner_ca.pem, only_trust_client_ca_certs=True)


def refused(place: Place, caller: Credential | None) -> int | None:
    """The alert that ends this caller's handshake; nothing reached the backend."""
    alert = expect_alert(place.router.ssl_port, Tls(place.host, caller))
    assert place.backends[0].received == []
    return alert


PlaceOn = Callable[..., Place]


def test_request_takes_a_client_without_a_certificate(asking: RouterProcess, place_on: PlaceOn) -> None:
    """R246: `request`: nobody needs one, and no header claims one."""
    call = place_on(asking).call(headers=[("X-Forwarded-Client-Cert", "forged")])
    assert (call.response.status, call.at_backend.all(XFCC)) == (200, [])


def test_request_verifies_what_it_is_given(
    asking: RouterProcess, place_on: PlaceOn, device: Credential, alice: Credential
) -> None:
    """R312: `request`: a good certificate is forwarded (raw), one of a stranger ends the handshake."""
    place = place_on(asking)
    call = place.call(device)
    assert call.response.status == 200
    assert (call.at_backend.get(XFCC) or "").startswith("MII")
    place.backends[0].clear()
    assert refused(place, alice) == Alert.UNKNOWN_CA


def test_a_certificate_outside_the_domains_names_no_caller(asking: RouterProcess, place_on: PlaceOn, partner_ca: CA) -> None:
    """R253, R314: where no extractor reads identities, OUs are a stranger's words: none stands in the log."""
    record = place_on(asking).call(partner_ca.issue_instance("app-a", "space-1", "org-1")).record
    assert (record["caller_cf_app"], record["caller_cf_space"], record["caller_cf_org"]) == (None, None, None)


def test_require_demands_a_good_one(requiring: RouterProcess, place_on: PlaceOn, device: Credential, alice: Credential) -> None:
    """R246: `require` is the operator's choice for all hosts outside the domains: none or a stranger's is refused."""
    place = place_on(requiring)
    assert refused(place, None) == Alert.CERTIFICATE_REQUIRED
    assert refused(place, alice) == Alert.UNKNOWN_CA
    assert place.call(device).response.status == 200


@pytest.mark.parametrize("mode", ["asking", "requiring"])
def test_a_domain_knows_only_its_own_authorities(
    request: pytest.FixtureRequest, place_on: PlaceOn, device: Credential, alice: Credential, mode: str
) -> None:
    """R245, R278: the global settings neither widen nor soften an mTLS domain."""
    place = place_on(request.getfixturevalue(mode), ANY)
    assert refused(place, None) == Alert.CERTIFICATE_REQUIRED
    assert refused(place, device) == Alert.UNKNOWN_CA
    place.call(alice).assert_allowed("route:mtls_allow_any")


@pytest.mark.parametrize("only", [True, False], ids=["only", "also"])
def test_only_trust_client_ca_certs(made: Made, place_on: PlaceOn, partner_ca: CA, device: Credential, only: bool) -> None:
    """R245: with `only_trust_client_ca_certs` the router's other authorities (`ca_certs`) are nobody to a client, else good."""
    backends_ca = authority("backends")
    process = made(
        client_cert_validation="require",
        client_ca_certs=partner_ca.pem,
        only_trust_client_ca_certs=only,
        ca_certs=[backends_ca.pem],
    )
    place = place_on(process)
    other = backends_ca.issue(plain_name("a backend"))
    if only:
        assert refused(place, other) == Alert.UNKNOWN_CA
    else:
        assert place.call(other).response.status == 200
    assert place.call(device).response.status == 200


@pytest.fixture
def knowing(made: Made, partner_ca: CA) -> RouterProcess:
    """Below the partners' authority only device-1 and device-2 of one organization are good."""
    rule = {
        "issuer_in_chain": {"common_name": "partners and devices"},
        "valid_cert_subjects": [{"common_name": "device-1"}, {"common_name": "device-2", "organization": ["acme"]}],
    }
    return made(
        client_cert_validation="require",
        client_ca_certs=partner_ca.pem + authority("others").pem,
        only_trust_client_ca_certs=True,
        enable_verify_client_certificate_metadata=True,
        verify_client_certificate_metadata=[rule],
    )


def subject(common_name: str, *organizations: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@pytest.mark.parametrize("name", [subject("device-1"), subject("device-2", "acme")], ids=["device-1", "device-2"])
def test_a_listed_subject_passes(knowing: RouterProcess, place_on: PlaceOn, partner_ca: CA, name: x509.Name) -> None:
    """R245: `verify_client_certificate_metadata`: exactly the listed subjects are good under that authority."""
    assert place_on(knowing).call(partner_ca.issue(name)).response.status == 200


@pytest.mark.parametrize(
    "name",
    [
        subject("device-3"),
        subject("device-1", "acme"),
        subject("device-2"),
        subject("device-2", "acme", "acme2"),
        subject("Device-1"),
    ],
    ids=["unlisted", "one-more", "one-less", "two-orgs", "case"],
)
def test_a_subject_that_is_nearly_listed_does_not(
    knowing: RouterProcess, place_on: PlaceOn, partner_ca: CA, name: x509.Name
) -> None:
    """R245: a near match is no match: the handshake ends with an alert, counted."""
    place = place_on(knowing)
    assert refused(place, partner_ca.issue(name)) is not None
    knowing.wait_for_metric("tls_handshakes", 1, domain="", result="certificate_metadata")  # once the alert has had its time


def test_an_authority_without_a_rule_is_not_concerned(knowing: RouterProcess, place_on: PlaceOn) -> None:
    """R245: the rule of one authority says nothing about another's certificates."""
    assert place_on(knowing).call(authority("others").issue(plain_name("anybody"))).response.status == 200


def test_no_call_is_forwarded_without_a_verified_certificate(requiring: RouterProcess, place_on: PlaceOn) -> None:
    """R246: over plain HTTP nobody has one: the plain port stays what it is, and no header says otherwise."""
    call: Call = place_on(requiring).call(plain=True, headers=[("X-Forwarded-Client-Cert", "forged")])
    assert (call.response.status, call.at_backend.all(XFCC)) == (200, [])
