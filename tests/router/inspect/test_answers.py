"""router/inspect/answers.py: explanations, in short."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from authz.domain import DomainPolicy
from identity.caller import Caller, Guid
from router.inspect.answers import asker
from router.inspect.callers import KnownCaller
from router.inspect.judgement import Ask, Asked
from router.inspect.scene import Scene
from router.tls.certificates import read_certificates
from router.tls.contexts import ClientPolicy
from tests.router.inspect.worlds import Routes, domain, side
from tests.support.certs import CA, authority

NOW = 1_800_000_000.0
HOST = "x.mtls.example"


@pytest.fixture(scope="module")
def ca() -> CA:
    return authority("worlds")


def ask_of(routes: Routes, ca: CA, **more: Any) -> Ask:
    policy = ClientPolicy("require", read_certificates(ca.pem))
    claimed: DomainPolicy = domain(client_policy=policy.fingerprint, **more)
    world = side(routes, claimed)
    return asker(Scene(world.domains, {claimed.pattern: policy}, world.deny, world.table), NOW)


LISTED = KnownCaller("listed", Caller(Guid("a-1")))


@pytest.mark.parametrize(
    ("asked", "outcome", "status", "rule"),
    [
        (Asked(LISTED, HOST, "/"), "forwarded", None, "route:mtls_allowed_apps"),
        (Asked(KnownCaller("other", Caller(Guid("a-2"))), HOST, "/"), "403", 403, "route:mtls_allowed_apps"),
        (Asked(KnownCaller("nobody"), HOST, "/"), "alert", "alert", "handshake:no_certificate"),
        (Asked(LISTED, HOST, "/", plain=True), "421", 421, "plain_http"),
        (Asked(LISTED, HOST, "/", sni="open.example"), "421", 421, "no_mtls"),
        (Asked(LISTED, "y.mtls.example", "/"), "404", 404, "unknown_route"),
        (Asked(KnownCaller("nobody"), "open.example", "/"), "forwarded", None, None),
        (Asked(LISTED, HOST, "/a%zz"), "400", 400, None),
    ],
)
def test_the_answer_is_that_of_explain(asked: Asked, outcome: str, status: object, rule: str | None, ca: CA) -> None:
    seen = ask_of({HOST: {"mtls_allowed_apps": "a-1"}, "open.example": {}}, ca)(asked)
    assert (seen.outcome, seen.status, seen.rule, seen.allowed) == (outcome, status, rule, outcome == "forwarded")


def test_a_denial_comes_with_reason_remedy_and_route(ca: CA) -> None:
    seen = ask_of({HOST: {"mtls_allowed_apps": "a-1"}}, ca)(Asked(KnownCaller("other", Caller(Guid("a-2"))), HOST, "/"))
    assert (seen.reason, seen.route) == ("caller app a-2 not in mtls_allowed_apps", HOST)
    assert seen.remedy is not None
    assert seen.remedy.startswith("developer: ")


def test_all_steps_of_a_remedy_are_told(ca: CA) -> None:
    """Both doors are shut: both people must act."""
    caller = KnownCaller("other", Caller(Guid("a-2"), Guid("s-2"), Guid("o-2")))
    seen = ask_of({HOST: {"mtls_allowed_apps": "a-1"}}, ca, orgs=["o-1"])(Asked(caller, HOST, "/"))
    assert seen.remedy is not None
    assert [step.partition(":")[0] for step in seen.remedy.split("; then ")] == ["operator", "developer"]


def test_a_certificate_is_verified_with_what_is_sent_along(ca: CA) -> None:
    below = CA("below", ca)
    leaf = below.issue_instance("a-1", "s-1", "o-1")
    chain = tuple(each.public_bytes(Encoding.DER) for each in leaf.intermediates)
    ask = ask_of({HOST: {"mtls_allowed_apps": "a-1"}}, ca)
    assert ask(Asked(KnownCaller("whole", None, leaf.der, chain), HOST, "/")).outcome == "forwarded"
    assert ask(Asked(KnownCaller("torn", None, leaf.der), HOST, "/")).outcome == "alert"
