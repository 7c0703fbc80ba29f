"""authz/deny.py: what is on a deny list is found whatever its spelling, and nothing else is; decide.py makes it a 403."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.binding import BOUND_DOMAIN, BOUND_OPEN
from authz.decide import decide
from authz.decision import Check, Deny
from authz.deny import (
    NO_DENY,
    DenyLists,
    bars,
    denied_address,
    denied_caller,
    denied_host,
    denied_request,
)
from authz.networks import Network, plain_network
from authz.policy import NO_POLICY
from identity.caller import Caller, Guid
from identity.certificate import IdentityError
from registry.hostname import canonical
from tests.authz.parts import APP, CALLER, ORG, SPACE, domain, pool

OTHER = Guid("another")
ANYBODY = pool({"mtls_allow_any": True})
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
NAMES = st.from_regex(r"[a-z0-9-]{1,8}(\.[a-z0-9-]{1,8}){0,4}\.example", fullmatch=True)


def hosts(*patterns: str) -> DenyLists:
    return DenyLists(hosts=frozenset(patterns))


def networks(*texts: str) -> DenyLists:
    return DenyLists(networks=tuple(ip_network(text) for text in texts))


def guids(apps: Guid | None = None, spaces: Guid | None = None, orgs: Guid | None = None) -> DenyLists:
    return DenyLists(apps=_one(apps), spaces=_one(spaces), orgs=_one(orgs))


def _one(guid: Guid | None) -> frozenset[Guid]:
    return frozenset() if guid is None else frozenset({guid})


def rule(check: Check | None) -> str | None:
    assert check is None or (check.layer, check.passed) == ("deny", False)
    return None if check is None else check.rule


@pytest.mark.parametrize(
    ("lists", "empty"),
    [
        (NO_DENY, True),
        (DenyLists(), True),
        (guids(apps=APP), False),
        (guids(spaces=SPACE), False),
        (guids(orgs=ORG), False),
        (hosts("a.example"), False),
        (networks("10.0.0.0/8"), False),
    ],
)
def test_empty_is_the_one_question_of_the_data_path(lists: DenyLists, empty: bool) -> None:
    """Nothing is denied exactly when all lists are empty."""
    assert lists.empty is empty


@pytest.mark.parametrize(
    ("patterns", "host", "hit"),
    [
        (("a.example",), "a.example", "a.example"),
        (("a.example",), "b.a.example", None),
        (("a.example",), "xa.example", None),
        (("*.example",), "a.example", "*.example"),
        (("*.example",), "a.b.c.example", "*.example"),
        (("*.example",), "example", None),
        (("*.example",), "aexample", None),
        (("*.b.example",), "b.example", None),
        (("*.b.example",), "a.b.example", "*.b.example"),
        (("*.example", "a.example"), "a.example", "a.example"),
        (("*.a.example", "*.example"), "x.a.example", "*.a.example"),
        ((), "a.example", None),
        (("a.example",), "", None),
    ],
)
def test_a_host_is_matched_as_a_domain_claims_hosts(patterns: tuple[str, ...], host: str, hit: str | None) -> None:
    """R239: exact, or `*.suffix` at any depth; the bare suffix is not below itself."""
    found = denied_host(hosts(*patterns), host)
    assert rule(found) == (None if hit is None else "deny:hosts")
    assert hit is None or (found is not None and found.detail.endswith(f"({hit})"))


@pytest.mark.parametrize(
    "spelling",
    ["evil.example", "EVIL.Example", "evil.example.", "Evil.EXAMPLE.", "ｅvil.example", "evil。example", "evil.ｅxample"],
)
def test_every_spelling_of_a_host_is_the_same_host(spelling: str) -> None:
    """Attack by case, final dot, width or IDNA dots: the edge makes one form, and that is on the list."""
    host = canonical(spelling)
    assert host is not None
    assert rule(denied_host(hosts("evil.example"), host)) == "deny:hosts"
    assert rule(denied_host(hosts("*.example"), host)) == "deny:hosts"


def test_an_international_name_and_its_ascii_form_are_the_same_host() -> None:
    """Attack by IDNA: a listed `bücher.example` is out in either spelling."""
    listed = canonical("bücher.example")
    assert listed is not None
    for spelling in ("BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE."):
        host = canonical(spelling)
        assert host is not None
        assert rule(denied_host(hosts(listed), host)) == "deny:hosts"


@given(NAMES, st.integers(min_value=0, max_value=4))
def test_a_suffix_denies_every_host_below_it(name: str, dot: int) -> None:
    """Any depth, any position of the dot."""
    labels = name.split(".")
    cut = min(dot + 1, len(labels) - 1)
    assert rule(denied_host(hosts("*." + ".".join(labels[cut:])), name)) == "deny:hosts"


@given(NAMES, st.frozensets(NAMES, max_size=3))
def test_a_host_that_no_entry_claims_is_not_denied(name: str, others: frozenset[str]) -> None:
    """Exact entries name exactly one host."""
    assert rule(denied_host(DenyLists(hosts=others), name)) == ("deny:hosts" if name in others else None)


@pytest.mark.parametrize(
    ("lists", "caller", "expected"),
    [
        (guids(apps=APP), CALLER, "deny:apps"),
        (guids(spaces=SPACE), CALLER, "deny:spaces"),
        (guids(orgs=ORG), CALLER, "deny:orgs"),
        (guids(apps=APP, spaces=SPACE, orgs=ORG), CALLER, "deny:apps"),
        (guids(spaces=SPACE, orgs=ORG), CALLER, "deny:spaces"),
        (guids(apps=OTHER, spaces=OTHER, orgs=OTHER), CALLER, None),
        (guids(apps=Guid(SPACE), orgs=Guid(APP)), CALLER, None),
        (guids(orgs=Guid(ORG.upper())), CALLER, None),
        (guids(spaces=SPACE, orgs=ORG), Caller(APP), None),
        (NO_DENY, CALLER, None),
    ],
)
def test_a_caller_is_denied_by_its_app_its_space_or_its_org(lists: DenyLists, caller: Caller, expected: str | None) -> None:
    """R237: byte for byte, each GUID on its own list, the narrowest first; what a caller does not have is on none."""
    assert rule(denied_caller(lists, caller)) == expected


@pytest.mark.parametrize(
    ("host_domain", "caller", "expected"),
    [
        (domain(), CALLER, "deny:orgs"),
        (domain(report_only=True), CALLER, "deny:orgs"),
        (domain(mode="none"), CALLER, "deny:orgs"),
        (domain(dialect="domains", mode="none", identity_extractor="none"), CALLER, "deny:orgs"),
        (domain(mode="none", identity_extractor="none"), CALLER, None),
        (None, CALLER, None),
        (domain(), None, None),
        (domain(), IdentityError("no_app", "none"), None),
    ],
)
def test_a_caller_counts_where_the_domain_reads_identities(
    host_domain: object, caller: Caller | IdentityError | None, expected: str | None
) -> None:
    """Elsewhere OUs are a stranger's words; the host counts everywhere, and first."""
    lists = DenyLists(orgs=frozenset({ORG}), hosts=frozenset({"evil.example"}))
    assert rule(denied_request(lists, "a.example", host_domain, caller)) == expected  # type: ignore[arg-type]
    assert rule(denied_request(lists, "evil.example", host_domain, caller)) == "deny:hosts"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entry", "host", "hit"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "[::ffff:10.1.2.3]", True),
        ("10.0.0.0/8", "::FFFF:A01:203", True),
        ("10.0.0.0/8", "0:0:0:0:0:ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:0:0/96", "10.1.2.3", True),
        ("::/0", "::ffff:10.1.2.3", True),
        ("::/0", "10.1.2.3", False),
        ("0.0.0.0/0", "fd00::1", False),
        ("0.0.0.0/0", "::ffff:10.1.2.3", True),
        ("fd00::/8", "fd00::1", True),
        ("fd00::/8", "[FD00:0::0:1]", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("fd00::/8", "fe00::1", False),
        ("10.0.0.0/8", "ten.internal", False),
        ("10.0.0.0/8", "10.1", False),
        ("10.0.0.0/8", "", False),
    ],
)
def test_an_address_is_matched_whatever_its_spelling(entry: str, host: str, hit: bool) -> None:
    """R238: IPv4 inside IPv6 is that address; a name is nobody's address until it has been dialled."""
    assert rule(denied_address(networks(entry), host)) == ("deny:backend_networks" if hit else None)


