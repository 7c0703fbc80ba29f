"""NKeys: the Ed25519 seeds and credentials files by which a client proves itself to NATS.

Promises: a seed that is not a user's, or whose checksum is wrong, is a ValueError that never quotes it; no
`repr` shows a key. Refuses to know: connections, files.

Source: the nkeys text form (base32 without padding of prefix, key and CRC-16/XMODEM, little endian) and the
decorated credentials file of NATS.
"""

import base64
import binascii
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_SEED, _USER = 18 << 3, 20 << 3
_SEED_CHARACTERS = 58
_JWT = re.compile(r"-----BEGIN NATS USER JWT-----\s+([A-Za-z0-9_.=-]{1,65536})\s", re.ASCII)
_NKEY = re.compile(r"-----BEGIN USER NKEY SEED-----\s+([A-Z2-7]{1,256})\s", re.ASCII)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class NKey:
    """A user's key pair. `public` is its name: U and 55 more characters."""

    public: str
    _private: Ed25519PrivateKey

    def sign(self, nonce: str) -> bytes:
        """The server's nonce, signed, in base64: what CONNECT carries as `sig`."""
        return base64.b64encode(self._private.sign(nonce.encode()))


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class UserCredentials:
    """What a credentials file holds: the account's statement about the user, and the user's key."""

    jwt: str
    key: NKey


def parse_seed(text: str) -> NKey:
    """Read a user's seed (SU and 56 more characters). ValueError says what is wrong, without the seed."""
    seed = text.strip()
    if len(seed) != _SEED_CHARACTERS:
        raise ValueError(f"an NKey seed has {_SEED_CHARACTERS} characters, this one has {len(seed)}")
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except binascii.Error:
        raise ValueError("an NKey seed consists of the characters A to Z and 2 to 7") from None
    body, checksum = raw[:-2], int.from_bytes(raw[-2:], "little")
    if binascii.crc_hqx(body, 0) != checksum:
        raise ValueError("the NKey seed's checksum is wrong: it was mistyped or cut")
    if body[0] & 0xF8 != _SEED or (body[0] & 7) << 5 | body[1] >> 3 != _USER:
        raise ValueError("expected the seed of a user, which starts with SU")
    private = Ed25519PrivateKey.from_private_bytes(body[2:])
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return NKey(_text(bytes([_USER]) + public), private)


def parse_credentials(text: str) -> UserCredentials:
    """Read a credentials file's text. ValueError says what is wrong, without quoting it."""
    jwt, seed = _JWT.search(text), _NKEY.search(text)
    if jwt is None or seed is None:
        missing = "NATS USER JWT" if jwt is None else "USER NKEY SEED"
        raise ValueError(f"a credentials file has a block -----BEGIN {missing}-----; found none")
    return UserCredentials(jwt[1], parse_seed(seed[1]))


def _text(body: bytes) -> str:
    checked = body + binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")
