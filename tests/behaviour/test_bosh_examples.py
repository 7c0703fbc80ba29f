"""The promise: each example of bosh_like_config is rendered, started and called as its README says."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from registry.manifest import read_manifest
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential, authority
from tests.support.client import Alert, Client, Tls, expect_alert, get
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.rendered import BOSH, RenderedRouter, authority_pair, pair
from tests.support.router import RouterProcess

EXAMPLES = BOSH / "examples"
ORG_1, ORG_2, SPACE_1, SPACE_2 = "org-1", "org-2", "space-1", "space-2"
IDENTITIES, WEST, PARTNERS = authority("instance identity"), authority("west instance identity"), authority("partners")

Render = Callable[..., RenderedRouter]


@pytest.fixture
def render(tmp_path: Path, make_nats: Callable[..., NatsServer]) -> Iterator[Render]:
    """Renders an example and starts its router, each with a NATS of its own; stopped and checked at the end."""
    made: list[RenderedRouter] = []

    def make(example: str, *ops: str, server_names: Sequence[str], **variables: Any) -> RenderedRouter:
        credential = authority("server").issue_server(*server_names)
        values = {"router_ssl": pair(credential), "diego_instance_identity_ca": authority_pair(IDENTITIES), **variables}
        files = [BOSH / "ops" / name for name in ops]
        router = RenderedRouter(tmp_path / f"r{len(made)}", make_nats(), EXAMPLES / example / "deployment.yml", files, values)
        made.append(router)
        router.start()
        return router

    try:
        yield make
        for router in made:
            router.stop()
    finally:
        for router in made:
            router.kill()


@pytest.fixture
def push(make_registrar: Callable[..., Registrar], backend: EchoBackend) -> Callable[..., EchoBackend]:
    """Registers the routes of an example's manifest, as the platform does after `cf push`."""

    def pushed(example: str, router: RenderedRouter, **variables: object) -> EchoBackend:
        file = EXAMPLES / example / "manifest.yml"
        read = read_manifest(file.read_bytes(), str(file), variables)
        assert read.problems == ()
        for route in read.routes:
            registrar = make_registrar(router.server, router)
            registrar.register(route.uri, backend=backend, options=route.options or None)
        return backend

    return pushed


def status(router: RouterProcess, host: str, caller: Credential, **request: Any) -> int:
    return get(router.ssl_port, host, tls=Tls(host, credential=caller), **request).status


def alert(router: RouterProcess, host: str, caller: Credential | None = None) -> int | None:
    return expect_alert(router.ssl_port, Tls(host, credential=caller))


def instance(app: str, space: str = SPACE_1, org: str = ORG_1, ca: CA = IDENTITIES) -> Credential:
    return ca.issue_instance(app, space, org)


def test_app_to_app(render: Render, push: Callable[..., EchoBackend]) -> None:
    """R292: one ops-file enables the domain; the listed caller passes, others get 403, an alert or 421."""
    router = render("app-to-app", "enable-mtls-domain.yml", server_names=["*.apps.mtls.internal"])
    backend = push("app-to-app", router, frontend_guid="frontend")
    frontend, other = instance("frontend"), instance("other")
    named, open_to_all, closed = (f"{app}.apps.mtls.internal" for app in ("backend", "time", "closed"))
    assert [status(router, host, frontend) for host in (named, open_to_all, closed)] == [200, 200, 403]
    assert [status(router, host, other) for host in (named, open_to_all, closed)] == [403, 200, 403]
    assert len(backend.wait_for(3)) == 3
    assert alert(router, named) == Alert.CERTIFICATE_REQUIRED
    with Client(router.ssl_port, Tls("elsewhere.example")) as client:
        refused = client.request(named)
    assert (refused.status, refused.get("x-cf-routererror")) == (421, "mtls_domain_mismatch")


