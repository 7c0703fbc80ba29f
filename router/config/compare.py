"""Two configurations, and what is different in what they mean.

Promises: only differences of meaning: spelling, order of keys, comments, defaults written out and PEM texts of the same
certificates are none. Each has its path, with the name of an entry in place of its number
(`mtls_domains[*.apps.mtls.internal].ca_certs`), the old value and the new. No secret is shown, only that it changed; of
certificates their subjects and fingerprints. Refuses to know which change needs a restart (router/parts.py).

Source: decision 6 for what closes a connection.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from authz.domain import DomainTable
from registry.names import Names
from registry.problems import SECRET_KEYS, printable
from router.config.ciphers import CipherSuites
from router.config.domains import IdentityAwareDomain, MtlsDomain
from router.config.l7_policies import L7Policy, PolicyTerms
from router.config.listeners import Backend, ListenerConfig, ListenerRoute
from router.config.load import keys_of
from router.config.model import Config
from router.config.pem import parse_certificates, parse_crls
from router.config.scalars import Address, is_duration
from router.config.sections import HeaderToAdd, HeaderToRemove, NatsHost, TlsPair

_BEGIN = "-----BEGIN "
_HIDDEN_TOO = frozenset({"trace_key"})
_IN_ORDER = frozenset({"cert_chain", "certificate", "cert_path", "tls_cert"})
"""Where the order of certificates means something."""
_MEMBERS = frozenset(
    {
        "apps",
        "spaces",
        "orgs",
        "hosts",
        "backend_networks",
        "trusted_proxies",
        "isolation_segments",
        "hop_by_hop_headers_to_filter",
        "sticky_session_cookie_names",
        "proxy_protocol_trusted",
        "allowed_cidrs",
        "blocked_ips",
        "blocked_cidrs",
        "blocked_countries",
    }
)
"""Lists whose order means nothing."""
_MAX_SHOWN = 400


class Difference(NamedTuple):
    """One key whose meaning changed; values are bounded, printable, and never a secret."""

    path: str
    old: str
    new: str


class Misdirected(NamedTuple):
    """A domain on whose hosts the connections of before the change get a 421, and why."""

    domain: str
    why: str


def compare(old: Config, new: Config) -> tuple[Difference, ...]:
    """Every difference, in the order of the keys."""
    return tuple(_sections("", old, new))


def misdirected(old: DomainTable, new: DomainTable) -> tuple[Misdirected, ...]:
    """The domains whose client-certificate policy is not what the handshakes of before enforced, by name."""
    was = {domain.pattern: domain.client_policy for domain in old.policies}
    now = {domain.pattern: domain.client_policy for domain in new.policies}
    found = []
    for pattern in sorted(was.keys() | now.keys()):
        if pattern not in was:
            found.append(Misdirected(pattern, "the domain is new: connections to its hosts showed no certificate for it"))
        elif pattern not in now:
            found.append(Misdirected(pattern, "the domain is gone: connections were made for it and for nothing else"))
        elif was[pattern] != now[pattern]:
            found.append(Misdirected(pattern, "its authorities changed: connections were verified by the old ones"))
    return tuple(found)


def _sections(path: str, old: BaseModel, new: BaseModel) -> Iterator[Difference]:
    for name, (key, field) in zip(type(new).model_fields, keys_of(type(new)), strict=True):
        where = f"{path}.{key}" if path else key
        yield from _values(where, key, field, getattr(old, name), getattr(new, name))


def _values(path: str, key: str, field: FieldInfo, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, BaseModel) and isinstance(new, BaseModel):
        yield from _sections(path, old, new)
    elif any(isinstance(item, BaseModel) for side in (old, new) if isinstance(side, tuple) for item in side):
        yield from _entries(path, old, new)
    elif _meaning(key, old) != _meaning(key, new):
        was, now = (_shown(key, field, value) for value in (old, new))
        if _is_list(old) and _is_list(new) and len(was) + len(now) > _MAX_SHOWN // 4:
            was, now = _apart(key, field, old, new), _apart(key, field, new, old)
        if was == now:
            now += " (changed)"
        yield Difference(path, was, now)


def _entries(path: str, old: Sequence[BaseModel], new: Sequence[BaseModel]) -> Iterator[Difference]:
    """Lists of sections: each entry is compared with the one of its name."""
    was, now = _by_name(old), _by_name(new)
    for name in [*now, *(gone for gone in was if gone not in now)]:
        where = f"{path}[{printable(name, 100)}]"
        if name in was and name in now:
            yield from _sections(where, was[name], now[name])
        else:
            yield Difference(where, *(_entry(side[name]) if name in side else "(absent)" for side in (was, now)))
    kept = [[name for name in side if name in was and name in now] for side in (was, now)]
    if kept[0] != kept[1]:
        yield Difference(path, *(printable("order: " + ", ".join(names), _MAX_SHOWN) for names in kept))


def _by_name(entries: Sequence[BaseModel]) -> Mapping[str, BaseModel]:
    found: dict[str, BaseModel] = {}
    for index, entry in enumerate(entries):
        name = _NAMES[type(entry)](entry) if type(entry) in _NAMES else str(index)
        same = sum(other == name or other.startswith(f"{name} #") for other in found)
        found[f"{name} #{same + 1}" if same else name] = entry
    return found


_NAMES: dict[type[BaseModel], Callable[[Any], str]] = {
    MtlsDomain: lambda entry: entry.domain,
    IdentityAwareDomain: lambda entry: entry.domain,
    TlsPair: lambda entry: ",".join(entry.names),
    NatsHost: lambda entry: f"{entry.hostname}:{entry.port}",
    HeaderToAdd: lambda entry: entry.name,
    ListenerConfig: lambda entry: str(entry.port),
    ListenerRoute: lambda entry: entry.hostname or "raw",
    PolicyTerms: lambda entry: f"{entry.type} {entry.value}",
    L7Policy: lambda entry: f"{entry.route} {entry.type} {entry.value}",
    HeaderToRemove: lambda entry: entry.name,
}


def _entry(entry: BaseModel) -> str:
    """A whole entry on one line: what it says beyond the defaults."""
    said = []
    for name, (key, field) in zip(type(entry).model_fields, keys_of(type(entry)), strict=True):
        value = getattr(entry, name)
        if name in entry.model_fields_set:
            said.append(f"{key}: {'{' + _entry(value) + '}' if isinstance(value, BaseModel) else _shown(key, field, value)}")
    return printable(", ".join(said), _MAX_SHOWN)


def _meaning(key: str, value: Any) -> object:
    """What two values must have in common to mean the same."""
    match value:
        case SecretStr():
            return value.get_secret_value()
        case str() if _BEGIN in value:
            prints = [text for _, text in _in_pem(value)]
            return tuple(prints) if key in _IN_ORDER else frozenset(prints)
        case tuple() if any(isinstance(item, str) and _BEGIN in item for item in value):
            return frozenset(text for item in value for _, text in _in_pem(str(item)))
        case tuple() if key in _MEMBERS:
            return frozenset(value)
        case Names():
            return "names"
    return value


def _shown(key: str, field: FieldInfo, value: Any) -> str:
    match value:
        case SecretStr():
            return "(hidden)" if value.get_secret_value() else "(absent)"
        case None:
            return "unlimited" if is_duration(field.metadata) or "int" in str(field.annotation) else "(absent)"
        case "" | ():
            return "(nothing)"
        case str() if key in SECRET_KEYS | _HIDDEN_TOO:
            return "(hidden)"
        case bool():
            return "true" if value else "false"
        case float() if is_duration(field.metadata):
            return f"{value:g}s"
        case str() if _BEGIN in value:
            return printable(", ".join(f"{name} (sha256 {text[:16]})" for name, text in _in_pem(value)), _MAX_SHOWN)
        case CipherSuites():
            return printable(":".join((*value.tls13, *value.tls12)), _MAX_SHOWN)
        case Names():
            return "(names)"
        case BaseModel() | Backend() | Address():
            return _of_entry(value)
        case tuple():
            return printable(", ".join(_shown(key, field, item) for item in value), _MAX_SHOWN)
    return printable(str(value), _MAX_SHOWN)


def _of_entry(value: BaseModel | Backend | Address) -> str:
    """One item of a list on the line of the list."""
    match value:
        case Backend():
            return str(value)
        case Address(host, port):
            return f"{host}:{port}"
    return _NAMES[type(value)](value) if type(value) in _NAMES else _entry(value)


def _is_list(value: object) -> bool:
    return type(value) is tuple and not any(_BEGIN in str(item) for item in value)


def _apart(key: str, field: FieldInfo, one: Sequence[object], other: Sequence[object]) -> str:
    """Of a long list what the other has not."""
    own = tuple(item for item in one if item not in other)
    return f"{_shown(key, field, own)} (and {len(one) - len(own)} that stay)"


def _in_pem(pem: str) -> Iterator[tuple[str, str]]:
    """(subject or issuer, SHA-256 in hex) of each certificate and revocation list."""
    for certificate in parse_certificates(pem):
        yield certificate.subject.rfc4514_string(), certificate.fingerprint(SHA256()).hex()
    for crl in parse_crls(pem):
        yield f"list of {crl.issuer.rfc4514_string()}", crl.fingerprint(SHA256()).hex()
