"""router/inspect/explain.py: each layer's answer, without a router (tests/behaviour/test_explain.py holds them against one)."""

import datetime as dt
import time
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from authz.deny import DenyLists
from authz.policy import NO_POLICY
from identity.caller import Caller, Guid
from registry.endpoint import Pool, Route
from registry.hostname import Host
from registry.names import Names
from registry.table import RouteTable
from router.inspect.explain import explain
from router.inspect.explanation import Claim, Explanation, Question
from router.inspect.scene import Scene, scene_of_config
from router.wire.malformed import Malformed
from tests.router.desk import settings
from tests.router.inspect.shop import said, table_of
from tests.support.certs import CA, SERVER_ONLY, Credential, authority
from tests.support.router import mtls_domain

EAST = authority("east instance identity")
MIDDLE = CA("east middle", parent=EAST)
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
ALICE = Caller(Guid("app-a"), Guid("space-1"), Guid("org-1"))
HOST = "a.east.example"
TAGS = {"space_id": "space-1", "organization_id": "org-1"}


def scene(*messages: dict[str, Any], **config: Any) -> Scene:
    table = table_of(*(messages or (said(HOST, options={"mtls_allowed_apps": "app-a"}),)))
    config.setdefault("mtls_domains", [mtls_domain("*.east.example", EAST)])
    return scene_of_config(settings(**config), table)


def asked(where: Scene, host: str = HOST, path: str = "/", *, who: Credential | None = None, **more: Any) -> Explanation:
    """The explanation; `who` shows a certificate, `caller` is taken at their word."""
    if who is not None:
        more |= {"certificate": who.der, "intermediates": tuple(one.public_bytes(Encoding.DER) for one in who.intermediates)}
    found = explain(Question(host, path, **more), where, time.time())
    assert isinstance(found, Explanation), found
    return found


def steps(found: Explanation) -> list[tuple[str, str, str]]:
    return [(step.who, step.where, step.change) for step in found.remedy.steps] if found.remedy is not None else []


def layers(found: Explanation) -> list[tuple[str, str, bool]]:
    return [(mark.layer, mark.rule, mark.passed) for mark in found.trail]


def test_an_allowed_call_passes_every_layer() -> None:
    """The trail begins with the handshake and ends with the rule that lets in."""
    found = asked(scene(), who=EAST.issue_instance("app-a", "space-1", "org-1"))
    assert (found.status, found.allowed, found.rule, found.reason, found.error) == (
        200, True, "route:mtls_allowed_apps", None, None,
    )  # fmt: skip
    assert layers(found) == [
        ("handshake", "ok", True),
        ("binding", "domain", True),
        ("identity", "identity_extraction", True),
        ("domain", "domain:any", True),
        ("route", "route:mtls_allowed_apps", True),
    ]
    assert (found.identity, found.remedy) == (ALICE, None)
    assert found.ous is not None
    assert set(found.ous) == {"app:app-a", "space:space-1", "organization:org-1"}


def test_a_caller_by_guids_is_taken_to_have_a_good_certificate() -> None:
    """And the handshake says so."""
    found = asked(scene(), caller=ALICE)
    assert found.allowed
    assert found.handshake is not None
    assert (found.handshake.assumed, found.ous) == (True, None)


