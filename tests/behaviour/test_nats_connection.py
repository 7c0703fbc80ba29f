"""The promise: routes come from NATS, whichever of its servers lives and however it wants to be spoken to."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from router.demo.process import free_port
from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import get
from tests.support.nats import NatsConnection, NatsServer
from tests.support.nkeys import USER, KeyPair, operator_mode
from tests.support.register import Registrar, message, unique_host
from tests.support.router import RouterProcess, wait_until

MakeNats = Callable[..., NatsServer]
MakeRegistrar = Callable[..., Registrar]


def section(*servers: NatsServer | int, **more: Any) -> dict[str, Any]:
    """The `nats` section; a server is one, or a port."""
    ports = [one if isinstance(one, int) else one.port for one in servers]
    return {"hosts": [{"hostname": "127.0.0.1", "port": port} for port in ports], **more}


def test_the_router_greets_with_its_start_message(make_nats: MakeNats, make_router: MakeRouter) -> None:
    """R281: at its start the router says who it is, how often to register and when it prunes; a greeting gets the same."""
    nats = make_nats()
    with NatsConnection(nats.port) as listener:
        listener.subscribe("router.start")
        make_router(nats=nats, droplet_stale_threshold="77s", index=3, start_response_delay_interval="1s")
        start = json.loads(listener.next_message().data)
        greeting = json.loads(listener.request("router.greet").data)
    assert start.pop("id").startswith("3-")
    assert start == {"hosts": ["127.0.0.1"], "minimumRegisterIntervalInSeconds": 1, "pruneThresholdInSeconds": 77}
    assert greeting.pop("id").startswith("3-")
    assert greeting == start


def test_a_router_without_nats_starts_and_becomes_healthy_later(
    make_nats: MakeNats, make_router: MakeRouter, make_registrar: MakeRegistrar, backend: EchoBackend
) -> None:
    """R188: without NATS the router runs, alive but not healthy; it finds NATS by itself, and then routes."""
    nats = make_nats()
    nats.stop()
    router = make_router(nats=nats, start=False)
    router.start(wait_healthy=False)
    assert router.health() == 503
    assert router.fetch(router.status_port, "/is-process-alive-do-not-use-for-loadbalancing").status == 200
    assert get(router.port, "nobody.example").status == 404
    nats.start()
    wait_until(lambda: router.health() == 200, "the router to find NATS", 4.0)
    host = unique_host(OPEN)
    make_registrar(nats, router).register(host, backend=backend)
    assert get(router.port, host).status == 200


def test_health_waits_for_the_start_delay_after_the_first_connection(make_nats: MakeNats, make_router: MakeRouter) -> None:
    """Contract b.5: the table gets start_response_delay_interval to fill before traffic is invited."""
    router = make_router(nats=make_nats(), start=False, start_response_delay_interval="700ms")
    router.start(wait_healthy=False)
    router.wait_for_event("nats-connected")
    began = time.monotonic()
    assert router.health() == 503
    wait_until(lambda: router.health() == 200, "health to turn good")
    assert 0.5 < time.monotonic() - began < 3


def test_the_next_server_takes_over(
    make_nats: MakeNats, make_router: MakeRouter, make_registrar: MakeRegistrar, backend: EchoBackend
) -> None:
    """Contract b.5: of several servers the router takes one that lives, and another when that one dies; routes stay."""
    by_host = {unique_host(OPEN): make_nats(), unique_host(OPEN): make_nats()}
    router = make_router(nats=section(free_port(), *by_host.values()))
    for host, server in by_host.items():
        make_registrar(server, router).register(host, backend=backend, wait=False)
    host = wait_until(lambda: next(iter(by_host.keys() & router.routes().keys()), None), "either server to be heard")
    by_host.pop(host).kill()
    router.wait_for_event("nats-connection-lost")
    wait_until(lambda: sum("nats-connected" in line for line in router.events) == 2, "the router to find the other server")
    [(later, other)] = by_host.items()
    make_registrar(other, router).register(later, backend=backend)
    assert (get(router.port, host).status, get(router.port, later).status) == (200, 200)


def test_user_and_password(make_nats: MakeNats, make_router: MakeRouter, backend: EchoBackend) -> None:
    """A server that wants user and password gets them; the password is in no log line."""
    nats = make_nats('authorization { user: "router", password: "s3cret-word" }')
    router = make_router(nats=section(nats, user="router", **{"pass": "s3cret-word"}))
    _registers(router, nats, backend, options={"user": "router", "pass": "s3cret-word"})
    assert "s3cret-word" not in router.stdout + router.stderr


def test_a_token(make_nats: MakeNats, make_router: MakeRouter, backend: EchoBackend) -> None:
    """A server that wants a token gets it."""
    nats = make_nats('authorization { token: "t0ken-word" }')
    router = make_router(nats=section(nats, token="t0ken-word"))
    _registers(router, nats, backend, options={"auth_token": "t0ken-word"})
    assert "t0ken-word" not in router.stdout + router.stderr


def test_an_nkey(make_nats: MakeNats, make_router: MakeRouter) -> None:
    """A server that knows the router by its NKey gets a signature."""
    key = KeyPair(USER)
    nats = make_nats(f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}")
    router = make_router(nats=section(nats, nkey_seed=key.seed))
    assert router.health() == 200
    assert key.seed not in router.stdout + router.stderr


def test_credentials(make_nats: MakeNats, make_router: MakeRouter, tmp_path: Any) -> None:
    """A server in operator mode gets the JWT and the signature of a credentials file."""
    config, credentials = operator_mode()
    file = tmp_path / "router.creds"
    file.write_text(credentials)
    file.chmod(0o600)
    router = make_router(nats=section(make_nats(config), credentials=str(file)))
    assert router.health() == 200


def test_tls_with_a_client_certificate(make_nats: MakeNats, make_router: MakeRouter) -> None:
    """With tls_enabled the server is verified by ca_certs and sees the router's own certificate."""
    ca = authority("nats")
    chain, key = ca.issue_server("127.0.0.1").files()
    tls = f'tls {{ cert_file: "{chain}", key_file: "{key}", ca_file: "{ca.file}", verify: true }}'
    ours = ca.issue_instance("router")
    pair = {"cert_chain": ours.chain_pem, "private_key": ours.key_pem}
    router = make_router(nats=section(make_nats(tls), tls_enabled=True, ca_certs=ca.pem, **pair))
    assert router.health() == 200


