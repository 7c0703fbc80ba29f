"""`vestibule check` beside manifests and beside an older configuration, as an operator types it."""

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.certs import CA
from tests.support.router import mtls_domain, server_credential, tls_pem

ROOT = Path(__file__).parents[2]


def vestibule(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "router", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, cwd=ROOT)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes a configuration, or a manifest of these routes."""

    def to(name: str, content: dict[str, Any] | list[dict[str, Any]]) -> Path:
        if isinstance(content, list):
            content = {"applications": [{"name": "app", "routes": content}]}
        else:
            content = {"trusted_proxies": [], "enable_ssl": True, "tls_pem": [tls_pem(server_credential())], **content}
        file = tmp_path / name
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return file

    return to


def asked(*arguments: str | Path) -> dict[str, Any]:
    done = vestibule("check", *arguments, "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_is_legal_but_unwise_between_manifests_and_domains_is_told(write: Any, east_ca: CA) -> None:
    """R251, R275, decisions 2 and 8: options that nobody enforces, a bare suffix, a domain without a route."""
    partners = {"domain": "*.partners.example", "ca_certs": east_ca.pem}
    config = write("router.yml", {"mtls_domains": [mtls_domain("*.apps.internal", east_ca), partners]})
    allowed = {"mtls_allowed_apps": "some-app"}
    routes = [{"route": "apps.internal", "options": allowed}, {"route": "a.example.com", "options": allowed}]
    found = asked("-c", config, "-m", write("manifest.yml", routes))
    said = {(Path(one["file"]).name, one["path"], one["expected"].partition(":")[0]) for one in found["warnings"]}
    assert said >= {
        ("manifest.yml", "apps.internal", "apps.internal is open"),
        ("manifest.yml", "apps.internal", "`mtls_allowed_apps` has no effect"),
        ("manifest.yml", "a.example.com", "`mtls_allowed_apps` has no effect"),
        ("router.yml", "mtls_domains[0].domain", "no route of the manifests is on *.apps.internal"),
        ("router.yml", "mtls_domains[1].domain", "no route of the manifests is on *.partners.example"),
    }
    idle = next(one for one in found["warnings"] if one["path"] == "mtls_domains[1].domain" and "no route" in one["expected"])
    assert "*.partners.example" in config.read_text().splitlines()[idle["line"] - 1]


def test_a_list_that_nearly_fills_the_limit_is_told_before_it_does(write: Any) -> None:
    """R281: at 80 %, while there is time to allow a space instead."""
    routes = [{"route": "a.example.com", "options": {"mtls_allowed_apps": ",".join(f"{n:036d}" for n in range(22))}}]
    said = [one["expected"] for one in asked("-m", write("manifest.yml", routes))["warnings"]]
    assert said == ["the options take 837 of 1024 bytes, over 80 %"]


def test_what_expires_within_30_days_is_told(write: Any) -> None:
    """An authority and a server certificate, each with its date."""
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=9, hours=1)
    dying = CA("dying", not_after=soon)
    pair = tls_pem(dying.issue_server("*.apps.internal", not_after=soon))
    config = write("router.yml", {"tls_pem": [pair], "mtls_domains": [mtls_domain("*.apps.internal", dying)]})
    warnings = {one["path"]: one["expected"] for one in asked("-c", config)["warnings"]}
    assert warnings["tls_pem[0].cert_chain"] == f"expires on {soon:%Y-%m-%d}, in 9 days"
    assert warnings["mtls_domains[0].ca_certs"] == f"the authority `CN=dying` expires on {soon:%Y-%m-%d}, in 9 days"


def test_a_difference_is_one_of_meaning(write: Any, east_ca: CA, west_ca: CA) -> None:
    """What changes, what waits for a restart, and whose connections get a 421 (decision 6); secrets stay hidden."""
    old = {"mtls_domains": [mtls_domain("*.apps.internal", east_ca)], "status": {"pass": "hunter2"}, "drain_wait": "20s"}
    new = {"mtls_domains": [mtls_domain("*.apps.internal", west_ca)], "status": {"pass": "hunter3"}, "port": 8081}
    done = vestibule("check", "-c", write("new.yml", new), "--diff", write("old.yml", old))
    assert (done.returncode, done.stderr) == (0, "")
    assert "hunter" not in done.stdout
    assert "BEGIN" not in done.stdout
    changes = done.stdout[done.stdout.index("change: ") :].splitlines()
    assert [line for line in changes if not line.startswith("    ")][:-1] == [
        "change: port",
        "change: mtls_domains[*.apps.internal].ca_certs",
        "change: status.pass",
        "421: *.apps.internal: its authorities changed: connections were verified by the old ones; they are closed and made anew",
    ]
    assert changes[changes.index("change: status.pass") + 3].startswith("    restart:")
    assert done.stdout.count("restart:") == 1


def test_a_difference_is_json_for_programs(write: Any) -> None:
    config = write("new.yml", {"logging": {"level": "debug"}})
    found = asked("-c", config, "--diff", write("old.yml", {}))
    assert found["changes"] == [{"path": "logging.level", "old": "info", "new": "debug", "restart": False}]
    assert found["misdirected"] == []
    assert asked("-c", config, "--diff", config)["changes"] == []


def test_everything_that_is_wrong_in_all_files_comes_at_once(write: Any, tmp_path: Path) -> None:
    """R272: configuration, manifest, and the old configuration."""
    config, old = write("router.yml", {"prot": 1}), write("old.yml", {"drain_wait": "long"})
    manifest = write("manifest.yml", [{"root": "a.example.com"}])
    done = vestibule("check", "-c", config, "-m", manifest, "--diff", old)
    assert done.returncode == 1
    for place in (f"{config}:", f"{manifest}:", f"{old}:"):
        assert f"{place}" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("would not start: 4 errors")


@pytest.mark.parametrize("arguments", [["check", "--diff", "x"], ["check", "--var", "a=b"], ["check", "-m"]])
def test_a_wrong_call_exits_2_and_says_what_is_missing(arguments: list[str]) -> None:
    done = vestibule(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(("vestibule check: ", "usage: "))
