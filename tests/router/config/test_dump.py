"""YAML that is read back as it was meant."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from registry.source import read_source
from router.config.dump import dump

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.text(max_size=30))
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff", exclude_categories=("Cs", "Cc")), max_size=12)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4).map(tuple), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_dumped_is_read_back_as_it_was(value: object) -> None:
    """Whatever a text looks like, it stays a text."""
    source = read_source(dump({"k": value}).encode())
    assert source.flaws == []
    assert source.tree == {"k": value}
    assert kinds(source.tree) == kinds({"k": value})


def kinds(value: object) -> object:
    """The shape of a value: True is not 1."""
    if isinstance(value, Mapping):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [kinds(item) for item in value]
    return int if isinstance(value, int) and not isinstance(value, bool) else type(value)


def test_numbers_keep_their_spelling_and_pem_is_a_block() -> None:
    """What a person wrote can be compared with what was rendered."""
    source = read_source(b"a: 0.50\nb: -0\nc: +7")
    assert dump(source.tree) == "a: 0.50\nb: -0\nc: +7\n"
    assert dump({"pem": "-----BEGIN X-----\nAA\n-----END X-----\n"}) == "pem: |\n  -----BEGIN X-----\n  AA\n  -----END X-----\n"
