"""What the router answers by itself: exact statuses, codes and bodies, and nothing more."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.faults import FAULTS, Fault, Kind
from router.l7.refusal import REASONS, REFUSALS, Code, failure, healthcheck, malformed, refusal
from router.wire.http1 import Malformed, render_response_head

_REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"


def _value(fields: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    values = [value for other, value in fields if other == name]
    assert len(values) <= 1
    return values[0] if values else None


def test_every_code_has_one_row_with_a_known_reason_phrase() -> None:
    """No code can be refused with that the table does not know."""
    assert set(get_args(Code)) == set(REFUSALS)
    statuses = {rule.status for rule in REFUSALS.values()} | {rule.status for rule in FAULTS.values()}
    assert statuses <= set(REASONS)


@pytest.mark.parametrize(
    ("code", "status", "error", "cache", "body"),
    [
        ("empty_host", 400, b"empty_host", b"public,max-age=2", b"Request had empty Host header"),
        (
            "unknown_route", 404, b"unknown_route", b"no-cache, no-store",
            b"Requested route ('h') does not exist.",
        ),
        (
            "unknown_instance", 400, b"unknown_route", b"no-cache, no-store",
            b"Requested instance ('i') with guid ('g') does not exist for route ('h')",
        ),
        (
            "invalid_cf_app_instance_header", 400, b"invalid_cf_app_instance_header", b"no-cache, no-store",
            b"Invalid X-CF-App-Instance Header",
        ),
        (
            "invalid_cf_process_instance_header", 400, b"invalid_cf_process_instance_header",
            b"no-cache, no-store", b"Invalid X-CF-Process-Instance Header",
        ),
        (
            "no_endpoints", 503, b"no_endpoints", b"public,max-age=2",
            b"Requested route ('h') has no available endpoints.",
        ),
        (
            "Connection Limit Reached", 503, b"Connection Limit Reached", None,
            b"Requested route ('h') has reached the connection limit.",
        ),
        (
            "rate_limit_exceeded", 429, b"rate_limit_exceeded", b"no-cache, no-store",
            b"Requested route ('h') has reached its rate limit.",
        ),
        ("unknown_failure", 502, b"unknown_failure", None, b"The router failed to handle the request"),
        ("malformed_request", 400, b"malformed_request", None, b"Malformed request"),
    ],
)  # fmt: skip
def test_a_refusal_is_worded_as_gorouter_words_it(
    code: Code, status: int, error: bytes, cache: bytes | None, body: bytes
) -> None:
    """GoRouter's lookup errors: status, code, Cache-Control, `<code> <text>: <message>` as plain text."""
    made = refusal(code, host="h", instance="i", guid="g")
    assert (status, REASONS[status]) == (made.status, made.reason)
    assert made.body == b"%d %b: %b\n" % (status, REASONS[status], body)
    assert error == _value(made.fields, b"X-Cf-RouterError")
    assert cache == _value(made.fields, b"Cache-Control")
    assert _value(made.fields, b"Content-Type") == b"text/plain; charset=utf-8"
    assert _value(made.fields, b"X-Content-Type-Options") == b"nosniff"


def test_when_to_ask_again_is_said_where_it_is_known() -> None:
    """RFC 9110 section 10.2.3: seconds."""
    assert _value(refusal("rate_limit_exceeded", host="h", retry_after=7).fields, b"Retry-After") == b"7"
    assert _value(refusal("rate_limit_exceeded", host="h").fields, b"Retry-After") is None


def test_a_denied_caller_learns_nothing_but_the_code() -> None:
    """A 403 says `Forbidden`, whatever the reason was."""
    made = refusal("mtls_authorization_denied", host="secret.example")
    assert (made.status, made.body) == (403, b"Forbidden")
    assert _value(made.fields, b"X-Cf-RouterError") == b"mtls_authorization_denied"


def test_a_misdirected_request_gets_an_empty_body() -> None:
    """A 421 has no body at all, and so no Content-Type."""
    made = refusal("mtls_domain_mismatch", host="b.example")
    assert (made.status, made.body) == (421, b"")
    assert made.fields == [(b"X-Cf-RouterError", b"mtls_domain_mismatch"), (b"Content-Length", b"0")]


@pytest.mark.parametrize("code", get_args(Code))
def test_a_response_to_head_has_no_body_but_its_length(code: Code) -> None:
    """HEAD gets the fields of GET and nothing behind them."""
    whole, bare = refusal(code, host="h"), refusal(code, host="h", is_head=True)
    assert (whole.fields, b"") == (bare.fields, bare.body)
    assert _value(bare.fields, b"Content-Length") == b"%d" % len(whole.body)


@pytest.mark.parametrize(
    ("reason", "status", "error"),
    [
        (Malformed("bad_request_line"), 400, b"malformed_request"),
        (Malformed("host_missing"), 400, b"empty_host"),
        (Malformed("empty_host"), 400, b"empty_host"),
        (Malformed("connect", 405), 405, b"malformed_request"),
        (Malformed("target_too_long", 414), 414, b"malformed_request"),
        (Malformed("expectation_unknown", 417), 417, b"malformed_request"),
        (Malformed("too_many_fields", 431), 431, b"max-request-size-exceeded"),
        (Malformed("transfer_coding_unknown", 501), 501, b"malformed_request"),
        (Malformed("version_not_supported", 505), 505, b"malformed_request"),
        (Malformed("a_reason_of_tomorrow", 418), 400, b"malformed_request"),
    ],
)
def test_a_malformed_head_is_answered_with_its_status_and_the_end(reason: Malformed, status: int, error: bytes) -> None:
    """Bad input: the parser's status, a bounded code, no reason in the body, and the connection closes."""
    made = malformed(reason)
    assert (status, True) == (made.status, made.close)
    assert error == _value(made.fields, b"X-Cf-RouterError")
    assert reason.reason.encode() not in made.body


