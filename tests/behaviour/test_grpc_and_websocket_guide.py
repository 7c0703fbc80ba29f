"""The promise: a stranger can follow docs/grpc-and-websockets.md to a gRPC service and a WebSocket behind an mTLS domain, to
calls that pass and calls that are denied, exactly as typed (how it is walked: tests/support/tour.py).
"""

from pathlib import Path

from tests.support.tour import RUNS_ON_THIS_MACHINE, Step, assert_shows, steps_of, with_free_ports

PAGE = Path(__file__).parents[2] / "docs/grpc-and-websockets.md"
PORTS = ("4222", "8080", "8081", "8082", "8443", "9000", "9001")


def guide() -> list[Step]:
    """Its steps, in order."""
    return steps_of(PAGE.read_text())


def test_the_guide_shows_what_it_promises() -> None:
    """In this order: a reply, a stream, a service's own error, a denied call, why, its line of the log; then a WebSocket."""
    shown = "\n".join(step.expected for step in guide())
    wanted = (
        "hello, world", "tick 2", "INVALID_ARGUMENT", "PERMISSION_DENIED", "DENIED with 403", 'HTTP/2.0" 403',
        "101 Switching Protocols", "anybody here?", "403 Forbidden", 'HTTP/1.1" 101',
    )  # fmt: skip
    places = [shown.find(text) for text in wanted]
    assert -1 not in places
    assert places == sorted(places)


@RUNS_ON_THIS_MACHINE
def test_every_command_of_the_guide_shows_what_it_says(tmp_path: Path) -> None:
    """Done when: a stranger can follow the guide from the first line to the last."""
    assert_shows(with_free_ports(guide(), PORTS), tmp_path)
