"""identity/certificate.py: OUs are read from DER attributes, never from text."""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.caller import Caller, Guid
from identity.certificate import IdentityError, read_caller, read_subject
from tests.identity.leaf import CN, OU, leaf, ous
from tests.support.certs import CA

APP, SPACE, ORG = Guid("app-1"), Guid("space-1"), Guid("org-1")
FULL = Caller(APP, SPACE, ORG)
DIEGO = ["app:app-1", "space:space-1", "organization:org-1"]


def _reason(der: bytes) -> str:
    error = read_caller(der)
    assert isinstance(error, IdentityError)
    assert error.detail.isascii()
    assert error.detail.isprintable()
    return error.reason


def test_one_multi_valued_rdn_gives_the_caller() -> None:
    """R253, R314: Diego writes all three OUs into one RDN."""
    assert read_caller(leaf([(CN, "instance")], [(OU, text) for text in DIEGO])) == FULL


def test_one_rdn_each_gives_the_same_caller() -> None:
    """Attack 24: several OUs in one RDN or in several are both ordinary."""
    assert read_caller(ous(*DIEGO)) == FULL


def test_the_order_of_the_ous_does_not_matter() -> None:
    """Prefixes, not places, tell what an OU is."""
    assert read_caller(ous(*reversed(DIEGO))) == FULL


def test_a_missing_space_and_organization_are_absent() -> None:
    """Identity needs the app GUID only."""
    assert read_caller(ous("app:app-1")) == Caller(APP)


@pytest.mark.parametrize("texts", [[], ["space:s", "organization:o"], ["APP:a"], [" app:a"], ["xapp:a"], ["app"]])
def test_without_an_app_ou_there_is_no_identity(texts: list[str]) -> None:
    """R328; prefixes are case-sensitive and stand at the very beginning."""
    assert _reason(leaf([(CN, "partner")], *([(OU, text)] for text in texts))) == "no_app"


@pytest.mark.parametrize("prefix", ["app", "space", "organization"])
@pytest.mark.parametrize("second", ["other", "same"])
def test_two_values_for_one_prefix_are_ambiguous(prefix: str, second: str) -> None:
    """Attack 24: duplicates give no identity, even when they are equal."""
    others = [text for text in DIEGO if not text.startswith(prefix)]
    der = ous(*others, f"{prefix}:same", f"{prefix}:{second}")
    assert _reason(der) == "ambiguous"


def test_a_duplicate_inside_one_rdn_is_ambiguous() -> None:
    """Attack 24, in one multi-valued RDN."""
    assert _reason(leaf([(OU, "app:a"), (OU, "app:b")])) == "ambiguous"


BROKEN = ["", "a\x00", "\x00a", "a,OU=app:b", "a\nb", "a b", "a+b", 'a"b', "a\\b", "ä", "x" * 60 + "!", " a"]


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("prefix", ["app", "space", "organization"])
def test_an_ou_that_breaks_the_guid_form_spoils_the_identity(prefix: str, value: str) -> None:
    """Attack 24: NUL, comma, newline, quote and the like are parsed exactly, and never cut."""
    others = [text for text in DIEGO if not text.startswith(prefix)]
    assert _reason(ous(*others, f"{prefix}:{value}")) == "bad_guid"


@pytest.mark.parametrize("name", ["x,OU=app:victim", "x\nOU=app:victim", "/OU=app:victim", 'x",OU="app:victim'])
def test_text_of_another_attribute_never_becomes_an_ou(name: str) -> None:
    """Attack 24: no substring match, no split at commas; a CN cannot forge an OU."""
    assert read_caller(leaf([(CN, name)], [(OU, "app:app-1")])) == Caller(APP)
    assert _reason(leaf([(CN, name)])) == "no_app"
    assert _reason(leaf([(CN, "app:victim")], [(NameOID.ORGANIZATION_NAME, "app:victim")])) == "no_app"


def test_an_ou_that_is_not_utf_8_gives_no_identity() -> None:
    """Attack 24: the library raises late for such a string; here it is a value."""
    der = ous("app:app-1", "plain text of it")
    assert _reason(der.replace(b"plain text of it", b"plain\xff\xfetext of it")) == "unreadable"


def test_an_unknown_string_type_gives_no_identity() -> None:
    """A subject attribute with a tag that is no string type does not raise."""
    der = ous("app:app-1")
    at = der.index(b"app:app-1") - 2
    for tag in (0x01, 0x03, 0x05, 0x0A, 0x1F, 0x30, 0x85):
        assert isinstance(read_caller(der[:at] + bytes([tag]) + der[at + 1 :]), IdentityError)


def test_an_over_long_common_name_is_read_in_silence() -> None:
    """The library would warn on stderr of what a peer sent; pytest would make that an error."""
    assert read_caller(leaf([(CN, "y" * 100)], [(OU, "app:app-1")])) == Caller(APP)


def test_a_subject_keeps_every_attribute_in_order() -> None:
    """What the header is rendered from is the certificate's own order."""
    der = leaf([(OU, "b"), (OU, "a")], [(CN, "c")])
    read = read_subject(der)
    assert not isinstance(read, IdentityError)
    assert {text for _, text in read[:2]} == {"a", "b"}
    assert read[2] == (CN.dotted_string, "c")


@given(st.binary(max_size=300))
def test_garbage_is_unreadable_and_never_raises(der: bytes) -> None:
    """Attack 28: no bytes raise."""
    assert _reason(der) == "unreadable"


WHOLE = leaf([(CN, "instance")], [(OU, text) for text in DIEGO])


@settings(max_examples=500)
@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 4),
)
def test_a_mutated_certificate_never_raises(changes: list[tuple[int, int]], cut: int) -> None:
    """Attack 28: mutations of a good certificate give a caller or an error, as values."""
    bytes_ = bytearray(WHOLE)
    for at, value in changes:
        bytes_[at] = value
    assert isinstance(read_caller(bytes(bytes_[: len(bytes_) - cut])), Caller | IdentityError)


def test_every_single_byte_of_the_subject_may_change() -> None:
    """Attack 28: each byte around the subject set to each value, without an exception."""
    start, end = WHOLE.index(b"instance") - 20, WHOLE.index(b"organization") + 20
    for at in range(start, end):
        for value in range(0, 256, 3):
            changed = WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :]
            assert isinstance(read_caller(changed), Caller | IdentityError)


def test_more_than_one_uri_name_gives_no_identity() -> None:
    """Attack 23: URIs that contradict each other make the OUs unbelievable too; a single one changes nothing."""
    ca = CA("identity test")
    uris = [x509.UniformResourceIdentifier(f"spiffe://{name}/a") for name in ("east", "west")]
    assert Caller(Guid("app-1"), Guid("s"), Guid("o")) == read_caller(ca.issue_instance("app-1", "s", "o", san=uris[:1]).der)
    assert _reason(ca.issue_instance("app-1", "s", "o", san=uris).der) == "ambiguous"
