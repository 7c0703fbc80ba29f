"""The names of a request: X-Vcap-Request-Id, X-Request-Id, and the trace it belongs to."""

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.behaviour.conftest import ANY, OPEN, At, json_log
from tests.behaviour.place import Place, make_place
from tests.support.backend import EchoBackend
from tests.support.certs import Credential
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def only(value: str | None) -> str:
    assert value is not None
    return value


def test_every_request_gets_a_uuid_that_all_sides_know(at: At) -> None:
    """R32, R58, K29: X-Vcap-Request-Id: the same in the request, the response and the access log, a new one each time."""
    place = at(OPEN)
    calls = [place.call(plain=True) for _ in range(2)]
    ids = [only(call.at_backend.get("x-vcap-request-id")) for call in calls]
    assert len(set(ids)) == 2
    for call, found in zip(calls, ids, strict=True):
        assert str(uuid.UUID(found, version=4)) == found
        assert call.response.get("x-vcap-request-id") == found
        assert call.record["vcap_request_id"] == found
        assert call.at_backend.get("x-request-id") == found


def test_a_client_cannot_choose_ours(at: At) -> None:
    """R32, K29, decision 9: X-Vcap-Request-Id of a client is replaced, look-alikes included."""
    headers = [("X-Vcap-Request-Id", "mine-1"), ("X_Vcap_Request_Id", "mine-2")]
    received = at(OPEN).call(plain=True, headers=headers).at_backend
    assert b"mine" not in received.head
    assert len(received.all("x-vcap-request-id")) == 1


@pytest.mark.parametrize("sent", ["a", "A.b_c-9", "x" * 64])
def test_a_clients_own_id_of_safe_form_stays(at: At, sent: str) -> None:
    """R32, K30: X-Request-Id of the client reaches the backend and the log as it is."""
    call = at(OPEN).call(plain=True, headers=[("X-Request-Id", sent)])
    assert call.at_backend.get("x-request-id") == sent
    assert call.record["request_id"] == sent
    assert call.at_backend.get("x-vcap-request-id") != sent


@pytest.mark.parametrize("headers", [["x" * 65], ["a b"], ['"a"'], [""], ["é"], ["a", "b"], ["a", "a"]])
def test_an_id_of_another_form_is_replaced_by_ours(at: At, headers: list[str]) -> None:
    """R32, K30: what could break a log, or is two ids, is none."""
    received = at(OPEN).call(plain=True, headers=[("X-Request-Id", value) for value in headers]).at_backend
    assert received.get("x-request-id") == received.get("x-vcap-request-id")


def test_both_ids_stand_on_every_refusal(at: At, alice: Credential) -> None:
    """R32, R58, decision 9: 400, 403, 404 and 421 name the request, so that a user can ask for it; the log has the same."""
    denied, unknown = at(ANY), f"nobody.{OPEN[2:]}"
    headers = [("X-Request-Id", "ask-me")]
    calls = [
        denied.call(alice, headers=headers),
        denied.call(plain=True, headers=headers),
        denied.call(plain=True, host=unknown, headers=headers),
        denied.call(plain=True, headers=[*headers, ("Host", unknown)]),
    ]
    assert [call.response.status for call in calls] == [403, 421, 404, 400]
    for call in calls[:3]:
        assert call.response.get("x-request-id") == "ask-me"
        assert call.record["request_id"] == "ask-me"
        assert only(call.response.get("x-vcap-request-id")) == call.record["vcap_request_id"]
    assert calls[3].response.get("x-vcap-request-id") is not None


def test_the_id_stays_the_same_over_a_retry(at: At, second_backend: EchoBackend) -> None:
    """R32: a request that is tried at a second endpoint is still the same request."""
    place = at(OPEN)
    place.register(None, backend=second_backend, index=1)
    place.backends[0].stop_listening()
    for _ in range(2):
        call = place.call(plain=True, headers=[("X-Request-Id", "one-and-only")])
        assert call.response.status == 200
        assert call.at_backend.get("x-request-id") == "one-and-only"
        assert call.at_backend.get("x-vcap-request-id") == call.response.get("x-vcap-request-id")


def test_a_trace_begins_where_there_is_none(at: At) -> None:
    """R57, R58: traceparent and tracestate are made, the trace id is that of the log, and derived from the request id."""
    call = at(OPEN).call(plain=True)
    match = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01", only(call.at_backend.get("traceparent")))
    assert match is not None
    assert call.at_backend.get("tracestate") == f"gorouter={match[2]}"
    assert call.record["trace_id"] == match[1]
    assert match[1] == only(call.response.get("x-vcap-request-id")).replace("-", "")