@pytest.mark.parametrize("known", [True, False], ids=["without TLS", "of another authority"])
def test_with_tls_enabled_nothing_else_will_do(make_nats: MakeNats, make_router: MakeRouter, known: bool) -> None:
    """A server without TLS, or of another authority, never gets to see the password; health stays bad."""
    chain, key = authority("stranger").issue_server("127.0.0.1").files()
    nats = make_nats("" if known else f'tls {{ cert_file: "{chain}", key_file: "{key}" }}')
    secret = {"user": "router", "pass": "s3cret-word"}
    router = make_router(nats=section(nats, tls_enabled=True, ca_certs=authority("nats").pem, **secret), start=False)
    router.start(wait_healthy=False)
    router.wait_for_event("nats-connection-failed")
    assert router.health() == 503
    assert "s3cret-word" not in router.stdout + router.stderr + nats.log()


def test_a_wrong_password_is_tried_for_ever(make_nats: MakeNats, make_router: MakeRouter) -> None:
    """A server that refuses us does not end the router; as soon as it takes us, all is well."""
    nats = make_nats('authorization { user: "router", password: "other" }')
    router = make_router(nats=section(nats, user="router", **{"pass": "mine"}), start=False)
    router.start(wait_healthy=False)
    router.wait_for_event("nats-connection-failed")
    nats.stop()
    nats._extra = ""
    nats.start()
    wait_until(lambda: router.health() == 200, "the server to take us")


def test_a_silent_registration_is_pruned_and_a_repeated_one_stays(
    make_nats: MakeNats, make_router: MakeRouter, make_registrar: MakeRegistrar, backend: EchoBackend
) -> None:
    """Contract b.5: an endpoint lives for its TTL after its last message, never longer than the router's threshold."""
    nats = make_nats()
    router = make_router(nats=nats, droplet_stale_threshold="2s", prune_stale_droplets_interval="100ms")
    registrar = make_registrar(nats, router)
    brief, repeated, asks_for_more = (unique_host(OPEN) for _ in range(3))
    registrar.register(brief, backend=backend, stale_threshold_in_seconds=1)
    registrar.register(repeated, backend=backend, stale_threshold_in_seconds=1)
    registrar.register(asks_for_more, backend=backend, stale_threshold_in_seconds=500)
    body = message(repeated, backend=backend, stale_threshold_in_seconds=1)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        registrar.publish("router.register", body, wait=False)
        assert get(router.port, repeated).status == 200
        time.sleep(0.1)
    assert get(router.port, brief).status == 404
    assert get(router.port, asks_for_more).status == 200
    wait_until(lambda: get(router.port, asks_for_more).status == 404, "the router's own threshold")
    assert router.metric("routes_pruned") >= 2


def test_tls_endpoints_do_not_expire(
    make_nats: MakeNats, make_router: MakeRouter, make_registrar: MakeRegistrar, make_backend: Callable[..., EchoBackend]
) -> None:
    """Decision 14: a TLS endpoint that fell silent stays, since its identity is verified at each dial."""
    nats, ca = make_nats(), authority("backends")
    router = make_router(
        nats=nats, ca_certs=[ca.pem], droplet_stale_threshold="500ms", prune_stale_droplets_interval="100ms"
    )  # fmt: skip
    registrar = make_registrar(nats, router)
    secure, plain = unique_host(OPEN), unique_host(OPEN)
    backend = make_backend("secure", credential=ca.issue_server("instance.internal"))
    registrar.register(secure, backend=backend, server_cert_domain_san="instance.internal")
    registrar.register(plain, backend=9)
    wait_until(lambda: plain not in router.routes(), "the plain one to be pruned")
    assert get(router.port, secure).status == 200


def _registers(router: RouterProcess, nats: NatsServer, backend: EchoBackend, **connection: Any) -> None:
    host = unique_host(OPEN)
    with Registrar(nats.port, router, **connection) as registrar:
        registrar.register(host, backend=backend)
        assert get(router.port, host).status == 200
