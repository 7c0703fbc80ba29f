"""Tests of registry/maglev.py: the same table everywhere, even, and little moved when an endpoint goes."""

import random
import tracemalloc
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.maglev import MAX_VALUE, SIZE, Maglev, fnv1a_64, slot_of

NAMES = st.sets(st.text(max_size=12), min_size=1, max_size=40)
INSTANCES = st.sets(st.uuids().map(str), min_size=2, max_size=40)


def owners(table: Maglev) -> list[str]:
    return [table.names[number] for number in table.slots]


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", 0xCBF29CE484222325), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)],
)
def test_the_hash_is_fnv_1a_of_64_bits(data: bytes, expected: int) -> None:
    """Contract f.1: the values of its authors' test vectors."""
    assert expected == fnv1a_64(data)


def test_a_table_by_hand() -> None:
    """Contract f.1: 1801 slots; by FNV-1a each name starts at its hash mod 1801 and goes on by its hash mod 1800, plus 1."""
    table = Maglev(["b", "a"])
    assert (table.names, SIZE, len(table.slots)) == (("a", "b"), 1801, 1801)
    first = fnv1a_64(b"a")
    assert table.slots[first % 1801] == 0
    assert table.slots[(first % 1801 + first % 1800 + 1) % 1801] == 0


@given(NAMES, st.randoms())
def test_two_routers_make_the_same_table(names: set[str], draw: random.Random) -> None:
    """Whatever the order in which they heard of the endpoints, and how often."""
    shuffled = [*names, *names]
    draw.shuffle(shuffled)
    assert Maglev(shuffled).slots == Maglev(names).slots


@given(NAMES)
def test_each_has_its_share_to_within_one(names: set[str]) -> None:
    """Each takes one slot in its turn."""
    shares = [owners(Maglev(names)).count(name) for name in names]
    assert sum(shares) == SIZE
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("seed", range(40))
def test_who_goes_takes_few_of_the_others_keys_along(seed: int) -> None:
    """Minimal disruption: beside its own slots, at most one in eight changes its owner. Of ids that are random, as instances'
    are: names made alike can share a walk.
    """
    draw = random.Random(seed)
    names = {str(uuid.UUID(int=draw.getrandbits(128))) for _ in range(draw.randint(2, 40))}
    gone = min(names)
    before, after = owners(Maglev(names)), owners(Maglev(names - {gone}))
    moved = sum(1 for was, now in zip(before, after, strict=True) if was not in (gone, now))
    assert moved <= SIZE / 8


@given(INSTANCES, st.binary(max_size=40))
def test_a_value_asks_for_every_name_and_its_own_first(names: set[str], value: bytes) -> None:
    """So that somebody is found, whoever is not able to serve."""
    table = Maglev(names)
    asked = list(table.from_value(value))
    assert asked[0] == table.names[table.slots[slot_of(value)]]
    assert (len(asked), set(asked)) == (SIZE, names)


def test_values_are_spread() -> None:
    """10,000 users over 8 endpoints: nobody has a quarter more or less than the share."""
    table = Maglev(f"instance-{number}" for number in range(8))
    taken = [next(table.from_value(b"user-%d" % number)) for number in range(10_000)]
    assert all(1250 * 0.75 < taken.count(name) < 1250 * 1.25 for name in table.names)


def test_more_names_than_slots_leave_some_without() -> None:
    """The table stays whole; who chooses knows another way to the rest."""
    table = Maglev(f"{number:05}" for number in range(SIZE + 50))
    assert sorted(table.slots) == list(range(SIZE))


def test_no_names_no_slots() -> None:
    assert list(Maglev(()).from_value(b"x")) == []


def test_a_name_that_is_no_text_is_still_a_name() -> None:
    """A registration's JSON may hold half a surrogate pair."""
    assert set(Maglev(["\ud800", "a"]).from_value(b"x")) == {"\ud800", "a"}


def test_a_long_value_costs_no_more_than_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client chooses its length: it is digested in one go, every byte of it."""
    hashed: list[int] = []

    def seen(data: bytes) -> int:
        hashed.append(len(data))
        return fnv1a_64(data)

    monkeypatch.setattr("registry.maglev.fnv1a_64", seen)
    slots = {slot_of(b"v" * 60_000 + bytes([last])) for last in range(8)}
    assert max(hashed) <= MAX_VALUE
    assert len(slots) > 1


def test_a_table_takes_four_kilobytes() -> None:
    """What a hash route of ten instances costs, names included."""
    tracemalloc.start()
    tables = [Maglev([f"{route}-{number}" for number in range(10)]) for route in range(20)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < len(tables) * 5 * 1024
