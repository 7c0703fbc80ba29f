"""router/observe/reference.py: the page about metrics says what the code does."""

from pathlib import Path

from router.observe.reference import page

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def test_the_page_is_the_codes() -> None:
    """Renew it with `python -m router.observe.reference > docs/reference/metrics.md`."""
    assert page() == PAGE.read_text(encoding="utf-8")
