"""docs/reference/cli.md, from the commands themselves."""

from pathlib import Path

from router.cli.main import COMMANDS
from router.cli.reference import render

PAGE = Path(__file__).parents[3] / "docs/reference/cli.md"


def test_the_page_is_up_to_date() -> None:
    """`python -m router.cli.reference > docs/reference/cli.md` writes it anew."""
    assert PAGE.read_text() == render(), "the commands have changed: python -m router.cli.reference > docs/reference/cli.md"


def test_every_command_has_a_section_with_a_line_to_type() -> None:
    sections = render().split("\n## ")[1:]
    assert [section.partition("\n")[0] for section in sections] == [f"vestibule {name}" for name in COMMANDS]
    for section in sections:
        head, _, example = section.partition("\nFor example:\n\n    ")
        assert f"    {head.partition(chr(10))[0]}" in head
        assert "vestibule" in example
