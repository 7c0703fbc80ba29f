"""The promise: `vestibule routes` shows who gets in, whose a route is and how it is, of a running router, once or again."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.behaviour.conftest import ANY, LATER, OPEN, REPORT, UNENFORCED, At
from tests.support.router import STATUS_PASSWORD, RouterProcess
from tests.support.typed import typed

TAGS = {"app_name": "checkout", "space_id": "space-9", "organization_id": "org-9", "organization_name": "shop"}


def command(router: RouterProcess, *words: str) -> list[str]:
    return [sys.executable, "-m", "router", "routes", "-c", str(router.config_file), *words]


def shown(router: RouterProcess, *words: str) -> str:
    done = typed("routes", "-c", router.config_file, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("domain", "options", "policy"),
    [
        (ANY, {"mtls_allowed_apps": "a,b", "mtls_allowed_orgs": "o"}, "apps(2) orgs(1)"),
        (ANY, None, "none: denies"),
        (REPORT, {"mtls_allow_any": True}, "any (report only)"),
        (UNENFORCED, {"mtls_allowed_spaces": "s"}, "spaces(1) (not enforced)"),
        (UNENFORCED, None, "any certificate"),
        (LATER, {"route_policy_scope": "space", "route_policy_sources": "cf:any"}, "any in scope=space"),
        (OPEN, None, "open"),
    ],
)
def test_a_route_shows_its_policy_its_age_and_its_owner(
    at: At, house: RouterProcess, domain: str, options: object, policy: str
) -> None:
    """R304, R318: in a line; a name stands before its GUID; warnings are counted."""
    place = at(domain, options, app="app-9", tags=TAGS)
    header, line = shown(house, "--host", place.host).splitlines()
    assert header.split() == ["ROUTE", "DOMAIN", "POLICY", "ENDPOINT", "AGE", "OWNER", "WARNINGS"]
    warned = "1" if "not enforced" in policy else "-"
    claimed = "-" if domain == OPEN else domain
    columns = re.sub(r" \d+s ", " AGE ", line).split()
    assert columns == [place.host, claimed, *policy.split(), place.backends[0].address, "AGE", "checkout", "(app-9)", warned]


def test_filters_and_forms(at: At, house: RouterProcess) -> None:
    """By app and by domain; for programs as JSON or YAML, in the shape of /policies."""
    place = at(ANY, {"mtls_allow_any": True}, app="app-forms")
    answer = json.loads(shown(house, "--app", "app-forms", "-o", "json"))
    assert [route["host"] for route in answer["routes"]] == [place.host]
    read = yaml.safe_load(shown(house, "--app", "app-forms", "--domain", ANY, "-o", "yaml"))
    assert [route["owners"] for route in read["routes"]] == [route["owners"] for route in answer["routes"]]
    assert shown(house, "--app", "app-forms", "--domain", LATER).splitlines()[1:] == []


def test_wide_shows_the_lists_with_names(at: At, house: RouterProcess, tmp_path: Path) -> None:
    """R304: from a names file; the GUIDs stay."""
    names = tmp_path / "names.yml"
    names.write_text("apps: {app-x: billing}\nspaces: {space-9: production}\n")
    place = at(ANY, {"mtls_allowed_apps": "app-x,app-y"}, app="app-9", tags=TAGS)
    line = shown(house, "--host", place.host, "--wide", "--names", str(names)).splitlines()[1]
    for text in ("apps: billing (app-x), app-y", "production (space-9)", "shop (org-9)", "checkout (app-9)"):
        assert text in line


def test_warnings_are_sentences(at: At, house: RouterProcess) -> None:
    """R318: where the operator looks; without a filter also those of everything else."""
    place = at(UNENFORCED, {"mtls_allow_any": True})
    words = "route specifies mtls_allow_any but domain authorization.mode=none; rules ignored"
    assert shown(house, "--host", place.host, "--warnings").splitlines()[2:] == [f"warning: {place.host}: {words}"]
    everything = subprocess.run(command(house, "--warnings"), capture_output=True, text=True, timeout=30, check=True).stdout
    assert f"warning: {place.host}: {words}" in everything
    assert "no route is registered in this domain" in everything


def test_watch_shows_it_again_and_ends_well_with_ctrl_c(at: At, house: RouterProcess) -> None:
    """Each view is of its moment; `---` stands between them where it is no terminal."""
    place = at(OPEN, app="app-watch")
    process = subprocess.Popen(
        command(house, "--host", place.host, "--watch", "0.1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    views: list[str] = []
    while views.count("---\n") < 2:
        views.append(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    assert (process.returncode, errors) == (0, "")
    first = views[: views.index("---\n")]
    assert [line.split()[0] for line in first] == ["ROUTE", place.host]


def test_watch_on_a_terminal_draws_anew(at: At, house: RouterProcess) -> None:
    place = at(OPEN)
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(command(house, "--host", place.host, "--watch", "0.1"), stdout=theirs, stderr=theirs)
        drawn = b""
        while drawn.count(b"\x1b[H\x1b[2J") < 3:
            drawn += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        assert b"---" not in drawn
        assert place.host.encode() in drawn
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--host", "a:80"], 1, "the router does not accept the question: 'a:80' is no host"),
        (["--app", "a b"], 1, "the router does not accept the question: app 'a b' is no GUID"),
        (["--url", "http://127.0.0.1:1"], 1, "is the router running?"),
        (["--watch", "0"], 2, "is no number of seconds from 0.1"),
        (["--watch", "1", "--url", "http://127.0.0.1:1"], 1, "is the router running?"),
    ],
)
def test_what_goes_wrong_is_a_sentence(house: RouterProcess, words: list[str], status: int, said: str) -> None:
    """1 where it failed, 2 where it was called wrongly; never a password."""
    done = typed("routes", "-c", house.config_file, *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert STATUS_PASSWORD not in done.stderr
