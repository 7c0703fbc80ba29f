"""The promise: every exchange leaves exactly one record that says who asked for what, and what became of it."""

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EAST, OPEN, MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA
from tests.support.client import Client, Tls, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain, wait_until

APP, SPACE, ORG = "app-guid-1", "space-guid-1", "org-guid-1"
LINE = re.compile(
    r'(?P<host>\S*) - \[(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z)\] "(?P<request>[^"]*)" (?P<status>\d{3}|"-") '
    r'(?P<bytes_in>\d+) (?P<bytes_out>\d+) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" "(?P<client>[^"]*)" "(?P<backend>[^"]*)" '
    r'x_forwarded_for:"(?P<xff>[^"]*)" x_forwarded_proto:"(?P<xfp>[^"]*)" vcap_request_id:"(?P<vcap>[^"]*)" '
    r'response_time:(?P<response_time>\d+\.\d{6}) gorouter_time:(?P<gorouter_time>\d+\.\d{6}) app_id:"(?P<app_id>[^"]*)" '
    r'app_index:"(?P<app_index>[^"]*)" instance_id:"(?P<instance_id>[^"]*)" (?P<extra>.*?)x_cf_routererror:"(?P<error>[^"]*)"'
    r"(?P<headers>.*)"
)


def parsed(line: str) -> dict[str, str]:
    found = LINE.fullmatch(line)
    assert found is not None, f"not GoRouter's line: {line}"
    return found.groupdict()


def record(router: RouterProcess, host: str) -> dict[str, str]:
    """The only line about `host`."""
    router.wait_for_log(host)
    [line] = [line for line in router.access_log if host in line]
    return parsed(line)


def test_a_line_is_gorouters_to_the_byte(router: RouterProcess, registrar: Registrar, backend: EchoBackend) -> None:
    """R54, contract h: order, quotes and values of GoRouter's line, for an ordinary exchange."""
    host = unique_host(OPEN)
    registrar.register(host, backend=backend, app=APP, index=4, private_instance_id="instance-7")
    sent = [("Referer", "http://from.example/"), ("User-Agent", 'some "agent"/1.0'), ("X-Forwarded-For", "6.6.6.6")]
    with Client(router.port) as client:
        answer = client.request(host, "/path?token=secret", method="POST", headers=sent, body=b"12345")
        port = client.socket.getsockname()[1]
    line = router.wait_for_log(host)
    vcap = backend.last.get("x-vcap-request-id")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
    expected = (
        re.escape(f"{host} - [") + stamp + re.escape(f'] "POST /path HTTP/1.1" 200 5 {len(answer.body)} "http://from.example/" '
        f'"some \\"agent\\"/1.0" "127.0.0.1:{port}" "{backend.address}" x_forwarded_for:"127.0.0.1" x_forwarded_proto:"http" '
        f'vcap_request_id:"{vcap}" response_time:') + r"\d\.\d{6} gorouter_time:\d\.\d{6}"
        + re.escape(f' app_id:"{APP}" app_index:"4" instance_id:"instance-7" x_cf_routererror:"-"')
    )  # fmt: skip
    assert re.fullmatch(expected, line), line
    assert "secret" not in line


