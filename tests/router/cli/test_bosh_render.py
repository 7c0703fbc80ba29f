"""`vestibule bosh render`."""

from pathlib import Path

import pytest

from router.cli import main

MANIFEST = """\
name: cf
instance_groups:
- name: router
  jobs:
  - name: vestibule
    properties:
      nats: {machines: [127.0.0.1]}
      router: {trusted_proxies: [], port: ((port))}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "deployment.yml"
    file.write_text(MANIFEST)
    return file


def render(manifest: Path, *words: str) -> int:
    return main(["bosh", "render", "-m", str(manifest), "--output", str(manifest.parent / "job"), *words])


def test_it_lists_what_it_wrote(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the modes."""
    assert render(manifest, "-v", "port=81") == 0
    shown = capsys.readouterr()
    job = manifest.parent / "job"
    assert shown.out.splitlines()[:2] == [f"0600 {job}/config/gorouter.yml", f"0755 {job}/bin/pre-start"]
    assert shown.err == ""


def test_with_anything_wrong_nothing_is_written(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem on standard error, exit 1."""
    assert render(manifest, "-v", "port=99999") == 1
    shown = capsys.readouterr()
    assert f"{manifest}:8: error: router.port" in shown.err
    assert shown.err.endswith("nothing written: 1 error, 0 warnings\n")
    assert not (manifest.parent / "job").exists()


def test_a_file_that_cannot_be_read_is_one_sentence(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what to do."""
    assert render(manifest, "-o", "/no/such") == 1
    expected = "vestibule bosh render: /no/such: No such file or directory; name a file that can be read\n"
    assert capsys.readouterr().err == expected


def test_a_folder_of_something_else_is_left_alone(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but a rendering is replaced."""
    (manifest.parent / "job").mkdir()
    (manifest.parent / "job" / "mine").write_text("x")
    assert render(manifest, "-v", "port=81") == 1
    assert "which no rendering makes; name an empty folder with --output" in capsys.readouterr().err


def test_warnings_are_no_failure(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They go to standard error beside the list."""
    manifest.write_text(MANIFEST.replace("trusted_proxies: []", "number_of_cpus: 4"))
    assert render(manifest, "-v", "port=81") == 0
    assert "8: warning: router.number_of_cpus" in capsys.readouterr().err
