"""What docstrings, comments and pages cite by number stands in docs/: GoRouter's contract, requirements, conflicts."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = ("authz", "bench", "docs", "identity", "registry", "router", "tests")
CONTRACT = ROOT / "docs/gorouter.md"
REQUIREMENTS = ROOT / "docs/requirements.md"

SECTION = re.compile(r"(?:[ab]\.\d|[c-k](?:\.\d)?)\b")
CITED_SECTIONS = re.compile(rf"\b[Cc]ontract ({SECTION.pattern}(?:(?: \([^()]*\))?(?:,\s+| and |; ){SECTION.pattern})*)")
"""`contract a.2 (why), a.3`, over the ends of lines too."""
CITED_CONFLICT = re.compile(r"\bK(\d+)\b")
CITED_REQUIREMENT = re.compile(r"\bR(\d{1,3})(?:(?:-| to R)(\d{1,3}))?\b")
CITED_IN_WORDS = re.compile(r"\b[Rr]equirements? (\d+(?:-\d+)?(?:(?:, | and )\d+(?:-\d+)?)*)")
"""`requirements 262, 267-272`"""


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Where it stands, and what: each file of ours that may cite something."""
    files = [
        *ROOT.glob("*.md"),
        *(file for place in PLACES for kind in ("py", "md") for file in (ROOT / place).rglob(f"*.{kind}")),
    ]
    return tuple((str(file.relative_to(ROOT)), file.read_text()) for file in sorted(files))


def rows(letter: str) -> list[int]:
    """The numbers that have a row."""
    return [int(number) for number in re.findall(rf"^\| {letter}(\d+) \| .{{5,}} \|$", REQUIREMENTS.read_text(), re.MULTILINE)]


def numbers(text: str) -> Iterator[int]:
    """Each requirement that is cited, those between two ends too."""
    spans = CITED_REQUIREMENT.findall(text)
    for words in CITED_IN_WORDS.findall(text):
        spans += re.findall(r"(\d+)(?:-(\d+))?", words)
    for first, last in spans:
        yield from range(int(first), int(last or first) + 1)


def test_every_section_of_the_contract_that_is_cited_stands_on_its_page() -> None:
    """With a heading of its own; where nothing at all were cited, the pattern would be wrong."""
    headings = set(re.findall(rf"^### ({SECTION.pattern}) \S", CONTRACT.read_text(), re.MULTILINE))
    cited = [(file, one) for file, text in texts() for some in CITED_SECTIONS.findall(text) for one in SECTION.findall(some)]
    assert cited
    assert [(file, one) for file, one in cited if one not in headings] == []


def test_every_requirement_that_is_cited_has_a_row() -> None:
    """In the table with its test, or among those that are also cited."""
    listed = set(rows("R"))
    cited = [(file, number) for file, text in texts() for number in numbers(text)]
    assert cited
    assert [(file, number) for file, number in cited if number not in listed] == []


def test_every_conflict_that_is_cited_has_a_row() -> None:
    """With what it was between and what holds."""
    listed = set(rows("K"))
    cited = [(file, int(number)) for file, text in texts() for number in CITED_CONFLICT.findall(text)]
    assert cited
    assert [(file, number) for file, number in cited if number not in listed] == []


def test_no_number_has_two_rows() -> None:
    """Or two readers would believe two things."""
    for letter in "RK":
        assert len(rows(letter)) == len(set(rows(letter)))
