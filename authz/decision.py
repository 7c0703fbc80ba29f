"""The answer to "may they?": Allow or Deny, each with the trail of checks that led there.

Promises: forwarding takes an Allow, and only decide.py makes one; the full reason is for log, metrics and
people who may see it, never for the client; every label is from a small fixed set. Refuses to know how an
answer came about.

NamedTuples, because one is made for a request whose decision is not cached.
"""

from typing import Literal, NamedTuple, get_args

from identity.caller import Caller

Layer = Literal["binding", "deny", "identity", "domain", "route"]
Auth = Literal["allowed", "not_enforced", "would_deny"]
Code = Literal["mtls_domain_mismatch", "mtls_authorization_denied", "access_denied"]
BindingLabel = Literal[
    "plain_http",  # no TLS at all, and the Host is in an mTLS domain
    "no_mtls",  # the handshake enforced no domain, and the Host is in one
    "other_domain",  # it enforced another domain than the Host's
    "outside_domain",  # it enforced a domain, and the Host is in none
    "not_verified",  # it should have verified a certificate and did not
    "policy_changed",  # today's client-certificate policy is another one
    "certificate_expired",
    "certificate_revoked",
]
ListLabel = Literal["deny_apps", "deny_spaces", "deny_orgs", "deny_hosts", "deny_backend_networks"]
DenyLabel = Literal[
    BindingLabel,
    ListLabel,
    "no_identity",
    "domain_orgs",
    "domain_spaces",
    "domain_scope",
    "route_not_listed",
    "route_no_options",
    "route_invalid_options",
]
DENY_LABELS: frozenset[str] = frozenset(get_args(DenyLabel))

NO_SCOPES: frozenset[str] = frozenset()


class Check(NamedTuple):
    """One question that was asked: where, by which rule, whether it passed, and why in a sentence."""

    layer: Layer
    rule: str
    passed: bool
    detail: str


class LogFields(NamedTuple):
    """What the access log says of a decision; None is an absent field."""

    mtls_auth: str | None
    mtls_rule: str | None
    mtls_denied_reason: str | None


class Allow(NamedTuple):
    """The permit. `scopes` (of "org", "space") bind the endpoint choice; `auth` None: nothing to log."""

    auth: Auth | None
    rule: str | None
    reason: str | None
    scopes: frozenset[str]
    caller: Caller | None
    trail: tuple[Check, ...]
    report_only: bool = False

    def log_fields(self) -> LogFields:
        """Return the access log's fields."""
        return LogFields(self.auth, self.rule, self.reason)

    def as_json(self) -> dict[str, object]:
        """Return the decision as plain JSON values, trail included."""
        return {
            "result": "allow",
            "auth": self.auth,
            "rule": self.rule,
            "reason": self.reason,
            "scopes": sorted(self.scopes),
            "trail": [check._asdict() for check in self.trail],
        }

    def sentence(self) -> str:
        """Return the decision in one English sentence."""
        match self.auth:
            case None:
                return "Forwarded: nothing here asks who is calling."
            case "allowed":
                return f"Allowed by {self.rule}."
            case "not_enforced":
                return f"Forwarded without enforcement: {self.reason}."
            case "would_deny":
                return f"Forwarded in report-only mode; {self.rule} would deny: {self.reason}."


class Deny(NamedTuple):
    """The refusal. `close`: nothing more may be asked on this connection. `label` is one of DENY_LABELS."""

    status: Literal[421, 403]
    code: Code
    rule: str
    reason: str
    label: DenyLabel
    trail: tuple[Check, ...]
    close: bool = False

    def log_fields(self) -> LogFields:
        """Return the access log's fields; a 421 has no mtls_auth (RFC-0055)."""
        return LogFields("denied" if self.status == 403 else None, self.rule, self.reason)

    def as_json(self) -> dict[str, object]:
        """Return the decision as plain JSON values, trail included."""
        return {
            "result": "deny",
            "status": self.status,
            "code": self.code,
            "rule": self.rule,
            "reason": self.reason,
            "label": self.label,
            "trail": [check._asdict() for check in self.trail],
        }

    def sentence(self) -> str:
        """Return the decision in one English sentence."""
        verb = "Denied" if self.status == 403 else "Misdirected"
        return f"{verb} ({self.status}) by {self.rule}: {self.reason}."


Decision = Allow | Deny