def test_domains_for_each_org_and_a_space(render: Render, push: Callable[..., EchoBackend]) -> None:
    """R274, R306, R327: within an org yes, between orgs no; a space's domain admits that space alone."""
    names = ["*.apps.mtls.org1.internal", "*.apps.mtls.org2.internal", "*.apps.mtls.space1.internal"]
    guids = {"org1_guid": ORG_1, "org2_guid": ORG_2, "space_guid": SPACE_1, "space_domain": "*.apps.mtls.space1.internal"}
    router = render("per-org-domains", "add-space-domain.yml", server_names=names, **guids)
    backend = push("per-org-domains", router)
    hosts = ["billing.apps.mtls.org1.internal", "search.apps.mtls.org2.internal", "ledger.apps.mtls.space1.internal"]
    callers = {
        "space-1 of org-1": instance("a"),
        "space-2 of org-1": instance("b", SPACE_2),
        "org-2": instance("c", "space-9", ORG_2),
    }
    assert {name: [status(router, host, caller) for host in hosts] for name, caller in callers.items()} == {
        "space-1 of org-1": [200, 403, 200],
        "space-2 of org-1": [200, 403, 403],
        "org-2": [403, 200, 403],
    }
    assert len(backend.wait_for(4)) == 4


def test_partner_certificates(render: Render, push: Callable[..., EchoBackend]) -> None:
    """R247 again, from a deployment: the partner's certificate reaches the app, whatever the client wrote there itself."""
    variables = {"partner_domain": "*.partners.example.com", "partner_ca": authority_pair(PARTNERS)}
    router = render("partner-certificates", "add-partner-domain.yml", server_names=["*.partners.example.com"], **variables)
    backend = push("partner-certificates", router)
    host, partner = "orders.partners.example.com", PARTNERS.issue_instance(instance="acme")
    assert status(router, host, partner, headers=[("X-Forwarded-Client-Cert", "forged")]) == 200
    (received,) = backend.wait_for(1)
    assert [value for name, value in received.headers if name.lower() == "x-forwarded-client-cert"] == [raw(partner)]
    assert alert(router, host) == Alert.CERTIFICATE_REQUIRED
    assert alert(router, host, instance("app")) == Alert.UNKNOWN_CA


def raw(credential: Credential) -> str:
    """The leaf as the raw form of X-Forwarded-Client-Cert has it: its PEM without armour and line ends."""
    leaf = credential.chain_pem.partition("-----END")[0]
    return re.sub(r"-----BEGIN [A-Z ]+-----|\s", "", leaf)


def test_federation_of_two_foundations(render: Render, push: Callable[..., EchoBackend]) -> None:
    """R278, R279: two foundations, each with a domain for the other; equal GUIDs of the wrong one never pass."""
    east, west = (foundation(render, own, other) for own, other in (("east", "west"), ("west", "east")))
    push("federation", east, own_app_guid="shop", other="west", other_app_guid="portal")
    push("federation", west, own_app_guid="portal", other="east", other_app_guid="shop")
    shop, portal, twin = instance("shop"), instance("portal", ca=WEST), instance("shop", ca=WEST)
    own, from_west, from_east = (f"inventory.apps.mtls.{part}internal" for part in ("", "west.", "east."))
    assert (status(east, own, shop), status(east, from_west, portal), status(east, from_west, twin)) == (200, 200, 403)
    assert (status(west, own, portal), status(west, from_east, shop)) == (200, 200)
    assert [alert(east, own, caller) for caller in (portal, twin)] == [Alert.UNKNOWN_CA] * 2
    assert alert(east, from_west, shop) == alert(west, own, shop) == Alert.UNKNOWN_CA


def foundation(render: Render, own: str, other: str) -> RenderedRouter:
    authorities: Mapping[str, CA] = {"east": IDENTITIES, "west": WEST}
    return render(
        "federation",
        "add-foundation-domain.yml",
        server_names=["*.apps.mtls.internal", f"*.apps.mtls.{other}.internal"],
        diego_instance_identity_ca=authority_pair(authorities[own]),
        foundation_domain=f"*.apps.mtls.{other}.internal",
        foundation_ca=authority_pair(authorities[other]),
    )