def test_a_refused_connect_says_what_is_allowed() -> None:
    """RFC 9110 section 15.5.6: a 405 names the methods that are served."""
    assert b"CONNECT" not in (_value(malformed(Malformed("connect", 405)).fields, b"Allow") or b"CONNECT")


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_fault_is_answered_by_the_table_and_keeps_its_detail(kind: Kind) -> None:
    """Nothing that a backend or a peer said appears in the response to a fault."""
    made = failure(Fault(kind, "10.0.0.1 secret"))
    assert FAULTS[kind].status == made.status
    assert FAULTS[kind].router_error.encode() == _value(made.fields, b"X-Cf-RouterError")
    assert b"secret" not in render_response_head(made.status, made.reason, made.fields) + made.body


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("dial_failed", b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"),
        ("endpoint_timeout", b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"),
        ("tls_not_spoken", b"525 SSL Handshake Failed\n"),
        ("tls_name_mismatch", b"503 Service Unavailable\n"),
        ("tls_untrusted", b"526 Invalid SSL Certificate\n"),
        ("tls_client_certificate_rejected", b"496 SSL Certificate Required\n"),
        ("client_cancelled", b"499 Request Cancelled\n"),
    ],
)
def test_a_failed_round_trip_has_the_body_that_gorouter_gives_it(kind: Kind, body: bytes) -> None:
    """The round-trip errors of GoRouter, word for word."""
    assert body == failure(Fault(kind)).body


@given(st.text(max_size=600), st.text(max_size=600), st.text(max_size=600))
def test_what_a_peer_asked_for_is_shown_bounded_and_escaped(host: str, instance: str, guid: str) -> None:
    """A name in a body is printable ASCII, breaks no quotes and no line, and cannot grow without end."""
    body = refusal("unknown_instance", host=host, instance=instance, guid=guid).body
    assert body.count(b"\n") == 1
    assert body.count(b"'") == 6
    assert b"<" not in body
    assert all(32 <= byte < 127 for byte in body[:-1])
    assert len(body) < 3 * 253 * 8 + 200


def test_the_probe_of_a_load_balancer_is_answered_by_the_router() -> None:
    """`healthcheck_user_agent`: 200 `ok` while healthy, 503 while draining, never cached, then the end."""
    probe = [(b"host", b"x"), (b"user-agent", b"HTTP-Monitor/1.1")]
    well, ill = (healthcheck(probe, b"HTTP-Monitor/1.1", healthy=healthy) for healthy in (True, False))
    assert well is not None
    assert ill is not None
    assert (well.status, well.body, well.close) == (200, b"ok\n", True)
    assert (ill.status, ill.body, ill.close) == (503, b"", True)
    assert _value(well.fields, b"Cache-Control") == b"private, max-age=0"
    assert _value(well.fields, b"Expires") == b"0"


@pytest.mark.parametrize(
    ("fields", "user_agent"),
    [
        ([], b"HTTP-Monitor/1.1"),
        ([(b"user-agent", b"HTTP-Monitor/1.10")], b"HTTP-Monitor/1.1"),
        ([(b"user-agent", b"http-monitor/1.1")], b"HTTP-Monitor/1.1"),
        ([(b"user-agent", b"")], b""),
    ],
)
def test_any_other_request_is_no_probe(fields: list[tuple[bytes, bytes]], user_agent: bytes) -> None:
    """Only the whole, exact User-Agent is a probe; a probe without a name does not exist."""
    assert healthcheck(fields, user_agent, healthy=True) is None


def _rows() -> list[str]:
    refusals = [
        f"| {rule.status} | `{rule.error}` | {_said(rule.message, rule.body)} | "
        f"{(rule.cache_control or b'-').decode()} | {'closes' if rule.close else 'stays'} |"
        for rule in REFUSALS.values()
    ]
    faults = [
        f"| `{kind}` | {rule.side} | {rule.status} | `{rule.router_error}` | {rule.retriable} | "
        f"{'yes' if rule.failable else 'no'} | {'yes' if rule.prunable else 'no'} |"
        for kind, rule in FAULTS.items()
    ]
    return refusals + faults


def _said(message: str | None, body: bytes) -> str:
    return message if message is not None else f"`{body.decode()}`" if body else "(empty)"


def test_the_reference_page_says_what_the_tables_say() -> None:
    """docs/reference/errors.md has exactly the rows of both tables, and every body of a failed round trip."""
    page = _REFERENCE.read_text(encoding="utf-8").splitlines()
    written = [line for line in page if line.startswith("| ") and not line.startswith(("| status", "| kind"))]
    assert _rows() == written
    bodies = {failure(Fault(kind)).body for kind, rule in FAULTS.items() if rule.side == "upstream"}
    assert all(f"- `{body.decode().strip()}`" in page for body in bodies)