@given(st.ip_addresses(v=4), st.integers(min_value=0, max_value=32))
def test_a_mapped_network_is_the_network_it_maps(address: IPv4Address, length: int) -> None:
    """`::ffff:a.b.c.d/(96+n)` and `a.b.c.d/n` are one network."""
    plain = ip_network((address, length), strict=False)
    mapped = ip_network((IPv6Address(f"::ffff:{plain.network_address}"), 96 + length))
    assert plain_network(mapped) == plain
    assert rule(denied_address(DenyLists(networks=(mapped,)), str(address))) == "deny:backend_networks"


@given(ADDRESSES, st.integers(min_value=0, max_value=128))
def test_an_address_is_in_every_network_around_it(address: str, length: int) -> None:
    """For both families and every prefix."""
    bits = 128 if ":" in address else 32
    around: Network = ip_network((address, min(length, bits)), strict=False)
    assert rule(denied_address(DenyLists(networks=(around,)), address)) == "deny:backend_networks"


@given(st.text(max_size=60))
def test_no_text_is_taken_for_an_address_that_it_is_not(text: str) -> None:
    """Whatever a registration calls its host: an answer, never an exception."""
    assert rule(denied_address(networks("203.0.113.0/24"), text)) in (None, "deny:backend_networks")


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (guids(apps=APP), "deny:apps"),
        (guids(spaces=SPACE), "deny:spaces"),
        (guids(orgs=ORG), "deny:orgs"),
        (networks("10.0.0.7"), "deny:backend_networks"),
        (DenyLists(orgs=frozenset({ORG}), networks=(ip_network("10.0.0.7"),)), "deny:orgs"),
        (hosts("10.0.0.7"), None),
        (NO_DENY, None),
    ],
)
def test_an_endpoint_is_barred_by_its_owner_or_its_address(lists: DenyLists, expected: str | None) -> None:
    """R237, R238: the target's app, space and org count like a caller's."""
    assert rule(bars(lists, APP, SPACE, ORG, "10.0.0.7")) == expected
    assert rule(bars(lists, "", None, None, "10.0.0.8")) is None


