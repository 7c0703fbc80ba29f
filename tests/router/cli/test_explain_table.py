"""router/cli/explain_table.py: an explanation for people, made from its JSON alone."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.caller import Caller, Guid
from registry.names import Names
from router.cli.explain_table import as_text
from router.inspect.explain import explain
from router.inspect.explanation import Explanation, Question
from router.inspect.scene import scene_of_config
from tests.router.desk import settings
from tests.router.inspect.shop import said, table_of
from tests.support.certs import authority
from tests.support.router import mtls_domain

EAST = authority("east instance identity")
HOST = "a.east.example"
ALICE = Caller(Guid("app-a"), Guid("space-1"), Guid("org-1"))


def value(question: Question, options: Any = None, names: Names | None = None, **domain: Any) -> dict[str, Any]:
    """The JSON of an explanation on *.east.example, as it comes over the wire."""
    config = settings(mtls_domains=[mtls_domain("*.east.example", EAST, **domain), mtls_domain("exact.east.example", EAST)])
    where = scene_of_config(config, table_of(said(question.host, options=options)), names or Names())
    found = explain(question, where, 0.0)
    assert isinstance(found, Explanation)
    decoded: dict[str, Any] = json.loads(json.dumps(found.as_json()))
    return decoded


def text(question: Question, options: Any = None, **more: Any) -> str:
    return as_text(value(question, options, **more))


def line(shown: str, name: str) -> str:
    """What stands behind a name of the facts."""
    return next(each[12:] for each in shown.splitlines() if each.startswith(f"{name} "))


def test_the_verdict_comes_first() -> None:
    """Allowed, allowed and yet not meant, denied, refused."""
    soft = {"mode": "cf_identity", "report_only": True}
    for expected, shown in (
        ("ALLOWED by the route layer, rule route:mtls_allow_any: ", text(Question(HOST, caller=ALICE), {"mtls_allow_any": True})),
        (
            "ALLOWED by the route layer, rule route:no_mtls_allowed_options, but report_only alone lets it pass: ",
            text(Question(HOST, caller=ALICE), authorization=soft),
        ),
        (
            "ALLOWED by the route layer, but the route's options are not enforced: ",
            text(Question("open.example"), {"mtls_allowed_apps": "x"}),
        ),
        ("DENIED with 421 by the binding layer, rule plain_http: http://", text(Question(HOST, plain=True))),
        ("REFUSED with a TLS alert by the handshake layer, rule handshake:no_certificate: ", text(Question(HOST))),
    ):
        assert shown.startswith(expected)


def test_every_layer_has_its_mark() -> None:
    """`+` for what passed, `x` for what did not."""
    shown = text(Question(HOST, caller=ALICE), {"mtls_allowed_apps": "x"})
    marks = shown.partition("What each layer said\n")[2].partition("\n\n")[0].splitlines()
    assert [(mark.split()[0], mark.split()[1]) for mark in marks] == [
        ("+", "handshake"), ("+", "binding"), ("+", "identity"), ("+", "domain"), ("x", "route"),
    ]  # fmt: skip


def test_the_host_says_who_claims_it() -> None:
    """And who does not."""
    assert line(text(Question("exact.east.example")), "host").startswith(
        "exact.east.example is claimed by exact.east.example by its exact name, before *.east.example"
    )
    assert line(text(Question("east.example")), "host") == (
        "east.example is in no mTLS domain; it is the bare suffix of *.east.example, which does not claim it"
    )
    assert line(text(Question(HOST), orgs=["org-9"]), "host").endswith("; only orgs: org-9")


def test_the_certificate_that_is_demanded() -> None:
    """Authorities, lists, and what a client without one sees."""
    shown = line(text(Question(HOST), crls=[EAST.crl()]), "certificate")
    assert shown.startswith("required, of CN=east instance identity (until ")
    assert "; revocation lists of CN=east instance identity; without one: alert 116 certificate_required" in shown
    assert line(text(Question("open.example")), "certificate") == "none is asked for"


def test_whom_the_certificate_names() -> None:
    """With its OUs as they stand there, or what is wrong."""
    good = EAST.issue_instance("app-a", "space-1").der
    shown = line(text(Question(HOST, certificate=good)), "caller")
    assert shown.startswith("app app-a, space space-1, org -; read from the certificate's OUs: ")
    assert "'app:app-a'" in shown
    bad = EAST.issue_instance(extra_ous=["web"]).der
    shown = line(text(Question(HOST, certificate=bad)), "caller")
    assert shown == "nobody: certificate does not contain CF identity OU fields; read from the certificate's OUs: 'web'"
    assert line(text(Question(HOST)), "caller") == "shows no certificate"
    assert line(text(Question("open.example", caller=ALICE)), "caller").endswith("; the host's domain reads no identity")


def test_a_policy_is_told_with_its_lists() -> None:
    """What it demands, and what becomes of it on this domain."""
    options = {"route_policy_scope": "space", "route_policy_sources": "cf:app:x,cf:org:y"}
    shown = text(Question(HOST, caller=ALICE), options)
    assert line(shown, "policy") == "route_policy -> enforce; scope space; apps x; orgs y"
    assert line(shown, "route") == f"{HOST}, of this very host, with 1 instance, 0 of them in the caller's space"
    assert line(text(Question(HOST, caller=ALICE), {"mtls_allowed_apps": ""}), "policy") == "mtls -> enforce; nobody"
    assert line(text(Question(HOST, caller=ALICE), {"mtls_allow_any": True}), "policy") == "mtls -> enforce; anybody"


def test_names_stand_beside_guids_and_hide_none() -> None:
    """R304: whole GUIDs only; a name cannot steer a terminal or pass for another line."""
    names = Names({"app-a": "check\x1b[31mout\n", "app": "wrong"})
    shown = text(Question(HOST, caller=ALICE), {"mtls_allowed_apps": "app-ab"}, names=names)
    assert r"app check\x1b[31mout\n (app-a), space space-1" in shown
    assert r"add app check\x1b[31mout\n (app-a) to mtls_allowed_apps of the route" in shown
    assert "apps app-ab" in shown
    assert "\x1b" not in shown


def test_what_would_change_the_answer_is_numbered_by_who() -> None:
    """Nothing where nothing is to be changed."""
    shown = text(Question(HOST, caller=ALICE), {"mtls_allowed_apps": "x"}, orgs=["org-9"])
    assert shown.endswith(
        "What would change the answer\n"
        "  1. the operator: add org org-1 to authorization.config.orgs of *.east.example\n"
        "     (mtls_domains[domain=*.east.example].authorization.config.orgs)\n"
        "  2. the developer: add app app-a to mtls_allowed_apps of the route\n"
        "     (mtls_allowed_apps)"
    )
    assert "What would change" not in text(Question(HOST, caller=ALICE), {"mtls_allow_any": True})


def test_another_routers_answer_is_escaped() -> None:
    """Whatever a status endpoint says, a terminal sees printable ASCII."""
    told = value(Question(HOST, caller=ALICE), {"mtls_allowed_apps": "x"})
    for key in ("sentence", "rule", "layer"):
        told[key] = "\x1b]0;x\x07\u202e\n"
    told["trail"][0]["detail"] = "\x9b" * 1000
    shown = as_text(told)
    assert all(each == "\n" or " " <= each <= "~" for each in shown)


@pytest.mark.parametrize("wrong", [{}, {"names": []}, {"allowed": True, "names": {}, "status": 200}])
def test_what_is_no_explanation_is_said(wrong: dict[str, Any]) -> None:
    """An older router, or no router."""
    with pytest.raises(ValueError, match="no explanation"):
        as_text(wrong)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=2), max_leaves=3
)
_WHOLE = value(Question(HOST, caller=ALICE), {"mtls_allowed_apps": "x"})


@given(st.sampled_from(sorted(_WHOLE)), _JSON)
def test_a_value_of_another_shape_raises_nothing_else(key: str, other: Any) -> None:
    """Property: text, or ValueError."""
    told = copy.deepcopy(_WHOLE)
    told[key] = other
    try:
        shown = as_text(told)
    except ValueError:
        return
    assert all(each == "\n" or " " <= each <= "~" for each in shown)
