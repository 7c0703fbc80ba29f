"""NKeys and JWTs of the other side: what `nsc` would make, so that a real nats-server can check ours."""

import base64
import binascii
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
_SEED = 18 << 3


class KeyPair:
    """A key of one kind; `seed` and `public` are the text forms."""

    def __init__(self, kind: int) -> None:
        self._key = Ed25519PrivateKey.generate()
        raw = self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        self.seed = _text(bytes([_SEED | kind >> 5, (kind & 31) << 3]) + raw)
        self.public = _text(bytes([kind]) + self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def issue(self, subject: str, kind: str, **claims: Any) -> str:
        """A JWT about `subject`, signed by this key."""
        payload = {
            "jti": "test",
            "iat": 1,
            "iss": self.public,
            "name": kind,
            "sub": subject,
            "nats": {"type": kind, "version": 2, **claims},
        }
        body = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(payload)}"
        return f"{body}.{_base64(self._key.sign(body.encode()))}"


def credentials_file(jwt: str, seed: str) -> str:
    """The decorated text that `nsc` writes."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def operator_mode() -> tuple[str, str]:
    """(nats-server configuration that trusts one operator, credentials of a user of its only account)."""
    operator, account, user = KeyPair(OPERATOR), KeyPair(ACCOUNT), KeyPair(USER)
    unlimited = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    account_jwt = operator.issue(account.public, "account", limits={**unlimited, "wildcards": True})
    user_jwt = account.issue(user.public, "user", subs=-1, data=-1, payload=-1)
    config = (
        f"operator: {operator.issue(operator.public, 'operator')}\n"
        f"resolver: MEMORY\nresolver_preload: {{ {account.public}: {account_jwt} }}\n"
    )
    return config, credentials_file(user_jwt, user.seed)


def _text(body: bytes) -> str:
    checked = body + binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _part(value: object) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())
