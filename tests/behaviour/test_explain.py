"""The promise: what `explain` says of a call is what a real call gets, from files alone and asked of the running router."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from registry.ledger import Ledger, LedgerSettings
from registry.message import RegistryMessage, parse_message
from registry.table import RouteTable
from router.cli.status_client import Place as Status
from router.cli.status_client import fetch
from router.config.load import load
from router.inspect.explain import explain
from router.inspect.explanation import Explanation, Question
from router.inspect.scene import Scene, scene_of_config
from tests.behaviour.conftest import (
    ANY,
    EXACT,
    FORWARD,
    LATER,
    OPEN,
    ORGS,
    PARTNER,
    REPORT,
    SPACES,
    UNENFORCED,
    WEST,
)  # fmt: skip
from tests.behaviour.place import Call, Place, Seen, make_place
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Client, Tls, expect_alert
from tests.support.register import Registrar, message, unique_host
from tests.support.router import STATUS_PASSWORD, STATUS_USER, RouterProcess, wait_until

NO_OPTIONS = "no options"
OPTIONS: Sequence[object] = (
    NO_OPTIONS,
    {"mtls_allowed_apps": "app-a"},
    {"mtls_allowed_spaces": "space-2,space-3"},
    {"mtls_allowed_orgs": "org-1"},
    {"mtls_allow_any": True},
    {"mtls_allow_any": True, "mtls_allowed_apps": "app-b"},
    {"mtls_allowed_apps": ["app-a"]},
    {"mtls_allowed_apps": "", "loadbalancing": "round-robin"},
    {"route_policy_scope": "any", "route_policy_sources": "cf:app:app-a,cf:org:org-2"},
    {"route_policy_scope": "space", "route_policy_sources": "cf:any"},
    {"route_policy_scope": "org", "route_policy_sources": "cf:any"},
    {"route_policy_scope": "everybody", "route_policy_sources": "cf:any"},
    {"route_policy_scope": "any", "route_policy_sources": ""},
    {"mtls_allowed_apps": "app-a,app-b", "route_policy_scope": "any", "route_policy_sources": "cf:app:app-b"},
    ["no", "object"],
    {"mtls_allowed_apps": "a" * 2000},
    {"route_policy_scope": "any", "route_policy_sources": "b" * 2000},
)
"""Each is a route of its own below the host: /o0, /o1, ..."""
TAGS = {"space_id": "space-1", "organization_id": "org-1"}
DOMAINS = (ANY, ORGS, SPACES, REPORT, UNENFORCED, FORWARD, PARTNER, LATER, WEST, EXACT, OPEN)
ELSEWHERE = ("/elsewhere", "/o4//x/%41", "/O1", "/o1/../o4")
"""The last is ambiguous: its 400 ends the connection."""
SILENT = Seen(None, None, None)


class Asked(NamedTuple):
    """A call that was made, and the two answers to the same question; `live` None: nobody could ask a router that."""

    call: Call
    offline: Explanation
    live: Mapping[str, Any] | None


class Corner:
    """A host with a route for each of OPTIONS, on the router of the house and in a scene made from its configuration."""

    def __init__(self, router: RouterProcess, registrar: Registrar, domain: str) -> None:
        self.place = make_place(router, registrar, domain)
        self.place.backends.append(EchoBackend())
        self.messages = list(self._register(registrar))
        registrar.settle()
        config = load(router.config_file).config
        assert config is not None
        self.scene: Scene = scene_of_config(config, table_of(self.messages))

    def _register(self, registrar: Registrar) -> Iterator[dict[str, Any]]:
        for number, options in enumerate(OPTIONS):
            body = message(f"{self.place.host}/o{number}", backend=self.place.backends[0], tags=TAGS)
            if options is not NO_OPTIONS:
                body["options"] = options
            registrar.publish("router.register", body, wait=False)
            self.place.sent.append(body)
            yield body

    def foresee(self, path: str, credential: Credential | None, sni: str | None = None, *, plain: bool = False) -> Explanation:
        chain = [] if credential is None else [credential.der]
        question = Question(self.place.host, path, sni=sni, plain=plain, certificate=chain[0] if chain else None)
        found = explain(question, self.scene, time.time())
        assert isinstance(found, Explanation), found
        return found

    def ask_live(self, path: str, who: Sequence[str], sni: str | None = None, *, plain: bool = False) -> Mapping[str, Any]:
        """The router's own answer, by the GUIDs of the caller."""
        query = {"host": self.place.host, "path": path, **dict(zip(("app", "space", "org"), who, strict=False))}
        query |= {"sni": sni} if sni is not None else {}
        query |= {"plain": "true"} if plain else {}
        answer = fetch(status_of(self.place.router), "/explain", query)
        assert isinstance(answer, dict)
        return answer


