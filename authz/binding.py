"""The 421 check: does what the handshake enforced fit the Host that is asked for (RFC 9110, 15.5.20)?

Promises: a Host in an mTLS domain is served only on a connection whose handshake enforced that domain, by the
policy of today; an mTLS handshake serves no Host outside its domain. Hosts of one domain entry share a
connection freely: entries are compared, never SNI with Host. Runs before any route is looked up, so nobody
learns here which routes exist.
Refuses to know how a handshake is made, and who is calling.
"""

from dataclasses import dataclass
from typing import get_args

from authz.decision import BindingLabel, Check, Deny
from authz.domain import DomainPolicy
from identity.caller import shown

_MISMATCH = "mTLS enforcement mismatch: "
_NOT_ENFORCED = _MISMATCH + "TLS handshake did not enforce mTLS for requested domain "

BOUND_PLAIN = Check("binding", "plain_http", True, "plain HTTP, and the Host is in no mTLS domain")
BOUND_OPEN = Check("binding", "open", True, "the handshake enforced no domain, and the Host is in none")
BOUND_DOMAIN = Check("binding", "domain", True, "the handshake enforced the domain of the Host")

_LABELS: dict[str, BindingLabel] = {label: label for label in get_args(BindingLabel)}
_CLOSING = frozenset({"policy_changed", "certificate_expired", "certificate_revoked"})


@dataclass(frozen=True, slots=True)
class TlsBinding:
    """What a finished handshake did enforce, not what it was meant to.

    `domain` is the enforced pattern, None on an open context. `client_policy` is the fingerprint of that
    moment. `not_after` is the leaf's last valid second (epoch), None without a leaf. `serial_issuer` names it
    to a CRL.
    """

    sni: str | None
    domain: str | None
    client_policy: str
    verified: bool
    not_after: float | None
    serial_issuer: tuple[int, bytes] | None


def check_binding(
    binding: TlsBinding | None,
    domain: DomainPolicy | None,
    client_policy_today: str,
    now_epoch: float,
    revoked: bool,
) -> Check:
    """Judge a connection (`binding` None: plain HTTP) against the Host's domain.

    `client_policy_today` is what the same handshake would have to enforce now; `revoked`: the leaf is on
    today's CRL.
    """
    if binding is None:
        return BOUND_PLAIN if domain is None else _failed("plain_http", _NOT_ENFORCED + domain.pattern)
    stale = _stale(binding, client_policy_today, now_epoch, revoked)
    if stale is not None:
        return stale
    if domain is None:
        return BOUND_OPEN if binding.domain is None else _outside(binding)
    if binding.domain != domain.pattern:
        return _wrong_domain(binding, domain)
    if not binding.verified:
        return _failed("not_verified", _NOT_ENFORCED + domain.pattern + " (no client certificate was verified)")
    # The caller's word for today and the domain's own must agree; if they do not, believe neither.
    return BOUND_DOMAIN if binding.client_policy == domain.client_policy else _changed(binding)


def must_close(bound: Check) -> bool:
    """Say whether the connection itself is of no more use: its policy, or its certificate, is of the past."""
    return not bound.passed and bound.rule in _CLOSING


def misdirected(bound: Check) -> Deny:
    """Make the 421 of a failed binding check. Raises ValueError for one that passed."""
    label = _LABELS.get(bound.rule)
    if bound.passed or label is None:
        raise ValueError(f"no 421 can be made of the check {bound.rule}: passed={bound.passed}")
    return Deny(421, "mtls_domain_mismatch", bound.rule, bound.detail, label, (bound,), must_close(bound))


def _stale(binding: TlsBinding, today: str, now_epoch: float, revoked: bool) -> Check | None:
    if binding.client_policy != today:
        return _changed(binding)
    if revoked:
        return _failed("certificate_revoked", "the client certificate is revoked by a CRL loaded since the handshake")
    if binding.not_after is not None and not now_epoch <= binding.not_after:
        return _failed("certificate_expired", "the client certificate has expired since the handshake")
    return None


def _changed(binding: TlsBinding) -> Check:
    name = binding.domain or "open hosts"
    return _failed("policy_changed", f"the client-certificate policy of {name} changed since the handshake")


def _outside(binding: TlsBinding) -> Check:
    detail = f"{_MISMATCH}TLS handshake enforced mTLS for {binding.domain}, and the Host is outside it"
    return _failed("outside_domain", detail)


def _wrong_domain(binding: TlsBinding, domain: DomainPolicy) -> Check:
    name = "no SNI" if binding.sni is None else f"SNI {shown(binding.sni)}"
    if binding.domain is None:
        return _failed("no_mtls", f"{_NOT_ENFORCED}{domain.pattern} ({name} is in no mTLS domain)")
    return _failed("other_domain", f"{_NOT_ENFORCED}{domain.pattern} ({name} enforced {binding.domain})")


def _failed(label: BindingLabel, detail: str) -> Check:
    return Check("binding", label, False, detail)
