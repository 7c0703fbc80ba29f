"""The promise: who may call what, and whose access a change opens or closes, is known before anything runs, and it is true."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from tests.behaviour.conftest import ANY, At
from tests.support.certs import Credential
from tests.support.router import RouterProcess
from tests.support.tour import RUNS_ON_THIS_MACHINE, Step, assert_shows, steps_of
from tests.support.typed import typed as run_here

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/policy-testing.md"

Type = Callable[..., CompletedProcess[str]]


@pytest.fixture(name="typed")
def _typed(tmp_path: Path) -> Type:
    """A command as a user types it, in a folder of its own. Those of the page run in processes."""

    return partial(run_here, folder=tmp_path)


def write(folder: Path, host: str, *cases: dict[str, Any]) -> None:
    """A manifest with one route that lets app-a in, and expectations of it."""
    route = {"route": host, "options": {"mtls_allowed_apps": "app-a"}}
    (folder / "manifest.yml").write_text(yaml.safe_dump({"applications": [{"name": "x", "routes": [route]}]}))
    callers: dict[str, dict[str, str]] = {
        "alice": {"app": "app-a", "space": "space-1", "org": "org-1"},
        "bob": {"app": "app-b", "space": "space-2", "org": "org-2"},
        "nobody": {},
    }
    if (folder / "stranger.pem").exists():
        callers["stranger"] = {"certificate": "stranger.pem"}
    expected = {"callers": callers, "cases": [{"host": host, **case} for case in cases]}
    (folder / "expectations.yml").write_text(yaml.safe_dump(expected))


def test_expectations_that_hold_are_what_real_callers_meet(
    typed: Type, at: At, house: RouterProcess, alice: Credential, bob: Credential, west_ca_caller: Credential, tmp_path: Path
) -> None:
    """Verdict by verdict the same as from the router that runs with this configuration."""
    place = at(ANY, {"mtls_allowed_apps": "app-a"})
    (tmp_path / "stranger.pem").write_text(west_ca_caller.chain_pem)
    rule = "route:mtls_allowed_apps"
    cases = (
        {"name": "alice", "caller": "alice", "expect": "allow", "rule": rule},
        {"name": "bob", "caller": "bob", "expect": "deny", "status": 403, "rule": rule},
        {"name": "stranger", "caller": "stranger", "expect": "deny", "status": "alert"},
        {"name": "nobody", "caller": "nobody", "expect": "deny", "status": "alert"},
        {"name": "plain", "caller": "nobody", "plain": True, "expect": "deny", "status": 421},
        {"name": "misdirected", "caller": "alice", "sni": "www.open.example", "expect": "deny", "status": 421},
    )
    write(tmp_path, place.host, *cases)
    words = ("policy", "test", "expectations.yml", "-c", str(house.config_file), "-m", "manifest.yml")
    tested = typed(*words, "--junit", "report.xml", "-o", "json")
    assert (tested.returncode, tested.stderr) == (0, "")
    assert [case["ok"] for case in json.loads(tested.stdout)["cases"]] == [True] * len(cases)
    assert ET.parse(tmp_path / "report.xml").getroot().attrib["tests"] == str(len(cases))
    met = [place.call(alice), place.call(bob), place.call(plain=True), place.call(alice, sni="www.open.example")]
    assert [call.response.status for call in met] == [200, 403, 421, 421]


def test_an_expectation_that_does_not_hold_fails_the_ci(typed: Type, house: RouterProcess, tmp_path: Path) -> None:
    """Exit 1, without colour where nobody looks, with reason and remedy."""
    write(tmp_path, f"late.{ANY[2:]}", {"caller": "bob", "expect": "allow"})
    tested = typed("policy", "test", "expectations.yml", "-c", str(house.config_file), "-m", "manifest.yml")
    assert (tested.returncode, tested.stderr) == (1, "")
    assert "\x1b" not in tested.stdout
    assert "differs: expected allow, seen deny (403)" in tested.stdout
    assert "remedy:  developer: add app app-b to mtls_allowed_apps" in tested.stdout


def test_a_file_with_mistakes_is_not_judged(typed: Type, house: RouterProcess, tmp_path: Path) -> None:
    """Every problem with its line, exit 1."""
    text = "callers: {a: {space: s}}\ncases:\n- {caller: b, host: 'x y', expect: allow}\n- {}\n"
    (tmp_path / "expectations.yml").write_text(text)
    tested = typed("policy", "test", "expectations.yml", "-c", str(house.config_file))
    assert (tested.returncode, tested.stdout) == (1, "")
    places = re.findall(r"^expectations\.yml:(\d+): error: (\S+)$", tested.stderr, re.MULTILINE)
    assert sorted(set(places)) == [("1", "callers.a"), ("3", "cases[0].caller"), ("3", "cases[0].host"), ("4", "cases[1]")]


def test_a_change_of_the_configuration_is_known_before_the_reload(
    typed: Type, at: At, house: RouterProcess, tmp_path: Path
) -> None:
    """Of the running router's own routes and registered apps: who would lose access, and who keeps it."""
    tags = {"space_id": "space-1", "organization_id": "org-2", "app_name": "front"}
    place = at(ANY, {"mtls_allowed_apps": "app-front,app-b"})
    at(ANY, {"mtls_allow_any": True}, app="app-front", tags=tags)
    config = yaml.safe_load(house.config_file.read_text())
    for domain in config["mtls_domains"]:
        if domain["domain"] == ANY:
            domain["authorization"]["config"] = {"orgs": ["org-2"]}
    (tmp_path / "new.yml").write_text(yaml.safe_dump(config))
    old, url = str(house.config_file), f"http://127.0.0.1:{house.routes_port}"
    compared = typed("policy", "diff", old, "new.yml", "--live", url, "--host", place.host, "-o", "json")
    assert (compared.returncode, compared.stderr) == (1, "")
    closed = [change["caller"] for change in json.loads(compared.stdout)["changes"] if change["change"] == "closed"]
    assert closed == ["app app-b, if in no listed org"]


