"""router/observe/access_record.py: the record an exchange fills."""

import pytest

from router.observe.access_record import AccessRecord


def test_a_misspelt_field_is_an_error() -> None:
    """A fact cannot be lost by a typing slip."""
    record = AccessRecord(0.0)
    with pytest.raises(AttributeError):
        record.statuss = 200  # type: ignore[attr-defined]


def test_a_new_record_has_every_field_of_its_kind() -> None:
    """Whoever renders needs no check for absent attributes."""
    record = AccessRecord(1.5)
    assert record.started_at == 1.5
    assert all(hasattr(record, name) for name in AccessRecord.__slots__)
