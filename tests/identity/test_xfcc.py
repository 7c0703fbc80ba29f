"""identity/xfcc.py: one printable line that goes back to the same subject."""

import base64
import hashlib

import pytest
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from identity.xfcc import EnvoyElement, Malformed, parse_envoy, render_element, render_envoy, render_raw
from tests.identity.leaf import CN, OU, leaf

GUIDS = [f"{n}f8f1b0e-0f3c-4b57-9a6e-0d0f5b2f7c11" for n in range(4)]
HASH = "ab" * 32
TYPES = ("CN", "OU", "O", "L", "ST", "C")

subjects = st.lists(st.tuples(st.sampled_from(TYPES), st.text()), max_size=6)
nasty = st.lists(
    st.tuples(st.sampled_from(TYPES), st.text(alphabet=' ,;"\\=+<>#\r\n\x00aA0é\u2028', max_size=8)),
    max_size=4,
)


def test_raw_is_the_base64_of_the_der_on_one_line() -> None:
    """R313: the PEM body without its lines."""
    der = leaf([(CN, "instance")])
    value = render_raw(der)
    assert base64.b64decode(value, validate=True) == der
    assert b"\n" not in value


def test_a_plain_cloud_foundry_subject_is_written_as_gorouter_writes_it() -> None:
    """R313: byte for byte, CN first, OUs in certificate order, no blanks."""
    texts = [f"app:{GUIDS[0]}", f"space:{GUIDS[1]}", f"organization:{GUIDS[2]}"]
    der = leaf(
        [(NameOID.COUNTRY_NAME, "US")],
        [(NameOID.STATE_OR_PROVINCE_NAME, "CA")],
        [(NameOID.LOCALITY_NAME, "San Francisco")],
        [(NameOID.ORGANIZATION_NAME, "Cloud Foundry")],
        *([(OU, text)] for text in texts),
        [(CN, GUIDS[3])],
    )
    digest = hashlib.sha256(der).hexdigest()
    subject = f"CN={GUIDS[3]},OU={texts[0]},OU={texts[1]},OU={texts[2]},O=Cloud Foundry,L=San Francisco,ST=CA,C=US"
    assert render_envoy(der).decode() == f'Hash={digest};Subject="{subject}"'


def test_types_that_gorouter_does_not_write_are_left_out() -> None:
    """The six types of GoRouter, and no other."""
    der = leaf([(NameOID.EMAIL_ADDRESS, "a@b")], [(CN, "c")], [(NameOID.DOMAIN_COMPONENT, "d")])
    assert render_envoy(der).endswith(b';Subject="CN=c"')


def test_a_certificate_without_subject_has_an_empty_one() -> None:
    """A partner certificate may name nobody."""
    assert render_envoy(leaf()).endswith(b';Subject=""')


def test_an_unreadable_certificate_still_gives_its_hash() -> None:
    """Nothing raises, and nothing is invented."""
    assert render_envoy(b"no DER") == f'Hash={hashlib.sha256(b"no DER").hexdigest()};Subject=""'.encode()


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a,OU=app:victim", rb"a\\2COU\\3Dapp:victim"),
        ('a";By=x', rb"a\\22\\3BBy\\3Dx"),
        ("a\r\nX-Evil: 1", rb"a\\0D\\0AX-Evil: 1"),
        ("a\\2C", rb"a\\5C2C"),
        ("#a", rb"\\23a"),
        (" a b ", rb"\\20a b\\20"),
        ("é", rb"\\C3\\A9"),
        ("a\x00b\x7f", rb"a\\00b\\7F"),
    ],
)
def test_whatever_has_a_meaning_becomes_a_hex_pair(text: str, escaped: bytes) -> None:
    """Attack 42: `;`, `,`, quote, backslash, `=`, newline lose their meaning."""
    assert render_element(HASH, (("CN", text),)) == b"Hash=" + HASH.encode() + b';Subject="CN=' + escaped + b'"'


@given(st.one_of(subjects, nasty))
def test_any_subject_comes_back_and_cannot_break_out(subject: list[tuple[str, str]]) -> None:
    """Attack 42: one parse back gives the same subject; no key, element, attribute or line is added."""
    value = render_element(HASH, tuple(subject))
    ordered = sorted(subject, key=lambda pair: TYPES.index(pair[0]))
    assert parse_envoy(value) == EnvoyElement(HASH, tuple(ordered))
    assert all(0x20 <= byte < 0x7F for byte in value)
    assert value.count(b'"') == 2
    assert value.count(b";") == 1
    assert value.count(b",") == max(0, len(subject) - 1)
    assert value.count(b"=") == len(subject) + 2


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=64))
def test_a_real_certificate_comes_back_too(name: str) -> None:
    """Attack 24, 42: from DER to the header and back."""
    der = leaf([(CN, name)], [(OU, "app:a")])
    expected = EnvoyElement(hashlib.sha256(der).hexdigest(), (("CN", name), ("OU", "app:a")))
    assert parse_envoy(render_envoy(der)) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not_an_element"),
        (b"x" * 65537, "too_large"),
        (b'Hash=zz;Subject=""', "not_an_element"),
        (b'Hash=%s;Subject="CN=a";By=b' % HASH.encode(), "not_an_element"),
        (b'Hash=%s;Subject="CN=a"\n' % HASH.encode(), "not_an_element"),
        (b'Hash=%s;Subject="CN=a,Hash=%s;Subject="CN=b"' % (HASH.encode(), HASH.encode()), "not_an_element"),
        (b'Hash=%s;Subject="XX=a"' % HASH.encode(), "bad_subject"),
        (b'Hash=%s;Subject="CN=a,"' % HASH.encode(), "bad_subject"),
        (b'Hash=%s;Subject="CN=a\\2C"' % HASH.encode(), "bad_subject"),
        (b'Hash=%s;Subject="CN=\\\\FF"' % HASH.encode(), "bad_encoding"),
    ],
)
def test_another_value_is_malformed(value: bytes, reason: str) -> None:
    """Only what the renderer writes is read."""
    assert parse_envoy(value) == Malformed(reason)


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_parsing_never_raises(value: bytes, names: bytes) -> None:
    """Whatever a client puts into the header."""
    for text in (value, b"Hash=" + HASH.encode() + b';Subject="' + names + b'"'):
        assert isinstance(parse_envoy(text), EnvoyElement | Malformed)
