"""router/l7/policies.py: which requests an operator's policies refuse, in every spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.l7.policies import L7Policies, Policy
from router.wire.http1 import Fields

UA, KEY = "user_agent_block", "required_header"
ADMIN = Policy("a.example", "/admin", "required_header", "X-Api-Key")


def broken(policies: list[Policy], host: str, path: str = "/", fields: Fields | None = None, *named: bytes) -> Policy | None:
    return L7Policies(policies).broken(host, path, fields or [], frozenset(named))


@pytest.mark.parametrize(
    ("agent", "is_out"),
    [(b"BadBot", True), (b"Mozilla/5.0 (badBOT/2)", True), (b"Bad Bot", False), (b"", False), (b"\xffbadbot\xff", True)],
)
def test_a_user_agent_that_contains_the_value_is_out(agent: bytes, is_out: bool) -> None:
    """R126: a part of it is enough; case says nothing."""
    policy = Policy("a.example", "", "user_agent_block", "badbot")
    assert broken([policy], "a.example", "/", [(b"user-agent", agent)]) == (policy if is_out else None)


def test_a_second_user_agent_does_not_hide_the_first() -> None:
    """R126: each of them counts; no User-Agent at all is none that is out."""
    policy = Policy("a.example", "", "user_agent_block", "badbot")
    assert broken([policy], "a.example", "/", [(b"user-agent", b"badbot"), (b"user-agent", b"good")]) == policy
    assert broken([policy], "a.example") is None


@pytest.mark.parametrize(
    ("fields", "named", "is_missing"),
    [
        ([(b"x-api-key", b"k")], (), False),
        ([(b"x-api-key", b""), (b"x-api-key", b"k")], (), False),
        ([], (), True),
        ([(b"x-api-key", b"")], (), True),
        ([(b"x_api_key", b"k")], (), True),
        ([(b"x-api-key", b"k")], (b"x-api-key",), True),
    ],
    ids=["there", "one of two", "missing", "empty", "underscores", "removed by Connection"],
)
def test_a_required_header_must_reach_the_backend(fields: Fields, named: tuple[bytes, ...], is_missing: bool) -> None:
    """R127: empty, or named in Connection, is missing."""
    assert (broken([ADMIN], "a.example", "/admin", fields, *named) is not None) == is_missing


@pytest.mark.parametrize(
    ("pattern", "host", "holds"),
    [
        ("a.example", "a.example", True), ("a.example", "b.a.example", False), ("*.example", "a.example", True),
        ("*.example", "b.a.example", True), ("*.example", "example", False), ("*.a.example", "xa.example", False),
    ],
)  # fmt: skip
def test_a_policy_holds_for_its_host_or_every_host_below(pattern: str, host: str, holds: bool) -> None:
    policy = Policy(pattern, "", "required_header", "X")
    assert (broken([policy], host) is not None) == holds


@pytest.mark.parametrize(
    "path",
    [
        "/admin", "/admin/", "/ADMIN/x", "/%61dmin", "/x/../admin", "//admin", "/./admin/x", "/%2e/admin", "/x/%2e%2e/admin",
        "/admin;v=1", "/admin;v=1/x", "/x/..;/admin", "/admin%2Fx", "/admin%3Bv=1", "/%5Cadmin", "\\admin", "/admin/../x",
        "/admin%2F..", "/%61dmin/x/..", "//admin/%2e%2e", "/%61dmin\\..", "/x/../%61dmin/%2e%2e",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_slips_past(path: str) -> None:
    """R130: whatever a backend could take the path for counts."""
    assert broken([ADMIN], "a.example", path) == ADMIN


@pytest.mark.parametrize("path", ["/", "/administrator", "/x/admin", "/adm/in", "/%2561dmin"])
def test_another_path_is_not_meant(path: str) -> None:
    assert broken([ADMIN], "a.example", path) is None


def test_all_that_fit_must_be_kept_and_the_nearest_host_is_named_first() -> None:
    """R130: a narrower policy does not lift a wider one."""
    wide, narrow = Policy("*.example", "", "required_header", "X-A"), Policy("a.example", "", "required_header", "X-B")
    both = [wide, narrow]
    assert broken(both, "a.example") == narrow
    assert broken(both, "a.example", "/", [(b"x-b", b"1")]) == wide
    assert broken(both, "a.example", "/", [(b"x-b", b"1"), (b"x-a", b"1")]) is None


@given(st.text(st.sampled_from("aA/.;%2fF5cCeE\\é"), max_size=30).map("/".__add__))
def test_whatever_begins_with_the_path_is_below_it(rest: str) -> None:
    """No path raises, and no suffix leads out of a policy."""
    assert broken([ADMIN], "a.example", "/admin" + rest) == ADMIN