@pytest.mark.parametrize(
    ("who", "reason", "alert", "expected"),
    [
        (None, "no_certificate", 116, ("caller", "certificate", "show a client certificate of an authority of *.east.example")),
        (
            EAST.issue_instance("app-a", not_before=NOW - 2 * DAY, not_after=NOW - DAY),
            "expired",
            45,
            ("caller", "certificate", "get a new certificate: one of the chain has expired"),
        ),
        (
            EAST.issue_instance("app-a", not_before=NOW + DAY, not_after=NOW + 2 * DAY),
            "not_yet_valid",
            42,
            ("caller", "certificate", "wait until the certificate is valid, or set the clock that issued it"),
        ),
        (
            authority("strangers").issue_instance("app-a"),
            "unknown_ca",
            48,
            ("caller", "certificate", "get a certificate of an authority of *.east.example, and send its intermediates along"),
        ),
        (
            replace(MIDDLE.issue_instance("app-a"), intermediates=()),
            "unknown_ca",
            48,
            ("caller", "certificate", "get a certificate of an authority of *.east.example, and send its intermediates along"),
        ),
        (
            EAST.issue_instance("app-a", eku=SERVER_ONLY),
            "bad_purpose",
            43,
            ("caller", "certificate", "get a certificate for clients (extended key usage clientAuth)"),
        ),
        (
            EAST.issue_instance("app-a"),
            "ok",
            None,
            None,
        ),
        (MIDDLE.issue_instance("app-a"), "ok", None, None),
    ],
    ids=["none", "expired", "not yet valid", "stranger", "no intermediate", "for servers", "good", "with its intermediate"],
)  # fmt: skip
def test_a_certificate_is_judged_as_the_handshake_does(
    who: Credential | None, reason: str, alert: int | None, expected: tuple[str, str, str] | None
) -> None:
    """Alert, rule, and who can do what about it."""
    found = asked(scene(), who=who)
    assert found.handshake is not None
    assert (found.handshake.outcome.reason, found.handshake.outcome.alert) == (reason, alert)
    assert (found.status, found.rule) == (
        (200, "route:mtls_allowed_apps") if expected is None else ("alert", f"handshake:{reason}")
    )
    assert steps(found) == ([] if expected is None else [expected])
    assert layers(found)[0] == ("handshake", reason, expected is None)


def test_revocation_lists_are_asked() -> None:
    """A revoked certificate is the caller's to replace, a list out of date or missing the operator's."""
    leaf = EAST.issue_instance("app-a")
    where = "mtls_domains[domain=*.east.example].crls"
    for crl, reason, who, place in (
        (EAST.crl([leaf]), "revoked", "caller", "certificate"),
        (EAST.crl(next_update=NOW - dt.timedelta(minutes=1)), "crl_stale", "operator", where),
        (authority("strangers").crl(), "crl_missing", "operator", where),
    ):
        found = asked(scene(mtls_domains=[mtls_domain("*.east.example", EAST, crls=[crl])]), who=leaf)
        assert (found.rule, [step[:2] for step in steps(found)]) == (f"handshake:{reason}", [(who, place)])
    fine = scene(mtls_domains=[mtls_domain("*.east.example", EAST, crls=[EAST.crl()])])
    assert asked(fine, who=leaf).allowed


def test_an_authority_that_has_expired_is_the_operators_to_replace() -> None:
    """No other certificate of it would do."""
    old = CA("old", not_before=NOW - 2 * DAY, not_after=NOW - DAY)
    found = asked(scene(mtls_domains=[mtls_domain("*.east.example", old)]), who=old.issue_instance("app-a"))
    assert steps(found) == [
        ("operator", "mtls_domains[domain=*.east.example].ca_certs", "replace the authority of *.east.example that has expired")
    ]


def test_the_global_policy_counts_for_hosts_in_no_domain() -> None:
    """client_cert_validation: a certificate is demanded there, and names nobody."""
    where = scene(
        said("open.example"), client_cert_validation="require", client_ca_certs=EAST.pem, only_trust_client_ca_certs=True
    )
    assert asked(where, "open.example").rule == "handshake:no_certificate"
    assert steps(asked(where, "open.example"))[0][2] == "show a client certificate of an authority of hosts in no domain"
    found = asked(where, "open.example", who=EAST.issue_instance("app-a"))
    assert (found.allowed, found.policy.mode) == (True, "require")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.east.example", Claim("suffix")),
        ("deep.a.east.example", Claim("suffix")),
        ("b.inner.east.example", Claim("suffix", others=("*.east.example",))),
        ("exact.east.example", Claim("exact", others=("*.east.example",))),
        ("inner.east.example", Claim("suffix", bare=("*.inner.east.example",))),
        ("east.example", Claim("none", bare=("*.east.example",))),
        ("other.example", Claim("none")),
    ],
)
def test_it_says_why_a_domain_claims_a_host(host: str, expected: Claim) -> None:
    """Exact, the longest suffix, or none; and where somebody may have meant another."""
    patterns = ("*.east.example", "*.inner.east.example", "exact.east.example")
    where = scene(mtls_domains=[mtls_domain(pattern, EAST) for pattern in patterns])
    assert asked(where, host, caller=ALICE).claim == expected


