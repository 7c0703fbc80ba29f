"""The envelope of route services: GoRouter's to the byte, opened by nobody else, broken by every change."""

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from router.l7.route_service_seal import NONCE_BYTES, Envelope, Seal

NONCE = bytes(range(NONCE_BYTES))
SEAL = Seal("tulips")
OTHER = Seal("roses")


def gorouters(secret: str, text: bytes, nonce: bytes = NONCE) -> Envelope:
    """The same envelope, made by its description alone."""
    key = hashlib.pbkdf2_hmac("sha256", secret.encode(), b"", 100001, 16)
    sealed = AESGCM(key).encrypt(nonce, text, b"")
    metadata = json.dumps({"nonce": base64.b64encode(nonce).decode()}).encode()
    return Envelope(base64.urlsafe_b64encode(sealed), base64.urlsafe_b64encode(metadata))


def test_it_opens_what_gorouter_seals_and_the_other_way_round() -> None:
    """Contract d: AES-GCM under a PBKDF2 key of 16 bytes, base64url, the nonce in the metadata."""
    assert SEAL.open(gorouters("tulips", b"text")) == b"text"
    ours = SEAL.close(b"text", NONCE)
    assert ours.signature == gorouters("tulips", b"text").signature
    assert json.loads(base64.urlsafe_b64decode(ours.metadata)) == {"nonce": base64.b64encode(NONCE).decode()}


@given(st.binary(max_size=4096), st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
def test_what_is_sealed_comes_back_whole(text: bytes, nonce: bytes) -> None:
    envelope = SEAL.close(text, nonce)
    assert SEAL.open(envelope) == text
    assert OTHER.open(envelope) is None
    assert text == b"" or len(text) < 4 or text not in envelope.signature


def test_a_secret_is_rotated_without_a_gap() -> None:
    """`route_services_secret_decrypt_only`: both open, the first seals."""
    old, both, new = Seal("roses"), Seal("tulips", "roses"), Seal("tulips")
    assert both.open(old.close(b"text", NONCE)) == b"text"
    assert both.open(new.close(b"text", NONCE)) == b"text"
    assert new.open(both.close(b"text", NONCE)) == b"text"
    assert old.open(both.close(b"text", NONCE)) is None


@given(st.data())
def test_no_change_of_a_single_byte_opens(data: st.DataObject) -> None:
    """Every byte counts: a changed one opens nothing, but where it spells the same nonce."""
    envelope = SEAL.close(b'{"forwarded_url":"https://a.example/"}', NONCE)
    for index, value in enumerate(envelope):
        at = data.draw(st.integers(0, len(value) - 1))
        byte = value[at] ^ data.draw(st.integers(1, 255))
        changed = envelope._replace(**{Envelope._fields[index]: value[:at] + bytes([byte]) + value[at + 1 :]})
        opened = SEAL.open(changed)
        assert opened is None or _same_meaning(changed, envelope)


def _same_meaning(changed: Envelope, envelope: Envelope) -> bool:
    """The bits behind the last whole byte, and the JSON around the nonce, mean nothing."""
    if base64.urlsafe_b64decode(changed.signature) != base64.urlsafe_b64decode(envelope.signature):
        return False
    return bool(json.loads(base64.urlsafe_b64decode(changed.metadata))["nonce"] == base64.b64encode(NONCE).decode())


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_nothing_a_peer_sends_raises(signature: bytes, metadata: bytes) -> None:
    assert SEAL.open(Envelope(signature, metadata)) is None


def _metadata(text: bytes) -> bytes:
    return base64.urlsafe_b64encode(text)


@pytest.mark.parametrize(
    "metadata",
    [
        b"", b"=", b"====", b"e30", b"e30=", b" e30=", b"e30=\n", _metadata(b"null"), _metadata(b"[]"), _metadata(b"{}"),
        _metadata(b'{"nonce":null}'), _metadata(b'{"nonce":"AAAA"}'), _metadata(b'{"nonce":"' + b"A" * 20 + b'"}'),
        _metadata(b'{"nonce":"' + b"\xc3\xa9" * 16 + b'"}'), _metadata(b"[" * 700), _metadata(b'{"nonce":"' + b"A" * 999 + b'"}'),
        _metadata(b'{"nonce":"AAECAwQFBgcICQoL"') , _metadata(b'{"Nonce":"AAECAwQFBgcICQoL"}'),
    ],
)  # fmt: skip
def test_broken_metadata_opens_nothing(metadata: bytes) -> None:
    assert SEAL.open(SEAL.close(b"text", NONCE)._replace(metadata=metadata)) is None


@pytest.mark.parametrize(
    "change", [lambda s: s.rstrip(b"="), lambda s: s + b"=", lambda s: s[:-4], lambda s: s + b"AAAA", lambda s: b""]
)
def test_a_cut_or_longer_signature_opens_nothing(change: object) -> None:
    envelope = SEAL.close(b"textual", NONCE)
    assert callable(change)
    assert SEAL.open(envelope._replace(signature=change(envelope.signature))) is None
