"""`vestibule policy test`."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from router.cli import main
from router.cli.policy_test import as_text
from router.inspect.judgement import judge
from tests.router.cli.policy_files import DOMAIN, EXPECTATIONS, write
from tests.router.inspect.test_judgement import CASE, DENIED, FORWARDED
from tests.support.certs import CA

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, east_ca: CA, west_ca: CA, capsys: pytest.CaptureFixture[str]) -> Run:
    """`policy test` on the files of a developer; `expectations` replaces theirs."""
    file = write(tmp_path, east_ca, west_ca)

    def call(*more: str, expectations: str = EXPECTATIONS) -> int:
        file.write_text(expectations)
        capsys.readouterr()
        return main(["policy", "test", str(file), *more])

    return call


def test_all_as_expected_exits_0(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["RESULT", "CASE", "CALLER", "ASKS", "FOR", "EXPECTED", "SEEN"]
    assert [line.split()[0] for line in out[1:5]] == ["ok"] * 4
    assert out[-1] == "as expected: 4 cases, 0 failed"


def test_a_case_that_fails_exits_1_and_says_why_and_what_would_help(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(expectations=EXPECTATIONS.replace("caller: batch, host: api", "caller: front, host: api")) == 1
    shown = capsys.readouterr().out
    assert "FAIL" in shown
    assert shown.endswith(
        "FAIL line 15: others may not\n"
        "    differs: expected deny, seen allow (forwarded)\n"
        "    differs: expected status 403, seen forwarded\n\n"
        "not as expected: 4 cases, 1 failed\n"
    )
    assert run(expectations=EXPECTATIONS.replace("caller: front", "caller: batch")) == 1
    shown = capsys.readouterr().out
    assert "    differs: expected allow, seen deny (403)\n" in shown
    assert "    reason:  caller app batch-guid not in mtls_allowed_apps\n" in shown
    assert "    remedy:  developer: add app batch-guid to mtls_allowed_apps" in shown


def test_json_and_yaml_are_for_programs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert run("-o", "yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == told
    assert set(told) == {"ok", "cases", "untouched", "warnings"}
    assert [(case["name"], case["ok"], case["seen"]["outcome"]) for case in told["cases"]] == [
        ("the front end may read", True, "forwarded"),
        ("others may not", True, "403"),
        ("nor may strangers", True, "alert"),
        ("whoever has a certificate may have this", True, "forwarded"),
    ]


def test_junit_is_written_beside(run: Run, tmp_path: Path) -> None:
    assert run("--junit", str(tmp_path / "report.xml"), expectations=EXPECTATIONS.replace("caller: front", "caller: nobody")) == 1
    root = ET.parse(tmp_path / "report.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("4", "1")
    assert [failure.get("message") for failure in root.iter("failure")] == [
        "expected allow, seen deny (alert); expected rule route:mtls_allowed_apps, seen handshake:no_certificate"
    ]


def test_a_report_that_cannot_be_written_fails(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A CI that would read an old report must not go on."""
    assert run("--junit", str(tmp_path)) == 1
    assert "name a file that can be written" in capsys.readouterr().err


def test_the_command_line_names_another_configuration_and_more_manifests(
    run: Run, tmp_path: Path, east_ca: CA, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "open.yml").write_text("trusted_proxies: []\n")
    (tmp_path / "more.yml").write_text("applications: [{name: more, routes: [{route: more.example}]}]")
    assert run("-c", str(tmp_path / "open.yml"), "-m", str(tmp_path / "more.yml")) == 1
    shown = capsys.readouterr().out
    assert "as expected: 4 cases, 3 failed" in shown
    assert "no case asks about: more.example\n" in shown


def test_routes_that_no_case_asks_about_are_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(expectations=EXPECTATIONS.replace("path: /v1/x, expect: allow", "path: /v2, expect: deny, status: 404")) == 0
    assert f"\nno case asks about: free.{DOMAIN}/v1\n" in capsys.readouterr().out


def test_every_problem_of_all_files_is_said_and_nothing_is_judged(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.yml").write_text("applications:\n- name: backend\n  routes:\n  - rout: x\n")
    (tmp_path / "router.yml").write_text("prot: 80\n")
    assert run("--junit", str(tmp_path / "report.xml")) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{tmp_path}/router.yml:1: error: prot" in shown.err
    assert f"{tmp_path}/manifest.yml:4: error: applications[0].routes[0]" in shown.err
    assert "nothing was done" in shown.err
    assert not (tmp_path / "report.xml").exists()


def test_problems_of_the_expectations_have_lines(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = EXPECTATIONS.replace("expect: allow\n", "expects: allow\n").replace("front-guid", "front guid")
    assert run("-o", "json", expectations=broken) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [(problem["line"], problem["path"]) for problem in told["problems"]] == [
        (4, "callers.front.app"),
        (10, "cases[0]"),
        (13, "cases[0].expects"),
    ]


@pytest.mark.parametrize(
    ("expectations", "said"),
    [
        (EXPECTATIONS.replace("config: router.yml\n", ""), "add `config:`, or name one with -c FILE"),
        (EXPECTATIONS.partition("cases:")[0], "a test without cases cannot fail"),
        (EXPECTATIONS.replace("partner.pem", "none.pem"), "a file that can be read"),
        (EXPECTATIONS.replace("manifest.yml", "none.yml"), "a file that can be read"),
    ],
)
def test_what_is_missing_is_an_error(run: Run, expectations: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(expectations=expectations) == 1
    assert said in capsys.readouterr().err


def test_a_missing_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(tmp_path / "none.yml")]) == 1
    assert "a file that can be read" in capsys.readouterr().err
    assert main(["policy", "test", "a\0b"]) == 1
    assert "not a file name" in capsys.readouterr().err


def test_names_cannot_steer_a_terminal(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(expectations=EXPECTATIONS.replace("the front end may read", '"\\e[2J"').replace("caller: front", "caller: batch"))
        == 1
    )
    assert "\x1b" not in capsys.readouterr().out


def test_failures_are_red_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = as_text([*judge([CASE], lambda asked: FORWARDED), *judge([CASE], lambda asked: DENIED)], ())
    assert [line[:5] for line in shown.splitlines()[1:3]] == ["ok   ", "\x1b[31m"]


def test_many_routes_without_a_case_are_named_in_part() -> None:
    shown = as_text((), [f"{number}.example" for number in range(25)])
    assert "19.example, and 5 more" in shown