def status_of(router: RouterProcess) -> Status:
    return Status("127.0.0.1", router.routes_port, STATUS_USER, STATUS_PASSWORD)


def table_of(messages: Sequence[Mapping[str, Any]]) -> RouteTable:
    ledger = Ledger(LedgerSettings())
    for body in messages:
        data = json.dumps(body).encode()
        parsed = parse_message(data)
        assert isinstance(parsed, RegistryMessage)
        ledger.register(parsed, data, 0.0)
    return ledger.publish()


@pytest.fixture
def people(
    alice: Credential, bob: Credential, carol: Credential, nameless: Credential, west_ca_caller: Credential, partner_ca: CA
) -> Mapping[str, tuple[Credential | None, Sequence[str] | None]]:
    """Who calls: with what certificate, and the GUIDs that a router can be asked about instead (None: it cannot)."""
    return {
        "alice": (alice, ("app-a", "space-1", "org-1")),
        "bob": (bob, ("app-b", "space-2", "org-2")),
        "carol": (carol, ("app-c", "space-3", "org-3")),
        "nameless": (nameless, None),
        "west": (west_ca_caller, None),
        "partner": (partner_ca.issue_instance("app-p"), None),
        "nobody": (None, ()),
    }


@pytest.fixture
def corner(house: RouterProcess, house_registrar: Registrar, request: pytest.FixtureRequest) -> Iterator[Corner]:
    made = Corner(house, house_registrar, request.param)
    yield made
    made.place.leave()


def compare(router: RouterProcess, asked: Sequence[Asked]) -> None:
    """Status, X-Cf-RouterError, rule and reason of every answer against response and access log of its call."""
    wanted = {one.call.target for one in asked}

    def written() -> Mapping[str, Seen] | None:
        records = map(json.loads, router.access_log)
        found = {
            one["uri"]: Seen(one["mtls_auth"], one["mtls_rule"], one["mtls_denied_reason"])
            for one in records
            if one["uri"] in wanted
        }
        return found if len(found) == len(wanted) else None

    seen = wait_until(written, "the calls to be logged")
    for call, offline, live in asked:
        said = offline.decision.log_fields() if offline.decision is not None else SILENT
        error = call.response.get("x-cf-routererror")
        real = (call.response.status, error, seen[call.target])
        assert (offline.status, offline.error, Seen(*said)) == real, call.target
        assert (offline.rule, offline.allowed) == (real[2].rule, bool(call.received)), call.target
        if live is not None:
            assert (live["status"], live["error"], live["rule"]) == (real[0], real[1], real[2].rule), call.target
            assert live["trail"][1:] == offline.as_json()["trail"][1:], call.target  # type: ignore[index]
            assert live["remedy"] == offline.as_json()["remedy"], call.target


@pytest.mark.parametrize("corner", DOMAINS, indirect=True)
def test_an_explanation_says_what_a_real_call_gets(
    corner: Corner, people: Mapping[str, tuple[Credential | None, Sequence[str] | None]], house: RouterProcess
) -> None:
    """R303: callers, domains and options, all with all: status, code, rule and reason are those of response and access log; the
    alert is the one that the client gets.
    """
    asked: list[Asked] = []
    for name, (credential, guids) in people.items():
        handshake = corner.foresee("/o1", credential)
        if handshake.status == "alert":
            assert handshake.handshake is not None
            alert = expect_alert(house.ssl_port, Tls(corner.place.host, credential))
            assert alert == handshake.handshake.outcome.alert, name
            continue
        with corner.place.connect(credential) as client:
            for path in (*(f"/o{number}" for number in range(len(OPTIONS))), *ELSEWHERE):
                call = corner.place.ask(client, path=path)
                live = corner.ask_live(call.target, guids) if guids is not None else None
                asked.append(Asked(call, corner.foresee(call.target, credential), live))
    assert asked
    compare(house, asked)


