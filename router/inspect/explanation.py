"""One explained call: what was asked, what each layer said, what the client would get, and what would change that.

Promises: plain values, and `as_json` of them: bounded, printable wherever a peer had a say, without keys or certificates. Its
shape stands in docs/explain.md. Refuses to know how an explanation is found (explain.py) and how it is shown to people
(router/cli/explain.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, NamedTuple

from authz.decide import TABLE, row_of
from authz.decision import Decision
from authz.domain import DomainPolicy
from authz.policy import MtlsOptions, PoolPolicy, RoutePolicies
from authz.remedy import Remedy
from identity.caller import Caller, shown
from identity.certificate import IdentityError
from registry.balance import in_scope
from registry.endpoint import Endpoint, Route
from registry.hostname import Host
from registry.names import Names
from router.inspect.policies import part_json, rfc3339, subject_text
from router.tls.contexts import ClientPolicy
from router.tls.rehearsal import Rehearsed, rehearse

How = Literal["exact", "suffix", "none"]
Status = int | Literal["alert"]

MAX_INSTANCES: Final = 50
MAX_AUTHORITIES: Final = 50
MAX_OUS: Final = 50


class Question(NamedTuple):
    """One call that somebody might make.

    `caller`: whom the certificate names; `certificate`: the leaf itself (DER), which is then verified, with the
    `intermediates` that the client sends, and read instead. With neither, no certificate is shown. `sni` None is the host
    itself, "" none at all. `plain` is without TLS.
    """

    host: str
    path: str = "/"
    caller: Caller | IdentityError | None = None
    sni: str | None = None
    certificate: bytes | None = None
    plain: bool = False
    intermediates: tuple[bytes, ...] = ()


class Claim(NamedTuple):
    """Why a domain claims the host, or none does. `bare`: domains of which the host is the bare suffix; `others`: less specific
    ones that cover it too.
    """

    how: How
    bare: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class Handshake(NamedTuple):
    """What the handshake for `sni` enforces (`domain` None: no domain's), and how it ends. `assumed`: no certificate was seen,
    and one that the policy accepts is taken for granted.
    """

    sni: str | None
    domain: DomainPolicy | None
    policy: ClientPolicy
    outcome: Rehearsed
    assumed: bool


class Mark(NamedTuple):
    """One question that was asked on the way, with the answer."""

    layer: str
    rule: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer. `status` is 200 where the request would be forwarded, "alert" where the handshake fails, else the refusal's.

    `decision` is `authz.decide`'s, None where it was not asked (alert, 400, 404); `rule` and `reason` are those of the access
    log; `error` is X-Cf-RouterError. `policy` is the host's client-certificate policy, `identity` whom the certificate names.
    """

    question: Question
    host: Host
    path: str
    claim: Claim
    domain: DomainPolicy | None
    policy: ClientPolicy
    handshake: Handshake | None
    identity: Caller | IdentityError | None
    ous: tuple[str, ...] | None
    route: Route | None
    decision: Decision | None
    status: Status
    error: str | None
    rule: str | None
    reason: str | None
    trail: tuple[Mark, ...]
    remedy: Remedy | None
    names: Names

    @property
    def allowed(self) -> bool:
        """Whether the request would be forwarded."""
        return self.status == 200

    @property
    def layer(self) -> str:
        """The layer that decided."""
        return self.trail[-1].layer

    @property
    def sentence(self) -> str:
        """The answer in one English sentence."""
        if self.decision is not None and (self.allowed or self.error in ("mtls_authorization_denied", "mtls_domain_mismatch")):
            return self.decision.sentence()
        if self.status == "alert":
            return f"Refused in the handshake: {self.reason}."
        return f"Refused ({self.status}): {self.reason}."

    def as_json(self) -> dict[str, object]:
        """Plain JSON values; the shape of docs/explain.md."""
        return {
            "allowed": self.allowed,
            "status": self.status,
            "layer": self.layer,
            "rule": self.rule,
            "reason": self.reason,
            "error": self.error,
            "sentence": self.sentence,
            "question": _question_json(self),
            "domain": _domain_json(self),
            "client_certificate": _demand_json(self.policy),
            "handshake": _handshake_json(self.handshake),
            "identity": _identity_json(self),
            "route": _route_json(self),
            "table": {"row": row_of(self.domain), "outcomes": dict(TABLE[row_of(self.domain)])},
            "decision": self.decision.as_json() if self.decision is not None else None,
            "trail": [mark._asdict() for mark in self.trail],
            "remedy": [step.as_json() for step in self.remedy.steps] if self.remedy is not None else [],
            "names": _names_json(self),
        }


def _question_json(explanation: Explanation) -> dict[str, object]:
    question = explanation.question
    return {
        "host": explanation.host,
        "path": explanation.path,
        "tls": not question.plain,
        "caller": "certificate" if question.certificate is not None else "guids" if question.caller is not None else "none",
    }


def _domain_json(explanation: Explanation) -> dict[str, object]:
    domain, claim = explanation.domain, explanation.claim
    return {
        "pattern": domain.pattern if domain is not None else None,
        "how": claim.how,
        "dialect": domain.dialect if domain is not None else None,
        "mode": domain.mode if domain is not None else None,
        "reads_identity": domain is not None and domain.reads_identity,
        "report_only": domain is not None and domain.report_only,
        "orgs": sorted(domain.orgs) if domain is not None and domain.orgs is not None else None,
        "spaces": sorted(domain.spaces) if domain is not None and domain.spaces is not None else None,
        "bare_suffix_of": list(claim.bare),
        "less_specific": list(claim.others),
    }


def _demand_json(policy: ClientPolicy) -> dict[str, object]:
    """What the handshake of the host's domain must enforce."""
    without = rehearse(policy, ())
    return {
        "mode": policy.mode,
        "authorities": [
            {"subject": subject_text(anchor), "not_after": rfc3339(anchor.not_valid_after_utc)}
            for anchor in policy.anchors[:MAX_AUTHORITIES]
        ],
        "system_roots": policy.system_roots,
        "crls": None
        if policy.crls is None
        else [
            {
                "issuer": crl.issuer.rfc4514_string()[:256],
                "next_update": rfc3339(crl.next_update_utc) if crl.next_update_utc is not None else None,
            }
            for crl in policy.crls[:MAX_AUTHORITIES]
        ],
        "alert_without": _alert_json(without),
    }


def _handshake_json(handshake: Handshake | None) -> dict[str, object] | None:
    if handshake is None:
        return None
    return {
        "sni": handshake.sni,
        "domain": handshake.domain.pattern if handshake.domain is not None else None,
        "result": handshake.outcome.reason,
        "verified": None if handshake.assumed else handshake.outcome.ok,
        "alert": _alert_json(handshake.outcome),
    }


def _alert_json(outcome: Rehearsed) -> dict[str, object] | None:
    return None if outcome.alert is None else {"number": outcome.alert, "name": outcome.alert_name}


def _identity_json(explanation: Explanation) -> dict[str, object]:
    who = explanation.identity
    caller = who if isinstance(who, Caller) else None
    return {
        "read": explanation.domain is not None and explanation.domain.reads_identity,
        "ous": None if explanation.ous is None else [shown(ou) for ou in explanation.ous[:MAX_OUS]],
        "app": caller.app if caller is not None else None,
        "space": caller.space if caller is not None else None,
        "org": caller.org if caller is not None else None,
        "error": {"reason": who.reason, "detail": who.detail} if isinstance(who, IdentityError) else None,
    }


def _route_json(explanation: Explanation) -> dict[str, object] | None:
    route = explanation.route
    if route is None:
        return None
    scopes = getattr(explanation.decision, "scopes", None) or scopes_of(route.pool.policy)
    caller = explanation.identity if isinstance(explanation.identity, Caller) else None
    reached = [not scopes or in_scope(endpoint, scopes, caller) for endpoint in route.pool.endpoints]
    row = TABLE[row_of(explanation.domain)]
    return {
        "key": route.key,
        "how": "wildcard" if route.host.startswith("*.") else "exact",
        "path": route.path or "/",
        "policy": [part_json(part, row[part.column]) for part in route.pool.policy.parts],
        "warnings": list(route.pool.policy.warnings),
        "scopes": sorted(scopes),
        "endpoints": len(route.pool.endpoints),
        "in_scope": sum(reached),
        "instances": [
            _instance_json(endpoint, in_scope)
            for endpoint, in_scope in islice(zip(route.pool.endpoints, reached, strict=True), MAX_INSTANCES)
        ],
    }


def scopes_of(policy: PoolPolicy) -> frozenset[str]:
    """The scopes that a route's policies name."""
    return frozenset(part.scope for part in policy.parts if isinstance(part, RoutePolicies) and part.scope in ("org", "space"))


def _instance_json(endpoint: Endpoint, in_scope: bool) -> dict[str, object]:
    return {
        "address": endpoint.address,
        "app": endpoint.app or None,
        "space": endpoint.tags.get("space_id"),
        "org": endpoint.tags.get("organization_id"),
        "in_scope": in_scope,
    }


def _names_json(explanation: Explanation) -> dict[str, str]:
    """The names of every GUID of this explanation that has one; nothing was decided by them."""
    names = explanation.names
    return {guid: name for guid in dict.fromkeys(_guids(explanation)) if (name := names.get(guid)) is not None}


def _guids(explanation: Explanation) -> Iterable[str]:
    who, domain, route = explanation.identity, explanation.domain, explanation.route
    if isinstance(who, Caller):
        yield from (guid for guid in (who.app, who.space, who.org) if guid is not None)
    if domain is not None:
        yield from (*sorted(domain.orgs or ()), *sorted(domain.spaces or ()))
    for part in route.pool.policy.parts if route is not None else ():
        if isinstance(part, MtlsOptions | RoutePolicies):
            yield from (*sorted(part.callers.apps), *sorted(part.callers.spaces), *sorted(part.callers.orgs))
    for endpoint in route.pool.endpoints[:MAX_INSTANCES] if route is not None else ():
        yield from filter(None, (endpoint.app, endpoint.tags.get("space_id"), endpoint.tags.get("organization_id")))
