"""Problems and warnings of one file, with their places, and no more than somebody can read."""

from registry.findings import MAX_FINDINGS, Findings
from registry.problems import Problem
from registry.source import read_documents


def findings(text: str) -> Findings:
    return Findings("file.yml", read_documents(text.encode())[0])


def test_a_finding_knows_file_line_and_path() -> None:
    found = findings("a:\n- b: 1\n")
    found.wrong(("a", 0, "b"), 1, "a text", "quote it")
    found.absent(("a", 0, "c"), "this key", "add it")
    found.unwise(("a",), "is short", "make it longer")
    assert found.problems == [
        Problem("file.yml", 2, "a[0].b", "1", "a text", "quote it"),
        Problem("file.yml", 2, "a[0].c", "", "this key", "add it"),
    ]
    assert found.warnings == [Problem("file.yml", 1, "a", "", "is short", "make it longer")]


def test_the_flaws_of_the_yaml_are_problems_too() -> None:
    found = findings("a: 1\na: 2\n")
    assert found.flaws()
    assert [(problem.line, problem.path, problem.expected) for problem in found.problems] == [(2, "a", "each key once")]
    assert not findings("a: 1\n").flaws()


def test_the_last_finding_that_is_kept_says_that_there_are_more() -> None:
    """A file with a million mistakes makes no million problems."""
    found = findings("a: 1\n")
    for number in range(MAX_FINDINGS + 5):
        assert found.full == (number >= MAX_FINDINGS)
        found.wrong(("a",), number, "less", "less")
    assert len(found.problems) == MAX_FINDINGS
    assert found.problems[-2].value == str(MAX_FINDINGS - 2)
    assert found.problems[-1].remedy == f"mend these {MAX_FINDINGS - 1} first: there are more"