@pytest.mark.parametrize("lists", [guids(apps=APP), guids(spaces=SPACE), guids(orgs=ORG)])
def test_the_reason_says_who_and_which_list(lists: DenyLists) -> None:
    """For the log: the operator finds the entry by it."""
    hit = denied_caller(lists, CALLER)
    assert hit is not None
    kind = hit.rule.removeprefix("deny:").removesuffix("s")
    assert hit.detail == f"caller {kind} {getattr(CALLER, kind)} is on deny.{kind}s"


@pytest.mark.parametrize(("host_domain", "code"), [(None, "access_denied"), (domain(), "mtls_authorization_denied")])
@pytest.mark.parametrize("report_only", [False, True])
def test_a_hit_is_a_403_that_report_only_does_not_soften(host_domain: object, code: str, report_only: bool) -> None:
    """R237: right after the binding and before all else, whatever the route says."""
    where = domain(report_only=True) if host_domain and report_only else host_domain
    bound = BOUND_OPEN if where is None else BOUND_DOMAIN
    hit = denied_caller(guids(orgs=ORG), CALLER)
    for policy in (NO_POLICY, ANYBODY):
        decision = decide(bound, where, CALLER, policy, denied=hit)  # type: ignore[arg-type]
        assert isinstance(decision, Deny)
        assert (decision.status, decision.code, decision.rule, decision.label) == (403, code, "deny:orgs", "deny_orgs")
        assert decision.trail == (bound, hit)
        assert decision.log_fields() == ("denied", "deny:orgs", f"caller org {ORG} is on deny.orgs")
        assert decision.close is False


def test_a_421_comes_before_any_deny_list() -> None:
    """It grants nothing, and who is on which list is no matter of a connection that does not fit."""
    bound = Check("binding", "no_mtls", False, "no")
    decision = decide(bound, domain(), CALLER, NO_POLICY, denied=denied_caller(guids(orgs=ORG), CALLER))
    assert isinstance(decision, Deny)
    assert decision.status == 421


@pytest.mark.parametrize("check", [Check("deny", "deny:orgs", True, ""), Check("deny", "deny:nothing", False, ""), BOUND_OPEN])
def test_only_a_hit_of_a_list_makes_a_denial(check: Check) -> None:
    """A check that passed, or one of another layer, is a mistake of the caller's."""
    with pytest.raises(ValueError, match="no denial can be made of"):
        decide(BOUND_OPEN, None, None, NO_POLICY, denied=check)


@given(st.lists(st.tuples(ADDRESSES, st.integers(0, 32)), max_size=6), ADDRESSES)
def test_an_address_is_denied_exactly_when_a_network_holds_it(listed: list[tuple[str, int]], address: str) -> None:
    """R238: the look-up by length of prefix finds what looking at each network finds, IPv4 inside IPv6 as either."""
    lists = networks(*(str(ip_network(f"{text}/{length}", strict=False)) for text, length in listed))
    plain = ip_address(address)
    spellings = {plain, getattr(plain, "ipv4_mapped", None) or plain}
    held = any(spelling in network for network in lists.networks for spelling in spellings)
    assert (denied_address(lists, address) is not None) is held


def test_any_address_inside_ipv6_is_denied_by_a_network_of_all() -> None:
    """R238: the least of them too."""
    assert denied_address(networks("0.0.0.0/0"), "::ffff:0:0") is not None


def test_thousands_of_networks_cost_an_address_no_more_than_their_lengths() -> None:
    """A route of a thousand endpoints is judged at its first request; one by one takes minutes."""
    lists = networks(*(f"10.{n >> 8}.{n & 255}.0/24" for n in range(20_000)))
    assert all(denied_address(lists, f"11.0.{n >> 8}.{n & 255}") is None for n in range(5000))