@pytest.mark.parametrize("corner", [ANY, REPORT, LATER, OPEN], indirect=True)
def test_a_connection_that_does_not_fit_is_foreseen(corner: Corner, alice: Credential, house: RouterProcess) -> None:
    """R303: plain HTTP, no server name, another domain's handshake, an open one: the 421 and its rule."""
    who = ("app-a", "space-1", "org-1")
    asked = []
    place = corner.place
    for sni in ("x.open.example", unique_host("any.test"), unique_host("orgs.test")):
        with place.connect(alice, sni=sni) as client:
            for path in ("/o1", "/elsewhere"):
                call = place.ask(client, path=path)
                live = corner.ask_live(call.target, who, sni)
                asked.append(Asked(call, corner.foresee(call.target, alice, sni), live))
    with Client(house.ssl_port, Tls(None, alice)) as client:
        call = place.ask(client, path="/o1")
        asked.append(Asked(call, corner.foresee(call.target, alice, ""), corner.ask_live(call.target, who, "-")))
    for path in ("/o0", "/o1", "/elsewhere"):
        call = place.call(plain=True, path=path)
        asked.append(Asked(call, corner.foresee(call.target, None, plain=True), corner.ask_live(call.target, (), plain=True)))
    compare(house, asked)


# ---- as a user types it


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    """`vestibule explain ...` in a process of its own."""
    command = [sys.executable, "-m", "router", "explain", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[2])


@pytest.fixture
def denied(house: RouterProcess, house_registrar: Registrar) -> Iterator[Place]:
    """A route that lets in nobody but app-z."""
    place = make_place(house, house_registrar, ORGS)
    place.register({"mtls_allowed_apps": "app-z"}, tags={**TAGS, "organization_name": "Shop", "app_name": "billing"})
    yield place
    place.leave()


def test_the_offline_answer_of_the_command_is_the_routers(denied: Place, carol: Credential, house: RouterProcess) -> None:
    """R303: by configuration, options and certificate file: 403 by the domain layer, both doors named in what would change it."""
    chain, _ = carol.files()
    done = typed(
        "-c", str(house.config_file), "--options", '{"mtls_allowed_apps": "app-z"}', "--host", denied.host, "--cert", str(chain)
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    verdict, sentence, *_ = done.stdout.splitlines()
    assert verdict == f"DENIED with 403 by the domain layer, rule domain:orgs: https://{denied.host}/"
    reason = "caller org org-3 not in authorization.config.orgs of *.orgs.test"
    assert sentence == f"Denied (403) by domain:orgs: {reason}."
    denied.call(carol).assert_denied("domain:orgs", reason)
    assert "1. the operator: add org org-3 to authorization.config.orgs of *.orgs.test" in done.stdout
    assert "2. the developer: add app app-c to mtls_allowed_apps of the route" in done.stdout


def test_the_live_answer_of_the_command_is_the_routers(
    denied: Place, alice: Credential, house: RouterProcess, tmp_path: Path
) -> None:
    """R303, R304: asked of the running router, whose credentials the configuration tells; the certificate stays here, the names
    of registrations and of a file stand beside their GUIDs.
    """
    chain, _ = alice.files()
    names = tmp_path / "names.yml"
    names.write_text("apps: {app-a: checkout}\n")
    live = ("--live", f"http://127.0.0.1:{house.routes_port}", "-c", str(house.config_file))
    done = typed(*live, "--host", denied.host, "--cert", str(chain), "--names", str(names))
    assert (done.returncode, done.stderr) == (1, "")
    assert f"DENIED with 403 by the route layer, rule route:mtls_allowed_apps: https://{denied.host}/" in done.stdout
    assert "caller app checkout (app-a) not in mtls_allowed_apps" in done.stdout
    assert "which was not sent: the router did not verify its chain" in done.stdout
    assert "org Shop (org-1)" in done.stdout
    denied.call(alice).assert_denied("route:mtls_allowed_apps", "caller app app-a not in mtls_allowed_apps")


def test_the_developer_changes_what_it_says_and_is_let_in(denied: Place, alice: Credential, house: RouterProcess) -> None:
    """R303: the remedy, done, turns the answer: exit 0, and a real call passes."""
    place = ("--host", denied.host, "--app", "app-a", "--space", "space-1", "--org", "org-1", "-o", "json")
    live = ("--live", f"http://127.0.0.1:{house.routes_port}", "-c", str(house.config_file))
    before = typed(*live, *place)
    assert before.returncode == 1
    assert json.loads(before.stdout)["remedy"] == [
        {"who": "developer", "where": "mtls_allowed_apps", "change": "add app app-a to mtls_allowed_apps of the route"}
    ]
    denied.register({"mtls_allowed_apps": "app-z,app-a"})
    after = typed(*live, *place)
    assert (after.returncode, json.loads(after.stdout)["rule"]) == (0, "route:mtls_allowed_apps")
    denied.call(alice).assert_allowed("route:mtls_allowed_apps")


def test_only_who_knows_the_password_may_ask(house: RouterProcess) -> None:
    """The question itself is not looked at without credentials."""
    for query in ("?host=x.any.test", "", "?host=a&host=b"):
        assert house.fetch(house.routes_port, f"/explain{query}").status == 401
