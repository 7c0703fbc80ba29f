"""From a verified leaf certificate (DER) to the Caller it names.

Promises: OUs are read as DER attributes of every RDN of the subject (RFC 5280, 4.1.2.6; Diego puts all three
into one RDN), never from text that was joined and split again. Whatever the bytes are, the answer is a value.
Refuses to know: whether the certificate is trusted, in time or revoked: the handshake has answered that.

Only `app:`, `space:` and `organization:`, in this case, count. Two OUs of one prefix are ambiguous even when
equal, and an OU with such a prefix and a value that is no GUID spoils the identity as a whole: nobody is half
identified. A URI SAN never yields an identity; more than one of them contradict each other (SPIFFE X509-SVID 5.2 refuses
such a certificate), and then the OUs are not believed either.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.x509.oid import NameOID

from identity.caller import Caller, Guid, parse_guid, shown

IdentityReason = Literal["unreadable", "no_app", "ambiguous", "bad_guid"]
Subject = tuple[tuple[str, str], ...]  # (dotted OID, text), in the order of the certificate

_OU = NameOID.ORGANIZATIONAL_UNIT_NAME.dotted_string
_PREFIXES = ("app", "space", "organization")


@dataclass(frozen=True, slots=True)
class IdentityError:
    """Why a certificate gives no identity: a short bounded code, and a sentence for log and trail."""

    reason: IdentityReason
    detail: str


def read_subject(der: bytes) -> Subject | IdentityError:
    """Return the subject's text attributes in DER order, or IdentityError("unreadable")."""
    try:
        # The library warns of an over-long CN; no peer may write to our stderr.
        with warnings.catch_warnings(action="ignore"):
            subject = x509.load_der_x509_certificate(der).subject
            return tuple((a.oid.dotted_string, a.value) for a in subject if isinstance(a.value, str))
    # KeyError: unknown string type; TypeError: bit string. Both come late, when the subject is read.
    except (ValueError, TypeError, KeyError, x509.InvalidVersion) as error:
        return IdentityError("unreadable", f"certificate subject cannot be read: {shown(str(error))}")


def _count_uris(der: bytes) -> int | IdentityError:
    """How many URI names the leaf has."""
    try:
        with warnings.catch_warnings(action="ignore"):
            extensions = x509.load_der_x509_certificate(der).extensions
            names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            return len(names.get_values_for_type(x509.UniformResourceIdentifier))
    except x509.ExtensionNotFound:
        return 0
    except (ValueError, TypeError, KeyError, x509.InvalidVersion, x509.DuplicateExtension) as error:
        return IdentityError("unreadable", f"certificate extensions cannot be read: {shown(str(error))}")


def read_caller(der: bytes) -> Caller | IdentityError:
    """Return the caller that the leaf names, or why it names none. It must have been verified."""
    uris = _count_uris(der)
    if isinstance(uris, IdentityError):
        return uris
    if uris > 1:
        return IdentityError("ambiguous", "certificate has more than one URI name")
    subject = read_subject(der)
    if isinstance(subject, IdentityError):
        return subject
    found: dict[str, Guid] = {}
    for oid, text in subject:
        prefix, colon, value = text.partition(":")
        if oid != _OU or not colon or prefix not in _PREFIXES:
            continue
        if prefix in found:
            return IdentityError("ambiguous", f"certificate has more than one OU {prefix}:")
        guid = parse_guid(value)
        if guid is None:
            return IdentityError("bad_guid", f"certificate OU {shown(text)} is not {prefix}:<guid>")
        found[prefix] = guid
    if "app" not in found:
        return IdentityError("no_app", "certificate does not contain CF identity OU fields")
    return Caller(found["app"], found.get("space"), found.get("organization"))
