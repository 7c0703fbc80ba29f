"""The promise: the tour in README.md works as written (how it is walked: tests/support/tour.py)."""

from pathlib import Path

from tests.support.tour import RUNS_ON_THIS_MACHINE, Step, assert_shows, steps_of, with_free_ports

ROOT = Path(__file__).parents[2]
TOUR = "## A tour in five minutes"
PORTS = ("4222", "8080", "8081", "8082", "8443", "9000")


def tour() -> list[Step]:
    """The steps of the tour, in order."""
    return steps_of((ROOT / "README.md").read_text().partition(TOUR)[2].partition("\n## ")[0])


def test_the_tour_tries_what_it_promises() -> None:
    """Part 13: an allow with the caller's name, a 403 with its reason, and a 421 are all in it."""
    seen = "\n".join(step.expected for step in tour())
    wanted = ("200 OK", "X-Forwarded-Client-Cert: ", "403 Forbidden", '"trail":', "421 Misdirected Request")
    assert [one for one in wanted if one not in seen] == []


@RUNS_ON_THIS_MACHINE
def test_every_command_of_the_tour_shows_what_the_readme_says(tmp_path: Path) -> None:
    """Part 13: a stranger follows the README to an allow, a 403 with its reason and a 421."""
    assert_shows(with_free_ports(tour(), PORTS), tmp_path)
