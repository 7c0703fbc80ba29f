"""router/inspect/explanation.py: the JSON of an explanation, key by key; docs/explain.md lists them."""

import json
import re
from pathlib import Path
from typing import Any

from identity.caller import Caller, Guid
from identity.certificate import IdentityError
from registry.names import Names
from router.inspect.explain import explain
from router.inspect.explanation import MAX_INSTANCES, Explanation, Question
from router.inspect.scene import Scene, scene_of_config
from tests.router.desk import settings
from tests.router.inspect.shop import said, table_of
from tests.support.certs import authority
from tests.support.router import mtls_domain

EAST = authority("east instance identity")
HOST = "a.east.example"
ALICE = Caller(Guid("app-a"), Guid("space-1"), Guid("org-1"))
PAGE = Path(__file__).parents[3] / "docs/explain.md"


def scene(*messages: dict[str, Any], names: Names | None = None, **domain: Any) -> Scene:
    config = settings(mtls_domains=[mtls_domain("*.east.example", EAST, **domain)])
    return scene_of_config(config, table_of(*messages), names or Names())


def value(where: Scene, question: Question) -> Any:
    """What a program reads: plain JSON."""
    found = explain(question, where, 0.0)
    assert isinstance(found, Explanation)
    return json.loads(json.dumps(found.as_json()))


def test_an_allowed_call_tells_its_domain_route_and_table_row() -> None:
    """Every value in its place."""
    options = {"route_policy_scope": "org", "route_policy_sources": "cf:space:space-1"}
    tags = {"space_id": "space-9", "organization_id": "org-1"}
    where = scene(
        said("*.east.example/api", options=options, tags=tags, app="app-z"), orgs=["org-1"], names=Names({"org-1": "shop"})
    )
    told = value(where, Question(HOST, "/api/v1", ALICE))
    assert (told["allowed"], told["status"], told["layer"], told["error"]) == (True, 200, "route", None)
    assert told["sentence"] == "Allowed by route:cf:space:space-1."
    assert told["question"] == {"host": HOST, "path": "/api/v1", "tls": True, "caller": "guids"}
    assert told["domain"] == {
        "pattern": "*.east.example", "how": "suffix", "dialect": "mtls_domains", "mode": "cf_identity", "reads_identity": True,
        "report_only": False, "orgs": ["org-1"], "spaces": None, "bare_suffix_of": [], "less_specific": [],
    }  # fmt: skip
    assert told["handshake"] == {"sni": HOST, "domain": "*.east.example", "result": "ok", "verified": None, "alert": None}
    assert told["identity"] == {
        "read": True, "ous": None, "app": "app-a", "space": "space-1", "org": "org-1", "error": None,
    }  # fmt: skip
    route = told["route"]
    assert (route["key"], route["how"], route["path"]) == ("*.east.example/api", "wildcard", "/api")
    assert (route["scopes"], route["endpoints"], route["in_scope"]) == (["org"], 1, 1)
    assert route["instances"] == [
        {"address": "127.0.0.1:9", "app": "app-z", "space": "space-9", "org": "org-1", "in_scope": True}
    ]
    assert [(part["options"], part["outcome"], part["scope"], part["spaces"]) for part in route["policy"]] == [
        ("route_policy", "enforce", "org", ["space-1"])
    ]
    assert (told["table"]["row"], told["table"]["outcomes"]["no_options"]) == ("cf_identity", "deny")
    assert told["decision"]["result"] == "allow"
    assert told["remedy"] == []
    assert told["names"] == {"org-1": "shop"}


def test_what_the_handshake_must_enforce() -> None:
    """Authorities by subject and end, revocation lists by issuer and next update, and the alert without a certificate."""
    told = value(scene(crls=[EAST.crl()]), Question(HOST))["client_certificate"]
    assert (told["mode"], told["system_roots"]) == ("require", False)
    assert told["authorities"][0]["subject"] == "CN=east instance identity"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["authorities"][0]["not_after"])
    assert told["crls"][0]["issuer"] == "CN=east instance identity"
    assert told["crls"][0]["next_update"].endswith("Z")
    assert told["alert_without"] == {"number": 116, "name": "certificate_required"}
    nothing = value(scene(), Question("open.example"))["client_certificate"]
    assert (nothing["mode"], nothing["authorities"], nothing["crls"], nothing["alert_without"]) == ("none", [], None, None)


def test_an_alert_has_number_and_name_and_no_decision() -> None:
    """The doors were not asked."""
    told = value(scene(said(HOST)), Question(HOST))
    assert (told["status"], told["rule"], told["decision"]) == ("alert", "handshake:no_certificate", None)
    assert told["handshake"] == {
        "sni": HOST,
        "domain": "*.east.example",
        "result": "no_certificate",
        "verified": False,
        "alert": {"number": 116, "name": "certificate_required"},
    }
    assert told["question"]["caller"] == "none"


def test_the_ous_of_a_certificate_are_listed() -> None:
    """As they stand there, escaped and bounded, and what is wrong with them."""
    strange = EAST.issue_instance("app-a", "space-1", extra_ous=["app:app-b", "\u202ex" * 40])
    told = value(scene(said(HOST)), Question(HOST, certificate=strange.der))["identity"]
    assert told["error"] == {"reason": "ambiguous", "detail": "certificate has more than one OU app:"}
    assert (told["app"], told["space"], told["org"]) == (None, None, None)
    assert {"'app:app-a'", "'app:app-b'", "'space:space-1'"} <= set(told["ous"])
    assert all(text.isascii() and len(text) < 500 for text in told["ous"])


def test_an_identity_that_is_wrong_can_be_asked_about_without_a_certificate() -> None:
    """As a caller of a test file that names nobody."""
    told = value(scene(said(HOST)), Question(HOST, caller=IdentityError("no_app", "no app OU")))
    assert (told["status"], told["rule"], told["identity"]["error"]["reason"]) == (403, "identity_extraction", "no_app")


def test_plain_http_has_no_handshake() -> None:
    """And says so."""
    told = value(scene(said(HOST)), Question(HOST, plain=True))
    assert (told["handshake"], told["question"]["tls"], told["status"]) == (None, False, 421)
    assert told["sentence"].startswith("Misdirected (421) by plain_http: ")


def test_instances_are_bounded_and_counted() -> None:
    """A pool of thousands fits on a screen."""
    table = [said(HOST, port=1000 + number, tags={}) for number in range(MAX_INSTANCES + 5)]
    route = value(scene(*table), Question(HOST, caller=ALICE))["route"]
    assert (route["endpoints"], route["in_scope"], len(route["instances"])) == (
        MAX_INSTANCES + 5,
        MAX_INSTANCES + 5,
        MAX_INSTANCES,
    )


def test_a_refusal_without_a_decision_has_a_sentence() -> None:
    """404 and its like."""
    told = value(scene(), Question("open.example"))
    assert told["sentence"] == "Refused (404): no route has this host and path."
    assert (told["route"], told["decision"], told["error"]) == (None, None, "unknown_route")


def test_every_key_is_documented() -> None:
    """docs/explain.md has a row for each key of the answer, and none for others."""
    told = value(scene(said(HOST, options={"mtls_allowed_apps": "x"})), Question(HOST, caller=ALICE))
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text().partition("\n## The answer as JSON\n")[2], re.MULTILINE)
    assert rows == list(told)
