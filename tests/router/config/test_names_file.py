"""`logging.names_file`, read with the configuration."""

from pathlib import Path

import pytest

from router.config.names_file import _LONGEST
from tests.router.config.support import config, loaded


def test_without_the_key_there_are_no_names() -> None:
    """Absent, empty and null are the same."""
    for text in ("{}", "logging: {names_file: }", "logging: {names_file: ''}"):
        assert config(text).logging.names_file is None


def test_the_names_are_read_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    """And the file is among those that were read."""
    (tmp_path / "names.yml").write_text("orgs: {org-1: shop}\n")
    outcome = loaded({"logging": {"names_file": "names.yml"}}, folder=tmp_path)
    assert outcome.config is not None
    assert outcome.config.logging.names_file is not None
    assert outcome.config.logging.names_file.get("org-1") == "shop"
    assert tmp_path / "names.yml" in outcome.files


def test_problems_of_the_names_have_their_own_file_and_lines(tmp_path: Path) -> None:
    """Beside those of the configuration, all at once; nothing is loaded."""
    names = tmp_path / "names.yml"
    names.write_text("apps:\n  a: x\n  a b: y\nteams: {}\n")
    outcome = loaded("port: none\nlogging: {names_file: names.yml}\n", folder=tmp_path)
    assert outcome.config is None
    assert [(problem.file, problem.line, problem.path) for problem in outcome.problems] == [
        (str(tmp_path / "router.yml"), 1, "port"),
        (str(names), 3, "apps.a b"),
        (str(names), 4, "teams"),
    ]


@pytest.mark.parametrize("value", ["missing.yml", 42, ["a"], {"file": "names.yml"}, "a\nb", "a\0b", "x" * (_LONGEST + 1)])
def test_what_is_no_file_is_an_error_of_the_key(tmp_path: Path, value: object) -> None:
    """R271: with the path of the key."""
    outcome = loaded({"logging": {"names_file": value}}, folder=tmp_path)
    assert outcome.config is None
    assert [problem.path for problem in outcome.problems] == ["logging.names_file"]
