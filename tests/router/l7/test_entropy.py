"""router/l7/entropy.py: random portions, each handed out once."""

from router.l7.entropy import PORTIONS, Entropy


def test_every_portion_has_its_size_and_is_handed_out_once() -> None:
    """Also over the border from one drawing to the next."""
    one = Entropy(16)
    portions = [one.take() for _ in range(2 * PORTIONS + 1)]
    assert {len(portion) for portion in portions} == {16}
    assert len(set(portions)) == len(portions)


def test_two_sources_do_not_repeat_each_other() -> None:
    """Each draws for itself."""
    one, other = Entropy(16), Entropy(16)
    assert {one.take() for _ in range(50)}.isdisjoint({other.take() for _ in range(50)})
