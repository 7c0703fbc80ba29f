"""What a template may hold, and how everything else in it is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.template import MAX_ACTIONS, Flaw, Template, read_template


def flaws(text: str) -> list[Flaw]:
    found = read_template(text)
    assert isinstance(found, list)
    return found


def test_a_template_is_text_and_values_by_turns() -> None:
    """Contract d: GoRouter's four fields; trim markers take the blanks beside them, comments leave nothing."""
    text = "<p> {{- .Status }}{{/* a */}}!\n{{ .Header.Get `x-any` -}} \n</p>"
    assert read_template(text) == Template(("<p>", "!\n", "</p>"), (".Status", "header:X-Any"))


@pytest.mark.parametrize(
    ("text", "line", "value"),
    [
        ("<p>\n{{.Reason}}</p>", 2, "{{.Reason}}"),
        ("{{if .Status}}x{{end}}", 1, "{{if .Status}}"),
        ("a\n\n{{ .Status", 3, "{{ .Status"),
        ("{{template \"notexists\"}}", 1, '{{template "notexists"}}'),
        ("{{.Header.Get \"a b\"}}", 1, '{{.Header.Get "a b"}}'),
        ("{{}}", 1, "{{}}"),
        ("{{.Message | js}}", 1, "{{.Message | js}}"),
        ("<script>\nvar a = '{{.Message}}'</script>", 2, ".Message"),
        ("<style>{{.Message}}</style>", 1, ".Message"),
        ("<a href='{{.Message}}'>", 1, ".Message"),
        ("<p onclick=\"{{.Message}}\">", 1, ".Message"),
        ("<p title={{.Message}}>", 1, ".Message"),
        ("<p {{.Message}}>", 1, ".Message"),
        ("<!doctype {{.Message}}>", 1, ".Message"),
        ("{{.Status}}" * (MAX_ACTIONS + 1), 1, f"{MAX_ACTIONS + 1} values"),
    ],
)  # fmt: skip
def test_what_a_template_cannot_hold_is_named_with_its_line(text: str, line: int, value: str) -> None:
    """Other actions of Go's templates, and values where escaping for HTML protects nobody."""
    found = flaws(text)
    assert (found[0].line, found[0].value) == (line, value)


def test_every_flaw_is_told_at_once() -> None:
    assert [flaw.line for flaw in flaws("{{.A}}\n<script>{{.Status}}</script>\n{{.B}}\n{{")] == [1, 2, 3, 4]


@given(st.text(max_size=300))
def test_any_text_is_a_template_or_has_flaws(text: str) -> None:
    found = read_template(text)
    assert found if isinstance(found, list) else len(found.pieces) == len(found.actions) + 1