@pytest.mark.parametrize(
    ("host", "sni", "sent"),
    [
        (HOST, None, HOST),
        ("A.East.Example.:443", None, HOST),
        ("b\u00fccher.east.example", None, "xn--bcher-kva.east.example"),
        (HOST, "", None),
        (HOST, "X.Open.Example", "x.open.example"),
        ("10.0.0.1", None, None),
        ("[::1]:8443", None, None),
    ],
)
def test_the_host_is_read_as_the_router_reads_it(host: str, sni: str | None, sent: str | None) -> None:
    """One canonical form; an address is no server name."""
    found = asked(scene(), host, sni=sni, caller=ALICE)
    assert found.handshake is not None
    assert found.handshake.sni == sent


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (Question(""), "bad_host"),
        (Question("a b"), "bad_host"),
        (Question("a\r\nX: y"), "bad_host"),
        (Question("a..b"), "bad_host"),
        (Question("a:99999"), "bad_host"),
        (Question("-" * 300), "bad_host"),
        (Question("\u2603.east.example/x"), "bad_host"),
        (Question(HOST, ""), "bad_target"),
        (Question(HOST, "x"), "bad_target"),
        (Question(HOST, "*"), "bad_target"),
        (Question(HOST, "http://other/"), "bad_target"),
        (Question(HOST, "/ HTTP/1.1\r\nHost: b"), "bad_target"),
        (Question(HOST, "/#x"), "bad_target"),
        (Question(HOST, "/\u00fc"), "bad_target"),
        (Question(HOST, "/%zz"), "bad_escape"),
        (Question(HOST, "/" + "x" * 70_000), "start_line_too_long"),
        (Question(HOST, sni="a b"), "bad_sni"),
        (Question(HOST, sni="\u2603\u2603."), "bad_sni"),
        (Question(HOST, sni="x" * 300), "bad_sni"),
    ],
)
def test_what_no_client_could_ask_is_malformed(question: Question, reason: str) -> None:
    """Never an explanation of something else."""
    found = explain(question, scene(), 0.0)
    assert isinstance(found, Malformed)
    assert found.reason == reason


@given(st.text(max_size=80), st.text(max_size=80), st.none() | st.text(max_size=40))
def test_no_text_makes_it_raise(host: str, path: str, sni: str | None) -> None:
    """Whatever is asked, there is an answer."""
    assert isinstance(explain(Question(host, "/" + path, sni=sni), _PLAIN, 0.0), Explanation | Malformed)


_PLAIN = scene()


def test_a_host_without_a_route() -> None:
    """404, after the binding; before it, the 421 alone is told, and the missing route in what would change it."""
    found = asked(scene(), "b.east.example", caller=ALICE)
    assert (found.status, found.error, found.rule, found.decision) == (404, "unknown_route", None, None)
    assert layers(found)[-1] == ("route", "unknown_route", False)
    misdirected = asked(scene(), "b.east.example", plain=True, caller=ALICE)
    assert (misdirected.status, misdirected.rule) == (421, "plain_http")
    assert steps(misdirected)[1:] == [("developer", "route", "map a route for b.east.example: there is none")]


def test_an_ambiguous_path() -> None:
    """400, as for a real request, with the spelling to use."""
    where = scene(said(HOST, options={"mtls_allow_any": True}), said(f"{HOST}/admin", options={"mtls_allowed_apps": "x"}))
    found = asked(where, path="/x/../admin", caller=ALICE)
    assert (found.status, found.error, found.rule) == (400, "malformed_request", None)
    assert steps(found) == [("caller", "path", "ask for /admin, the one spelling of this path")]


def test_a_route_without_endpoints_and_one_with_a_route_service() -> None:
    """503 and 502, after the decision."""
    empty = Route(HOST, Host(HOST), "", Pool((), NO_POLICY))
    where = scene(mtls_domains=[])._replace(table=RouteTable().changed({(HOST, ""): empty}))
    assert (asked(where).status, asked(where).error) == (503, "no_endpoints")
    service = scene(said(HOST, route_service_url="https://rs.example/x"), mtls_domains=[])
    assert (asked(service).status, asked(service).error) == (502, "route_service_unsupported")


