"""router/inspect/scene.py: a running router and files give the same scene."""

import time

from authz.deny import NO_DENY
from authz.domain import DomainTable
from identity.caller import Caller, Guid
from registry.names import Names
from router.inspect.explain import explain
from router.inspect.explanation import Explanation, Question
from router.inspect.scene import Scene, scene_of, scene_of_config
from router.tls.contexts import ClientPolicy
from tests.router.inspect.shop import said, snapshot_of, table_of
from tests.router.inspect.worlds import domain
from tests.support.certs import authority
from tests.support.router import mtls_domain

EAST = authority("east instance identity")
ALICE = Caller(Guid("app-a"), Guid("space-1"), Guid("org-1"))
HOST = "a.east.example"


def asked(where: Scene) -> Explanation:
    found = explain(Question(HOST, caller=ALICE), where, time.time())
    assert isinstance(found, Explanation), found
    return found


def test_a_running_snapshot_makes_the_same_scene() -> None:
    """scene_of and scene_of_config agree."""
    with snapshot_of(mtls_domains=[mtls_domain("*.east.example", EAST, orgs=["org-9"])]) as snapshot:
        table = table_of(said(HOST))
        live = scene_of(snapshot, table, Names({"org-1": "shop"}))
        files = scene_of_config(snapshot.config, table, Names({"org-1": "shop"}))
        one, other = (asked(where).as_json() for where in (live, files))
        assert one == other
        assert one["names"] == {"org-1": "shop"}


def test_a_handshake_enforces_its_domains_policy_or_that_of_hosts_in_none() -> None:
    """Never another domain's."""
    one, other, neither = ClientPolicy("require"), ClientPolicy(), ClientPolicy("request")
    entries = (domain("*.a.example"), domain("*.b.example"))
    scene = Scene(DomainTable(entries), {"*.a.example": one, "*.b.example": other}, NO_DENY, table_of(), open_policy=neither)
    assert scene.policy_of(entries[0]) is one
    assert scene.policy_of(None) is neither


def test_both_know_whether_route_services_are_asked() -> None:
    for secret in ("", "tulips"):
        with snapshot_of(route_services_secret=secret) as snapshot:
            assert scene_of(snapshot, table_of()).asks_services is bool(secret)
            assert scene_of_config(snapshot.config, table_of()).asks_services is bool(secret)
