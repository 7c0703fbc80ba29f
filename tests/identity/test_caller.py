"""identity/caller.py: values that cannot be built invalid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.caller import Caller, Guid, parse_guid, shown


@pytest.mark.parametrize("text", ["a", "A-b_9", "x" * 64, "5f8f1b0e-0f3c-4b57-9a6e-0d0f5b2f7c11"])
def test_a_guid_is_one_to_sixty_four_plain_characters(text: str) -> None:
    """R317: the form is validated; existence is not."""
    assert text == parse_guid(text)


@pytest.mark.parametrize("text", ["", "x" * 65, "a b", " a", "a\n", "a\x00", "a,b", "a:b", "ä", "٣", "a.b", "*"])
def test_anything_else_is_no_guid(text: str) -> None:
    """Nothing is trimmed, and a final newline does not slip through."""
    assert parse_guid(text) is None


@pytest.mark.parametrize("parts", [("", None, None), ("a", "", None), ("a", None, ""), ("a", "b\n", None), ("a,b", None, None)])
def test_a_caller_with_a_broken_guid_cannot_be_built(parts: tuple[str, str | None, str | None]) -> None:
    """An empty GUID never exists, so empty can never equal empty."""
    app, space, org = parts
    with pytest.raises(ValueError, match="caller GUID"):
        Caller(Guid(app), None if space is None else Guid(space), None if org is None else Guid(org))


@given(st.text())
def test_foreign_text_is_shown_bounded_on_one_printable_line(text: str) -> None:
    """A message stays one line of printable ASCII, whatever it quotes."""
    line = shown(text)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= 64 * 10 + 5
