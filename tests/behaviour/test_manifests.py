"""A developer's manifest is judged before anything of it is registered: `vestibule check -m` and `emit -m`, as typed."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.certs import CA
from tests.support.nats import NatsConnection, NatsMessage, NatsServer
from tests.support.router import mtls_domain
from tests.support.typed import typed

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures/manifests"
BAD = sorted((FIXTURES / "bad").glob("*.yml"))
GOOD = sorted((FIXTURES / "good").glob("*.yml"))


def vestibule(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a developer runs it."""
    command = [sys.executable, "-m", "router", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, cwd=ROOT)


def manifests(files: list[Path]) -> list[str | Path]:
    return [word for file in files for word in ("-m", file)]


@pytest.fixture
def config(tmp_path: Path, east_ca: CA) -> Path:
    """One domain that demands policies."""
    file = tmp_path / "router.yml"
    file.write_text(yaml.safe_dump({"trusted_proxies": [], "mtls_domains": [mtls_domain("*.apps.mtls.internal", east_ca)]}))
    return file


def findings(done: subprocess.CompletedProcess[str], kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout)[kind]
    return found


def test_every_mistake_of_every_manifest_is_told_at_once_with_its_line() -> None:
    """R262, R271, R272, K1: each error has file, line, path and remedy; exit 1."""
    done = vestibule("check", *manifests(BAD), "--vars-file", FIXTURES / "vars.yml", "-o", "json")
    assert (done.returncode, done.stderr) == (1, "")
    wanted = {
        (str(file), number, path.removeprefix("(whole file)"))
        for file in BAD
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for path in re.findall(r"# expect: (\S+|\(whole file\)) \|", line)
    }
    errors = findings(done, "errors")
    assert {(one["file"], one["line"], one["path"]) for one in errors} == wanted
    assert [one for one in errors if not (one["expected"] and one["remedy"])] == []


def test_good_manifests_exit_0() -> None:
    """Several files, several applications, variables from a file."""
    done = typed("check", *manifests(GOOD), "--vars-file", FIXTURES / "vars.yml")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^good: 0 errors, \d+ warnings$", done.stdout, re.MULTILINE)


def test_a_route_without_a_policy_on_a_domain_that_demands_one_is_warned_of(config: Path, tmp_path: Path) -> None:
    """K3: legal, and closed: 403 for everybody."""
    manifest = tmp_path / "manifest.yml"
    manifest.write_text("applications:\n- name: a\n  routes:\n  - route: a.apps.mtls.internal\n")
    done = typed("check", "-c", config, "-m", manifest, "-o", "json")
    assert done.returncode == 0
    said = [one for one in findings(done, "warnings") if one["file"] == str(manifest)]
    assert [(one["line"], one["path"]) for one in said] == [(4, "applications[0].routes[0].options")]
    assert "every caller gets 403" in said[0]["expected"]


def test_a_list_that_is_too_large_is_refused_with_both_sizes(tmp_path: Path) -> None:
    """R281, R282: the words of the Cloud Controller's 422."""
    done = typed("check", "-m", FIXTURES / "bad/too_large.yml")
    assert done.returncode == 1
    assert "Options must be smaller than 1024 bytes (actual size is 1087 bytes)" in done.stdout


def test_a_variable_that_nobody_gives_is_an_error_and_then_is_none(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.yml"
    manifest.write_text("applications:\n- name: a\n  routes:\n  - route: ((host)).example.com\n")
    assert "a value for the variable `host`" in typed("check", "-m", manifest).stdout
    assert typed("check", "-m", manifest, "--var", "host=shop").returncode == 0


def test_a_variables_file_with_a_mistake_is_an_error_on_its_line(tmp_path: Path) -> None:
    values = tmp_path / "vars.yml"
    values.write_text("host: shop\nhost: shop\n")
    done = typed("check", "-m", GOOD[0], "--vars-file", values)
    assert done.returncode == 1
    assert f"{values}:2: error: host" in done.stdout
    assert "the first is on line 1" in done.stdout


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_nothing_of_a_bad_manifest_is_sent(file: Path, nats_server: NatsServer) -> None:
    """R325: not the good routes of it either: exit 1 before NATS is spoken to, so that no mistake fails silently in a router."""
    listener = NatsConnection(nats_server.port)
    try:
        listener.subscribe("router.>")
        place = f"nats://127.0.0.1:{nats_server.port}"
        run = vestibule if file == BAD[0] else typed
        done = run("emit", "-m", file, "--vars-file", FIXTURES / "vars.yml", "--nats", place, "--instance", "127.0.0.9:9")
        assert done.returncode == 1
        assert done.stderr.endswith("vestibule emit: nothing is sent: mend the manifest\n")
        assert "Traceback" not in done.stderr
        listener.publish("router.nobody", b"the end")
        assert not any(b"127.0.0.9" in message.data for message in until(listener, "router.nobody"))
    finally:
        listener.close()


def until(listener: NatsConnection, subject: str) -> Iterator[NatsMessage]:
    """The messages before the first one on `subject`."""
    while (message := listener.next_message()).subject != subject:
        yield message
