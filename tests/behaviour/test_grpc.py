"""The promise: gRPC passes both doors like any request, and nothing of it is lost on the way: messages as they come, statuses,
trailers, deadlines and cancellations both ways. Client and server are grpcio; the router sees HTTP/2.
"""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from tests.conftest import EAST, OPEN, MakeRouter
from tests.support.certs import CA, Credential, authority
from tests.support.failing import Wire
from tests.support.grpc_service import (
    HEALTH,
    SERVING,
    Ending,
    GrpcService,
    Outbox,
    bidirectional,
    client_streaming,
    failure,
    grpc_channel,
    path_of,
    server_streaming,
    unary,
)
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, wait_until

SECONDS = 10.0
"""The deadline of calls that should end by themselves."""
MIB = 1 << 20
FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

MakeRegistrar = Callable[[NatsServer, RouterProcess], Registrar]


@dataclass
class Place:
    """A host on a router, the gRPC service behind it, and channels to it."""

    router: RouterProcess
    registrar: Registrar
    caller: Credential
    host: str = field(default_factory=lambda: unique_host(EAST))
    held: ExitStack = field(default_factory=ExitStack)

    def serve(self, *, tls: bool = False, port: int = 0, age: float = 0, registered: bool = True, **more: Any) -> GrpcService:
        """A service, registered for `app-a` to call."""
        credential = authority("backends").issue_server("app.internal") if tls else None
        service = self.held.enter_context(GrpcService(credential=credential, port=port, age=age))
        if not registered:
            return service
        fields: dict[str, Any] = {"protocol": "http2", "options": {"mtls_allowed_apps": "app-a"}, **more}
        if tls:
            fields |= {"port": 0, "tls_port": service.port, "server_cert_domain_san": "app.internal"}
        self.registrar.register(self.host, backend=service.port, **fields)
        self.held.callback(self.registrar.unregister, self.host, backend=service.port, wait=False, **fields)
        return service

    def channel(self, caller: Credential | None = None, host: str | None = None) -> grpc.Channel:
        """To this host with the certificate of `app-a`, unless told otherwise."""
        made = grpc_channel(
            self.router.ssl_port, host or self.host, trust=authority("server"), credential=caller or self.caller
        )  # fmt: skip
        return self.held.enter_context(made)

    def record(self, path: str) -> dict[str, Any]:
        """The line of the access log about a call of `path`."""
        line: dict[str, Any] = json.loads(self.router.wait_for_log(lambda line: self.host in line and path in line))
        return line


@pytest.fixture(scope="module")
def gate(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """An mTLS domain; its log is JSON, and backends are known by an authority of their own."""
    directory = tmp_path_factory.mktemp("gate")
    with RouterProcess(
        directory, nats=nats_server, mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], ca_certs=[authority("backends").pem],
        access_log={"file": str(directory / "access.log"), "format": "json"},
    ) as process:  # fmt: skip
        yield process


@pytest.fixture(scope="module")
def gate_registrar(nats_server: NatsServer, gate: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, gate) as made:
        yield made


@pytest.fixture(scope="module")
def caller(east_ca: CA) -> Credential:
    return east_ca.issue_instance("app-a", "space-1", "org-1")


@pytest.fixture
def place(gate: RouterProcess, gate_registrar: Registrar, caller: Credential) -> Iterator[Place]:
    made = Place(gate, gate_registrar, caller)
    with made.held:
        yield made


@pytest.fixture(params=["h2c", "tls"])
def service(request: pytest.FixtureRequest, place: Place) -> GrpcService:
    """Reached over HTTP/2 in the clear, or over TLS by ALPN."""
    return place.serve(tls=request.param == "tls")


@pytest.fixture
def make_place(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, east_ca: CA, caller: Credential
) -> Iterator[Callable[..., Place]]:
    """A place on a router of its own, with these keys."""
    with ExitStack() as held:

        def make(**config: Any) -> Place:
            process = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], **config)
            made = Place(process, make_registrar(nats_server, process), caller)
            held.enter_context(made.held)
            return made

        yield make


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


# The four kinds of calls


