"""The promise: a stranger can follow docs/developers.md from a manifest to a denied call, its explanation, the changed manifest,
a passing policy test and an allowed call, exactly as typed (how it is walked: tests/support/tour.py).
"""

from pathlib import Path

from tests.support.tour import RUNS_ON_THIS_MACHINE, Step, assert_shows, steps_of, with_free_ports

PAGE = Path(__file__).parents[2] / "docs/developers.md"
PORTS = ("4222", "8080", "8081", "8082", "8443", "9000")


def guide() -> list[Step]:
    """Its steps, in order."""
    return steps_of(PAGE.read_text())


def test_the_guide_shows_what_it_promises() -> None:
    """In this order: a denied call, why, a test that fails and then passes, and an allowed call."""
    shown = "\n".join(f"{step.commands}\n{step.expected}" for step in guide())
    places = [shown.find(text) for text in ("403 Forbidden", "DENIED with 403", "FAIL ", "opened", "ok      reports may read")]
    assert -1 not in places
    assert places == sorted(places)
    assert shown.rfind("200 OK") > places[-1]


@RUNS_ON_THIS_MACHINE
def test_every_command_of_the_guide_shows_what_it_says(tmp_path: Path) -> None:
    """Done when: a stranger can follow the guide from the first line to the last."""
    assert_shows(with_free_ports(guide(), PORTS), tmp_path)
