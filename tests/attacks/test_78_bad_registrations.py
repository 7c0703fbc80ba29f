"""Attack 78: everything that can be wrong with a NATS message, on the wire, while an honest route must go on."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import get
from tests.support.nats import NatsServer
from tests.support.register import Registrar, message, unique_host
from tests.support.router import RouterProcess, wait_until

BAD = sorted((Path(__file__).parents[2] / "fixtures/nats/bad").glob("*.json"))
REGISTER, UNREGISTER = "router.register", "router.unregister"


@pytest.fixture
def honest(registrar: Registrar, router: RouterProcess, backend: EchoBackend) -> Iterator[str]:
    """A route that serves before and after the test."""
    host = unique_host(OPEN)
    registrar.register(host, backend=backend)
    yield host
    registrar.settle()
    assert get(router.port, host).status == 200


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
@pytest.mark.parametrize("subject", [REGISTER, UNREGISTER])
def test_a_malformed_message_is_dropped_and_counted(
    router: RouterProcess, registrar: Registrar, honest: str, file: Path, subject: str
) -> None:
    """Attack 78: a message that breaks a rule is counted under its reason and changes nothing."""
    reason = file.stem.partition("__")[0]
    routes, counted = set(router.routes()), router.metric("nats_messages_dropped", reason=reason)
    registrar.publish_raw(subject, file.read_bytes())
    assert router.metric("nats_messages_dropped", reason=reason) == counted + 1
    assert {uri for uri in router.routes() if "settled" not in uri} == {uri for uri in routes if "settled" not in uri}


HUGE = {
    "over 64 KiB": b'{"host":"127.0.0.1","port":80,"uris":["x.example"],"app":"' + b"a" * 65536 + b'"}',
    "nearly 1 MiB": b"[" * 1_000_000,
    "of zeros": bytes(200_000),
}
NESTED = {
    "lists": b"[" * 60_000,
    "objects": b'{"a":' * 12_000,
    "in options": b'{"host":"127.0.0.1","port":80,"uris":["x.example"],"options":' + b"[" * 60_000,
    "a number of 60,000 digits": b'{"port":' + b"9" * 60_000 + b"}",
    "no UTF-8": b'{"uris":["\xff\xfe.example"]}',
    "empty": b"",
}


@pytest.mark.parametrize("data", HUGE.values(), ids=HUGE)
def test_a_huge_message_is_dropped_unread(router: RouterProcess, registrar: Registrar, honest: str, data: bytes) -> None:
    """Attack 78: a message over 64 KiB is dropped and counted as too_large; the log line of it is short."""
    counted = router.metric("nats_messages_dropped", reason="too_large")
    registrar.publish_raw(REGISTER, data)
    assert router.metric("nats_messages_dropped", reason="too_large") == counted + 1
    assert all(len(line) < 8_000 for line in router.events if "validation-error" in line)


@pytest.mark.parametrize("data", NESTED.values(), ids=NESTED)
def test_a_message_made_to_hurt_the_parser_is_dropped(
    router: RouterProcess, registrar: Registrar, honest: str, data: bytes
) -> None:
    """Attack 78: nesting without end, endless numbers and bytes that are no text end in a count, never in an exception."""
    counted = router.metric("nats_messages_dropped")
    registrar.publish_raw(REGISTER, data)
    assert router.metric("nats_messages_dropped") == counted + 1
    assert not any("registry-message-failed" in line for line in router.events)


def test_a_log_line_of_a_bad_message_cannot_be_split(router: RouterProcess, registrar: Registrar, honest: str) -> None:
    """Attack 78: what a bad message holds is escaped in the log: every line stays one JSON object."""
    registrar.publish_raw(REGISTER, b'{"forged\r\n{"log_level":3,"message":"router-stopped","x":"' + bytes(range(32)))
    assert all(json.loads(line) for line in router.stdout.splitlines() if line.startswith("{"))
    assert not any(line.startswith('{"log_level":3,"message":"router-stopped"') for line in router.events)


def test_a_thousand_equal_messages_are_one_endpoint(
    router: RouterProcess, registrar: Registrar, honest: str, backend: EchoBackend
) -> None:
    """Attack 78: repeated registrations are heartbeats: one endpoint, 999 unmodified, and one unregistration ends it."""
    host = unique_host(OPEN)
    body = message(host, backend=backend)
    unmodified = router.metric("registry_message", action="unmodified")
    for _ in range(1000):
        registrar.publish(REGISTER, body, wait=False)
    registrar.settle()
    assert len(router.routes()[host]) == 1
    assert router.metric("registry_message", action="unmodified") >= unmodified + 999
    registrar.publish(UNREGISTER, body)
    assert get(router.port, host).status == 404


def test_an_unregistration_that_comes_before_its_registration_takes_nothing_away(
    router: RouterProcess, registrar: Registrar, honest: str, backend: EchoBackend
) -> None:
    """Attack 78: messages out of order leave what the last one says."""
    host = unique_host(OPEN)
    body = message(host, backend=backend)
    registrar.publish(UNREGISTER, body, wait=False)
    registrar.publish(REGISTER, body, wait=False)
    registrar.publish(UNREGISTER, body, wait=False)
    registrar.publish(UNREGISTER, body, wait=False)
    registrar.publish(REGISTER, body)
    assert get(router.port, host).status == 200


def test_nobody_can_unregister_anothers_backend(
    router: RouterProcess, registrar: Registrar, honest: str, backend: EchoBackend, make_backend: Callable[..., EchoBackend]
) -> None:
    """Attack 78: only the endpoint named exactly goes: another address, or the same one of another instance, stays."""
    host, other = unique_host(OPEN), make_backend("other")
    registrar.register(host, backend=backend, private_instance_id="ours")
    foreign: list[dict[str, object]] = [
        message(host, backend=other),
        message(host, backend=backend, private_instance_id="theirs"),
        message(host, backend=backend, host="127.0.0.2"),
        message("*." + host.partition(".")[2], backend=backend),
        message(host + "/path", backend=backend, private_instance_id="ours"),
    ]
    for body in foreign:
        registrar.publish(UNREGISTER, body)
        assert get(router.port, host).status == 200
    registrar.publish(UNREGISTER, message(host, backend=backend, private_instance_id="ours"))
    assert get(router.port, host).status == 404


@pytest.fixture
def tls_router(make_router: MakeRouter) -> RouterProcess:
    return make_router(ca_certs=[authority("backends").pem])


def test_a_tls_backend_that_became_another_instance_is_pruned_and_not_served(
    tls_router: RouterProcess, nats_server: NatsServer, make_registrar: Callable[..., Registrar],
    make_backend: Callable[..., EchoBackend],
) -> None:  # fmt: skip
    """Attack 78: an address whose certificate names another instance gets no request, and leaves the table at once."""
    host, registrar = unique_host(OPEN), make_registrar(nats_server, tls_router)
    successor = make_backend("successor", credential=authority("backends").issue_server("instance-2.internal"))
    registrar.register(host, backend=successor, server_cert_domain_san="instance-1.internal", private_instance_id="instance-1")
    answer = get(tls_router.port, host)
    assert (answer.status, answer.get("x-cf-routererror")) == (503, "endpoint_failure (certificate name mismatch)")
    assert successor.received == []
    wait_until(lambda: host not in tls_router.routes(), "the endpoint to be pruned")
    assert get(tls_router.port, host).status == 404
    assert tls_router.metric("backend_invalid_id") == 1
    assert '"instance_id":"instance-1"' in tls_router.wait_for_event("prune-failed-endpoint")
    registrar.register(host, backend=successor, server_cert_domain_san="instance-2.internal", private_instance_id="instance-2")
    assert get(tls_router.port, host).status == 200


def test_where_one_instance_is_not_who_it_said_the_others_serve(
    tls_router: RouterProcess, nats_server: NatsServer, make_registrar: Callable[..., Registrar],
    make_backend: Callable[..., EchoBackend],
) -> None:  # fmt: skip
    """Attack 78: the request meant for a wrong instance goes to the next right one; only the wrong one is pruned."""
    host, registrar = unique_host(OPEN), make_registrar(nats_server, tls_router)
    right = make_backend("right", credential=authority("backends").issue_server("right.internal"))
    wrong = make_backend("wrong", credential=authority("backends").issue_server("wrong.internal"))
    registrar.register(host, backend=right, server_cert_domain_san="right.internal")
    registrar.register(host, backend=wrong, server_cert_domain_san="expected.internal")
    assert {get(tls_router.port, host).status for _ in range(4)} == {200}
    assert wrong.received == []
    wait_until(lambda: [e["address"] for e in tls_router.routes()[host]] == [right.address], "only the right one to be left")


def test_a_pooled_connection_of_the_old_instance_is_not_used_for_the_new_one(
    tls_router: RouterProcess, nats_server: NatsServer, make_registrar: Callable[..., Registrar],
    make_backend: Callable[..., EchoBackend],
) -> None:  # fmt: skip
    """Attack 78: after the expected name of an address changed, its idle connections count for nothing."""
    host, registrar = unique_host(OPEN), make_registrar(nats_server, tls_router)
    backend = make_backend("old", credential=authority("backends").issue_server("old.internal"))
    registrar.register(host, backend=backend, server_cert_domain_san="old.internal")
    assert get(tls_router.port, host).status == 200
    registrar.register(host, backend=backend, server_cert_domain_san="new.internal")
    assert get(tls_router.port, host).status == 503
    assert len(backend.received) == 1
