"""The documentation, kept true: links lead somewhere, named files exist, tables match the code and the tests."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from router.observe.metrics import Metrics
from router.parts import NEEDS_RESTART

ROOT = Path(__file__).parents[1]
ATTACKS = 83
SHARED_PAGES = {"hpack": "h2", "hyperframe": "h2", "types-pyyaml": "mypy", "types-grpcio": "mypy"}
"""Dependencies whose reason stands on another one's page."""

LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:tests|identity|authz|registry|router|bosh_like_config|docs)/[\w./-]*)`")
ROW = re.compile(r"^\| (\d+) \| .+ \| (?:`(tests/attacks/test_\w+\.py)`|not yet: [^|]+) \|$", re.MULTILINE)
CLAIM = re.compile(r"\bAttacks? (\d[\d, and]*(?: to \d+)?)")


def pages() -> list[Path]:
    return sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def anchors(page: Path) -> set[str]:
    """What a link may name behind `#`: the headings, as they are written on the web."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@cache
def table() -> dict[int, str | None]:
    """Attack number -> the test file that docs/security.md names; None: not yet."""
    rows = ROW.findall((ROOT / "docs/security.md").read_text())
    found = {int(number): file or None for number, file in rows}
    assert len(rows) == len(found), "docs/security.md names an attack twice"
    return found


@cache
def claims() -> dict[str, set[int]]:
    """Test file -> the numbers of the attacks that its docstrings name."""
    files = sorted((ROOT / "tests/attacks").glob("test_*.py"))
    return {
        str(file.relative_to(ROOT)): {n for found in CLAIM.findall(file.read_text()) for n in numbers(found)} for file in files
    }


def numbers(text: str) -> set[int]:
    """`1, 2, 4 to 8`, `9 and 10` -> the numbers meant."""
    first, _, last = text.partition(" to ")
    named = [int(one) for one in re.findall(r"\d+", first)]
    return {*named, *(range(named[-1], int(last) + 1) if last else ())}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """A page or a heading that is linked is there."""
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    """What stands in backquotes and looks like a file of the project is one."""
    assert [name for name in NAMED_FILE.findall(page.read_text()) if not (ROOT / name).exists()] == []


def test_every_page_is_reached_from_the_index() -> None:
    """Nothing is written that nobody finds."""
    index = ROOT / "docs/index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    assert [str(page.relative_to(ROOT)) for page in pages() if page != index and page not in linked] == []


def test_every_attack_has_a_row() -> None:
    """The table is whole: 1 to 83, with a test or with what it waits for."""
    assert sorted(table()) == list(range(1, ATTACKS + 1))


def test_every_attack_test_is_listed() -> None:
    """No test file under tests/attacks is missing from the table."""
    assert set(claims()) - {file for file in table().values() if file} == set()


def test_the_test_that_an_attack_names_says_that_it_tries_it() -> None:
    """The number stands in a docstring of the file."""
    wrong = {number: file for number, file in table().items() if file and number not in claims().get(file, set())}
    assert wrong == {}


def test_no_attack_is_said_to_wait_that_is_tried() -> None:
    """`not yet` goes when the test comes."""
    tried = {number for found in claims().values() for number in found}
    assert {number for number, file in table().items() if file is None} & tried == set()


def test_the_decisions_are_numbered_and_each_names_its_guards() -> None:
    """Fourteen decisions, each with at least one test."""
    text = (ROOT / "docs/architecture.md").read_text().partition("\n## Decisions\n")[2].partition("\n## ")[0]
    decisions = re.split(r"^(\d+)\. ", text, flags=re.MULTILINE)
    assert [int(number) for number in decisions[1::2]] == list(range(1, 15))
    assert [number for number, said in zip(decisions[1::2], decisions[2::2], strict=True) if "`tests/" not in said] == []


def test_every_key_that_needs_a_restart_is_named_in_the_operations_page() -> None:
    """The list in docs/operations.md is the router's."""
    said = re.search(r"logs `config-needs-restart` with their names:\n(.*)\n", (ROOT / "docs/operations.md").read_text())
    assert said
    named = set(re.findall(r"`(\w+)`", said[1])) - {"level", "names_file"}
    assert named == set(NEEDS_RESTART)


def section(heading: str) -> str:
    """One section of the operations page."""
    return (ROOT / "docs/operations.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """What stands in backquotes in the first column of a table."""
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w[\w-]*)", row)]


def test_every_log_message_that_the_operations_page_explains_is_one() -> None:
    """Whoever searches the log for a message of the page finds it."""
    source = "\n".join(path.read_text() for package in ("registry", "router") for path in (ROOT / package).rglob("*.py"))
    named = first_cells(section("Logs"))
    assert len(named) > 20
    assert [name for name in named if f'"{name}"' not in source] == []


def test_every_metric_that_the_operations_page_recommends_is_one() -> None:
    """Whoever writes an alert from the page watches something."""
    named = first_cells(section("Metrics"))
    assert len(named) > 5
    assert set(named) - {family.name for family in Metrics().families} == set()


def test_every_dependency_has_a_page_that_says_why_it_is_there() -> None:
    """One page a dependency, numbered without a gap, and none that has outlived its dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[^\w-]", one)[0] for one in wanted}
    files = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert {file.stem.partition("-")[2] for file in files} == {SHARED_PAGES.get(name, name) for name in names}
    assert [int(file.stem.partition("-")[0]) for file in files] == list(range(1, len(files) + 1))