def test_who_has_called_is_told_by_name_where_a_change_shuts_them_out(
    typed: Type, at: At, house: RouterProcess, alice: Credential, bob: Credential, tmp_path: Path
) -> None:
    """Issue 3: the live table with the callers seen; no list of this route names them, its access log does."""
    place = at(ANY, {"mtls_allow_any": True})
    for credential in (alice, bob):
        house.wait_for_log(place.call(credential).target)
    config = yaml.safe_load(house.config_file.read_text())
    for domain in config["mtls_domains"]:
        if domain["domain"] == ANY:
            domain["authorization"]["config"] = {"orgs": ["org-2"]}
    (tmp_path / "new.yml").write_text(yaml.safe_dump(config))
    words = ("--live", f"http://127.0.0.1:{house.routes_port}", "--host", place.host, "-o", "json")
    log = str(house.directory / "access.log")
    compared = typed("policy", "diff", str(house.config_file), "new.yml", "--seen", log, *words)
    assert (compared.returncode, compared.stderr) == (1, "")
    closed = {change["caller"] for change in json.loads(compared.stdout)["changes"] if change["change"] == "closed"}
    assert "app app-a" in closed
    assert "app app-b" not in closed


def test_without_a_change_nobodys_access_changes(typed: Type, at: At, house: RouterProcess) -> None:
    place = at(ANY, {"mtls_allowed_apps": "app-a"})
    old, url = str(house.config_file), f"http://127.0.0.1:{house.routes_port}"
    compared = typed("policy", "diff", old, old, "--live", url, "--host", place.host)
    assert (compared.returncode, compared.stderr) == (0, "")
    assert compared.stdout.startswith("0 opened, 0 closed, 0 by another rule")


def test_nobody_without_credentials_learns_the_live_routes(typed: Type, house: RouterProcess, tmp_path: Path) -> None:
    (tmp_path / "plain.yml").write_text("trusted_proxies: []\n")
    compared = typed("policy", "diff", "plain.yml", "plain.yml", "--live", f"http://127.0.0.1:{house.routes_port}")
    assert (compared.returncode, compared.stdout) == (1, "")
    assert "401" in compared.stderr


# ---- the page


def steps() -> list[Step]:
    return steps_of(PAGE.read_text())


@RUNS_ON_THIS_MACHINE
def test_every_command_of_the_page_shows_what_it_says(tmp_path: Path) -> None:
    assert_shows(steps(), tmp_path)


def test_what_the_page_gives_a_ci_is_typed_on_the_page() -> None:
    """A job that nobody ran would be a guess."""
    jobs = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)]
    commands = {command for job in jobs for one in job.values() for command in one["script"]}
    assert commands
    assert commands <= {line for step in steps() for line in step.commands.splitlines()}