def test_a_unary_call_passes_both_doors(place: Place, service: GrpcService) -> None:
    """R120: the reply is the service's, which is told who calls; one record, of HTTP/2 and the service's 200."""
    assert unary(place.channel(), "Echo")(b"hello", timeout=SECONDS) == b"hello"
    (call,) = service.calls
    assert call.messages == [b"hello"]
    (told,) = call.all("x-forwarded-client-cert")
    assert "app:app-a" in str(told)
    assert call.all("x-forwarded-proto") == ["https"]
    record = place.record(path_of("Echo"))
    assert (record["status"], record["proto"], record["method"]) == (200, "HTTP/2.0", "POST")
    assert (record["mtls_auth"], record["mtls_rule"]) == ("allowed", "route:mtls_allowed_apps")


def test_an_empty_message_is_a_message(place: Place, service: GrpcService) -> None:
    """R120: five bytes that say so, and no end of the body in their place."""
    assert unary(place.channel(), "Echo")(b"", timeout=SECONDS) == b""
    assert service.calls[0].messages == [b""]


def test_the_messages_of_a_server_arrive_one_by_one(place: Place, service: GrpcService) -> None:
    """R120: each is there before the next is made."""
    call = server_streaming(place.channel(), "Count")(b"5", timeout=SECONDS)
    for number in range(5):
        service.proceed.release()
        assert next(call) == b"%d" % number
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


def test_the_messages_of_a_client_arrive_one_by_one(place: Place, service: GrpcService) -> None:
    """R120: each is at the service before the next is said, and the reply comes behind the last."""
    outbox = Outbox()
    reply = client_streaming(place.channel(), "Collect").future(iter(outbox), timeout=SECONDS)
    for number in range(5):
        outbox.put(b"%d" % number)
        service.wait_for_messages(number + 1)
    assert not reply.done()
    outbox.close()
    assert reply.result() == b"0,1,2,3,4"


def test_messages_go_both_ways_in_turn(place: Place, service: GrpcService) -> None:
    """R120: an answer to each before the next is said."""
    outbox = Outbox()
    answers = bidirectional(place.channel(), "Chat")(iter(outbox), timeout=SECONDS)
    for number in range(5):
        outbox.put(b"%d" % number)
        assert next(answers) == b"%d" % number
    outbox.close()
    assert list(answers) == []
    assert answers.code() is grpc.StatusCode.OK


