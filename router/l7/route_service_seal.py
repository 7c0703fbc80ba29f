"""The envelope around what a route service carries from one router to the next, or back to the same one.

Promises: what was sealed comes back whole or not at all; a service can neither read nor change it. Key, cipher and encodings are
GoRouter's, so that routers of both kinds that share a secret open each other's. Refuses to know: what is sealed and how old it
is; randomness and clocks are given.
Source: GoRouter's route services: AES-128-GCM without associated data under a key from PBKDF2 (HMAC-SHA256, 100,001 rounds, no
salt); the signature is the sealed text in base64url (RFC 4648 section 5, padded), the metadata `{"nonce": base64}` likewise.
"""

import binascii
import hashlib
import json
import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 16
_ROUNDS: Final = 100_001
_MAX_METADATA: Final = 1024  # bytes; a nonce takes 40
_URLSAFE: Final = re.compile(rb"[A-Za-z0-9_-]+={0,2}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9+/]{16}", re.ASCII)


class Envelope(NamedTuple):
    """The two header values that go together."""

    signature: bytes
    metadata: bytes


class Seal:
    """The keys of one configuration: seals with the first, opens with each."""

    __slots__ = ("_ciphers",)

    def __init__(self, secret: str, older: str = "") -> None:
        """Takes a tenth of a second. `older`: a secret that opens and no longer seals, or the next one, in a rotation."""
        self._ciphers = tuple(AESGCM(_derived(text)) for text in (secret, older) if text)

    def close(self, text: bytes, nonce: bytes) -> Envelope:
        """`nonce`: NONCE_BYTES fresh random bytes, never used before."""
        sealed = self._ciphers[0].encrypt(nonce, text, None)
        metadata = b'{"nonce":"%b"}' % b64encode(nonce)
        return Envelope(urlsafe_b64encode(sealed), urlsafe_b64encode(metadata))

    def open(self, envelope: Envelope) -> bytes | None:
        """What was sealed; None for what is broken, changed or sealed with another key. Never raises."""
        nonce, sealed = _nonce(envelope.metadata), _decoded(envelope.signature)
        if nonce is None or sealed is None:
            return None
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(nonce, sealed, None)
            except InvalidTag:
                continue
        return None


def _derived(secret: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", secret.encode("utf-8", "surrogateescape"), b"", _ROUNDS, _KEY_BYTES)


def _nonce(metadata: bytes) -> bytes | None:
    text = _decoded(metadata) if len(metadata) <= _MAX_METADATA else None
    if text is None:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    nonce = said.get("nonce") if isinstance(said, dict) else None
    return b64decode(nonce) if isinstance(nonce, str) and _PLAIN.fullmatch(nonce) else None


def _decoded(value: bytes) -> bytes | None:
    """Strict base64url: the alphabet, whole groups, padded."""
    if len(value) % 4 or _URLSAFE.fullmatch(value) is None:
        return None
    try:
        return urlsafe_b64decode(value)
    except binascii.Error:
        return None
