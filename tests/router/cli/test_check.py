"""`vestibule check`."""

import json
from pathlib import Path

import pytest

from router.cli import main


def check(folder: Path, text: str, *more: str) -> int:
    file = folder / "router.yml"
    file.write_text(text)
    return main(["check", "-c", str(file), *more])


def test_a_good_file_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, "trusted_proxies: []\n") == 0
    assert capsys.readouterr().out == "good: 0 errors, 0 warnings\n"


def test_a_bad_file_exits_1_with_every_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R272, K20: refused before start, all at once."""
    assert check(tmp_path, "prot: 80\nenable_proxy: true\n") == 1
    shown = capsys.readouterr().out
    assert f"{tmp_path}/router.yml:1: error: prot" in shown
    assert f"{tmp_path}/router.yml:2: error: enable_proxy" in shown
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