def test_messages_of_sixteen_mebibytes_pass_both_ways(place: Place, service: GrpcService) -> None:
    """R120: far beyond every window and buffer, in one message and in a conversation of them."""
    message = bytes(range(256)) * (16 * MIB // 256)
    channel = place.channel()
    assert unary(channel, "Echo")(message, timeout=30) == message
    assert list(bidirectional(channel, "Chat")(iter([message, b"small", message]), timeout=30)) == [message, b"small", message]


def test_a_health_check_passes(place: Place, service: GrpcService) -> None:
    """R120: grpc.health.v1, as probes and balancers ask it."""
    request = b"\x0a\x04shop"  # HealthCheckRequest{service: "shop"}
    assert unary(place.channel(), "Check", HEALTH)(request, timeout=SECONDS) == SERVING
    assert service.calls[0].messages == [request]


def test_calls_in_the_clear_pass_where_the_operator_offers_it(make_place: Callable[..., Place]) -> None:
    """R106: prior knowledge, plain on both sides; with `enable_h2c`, and never into an mTLS domain."""
    place = make_place(enable_h2c=True)
    service = place.serve()
    open_host = unique_host(OPEN)
    place.registrar.register(open_host, backend=service.port, protocol="http2")
    with grpc_channel(place.router.port, open_host) as channel:
        assert unary(channel, "Echo")(b"plain", timeout=SECONDS) == b"plain"
        call = server_streaming(channel, "FailIn")(Ending(grpc.StatusCode.ABORTED, "so it ends").encode(), timeout=SECONDS)
        assert next(call) == b"one"
        assert failure(lambda: next(call)).details == "so it ends"
    with grpc_channel(place.router.port, place.host) as channel:
        refused = failure(lambda: unary(channel, "Echo")(b"plain", timeout=SECONDS))
        assert dict(refused.trailing)["x-cf-routererror"] == "mtls_domain_mismatch"
    assert len(service.calls) == 2


# How calls end


@pytest.mark.parametrize("method", ["Fail", "Abort"], ids=["trailers", "trailers only"])
def test_every_status_arrives_with_its_details_and_trailing_metadata(place: Place, service: GrpcService, method: str) -> None:
    """R120: behind initial metadata, and as the only head of a reply."""
    channel = place.channel()
    trailing = (("reason", "none"), ("reason", "such"), ("detail-bin", bytes(range(256))))
    began = (("began", "yes"),) if method == "Fail" else ()
    for code in FAILURES:
        ending = Ending(code, f"no, because of {code.name} – 100 %", trailing)
        failed = failure(lambda ending=ending: unary(channel, method)(ending.encode(), timeout=SECONDS))  # type: ignore[misc]
        told = [pair for pair in failed.trailing if pair[0] not in ("x-vcap-request-id", "date")]  # the router adds them
        assert (failed.code, failed.details, tuple(told)) == ending
        assert set(began) <= set(failed.initial)
        assert began or not failed.initial
    assert place.record(path_of(method))["status"] == 200


def test_a_stream_may_fail_behind_its_messages(place: Place, service: GrpcService) -> None:
    """R120: what came stands, and the status comes as trailers."""
    ending = Ending(grpc.StatusCode.DATA_LOSS, "half of it", (("at", "1"),))
    call = server_streaming(place.channel(), "FailIn")(ending.encode(), timeout=SECONDS)
    assert next(call) == b"one"
    failed = failure(lambda: next(call))
    assert (failed.code, failed.details, failed.trailing) == ending


def test_a_service_may_end_a_call_while_its_client_still_talks(place: Place, service: GrpcService) -> None:
    """R120: RFC 9113 section 8.1: a whole response before the end of the request; its status arrives, the connections stay."""
    channel, outbox = place.channel(), Outbox()
    ending = Ending(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
    answers = bidirectional(channel, "Reject")(iter(outbox), timeout=SECONDS)
    outbox.put(ending.encode())
    failed = failure(lambda: list(answers))
    assert (failed.code, failed.details) == (ending.code, ending.details)
    outbox.close()
    assert unary(channel, "Echo")(b"again", timeout=SECONDS) == b"again"
    assert len(service.peers) == 1


def test_a_method_that_the_service_has_not_is_its_answer(place: Place, service: GrpcService) -> None:
    """R120: UNIMPLEMENTED in the service's words, which an unknown route does not have."""
    failed = failure(lambda: unary(place.channel(), "Nothing")(b"", timeout=SECONDS))
    assert (failed.code, failed.details) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def test_metadata_passes_both_ways(place: Place, service: GrpcService) -> None:
    """R120: texts, bytes and repeated names; before the first message and behind the last."""
    metadata = (
        ("plain", "text, with; marks"), ("twice", "1"), ("twice", "2"), ("some-bin", bytes(range(256))),
        ("initial-text", "a"), ("initial-bin", b"\x00\xff"), ("trailing-text", "b"), ("trailing-bin", b"\xff\x00"),
    )  # fmt: skip
    reply, call = unary(place.channel(), "Echo").with_call(b"", metadata=metadata, timeout=SECONDS)
    assert reply == b""
    assert [pair for pair in service.calls[0].metadata if pair in metadata] == list(metadata)
    assert service.calls[0].all("user-agent")[0].startswith("grpc-python/")  # type: ignore[arg-type]
    assert {("initial-text", "a"), ("initial-bin", b"\x00\xff")} <= set(call.initial_metadata())
    assert tuple(call.trailing_metadata()) == (("trailing-text", "b"), ("trailing-bin", b"\xff\x00"))


# Deadlines and cancellation


def test_a_deadline_reaches_the_service_and_its_end_too(place: Place, service: GrpcService) -> None:
    """R120: grpc-timeout passes, and when it is over so is the call, on both sides."""
    began = time.monotonic()
    failed = failure(lambda: unary(place.channel(), "Wait")(b"", timeout=0.5))
    assert failed.code is grpc.StatusCode.DEADLINE_EXCEEDED
    call = service.call()
    call.wait_cancelled()
    assert call.time_remaining is not None
    assert 0.2 < call.time_remaining <= 0.5
    assert 0.4 < call.ended_at - began < 3


@pytest.mark.parametrize("method", ["Wait", "WaitIn"], ids=["unary", "bidirectional"])
def test_a_client_that_cancels_cancels_at_the_service(place: Place, service: GrpcService, method: str) -> None:
    """R120: at once; neither the connection nor its neighbour on it suffers; the record says 499."""
    channel = place.channel()
    outbox, neighbour = Outbox(), Outbox()
    beside = bidirectional(channel, "Chat")(iter(neighbour), timeout=SECONDS)
    neighbour.put(b"before")
    assert next(beside) == b"before"
    call: Any
    if method == "Wait":
        call = unary(channel, method).future(b"", timeout=SECONDS)
        service.call(1)
    else:
        call = bidirectional(channel, method)(iter(outbox), timeout=SECONDS)
        outbox.put(b"once")
        assert next(call) == b"once"
    cancelled = time.monotonic()
    call.cancel()
    outbox.close()
    service.call(1).wait_cancelled()
    assert service.call(1).ended_at - cancelled < 2
    assert place.record(path_of(method))["x_cf_routererror"]
    neighbour.put(b"after")
    assert next(beside) == b"after"
    neighbour.close()
    assert list(beside) == []
    assert len(service.peers) == 1


def test_a_client_that_leaves_cancels_all_its_calls(place: Place, service: GrpcService) -> None:
    """R120: its connection ends, and so does each of its calls at the service."""
    channel = place.channel()
    calls = [unary(channel, "Wait").future(b"", timeout=SECONDS) for _ in range(3)]
    service.call(2)
    channel.close()
    assert all(call.done() for call in calls)
    for number in range(3):
        service.call(number).wait_cancelled()


def test_a_service_that_stops_ends_its_calls(place: Place, service: GrpcService) -> None:
    """R120: in its own words, before the first message and behind it; no call hangs, and none passes for complete."""
    channel, outbox = place.channel(), Outbox()
    answers = bidirectional(channel, "WaitIn")(iter(outbox), timeout=SECONDS)
    outbox.put(b"once")
    assert next(answers) == b"once"
    waiting = unary(channel, "Wait").future(b"", timeout=SECONDS)
    service.call(1)
    service.stop()
    assert failure(lambda: next(answers)).code is grpc.StatusCode.UNAVAILABLE
    assert failure(waiting.result).code is grpc.StatusCode.UNAVAILABLE
    outbox.close()


def test_a_connection_that_breaks_ends_its_calls(place: Place) -> None:
    """R120: nothing that came can pass for the whole; what had no answer yet gets the router's."""
    service = place.serve(registered=False)
    with Wire(service.port) as wire:
        place.registrar.register(place.host, backend=wire.port, protocol="http2", options={"mtls_allowed_apps": "app-a"})
        channel, outbox = place.channel(), Outbox()
        answers = bidirectional(channel, "WaitIn")(iter(outbox), timeout=SECONDS)
        outbox.put(b"once")
        assert next(answers) == b"once"
        waiting = unary(channel, "Wait").future(b"", timeout=SECONDS)
        service.call(1)
        wire.cut()
        assert failure(lambda: next(answers)).code is grpc.StatusCode.INTERNAL
        unanswered = failure(waiting.result)
        assert unanswered.code is grpc.StatusCode.UNAVAILABLE
        assert dict(unanswered.trailing)["x-cf-routererror"] == "endpoint_failure (connection reset)"
        outbox.close()


def test_an_open_stream_may_be_silent(make_place: Callable[..., Place]) -> None:
    """R120: the deadline for a client's body is for requests that wait for it: once the service has answered, a subscription may
    stay silent in both directions.
    """
    place = make_place(client_stall_timeout="1s")
    place.serve()
    outbox = Outbox()
    answers = bidirectional(place.channel(), "Chat")(iter(outbox), timeout=SECONDS)
    outbox.put(b"first")
    assert next(answers) == b"first"
    threading.Timer(2.0, outbox.put, [b"later"]).start()
    assert next(answers) == b"later"
    outbox.close()
    assert list(answers) == []


def test_the_operators_deadline_ends_a_call(make_place: Callable[..., Place]) -> None:
    """R120: `http_2_endpoint_timeout`, for a stream on which messages move too; the service hears of it."""
    place = make_place(http_2_endpoint_timeout="1500ms")
    service, channel, outbox = place.serve(), place.channel(), Outbox()
    failed = failure(lambda: unary(channel, "Wait")(b"", timeout=SECONDS))
    assert (failed.code, dict(failed.trailing)["x-cf-routererror"]) == (
        grpc.StatusCode.UNAVAILABLE, "endpoint_failure (timeout)",
    )  # fmt: skip
    answers = bidirectional(channel, "WaitIn")(iter(outbox), timeout=SECONDS)
    outbox.put(b"once")
    assert next(answers) == b"once"
    assert failure(lambda: next(answers)).code is grpc.StatusCode.INTERNAL
    outbox.close()
    for number in range(2):
        service.call(number).wait_cancelled()


# What the router refuses


def test_a_denied_caller_gets_permission_denied(place: Place, service: GrpcService, east_ca: CA) -> None:
    """R120: the 403 of any request, with its code and the id by which the operator finds why; the service sees nothing of it."""
    stranger = east_ca.issue_instance("app-b", "space-1", "org-1")
    failed = failure(lambda: unary(place.channel(stranger), "Echo")(b"let me in", timeout=SECONDS))
    assert (failed.code, failed.details) == (grpc.StatusCode.PERMISSION_DENIED, "mtls_authorization_denied: Forbidden")
    assert service.calls == []
    record, told = place.record(path_of("Echo")), dict(failed.trailing)
    assert (record["status"], record["x_cf_routererror"]) == (403, "mtls_authorization_denied")
    assert (told["x-cf-routererror"], told["x-vcap-request-id"]) == (record["x_cf_routererror"], record["vcap_request_id"])
    assert (record["proto"], record["mtls_auth"]) == ("HTTP/2.0", "denied")


def test_a_stream_of_a_denied_caller_is_refused_while_it_waits(place: Place, service: GrpcService, east_ca: CA) -> None:
    """R120: it need not say a word, and its connection stays good for those that are allowed elsewhere."""
    stranger = east_ca.issue_instance("app-b", "space-1", "org-1")
    outbox, channel = Outbox(), place.channel(stranger)
    for _ in range(2):
        answers = bidirectional(channel, "Chat")(iter(outbox), timeout=SECONDS)
        assert failure(lambda answers=answers: next(answers)).code is grpc.StatusCode.PERMISSION_DENIED  # type: ignore[misc]
    outbox.close()
    assert service.calls == []


def test_no_certificate_is_no_connection(place: Place, service: GrpcService) -> None:
    """R120: the domain's handshake demands one."""
    with grpc_channel(place.router.ssl_port, place.host, trust=authority("server")) as channel:
        assert failure(lambda: unary(channel, "Echo")(b"", timeout=SECONDS)).code is grpc.StatusCode.UNAVAILABLE
    assert service.calls == []


def test_an_unknown_route_is_unimplemented(place: Place) -> None:
    """R120: the 404 of any request."""
    failed = failure(lambda: unary(place.channel(), "Echo")(b"", timeout=SECONDS))
    assert (failed.code, failed.details) == (
        grpc.StatusCode.UNIMPLEMENTED, f"unknown_route: Requested route ('{place.host}') does not exist."
    )  # fmt: skip
    assert place.record(path_of("Echo"))["status"] == 404


def test_a_service_that_is_gone_is_unavailable(place: Place, service: GrpcService) -> None:
    """R120: which clients try again by themselves, if told to."""
    channel = place.channel()
    assert unary(channel, "Echo")(b"", timeout=SECONDS) == b""
    service.stop()
    failed = failure(lambda: unary(channel, "Echo")(b"", timeout=SECONDS))
    assert failed.code is grpc.StatusCode.UNAVAILABLE


def test_a_service_that_is_registered_for_http_1_is_unavailable(place: Place) -> None:
    """R120: who forgot `protocol: http2` gets a bad gateway, at once."""
    service = place.serve(protocol="http1")
    failed = failure(lambda: unary(place.channel(), "Echo")(b"", timeout=SECONDS))
    assert failed.code is grpc.StatusCode.UNAVAILABLE
    assert service.calls == []
    assert place.record(path_of("Echo"))["status"] == 502


# Connections


def test_many_calls_share_one_connection(place: Place, service: GrpcService) -> None:
    """R120: forty open at a time, on one connection of the client and one to the service."""
    channel = place.channel()
    outboxes = [Outbox() for _ in range(40)]
    calls = [bidirectional(channel, "Chat")(iter(outbox), timeout=SECONDS) for outbox in outboxes]
    for number, outbox in enumerate(outboxes):
        outbox.put(b"%d" % number)
    assert [next(call) for call in calls] == [b"%d" % number for number in range(40)]
    for outbox in outboxes:
        outbox.close()
    assert [list(call) for call in calls] == [[]] * 40
    assert len(service.calls) == 40
    assert len(service.peers) == 1


def test_many_channels_are_kept_apart(place: Place, service: GrpcService) -> None:
    """R120: eight clients with sixteen calls each, at once: every answer is its caller's own."""
    channels = [place.channel() for _ in range(8)]
    with ThreadPoolExecutor(32) as pool:
        asked = [b"%d " % number * 1000 for number in range(128)]
        futures = [pool.submit(unary(channels[number % 8], "Echo"), asked[number], timeout=SECONDS) for number in range(128)]
        assert [future.result() for future in futures] == asked


def test_a_service_that_renews_its_connections_costs_no_call(place: Place) -> None:
    """R120: it says GOAWAY all the time (`max_connection_age`): what is open ends there, and no other call meets it."""
    service = place.serve(age=0.05)
    channel = place.channel()
    with ThreadPoolExecutor(4) as pool:
        while len(service.peers) < 5:
            assert set(pool.map(lambda _: unary(channel, "Echo")(b"on", timeout=SECONDS), range(50))) == {b"on"}


def test_a_service_that_came_back_is_called_again(place: Place) -> None:
    """R120: the first call after a restart of the service, on the same port, succeeds, without another channel."""
    first, channel = place.serve(), place.channel()
    assert unary(channel, "Echo")(b"before", timeout=SECONDS) == b"before"
    first.stop()
    second = place.serve(port=first.port)
    assert unary(channel, "Echo")(b"after", timeout=SECONDS) == b"after"
    assert second.calls[0].messages == [b"after"]


def test_a_reload_that_changes_who_is_known_costs_no_call(make_place: Callable[..., Place], east_ca: CA, west_ca: CA) -> None:
    """R120: the client hears that its connection takes no more; what is open goes on, the next call makes a new one."""
    place = make_place()
    place.serve()
    channel, outbox = place.channel(), Outbox()
    answers = bidirectional(channel, "Chat")(iter(outbox), timeout=SECONDS)
    outbox.put(b"before")
    assert next(answers) == b"before"
    states: list[grpc.ChannelConnectivity] = []
    channel.subscribe(states.append)
    place.router.reload(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca.pem + west_ca.pem)])
    wait_until(lambda: grpc.ChannelConnectivity.IDLE in states, "the client to hear GOAWAY")
    assert unary(channel, "Echo")(b"new", timeout=SECONDS) == b"new"
    assert place.router.metric("connections_accepted", listener="https") == 2
    outbox.put(b"after")
    assert next(answers) == b"after"
    outbox.close()
    assert list(answers) == []


def test_a_drain_lets_open_calls_end(make_place: Callable[..., Place]) -> None:
    """R120: the client is told to go elsewhere, and what it has open ends in peace."""
    place = make_place()
    place.serve()
    channel, outbox = place.channel(), Outbox()
    answers = bidirectional(channel, "Chat")(iter(outbox), timeout=SECONDS)
    outbox.put(b"before")
    assert next(answers) == b"before"
    place.router.signal(signal.SIGUSR1)
    wait_until(lambda: not listens(place.router.ssl_port), "new connections to be refused")
    later = failure(lambda: unary(channel, "Echo")(b"later", timeout=SECONDS))
    assert later.code is grpc.StatusCode.UNAVAILABLE
    outbox.put(b"after")
    assert next(answers) == b"after"
    outbox.close()
    assert list(answers) == []
    assert place.router.wait_exit() == 0
