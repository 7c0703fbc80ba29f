"""Certificates, keys and revocation lists of the configuration.

Promises: a PEM value is the text itself (it starts with `-----BEGIN`), a path relative to the configuration
file, or `{file: PATH}` / `{env: NAME}`; what is returned has been parsed, so no later step meets a broken
one. No error names any of its content. Refuses to know what a certificate is for, and to read a key that is
encrypted.

Source: RFC 7468 for the text, RFC 5280 for what it holds.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from pydantic import BeforeValidator, SecretStr, ValidationInfo

from router.config.scalars import LoadContext, mistake, read_file, resolve_reference

_BEGIN = "-----BEGIN "
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,64})-----.*?-----END \1-----", re.ASCII | re.DOTALL)


def _read(value: object, info: ValidationInfo, *, secret: bool) -> object:
    text = resolve_reference(value, info)
    if not isinstance(text, str) or text == "" or text.lstrip().startswith(_BEGIN):
        return text
    context = info.context
    if not isinstance(context, LoadContext) or "\n" in text or len(text) > 4096:
        raise mistake("a PEM text or the path of a PEM file", "PEM starts with -----BEGIN")
    found = read_file(text, context, secret=secret)
    if _BEGIN not in found:
        raise mistake("a file that holds PEM", "the file has no -----BEGIN line")
    return found


def parse_certificates(pem: str) -> list[x509.Certificate]:
    """Every certificate of a PEM text, in order. Raises ValueError when one does not parse."""
    blocks = [m[0] for m in _BLOCK.finditer(pem) if m[1] in ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd but loadable encodings (serial 0, for one) are not this parser's matter
        try:
            return [x509.load_pem_x509_certificate(block.encode()) for block in blocks]
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("a certificate does not parse") from None


def parse_crls(pem: str) -> list[x509.CertificateRevocationList]:
    """Every revocation list of a PEM text. Raises ValueError when one does not parse."""
    blocks = [m[0] for m in _BLOCK.finditer(pem) if m[1] == "X509 CRL"]
    try:
        return [x509.load_pem_x509_crl(block.encode()) for block in blocks]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("a revocation list does not parse") from None


def _parsed(
    what: str, parse: Callable[[str], Sequence[object]], *, required: bool = False
) -> Callable[[object, ValidationInfo], object]:
    """A reader of PEM texts that hold at least one of `what`, every one of which parses."""

    def check(value: object, info: ValidationInfo) -> object:
        text = _read(value, info, secret=False)
        if required and text == "":
            raise mistake((f"PEM with at least one {what}"), "an empty value would admit nobody; give the text or a path")
        if not isinstance(text, str) or text == "":
            return text
        try:
            found = parse(text)
        except ValueError as error:
            raise mistake(f"PEM in which every {what} parses", str(error)) from None
        if not found:
            raise mistake(f"PEM with at least one {what}", f"there is none in this text; add the {what}")
        return text

    return check


def _read_key(value: object, info: ValidationInfo) -> object:
    text = _read(value, info, secret=True)
    if isinstance(text, str) and text != "":
        load_key(text)
    return text


def load_key(pem: str) -> bytes:
    """The public half (SubjectPublicKeyInfo, DER) of a private key in PEM. Raises a `mistake`."""
    blocks = [m for m in _BLOCK.finditer(pem) if m[1].endswith("PRIVATE KEY")]
    try:
        key = load_pem_private_key(blocks[0][0].encode(), password=None)
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm):
        raise mistake(("an unencrypted private key in PEM"), "PKCS#8, PKCS#1 or SEC1; remove the passphrase") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_pair(chain: str, key: SecretStr) -> None:
    """The key is that of the chain's first certificate. Raises a `mistake`. Attack 83."""
    leaf = parse_certificates(chain)[0]
    try:
        public = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        raise mistake(("a certificate whose key is RSA, ECDSA or Ed25519"), "issue the certificate anew") from None
    if public != load_key(key.get_secret_value()):
        raise mistake(("the private key of the first certificate"), "give the matching key, or put the leaf first")


def san_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and addresses a certificate is for, lower case; empty where it has no such extension."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    names = [name.lower() for name in extension.get_values_for_type(x509.DNSName)]
    return (*names, *(str(address) for address in extension.get_values_for_type(x509.IPAddress)))


def _read_secret(value: object, info: ValidationInfo) -> object:
    return _read(value, info, secret=True)


Certificates: TypeAlias = Annotated[str, BeforeValidator(_parsed("certificate", parse_certificates))]
RequiredCertificates: TypeAlias = Annotated[str, BeforeValidator(_parsed("certificate", parse_certificates, required=True))]
Revocations: TypeAlias = Annotated[str, BeforeValidator(_parsed("X509 CRL", parse_crls, required=True))]
PrivateKey: TypeAlias = Annotated[SecretStr, BeforeValidator(_read_key)]
Credentials: TypeAlias = Annotated[SecretStr, BeforeValidator(_read_secret)]
