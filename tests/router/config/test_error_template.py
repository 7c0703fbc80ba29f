"""`html_error_template_file`, read with the configuration."""

from pathlib import Path

import pytest

from router.config.error_template import _LONGEST
from router.config.template import MAX_TEMPLATE
from tests.router.config.support import config, loaded


def test_without_the_key_errors_are_plain_text() -> None:
    """Absent, empty and null are the same."""
    for text in ("{}", "html_error_template_file: ", "html_error_template_file: ''"):
        assert config(text).html_error_template_file == ""


def test_a_template_is_read_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "error.html").write_text("<p>{{.Status}}</p>")
    outcome = loaded({"html_error_template_file": "error.html"}, folder=tmp_path)
    assert outcome.config is not None
    assert outcome.config.html_error_template_file == "<p>{{.Status}}</p>"
    assert tmp_path / "error.html" in outcome.files


def test_the_template_itself_may_stand_there() -> None:
    """BOSH's router.html_error_template is the text."""
    assert config({"html_error_template_file": "<p>{{.Status}}</p>\n"}).html_error_template_file == "<p>{{.Status}}</p>\n"


def test_flaws_have_the_templates_own_file_and_lines(tmp_path: Path) -> None:
    """Beside those of the configuration, all at once; nothing is loaded."""
    template = tmp_path / "error.html"
    template.write_text("<p>\n{{.Reason}}\n<script>{{.Message}}</script>\n")
    outcome = loaded("port: none\nhtml_error_template_file: error.html\n", folder=tmp_path)
    assert outcome.config is None
    assert [(problem.file, problem.line, problem.path) for problem in outcome.problems] == [
        (str(tmp_path / "router.yml"), 1, "port"),
        (str(template), 2, "template"),
        (str(template), 3, "template"),
    ]


@pytest.mark.parametrize(
    "value",
    ["missing.html", 42, ["a"], {"file": "a"}, "a\nb", "a\0b", "x" * (_LONGEST + 1), "<p>{{.No}}", "<" * (MAX_TEMPLATE + 1)],
)
def test_what_is_no_template_is_an_error_of_the_key(tmp_path: Path, value: object) -> None:
    """R271: with the path of the key."""
    outcome = loaded({"html_error_template_file": value}, folder=tmp_path)
    assert outcome.config is None
    assert [problem.path for problem in outcome.problems] == ["html_error_template_file"]


def test_an_empty_file_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "error.html").write_text("\n")
    outcome = loaded({"html_error_template_file": "error.html"}, folder=tmp_path)
    assert [problem.path for problem in outcome.problems] == ["html_error_template_file"]
