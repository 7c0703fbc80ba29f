"""What the operator demands of a domain, and which domain claims a host.

Promises: a host under `*.suffix` belongs to it at any depth, the most specific entry first, so that no host
can fall out of mutual TLS by having one label more; the bare suffix is not claimed. A policy that exists is
consistent.
Refuses to know: certificates and contexts (a fingerprint stands for them), YAML, and what a route says.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from identity.caller import Guid, shown

Dialect = Literal["mtls_domains", "domains"]
Mode = Literal["none", "cf_identity"]
Extractor = Literal["none", "cf_ou"]
XfccMode = Literal["sanitize_set", "forward", "always_forward"]
XfccFormat = Literal["raw", "envoy"]


_REMEMBERED = 1024  # hosts whose domain is remembered


@dataclass(frozen=True, slots=True, eq=False)
class DomainPolicy:
    """One entry of `mtls_domains` or `domains`, compiled. Raises ValueError where it contradicts itself.

    `pattern` is canonical (lower case, no trailing dot). `orgs` and `spaces` are the callers that may enter:
    None is no list, an empty one admits nobody. `client_policy` is the fingerprint of what a handshake must
    enforce.
    """

    pattern: str
    dialect: Dialect
    mode: Mode
    identity_extractor: Extractor
    orgs: frozenset[Guid] | None
    spaces: frozenset[Guid] | None
    report_only: bool
    xfcc_mode: XfccMode
    xfcc_format: XfccFormat
    client_policy: str

    def __post_init__(self) -> None:
        enforcing = self.dialect == "mtls_domains" and self.mode == "cf_identity"
        where = f"domain {shown(self.pattern)}: "
        if not _is_pattern(self.pattern):
            raise ValueError(where + "domain must be a lower-case host or *.suffix, without a trailing dot")
        if self.orgs is not None and self.spaces is not None:
            raise ValueError(where + "authorization.config.orgs and authorization.config.spaces exclude each other")
        if (self.orgs is not None or self.spaces is not None) and not enforcing:
            raise ValueError(where + "authorization.config needs authorization.mode: cf_identity")
        if self.report_only and not enforcing:
            raise ValueError(where + "authorization.report_only needs authorization.mode: cf_identity")
        if enforcing and self.identity_extractor != "cf_ou":
            raise ValueError(where + "authorization.mode: cf_identity needs xfcc.identity_extractor: cf_ou")

    @property
    def reads_identity(self) -> bool:
        """Whether a caller's OUs mean anything here; the second dialect always reads them."""
        return self.identity_extractor == "cf_ou" or self.dialect == "domains"


class DomainTable:
    """The domains of one configuration. Raises ValueError when two entries have one pattern."""

    __slots__ = ("_claimed", "_exact", "_suffixes", "policies")

    def __init__(self, policies: Iterable[DomainPolicy]) -> None:
        self.policies = tuple(policies)
        self._claimed: dict[str, DomainPolicy | None] = {}  # by the hosts that were asked for, not without bound
        self._exact: dict[str, DomainPolicy] = {}
        self._suffixes: dict[str, DomainPolicy] = {}
        for policy in self.policies:
            wild = policy.pattern.startswith("*.")
            entries, key = (self._suffixes, policy.pattern[1:]) if wild else (self._exact, policy.pattern)
            if key in entries:
                raise ValueError(f"domain {shown(policy.pattern)} is configured twice")
            entries[key] = policy

    def claim(self, host: str) -> DomainPolicy | None:
        """Return the domain that `host` belongs to: exact, else the longest suffix; None for an open host.

        `host` must be canonical (registry/hostname.py): no port, lower case, no trailing dot.
        """
        try:
            return self._claimed[host]
        except KeyError:
            if len(self._claimed) >= _REMEMBERED:
                self._claimed.clear()
            found = self._claimed[host] = self._find(host)
            return found

    def _find(self, host: str) -> DomainPolicy | None:
        found = self._exact.get(host)
        if found is not None or not self._suffixes:
            return found
        dot = host.find(".", 1)
        while dot > 0:
            found = self._suffixes.get(host[dot:])
            if found is not None:
                return found
            dot = host.find(".", dot + 1)
        return None


def _is_pattern(pattern: str) -> bool:
    host = pattern.removeprefix("*.")
    return bool(host) and host == host.lower() and "*" not in host and not host.startswith(".") and host[-1] != "."
