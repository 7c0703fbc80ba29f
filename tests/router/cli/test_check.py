"""`vestibule check`."""

import json
from pathlib import Path

import pytest
import yaml

from router.cli import main
from tests.support.certs import authority


def check(folder: Path, text: str, *more: str) -> int:
    file = folder / "router.yml"
    file.write_text(text)
    return main(["check", "-c", str(file), *more])


def test_a_good_file_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, "trusted_proxies: []\n") == 0
    assert capsys.readouterr().out == "good: 0 errors, 0 warnings\n"


def test_a_bad_file_exits_1_with_every_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R272, K20: refused before start, all at once."""
    assert check(tmp_path, "prot: 80\nenable_ssl: true\n") == 1
    shown = capsys.readouterr().out
    assert f"{tmp_path}/router.yml:1: error: prot" in shown
    assert f"{tmp_path}/router.yml:2: error: enable_ssl" in shown
    assert shown.endswith("would not start: 2 errors, 0 warnings\n")


def test_warnings_alone_are_no_failure(tmp_path: Path) -> None:
    assert check(tmp_path, "pid_file: x\n") == 0


def test_json_is_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, "prot: 80\ntrusted_proxies: []\n", "-o", "json") == 1
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "errors": [
            {
                "file": f"{tmp_path}/router.yml",
                "line": 1,
                "path": "prot",
                "value": "",
                "expected": "a known key",
                "remedy": "did you mean `port`?",
            }
        ],
        "warnings": [],
    }


def test_a_missing_file_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(tmp_path / "none.yml")]) == 1
    assert "a file that can be read" in capsys.readouterr().out


def test_a_domain_without_a_tls_listener_is_no_crash(tmp_path: Path) -> None:
    """Every request to it is a 421 until there is one; the configuration is whole."""
    authorities = authority("check").pem
    text = yaml.safe_dump({"trusted_proxies": [], "mtls_domains": [{"domain": "*.apps.example", "ca_certs": authorities}]})
    assert check(tmp_path, text) == 0


@pytest.mark.parametrize("words", [[], ["--diff", "x", "-m", "x"], ["-c", "x", "--var", "a=b"], ["-c", "x", "--vars-file", "y"]])
def test_a_call_that_names_too_little_exits_2_and_says_what_to_add(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: vestibule check")
    assert "; name " in said


def test_a_manifest_alone_can_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A developer has no router.yml."""
    manifest = tmp_path / "manifest.yml"
    manifest.write_text("applications:\n- name: a\n  routes:\n  - route: a.example.com\n")
    assert main(["check", "-m", str(manifest)]) == 0
    manifest.write_text("applications:\n- name: a\n  routes:\n  - root: a.example.com\n")
    assert main(["check", "-m", str(manifest)]) == 1
    assert capsys.readouterr().out.endswith("refused: 2 errors, 0 warnings\n")


def test_the_limit_of_the_configuration_holds_for_manifests(tmp_path: Path) -> None:
    """R281: `max_route_options_size`."""
    manifest = tmp_path / "manifest.yml"
    manifest.write_text("applications:\n- name: a\n  routes:\n  - route: a.b\n    options: {loadbalancing: round-robin}\n")
    assert check(tmp_path, "trusted_proxies: []\n", "-m", str(manifest)) == 0
    assert check(tmp_path, "max_route_options_size: 20\n", "-m", str(manifest)) == 1


def test_an_old_configuration_that_does_not_load_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old.yml"
    old.write_text("prot: 1\n")
    assert check(tmp_path, "port: 81\n", "--diff", str(old)) == 1
    assert f"{old}:1: error: prot" in capsys.readouterr().out
