"""router/l7/grpc_refusal.py: what a gRPC caller gets where the router answers by itself."""

import pytest

from router.faults import FAULTS, Fault
from router.l7.grpc_refusal import as_grpc, asks_by_grpc
from router.l7.refusal import REFUSALS, Refusal, failure, healthcheck, refusal


def field(answer: Refusal, name: bytes) -> list[bytes]:
    return [value for known, value in answer.fields if known == name]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"application/grpc", True), (b"application/grpc+proto", True), (b"application/grpc;charset=x", True),
        (b"Application/GRPC", True), (b"application/grpc-web", False), (b"application/grpc-web+proto", False),
        (b"application/grpcs", False), (b"text/plain", False), (b"", False),
    ],
)  # fmt: skip
def test_a_call_is_known_by_its_content_type(value: bytes, expected: bool) -> None:
    """With any encoding of its messages; gRPC-Web is a protocol of its own."""
    assert asks_by_grpc([(b"te", b"trailers"), (b"content-type", value)]) is expected
    assert not asks_by_grpc([(b"x-content-type", value)])


def test_a_refusal_is_a_reply_of_trailers_only() -> None:
    """No body and nothing that speaks of one; the code says what it says to everybody."""
    answer = as_grpc(refusal("mtls_authorization_denied"))
    assert (answer.status, answer.reason, answer.body) == (403, b"Forbidden", b"")
    assert answer.fields == [
        (b"Content-Type", b"application/grpc"),
        (b"Grpc-Status", b"7"),
        (b"Grpc-Message", b"mtls_authorization_denied: Forbidden"),
        (b"X-Cf-RouterError", b"mtls_authorization_denied"),
    ]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, b"13"), (403, b"7"), (404, b"12"), (405, b"2"), (408, b"2"), (413, b"2"), (421, b"2"), (429, b"14"),
        (431, b"2"), (501, b"2"), (502, b"14"), (503, b"14"), (496, b"2"), (525, b"2"), (526, b"2"),
    ],
)  # fmt: skip
def test_the_status_is_the_one_that_libraries_make_of_the_number(status: int, expected: bytes) -> None:
    """gRPC's own table, so that those that look at the HTTP status first agree."""
    ours = [refusal(code) for code, rule in REFUSALS.items() if rule.status == status]
    ours += [failure(Fault(kind)) for kind, rule in FAULTS.items() if rule.status == status]
    assert ours
    assert [field(as_grpc(answer), b"Grpc-Status") for answer in ours] == [[expected]] * len(ours)


def test_what_else_a_refusal_says_stays() -> None:
    """Whether it closes, when to ask again, what may be kept."""
    answer = as_grpc(refusal("rate_limit_exceeded", host="shop.example", retry_after=3))
    assert field(answer, b"Retry-After") == [b"3"]
    assert field(answer, b"Cache-Control") == [b"no-cache, no-store"]
    assert field(answer, b"Grpc-Message") == [
        b"rate_limit_exceeded: Requested route ('shop.example') has reached its rate limit."
    ]  # fmt: skip
    assert as_grpc(refusal("malformed_request")).close
    assert field(as_grpc(refusal("mtls_domain_mismatch")), b"Grpc-Message") == [b"mtls_domain_mismatch"]


def test_a_message_is_percent_encoded() -> None:
    """A host that was asked for may hold a %."""
    (said,) = field(as_grpc(refusal("unknown_route", host="a%41\n")), b"Grpc-Message")
    assert said == b"unknown_route: Requested route ('a%2541\\x0a') does not exist."


def test_what_is_no_error_stays_as_it_is() -> None:
    """A probe's answer."""
    probe = healthcheck([(b"user-agent", b"probe")], b"probe", healthy=True)
    assert probe is not None
    assert as_grpc(probe) is probe
