"""The fault table says the same of every kind, and nothing of a peer's words."""

from typing import get_args

import pytest

from router.faults import FAULTS, Fault, Kind

_TLS_IDENTITY = (
    "tls_not_spoken",
    "tls_handshake_failed",
    "tls_name_mismatch",
    "tls_untrusted",
    "tls_expired",
    "tls_client_certificate_rejected",
)


def test_every_kind_has_one_row() -> None:
    """No fault can be raised that the table does not know."""
    assert set(get_args(Kind)) == set(FAULTS)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("tls_not_spoken", 525),
        ("tls_handshake_failed", 525),
        ("tls_name_mismatch", 503),
        ("tls_untrusted", 526),
        ("tls_expired", 526),
        ("tls_client_certificate_rejected", 496),
        ("client_cancelled", 499),
        ("endpoint_timeout", 502),
        ("dial_failed", 502),
        ("response_too_large", 502),
    ],
)
def test_a_fault_has_the_status_that_gorouter_gives_it(kind: Kind, status: int) -> None:
    """The table of round-trip errors; a timeout of the endpoint is a 502."""
    assert status == Fault(kind).rule.status


def test_every_status_is_one_of_gorouters_or_the_routers_own() -> None:
    """Contract d: 504 is no fault's status: it says that a signature has expired, never that a backend is slow."""
    upstream = {rule.status for rule in FAULTS.values() if rule.side == "upstream"}
    downstream = {rule.status for rule in FAULTS.values() if rule.side == "downstream"}
    assert (upstream, downstream) == ({403, 496, 502, 503, 525, 526}, {400, 408, 413, 499})


def test_only_a_request_that_never_left_is_sent_again_or_an_idempotent_one_on_a_reused_connection() -> None:
    """Attack 57: a dial or handshake allows `unsent`, a closing backend `idempotent_reused`."""
    idempotent = {kind for kind, rule in FAULTS.items() if rule.retriable == "idempotent_reused"}
    unsent = {kind for kind, rule in FAULTS.items() if rule.retriable == "unsent"}
    assert idempotent == {"connection_closed", "connection_reset"}
    assert {kind for kind, rule in FAULTS.items() if rule.retriable == "unprocessed"} == {"stream_refused"}
    assert {"dial_failed", "dial_timeout", "tls_handshake_timeout", *_TLS_IDENTITY} <= unsent
    assert all(kind.startswith(("dial", "tls", "out_of")) for kind in unsent)


def test_only_the_endpoints_own_faults_count_against_it() -> None:
    """Attack 56: a client that leaves, or a router without descriptors, marks and prunes no endpoint."""
    blamed = {rule.side for rule in FAULTS.values() if rule.failable or rule.prunable}
    assert blamed == {"upstream"}


def test_a_pruned_endpoint_is_a_failed_one_and_never_reached_the_request() -> None:
    """Dial and TLS identity faults remove a TLS endpoint; an EOF or a reset does not."""
    prunable = {kind for kind, rule in FAULTS.items() if rule.prunable}
    assert all(FAULTS[kind].failable and FAULTS[kind].retriable == "unsent" for kind in prunable)
    assert prunable == {"dial_failed", "dial_timeout", "tls_handshake_timeout", *_TLS_IDENTITY}


def test_a_detail_stays_with_the_fault() -> None:
    """A fault is data: kind, side and a detail that only the log may see."""
    fault = Fault("dial_failed", "10.0.0.1:8080: connection refused")
    assert (fault.kind, fault.side) == ("dial_failed", "upstream")
    assert fault.detail not in fault.rule.router_error


def test_a_fault_that_was_let_go_holds_no_frame() -> None:
    """What raised it, and what it was raised for, can be freed."""
    with pytest.raises(Fault) as caught:
        _fall()
    fault = caught.value
    fault.let_go()
    assert (fault.__traceback__, fault.__context__, fault.__cause__) == (None, None, None)
    assert (fault.kind, fault.detail) == ("dial_failed", "why")


def _fall() -> None:
    try:
        raise OSError
    except OSError as error:
        raise Fault("dial_failed", "why") from error