def test_times_tell_the_app_from_the_router(router: RouterProcess, registrar: Registrar, backend: EchoBackend) -> None:
    """Contract h: response_time is the whole exchange; gorouter_time is it less the backend's share."""
    host = unique_host(OPEN)
    registrar.register(host, backend=backend)

    def slow(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        time.sleep(0.3)
        exchange.send(b"slow")

    backend.script(slow)
    get(router.port, host)
    found = record(router, host)
    assert 0.3 <= float(found["response_time"]) < 5
    assert float(found["gorouter_time"]) < 0.1


def test_a_refusal_is_recorded_with_its_code(router: RouterProcess) -> None:
    """R54: an unknown route leaves a line without backend, with the code that the client saw."""
    host = unique_host(OPEN)
    answer = get(router.port, host)
    found = record(router, host)
    assert (found["status"], found["error"]) == ("404", "unknown_route")
    assert (found["backend"], found["app_id"], found["instance_id"]) == ("-", "-", "-")
    assert found["bytes_out"] == str(len(answer.body))


def test_a_malformed_head_is_recorded(router: RouterProcess) -> None:
    """Attack 51 in the log: what was no request leaves a record of its refusal, on one line."""
    before = len(router.access_log)
    with Client(router.port) as client:
        client.send(b'GET /\x00"\r\n\r\n')
        assert client.read_response().status == 400
    wait_until(lambda: len(router.access_log) > before, "a line")
    found = parsed(router.access_log[-1])
    assert (found["status"], found["error"]) in (("400", "malformed_request"), ("400", "empty_host"))


def test_a_backend_failure_is_recorded_with_its_endpoint(router: RouterProcess, registrar: Registrar) -> None:
    """R54, contract h: 502 with the endpoint that failed and why."""
    host = unique_host(OPEN)
    registrar.register(host, backend=9, app=APP)
    get(router.port, host)
    found = record(router, host)
    assert (found["status"], found["error"]) == ("502", "endpoint_failure (dial failed)")
    assert (found["backend"], found["app_id"]) == ("127.0.0.1:9", APP)


def test_a_client_that_leaves_in_the_middle_is_recorded(
    router: RouterProcess, registrar: Registrar, backend: EchoBackend
) -> None:
    """Contract h, k: an exchange that the client cut off is in the log too, once."""
    host = unique_host(OPEN)
    registrar.register(host, backend=backend)
    backend.script(lambda exchange: exchange.recv())
    with Client(router.port) as client:
        client.send(render_request(host))
        backend_has_it = wait_until(lambda: backend.received, "the request")
        assert len(backend_has_it) == 1
        client.reset()
    found = record(router, host)
    assert (found["status"], found["error"]) == ("499", "endpoint_failure (request cancelled)")


def test_what_a_client_sends_cannot_split_a_line(router: RouterProcess, registrar: Registrar, backend: EchoBackend) -> None:
    """Attack 24 in the log: quotes, high bytes and tabs are escaped; one exchange is one line."""
    host = unique_host(OPEN)
    registrar.register(host, backend=backend)
    with Client(router.port) as client:
        client.send(b'GET /"x HTTP/1.1\r\nHost: %b\r\nUser-Agent: a" "b\t\xff\r\nReferer: \\"\r\n\r\n' % host.encode())
        client.read_response()
    line = router.wait_for_log(host)
    assert '"GET /\\"x HTTP/1.1"' in line
    assert '"a\\" \\"b\\t\\xff"' in line
    assert '"\\\\\\""' in line


def test_a_denial_names_the_app_it_protected(
    router: RouterProcess, registrar: Registrar, backend: EchoBackend, east_ca: CA
) -> None:
    """A 403 line carries the app of the route, so that its developer can find it."""
    host = unique_host(EAST)
    registrar.register(host, backend=backend, app="protected-app", options={"mtls_allowed_apps": "somebody-else"})
    assert get(router.ssl_port, host, tls=Tls(host, credential=east_ca.issue_instance(APP, SPACE, ORG))).status == 403
    found = record(router, host)
    assert (found["status"], found["error"], found["app_id"]) == ("403", "mtls_authorization_denied", "protected-app")
    assert backend.received == []


# With options

Logged = Callable[..., tuple[RouterProcess, Callable[..., str]]]


@pytest.fixture
def logged(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], east_ca: CA, backend: EchoBackend
) -> Logged:
    """Makes a router with such a log, and a function that registers a host on it."""

    def make(**config: Any) -> tuple[RouterProcess, Callable[..., str]]:
        router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], **config)
        registrar = make_registrar(nats_server, router)

        def register(domain: str = OPEN, **more: Any) -> str:
            host = unique_host(domain)
            registrar.register(host, backend=backend, **more)
            return host

        return router, register

    return make


def test_the_json_form_tells_the_caller_and_the_decision(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], east_ca: CA,
    backend: EchoBackend, tmp_path: Path,
) -> None:  # fmt: skip
    """One JSON object a line, with SNI, caller, decision, ids and generation."""
    log = {"file": str(tmp_path / "access.log"), "format": "json"}
    router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], access_log=log)
    registrar = make_registrar(nats_server, router)
    allowed, denied = unique_host(EAST), unique_host(EAST)
    registrar.register(allowed, backend=backend, options={"mtls_allowed_apps": APP}, wait=False)
    registrar.register(denied, backend=backend, options={"mtls_allowed_spaces": "another-space"})
    caller = east_ca.issue_instance(APP, SPACE, ORG)
    for host in (allowed, denied):
        get(router.ssl_port, host, "/x?secret=1", tls=Tls(host, credential=caller), headers=[("X-Request-Id", "my-id")])
    lines = tmp_path / "access.log"
    wait_until(lambda: lines.read_text().count("\n") == 2, "two lines")
    entries = {entry["host"]: entry for entry in map(json.loads, lines.read_text().splitlines())}
    yes, no = entries[allowed], entries[denied]  # two workers may write their lines in either order
    for entry, host in ((yes, allowed), (no, denied)):
        assert (entry["host"], entry["tls_sni"], entry["uri"]) == (host, host, "/x")
        assert (entry["caller_cf_app"], entry["caller_cf_space"], entry["caller_cf_org"]) == (APP, SPACE, ORG)
        assert (entry["request_id"], entry["generation"]) == ("my-id", 1)
        assert re.fullmatch("[0-9a-f]{32}", entry["trace_id"])
    assert (yes["status"], yes["mtls_auth"], yes["mtls_rule"]) == (200, "allowed", "route:mtls_allowed_apps")
    assert yes["mtls_denied_reason"] is None
    assert yes["trace_id"] in (backend.last.get("traceparent") or "")
    assert (no["status"], no["mtls_auth"], no["mtls_rule"]) == (403, "denied", "route:mtls_allowed_spaces")
    assert SPACE in no["mtls_denied_reason"]
    assert no["x_cf_routererror"] == "mtls_authorization_denied"