def test_a_route_service_that_is_asked_is_a_step_of_the_way() -> None:
    """Where the operator has route services; what one answers is not foreseen."""
    bound = scene(said(HOST, route_service_url="https://rs.example:8443/x"), mtls_domains=[])._replace(asks_services=True)
    found = asked(bound)
    assert (found.status, found.allowed, layers(found)[-1]) == (200, True, ("route", "route_service", True))
    assert "rs.example:8443" in found.trail[-1].detail
    bad = scene(said(HOST, route_service_url="https://bad%20service.com"), mtls_domains=[])._replace(asks_services=True)
    assert (asked(bad).status, asked(bad).error) == (500, "bad_route_service_url")


@pytest.mark.parametrize(
    ("caller", "status", "scope"),
    [
        (ALICE, 200, None),
        (Caller(Guid("app-b"), Guid("space-2"), Guid("org-1")), 403, "org"),
        (Caller(Guid("app-c"), Guid("space-3"), Guid("org-3")), 403, "any"),
    ],
)
def test_a_scope_that_no_endpoint_shares(caller: Caller, status: int, scope: str | None) -> None:
    """403 by the domain layer, and how far the scope would have to be widened."""
    options = {"route_policy_scope": "space", "route_policy_sources": "cf:any"}
    found = asked(scene(said(HOST, options=options, tags=TAGS)), caller=caller)
    assert found.status == status
    assert [step[2] for step in steps(found)] == ([f"set route_policy_scope of the route to {scope}"] if scope else [])


def test_report_only_lets_a_scope_pass() -> None:
    """As the endpoint choice does: the Allow says would_deny."""
    options = {"route_policy_scope": "space", "route_policy_sources": "cf:any"}
    soft = mtls_domain("*.east.example", EAST, authorization={"mode": "cf_identity", "report_only": True})
    found = asked(scene(said(HOST, options=options), mtls_domains=[soft]), caller=ALICE)
    assert (found.status, found.rule) == (200, "domain:scope=space")
    assert found.decision is not None
    assert found.decision.log_fields().mtls_auth == "would_deny"


def test_explaining_moves_no_cursor() -> None:
    """Round-robin goes on as if nobody had asked."""
    where = scene(said(HOST, port=1, tags=TAGS), said(HOST, port=2, tags=TAGS), mtls_domains=[])
    route = where.table.lookup(HOST, "/")
    assert route is not None
    before = route.pool.turn.next
    asked(where)
    asked(where)
    assert route.pool.turn.next == before


@pytest.mark.parametrize(
    ("lists", "rule"),
    [
        (DenyLists(apps=frozenset({Guid("app-a")})), "deny:apps"),
        (DenyLists(hosts=frozenset({"*.east.example"})), "deny:hosts"),
        (DenyLists(orgs=frozenset({Guid("org-1")})), "deny:orgs"),
    ],
)
def test_a_deny_list_comes_first(lists: DenyLists, rule: str) -> None:
    """R237: before the doors; the operator alone can take it off."""
    found = asked(scene()._replace(deny=lists), caller=ALICE)
    assert (found.status, found.rule, found.layer) == (403, rule, "deny")
    assert [step[:2] for step in steps(found)] == [("operator", rule.replace(":", "."))]


def test_a_route_all_of_whose_endpoints_are_denied() -> None:
    """R238: 403, as the data plane answers; of two endpoints one that is left serves."""
    both = scene(said(HOST, port=1, tags=TAGS, options={"mtls_allow_any": True}))
    lists = DenyLists(spaces=frozenset({Guid("space-1")}))
    other = Caller(Guid("app-b"), Guid("space-2"), Guid("org-2"))
    found = asked(both._replace(deny=lists), caller=other)
    assert (found.status, found.rule) == (403, "deny:spaces")


def test_names_decide_nothing() -> None:
    """R304: whatever GUIDs are called, status, rule, reason and trail stay."""
    plain = scene()
    one, other = (asked(plain._replace(names=names), caller=ALICE) for names in (Names(), Names({"app-a": "app-b"})))
    assert replace(one, names=other.names) == other
