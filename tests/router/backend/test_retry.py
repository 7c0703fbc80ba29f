"""router/backend/retry.py: the resend rule, as a table."""

import itertools

import pytest

from router.backend.retry import Sent, is_idempotent, may_resend
from router.faults import FAULTS, Fault
from router.wire.http1 import HeadLimits, RequestHead, parse_request_head

NOTHING_LEFT = Sent(bytes_left=False, reused=False, response_began=False, body_kept=False)
CLOSED_WHILE_IDLE = Sent(bytes_left=True, reused=True, response_began=False, body_kept=True)


def head(method: str = "GET", *fields: str) -> RequestHead:
    lines = [f"{method} / HTTP/1.1", "Host: a.example", *fields, "", ""]
    parsed = parse_request_head("\r\n".join(lines).encode(), HeadLimits(4096, 20))
    assert isinstance(parsed, RequestHead)
    return parsed


@pytest.mark.parametrize(
    ("request_head", "idempotent"),
    [
        *((head(method), True) for method in ("GET", "HEAD", "OPTIONS", "TRACE")),
        *((head(method), False) for method in ("POST", "PUT", "DELETE", "PATCH", "get", "PURGE")),
        (head("POST", "Idempotency-Key: 1"), True),
        (head("PATCH", "X-Idempotency-Key: 1"), True),
        (head("POST", "Idempotency-Keys: 1"), False),
    ],
)
def test_idempotent_is_what_gorouter_takes_for_it(request_head: RequestHead, idempotent: bool) -> None:
    """Safe methods, or a request with an idempotency key."""
    assert idempotent == is_idempotent(request_head)


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_is_sent_again_only_where_the_rule_allows_it(kind: str, method: str) -> None:
    """Attack 57: for every fault and every state: nothing left for a backend, or idempotent, kept, reused and no answer yet, or
    kept and not processed, as the backend says.
    """
    for state in itertools.product([False, True], repeat=4):
        sent = Sent(*state)
        rule = FAULTS[kind].retriable  # type: ignore[index]
        unsent = not sent.bytes_left
        harmless = method == "GET" and sent.reused and sent.body_kept
        expected = not sent.response_began and (
            (rule != "no" and unsent)
            or (rule == "idempotent_reused" and sent.bytes_left and harmless)
            or (rule == "unprocessed" and sent.body_kept)
        )
        assert expected == may_resend(Fault(kind), head(method), sent), (kind, method, sent)  # type: ignore[arg-type]


def test_a_connection_closed_while_idle_is_the_usual_case() -> None:
    """The backend closed it while the request was on its way: GET again, POST never."""
    closed = Fault("connection_closed")
    assert may_resend(closed, head("GET"), CLOSED_WHILE_IDLE)
    assert not may_resend(closed, head("POST"), CLOSED_WHILE_IDLE)
    assert not may_resend(closed, head("GET"), CLOSED_WHILE_IDLE._replace(response_began=True))
    assert not may_resend(closed, head("GET"), CLOSED_WHILE_IDLE._replace(reused=False))
    assert not may_resend(closed, head("GET"), CLOSED_WHILE_IDLE._replace(body_kept=False))
    assert may_resend(Fault("dial_failed"), head("POST"), NOTHING_LEFT)
    assert not may_resend(Fault("client_cancelled"), head("GET"), NOTHING_LEFT)