def test_extra_fields_and_headers(logged: Logged, east_ca: CA) -> None:
    """Contract h: extra_access_log_fields stand before the router's error, extra_headers_to_log after it."""
    fields = ["caller_cf_app", "caller_cf_space", "caller_cf_org", "tls_sni", "mtls_auth", "mtls_rule", "mtls_denied_reason",
              "request_id", "trace_id", "generation", "backend_time", "failed_attempts", "local_address",
              "route_policy"]  # fmt: skip
    router, register = logged(logging={"level": "debug", "extra_access_log_fields": fields}, extra_headers_to_log=["X-My-Header"])
    host = register(EAST, options={"mtls_allow_any": True})
    caller = east_ca.issue_instance(APP, SPACE, ORG)
    headers = [("X-My-Header", 'the "value"'), ("X-Request-Id", "abc")]
    assert get(router.ssl_port, host, tls=Tls(host, credential=caller), headers=headers).status == 200
    found = parsed(router.wait_for_log(host))
    expected = (
        rf'caller_cf_app:"{APP}" caller_cf_space:"{SPACE}" caller_cf_org:"{ORG}" tls_sni:"{host}" mtls_auth:"allowed" '
        r'mtls_rule:"route:mtls_allow_any" mtls_denied_reason:"-" request_id:"abc" trace_id:"[0-9a-f]{32}" generation:1 '
        r'backend_time:\d\.\d{6} failed_attempts:0 local_address:"127\.0\.0\.1:\d+" route_policy:"route:mtls_allow_any" '
    )
    assert re.fullmatch(expected, found["extra"]), found["extra"]
    assert found["headers"] == ' x_my_header:"the \\"value\\""'


def test_attempts_in_detail(logged: Logged, backend: EchoBackend) -> None:
    """Contract h: enable_attempts_details adds the times and the number of failed attempts."""
    router, register = logged(logging={"level": "debug", "enable_attempts_details": True})
    host = register()
    assert get(router.port, host).status == 200
    assert re.fullmatch(
        r'failed_attempts:0 failed_attempts_time:"-" dns_time:\S+ dial_time:0\.\d{6} tls_time:\S+ backend_time:\d\.\d{6} ',
        parsed(router.wait_for_log(host))["extra"],
    )


@pytest.mark.parametrize(
    ("choice", "shown"),
    [("none", "/p?a=1&b"), ("all", "/p"), ("hash", "/p?hash=" + hashlib.sha1(b"a=1&b", usedforsecurity=False).hexdigest())],
)
def test_queries_are_redacted_as_told(logged: Logged, choice: str, shown: str) -> None:
    """Contract h: `all` is the default; `none` and `hash` are GoRouter's."""
    router, register = logged(logging={"level": "debug", "redact_query_params": choice})
    host = register()
    get(router.port, host, "/p?a=1&b", headers=[("Referer", "http://r.example/p?a=1&b")])
    found = record(router, host)
    assert (found["request"], found["referer"]) == (f"GET {shown} HTTP/1.1", f"http://r.example{shown}")


def test_addresses_can_be_left_out(logged: Logged) -> None:
    """Contract h: disable_log_source_ip and disable_log_forwarded_for write `-`."""
    router, register = logged(
        logging={"level": "debug", "disable_log_source_ip": True, "disable_log_forwarded_for": True}
    )  # fmt: skip
    host = register()
    get(router.port, host)
    found = record(router, host)
    assert (found["client"], found["xff"]) == ("-", "-")


def test_sampling_leaves_out_successes_and_never_an_error(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], backend: EchoBackend,
    tmp_path: Path,
) -> None:  # fmt: skip
    """With sampling 0 only what went wrong is logged."""
    lines = tmp_path / "access.log"
    router = make_router(access_log={"file": str(lines), "sampling": 0})
    host = unique_host(OPEN)
    make_registrar(nats_server, router).register(host, backend=backend)
    assert [get(router.port, host).status for _ in range(5)] == [200] * 5
    assert get(router.port, "nobody.invalid").status == 404
    wait_until(lambda: "nobody.invalid" in lines.read_text(), "the line of the error")
    assert lines.read_text().count("\n") == 1


def test_without_a_file_the_log_goes_to_standard_output(logged: Logged) -> None:
    """Contract g.1: neither file nor streaming: the lines stand on standard output beside the component log."""
    router, register = logged(access_log=None)
    host = register()
    get(router.port, host)
    parsed(router.wait_for_event(lambda line: line.startswith(f"{host} - [")))
