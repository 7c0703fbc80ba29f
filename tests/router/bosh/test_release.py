"""The templates of the job."""

from pathlib import Path

import pytest
from jinja2 import TemplateError

from registry.source import read_source
from router.bosh.release import CONFIG, render_job
from router.config.job import TEMPLATES


def test_every_template_becomes_its_file() -> None:
    """The configuration for its owner alone, scripts to be run."""
    files = {file.path: file for file in render_job({"port": 81}, "cf", "router", "vestibule", Path("/var/vcap/jobs/vestibule"))}
    assert list(files) == list(TEMPLATES.values())
    assert {path: file.mode for path, file in files.items()} == {
        "config/gorouter.yml": 0o600, "bin/pre-start": 0o755, "bin/ctl": 0o755, "bin/drain": 0o755, "monit": 0o644,
    }  # fmt: skip
    assert read_source(files[CONFIG].content.encode()).tree == {"port": 81}
    assert 'start program "/var/vcap/jobs/vestibule/bin/ctl start"' in files["monit"].content


def test_names_from_a_manifest_cannot_leave_their_place() -> None:
    """Neither a comment nor a word of a shell script."""
    files = {file.path: file.content for file in render_job({}, "a\nport: 1", "{{ 7 * 7 }}", "x'; rm -rf /; '", Path("/j"))}
    assert read_source(files[CONFIG].encode()).tree == {}
    assert "{{ 7 * 7 }}" in files[CONFIG]
    assert """job='x'"'"'; rm -rf /; '"'"''""" in files["bin/drain"]


def test_a_template_with_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    """Never an empty place; and it cannot look at Python's insides."""
    for name in TEMPLATES:
        (tmp_path / name).write_text("{{ nothing }}")
    with pytest.raises(TemplateError, match="'nothing' is undefined"):
        render_job({}, "", "", "", Path("/j"), tmp_path)
    for name in TEMPLATES:
        (tmp_path / name).write_text("{{ config.__class__.__mro__ }}")
    with pytest.raises(TemplateError, match=r"unsafe|undefined"):
        render_job({}, "", "", "", Path("/j"), tmp_path)