def test_a_trace_is_continued(at: At) -> None:
    """R57: the trace id and flags stay, the span is ours, and we stand first in tracestate."""
    headers = [("traceparent", f"00-{TRACE}-{SPAN}-00"), ("tracestate", "other=1,gorouter=old")]
    call = at(OPEN).call(plain=True, headers=headers)
    match = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-00", only(call.at_backend.get("traceparent")))
    assert match is not None
    assert match[1] != SPAN
    assert call.at_backend.get("tracestate") == f"gorouter={match[1]},other=1"
    assert call.record["trace_id"] == TRACE


@pytest.mark.parametrize(
    "value",
    ["", "x", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more"],
)
def test_a_malformed_traceparent_begins_a_new_trace(at: At, value: str) -> None:
    """R57: what is no traceparent is replaced, and its tracestate with it."""
    received = at(OPEN).call(plain=True, headers=[("traceparent", value), ("tracestate", "other=1")]).at_backend
    parent = only(received.get("traceparent"))
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", parent)
    assert TRACE not in parent
    assert received.get("tracestate") == f"gorouter={parent.split('-')[2]}"


@pytest.fixture(scope="module")
def tracing(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router whose tracing settings tests change."""
    directory = tmp_path_factory.mktemp("tracing")
    with RouterProcess(directory, nats=nats_server, trace_key="s3cret", access_log=json_log(directory)) as process:
        yield process


@pytest.fixture
def place(tracing: RouterProcess, nats_server: NatsServer) -> Iterator[Place]:
    with Registrar(nats_server.port, tracing) as registrar:
        made = make_place(tracing, registrar, OPEN)
        made.register()
        yield made
        made.leave()


def with_tracing(place: Place, **tracing: Any) -> None:
    assert place.router.reload(tracing=tracing) == {'result="ok"': 1}


def test_without_w3c_the_fields_pass_through(place: Place) -> None:
    """R57, decision 9: `tracing.enable_w3c: false`: nothing is made and nothing is changed."""
    with_tracing(place, enable_w3c=False)
    headers = [("traceparent", "whatever"), ("tracestate", "other=1")]
    received = place.call(plain=True, headers=headers).at_backend
    assert (received.get("traceparent"), received.get("tracestate")) == ("whatever", "other=1")
    assert place.call(plain=True).at_backend.get("traceparent") is None


def test_a_tenant_stands_in_tracestate(place: Place) -> None:
    """R57: `tracing.w3c_tenant_id` prefixes our entry."""
    with_tracing(place, enable_w3c=True, w3c_tenant_id="acme")
    assert only(place.call(plain=True).at_backend.get("tracestate")).startswith("acme@gorouter=")


def test_b3_is_made_and_continued_where_it_is_on(place: Place) -> None:
    """R57: `tracing.enable_zipkin`: B3 fields begin or go on; off, they pass through."""
    with_tracing(place, enable_zipkin=True)
    received = place.call(plain=True).at_backend
    trace, span = only(received.get("x-b3-traceid")), only(received.get("x-b3-spanid"))
    assert received.get("b3") == f"{trace}-{span}"
    sent = [("X-B3-TraceId", TRACE), ("X-B3-SpanId", SPAN), ("X-B3-Sampled", "1")]
    received = place.call(plain=True, headers=sent).at_backend
    assert (received.get("x-b3-traceid"), received.get("x-b3-spanid")) == (TRACE, SPAN)
    assert received.get("b3") == f"{TRACE}-{SPAN}-1"
    with_tracing(place, enable_zipkin=False)
    assert place.call(plain=True, headers=[("X-B3-TraceId", "x")]).at_backend.get("x-b3-traceid") == "x"
    assert place.call(plain=True).at_backend.get("b3") is None


@pytest.mark.parametrize(("key", "shown"), [("s3cret", True), ("22", False), ("", False)])
def test_router_and_backend_are_named_only_to_who_knows_the_key(place: Place, key: str, shown: bool) -> None:
    """Contract d: X-Vcap-Trace with the operator's `trace_key` shows router and backend; any other value shows nothing."""
    response = place.call(plain=True, headers=[("X-Vcap-Trace", key)]).response
    backend = place.backends[0].address if shown else None
    assert (response.get("x-vcap-backend"), response.get("x-cf-routeendpoint")) == (backend, backend)
    assert (response.get("x-vcap-router") is not None) == shown
