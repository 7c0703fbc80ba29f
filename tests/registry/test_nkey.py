"""NKeys: seeds and credentials files."""

import base64
import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from registry.nkey import parse_credentials, parse_seed
from tests.support.nkeys import ACCOUNT, USER, KeyPair, credentials_file, operator_mode

SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
"""The example of NATS's own documentation, with its public key."""
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_documented_seed_gives_its_documented_public_key() -> None:
    """The text form is NATS's own."""
    assert parse_seed(SEED).public == PUBLIC


def test_a_signature_verifies_with_the_public_key() -> None:
    """What CONNECT carries is the nonce signed by the key behind `public`."""
    key = parse_seed(SEED)
    raw = base64.b32decode(PUBLIC + "=" * (-len(PUBLIC) % 8))[1:-2]
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(key.sign("nonce")), b"nonce")


def test_blanks_around_a_seed_are_tolerated() -> None:
    """Files end with a line feed."""
    assert parse_seed(f"  {SEED}\n").public == PUBLIC


@pytest.mark.parametrize(
    ("seed", "problem"),
    [
        ("", "has 0"),
        (SEED[:-1], "has 57"),
        (SEED[:-1] + "1", "characters A to Z"),
        (SEED[:10] + ("A" if SEED[10] != "A" else "B") + SEED[11:], "checksum"),
    ],
)
def test_a_bad_seed_is_refused_with_the_reason(seed: str, problem: str) -> None:
    """The reason is named, the seed is not quoted."""
    with pytest.raises(ValueError, match=problem) as refused:
        parse_seed(seed)
    assert seed[2:] == "" or seed[2:] not in str(refused.value)


def test_the_seed_of_another_kind_is_refused() -> None:
    """An account's seed signs accounts, not connections."""
    with pytest.raises(ValueError, match="starts with SU"):
        parse_seed(KeyPair(ACCOUNT).seed)


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Every text is a key or a ValueError."""
    for parse in (parse_seed, parse_credentials):
        with contextlib.suppress(ValueError):
            parse(text)


def test_a_credentials_file_holds_a_jwt_and_a_seed() -> None:
    """The decorated form that NATS's tools write."""
    user = KeyPair(USER)
    read = parse_credentials(credentials_file("head.body.signature", user.seed))
    assert ("head.body.signature", user.public) == (read.jwt, read.key.public)


@pytest.mark.parametrize(("cut", "missing"), [("NATS USER JWT", "NATS USER JWT"), ("USER NKEY SEED", "NKEY SEED")])
def test_a_credentials_file_without_a_block_is_refused(cut: str, missing: str) -> None:
    """The missing block is named."""
    _, text = operator_mode()
    with pytest.raises(ValueError, match=missing):
        parse_credentials(text.replace(cut, "OTHER"))


def test_no_key_shows_in_a_representation() -> None:
    """Secrets do not reach logs by way of `repr`."""
    _, text = operator_mode()
    credentials = parse_credentials(text)
    shown = repr(credentials) + repr(credentials.key)
    assert (credentials.jwt in shown, credentials.key.public in shown) == (False, False)
