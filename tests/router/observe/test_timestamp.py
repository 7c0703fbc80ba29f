"""router/observe/timestamp.py: epoch seconds as GoRouter's logs show them."""

import pytest

from router.observe.timestamp import Timestamps


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000000Z"),
        (946_684_800.5, "2000-01-01T00:00:00.500000000Z"),
        (1_700_000_000.25, "2023-11-14T22:13:20.250000000Z"),
    ],
)
def test_a_time_has_nine_digits_and_a_z(epoch: float, text: str) -> None:
    """Whatever the fraction, the shape is GoRouter's."""
    assert text == Timestamps().rfc3339(epoch)


def test_the_kept_second_never_shows_for_another() -> None:
    """The date part is reused only within its own second, also when time steps back."""
    timestamps = Timestamps()
    expected = [
        "1970-01-01T00:00:01.500000000Z",
        "1970-01-01T00:00:02.000000000Z",
        "1970-01-01T00:00:01.000000000Z",
    ]
    assert expected == [timestamps.rfc3339(epoch) for epoch in (1.5, 2.0, 1.0)]
