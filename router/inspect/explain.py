"""`explain`: what would come of a call, and why, layer by layer, without making it.

    target -> domain -> handshake (alert) -> binding (421) -> deny lists (403) -> route (400, 404) -> decide (403) -> endpoints

Promises: asks the very functions that the data plane asks, in its order (router/l7/exchange.py): resolve_target, claim,
check_binding, lookup, normalised_path, decide, in_scope, deny_scope, and for a certificate the handshake's own context
(router/tls/rehearsal.py); a behaviour test holds its answers against real calls. Changes nothing: no cursor of a pool moves.
Foresees what policy says, not what load and networks do: whether an endpoint answers is not asked.
Refuses to know where a scene comes from (scene.py), and how an explanation is shown.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509

from authz.binding import TlsBinding, check_binding
from authz.decide import decide, deny_scope
from authz.decision import Allow, Check, Decision, Deny
from authz.deny import denied_request
from authz.domain import DomainPolicy, DomainTable
from authz.policy import NO_POLICY
from authz.remedy import Remedy, Step, remedy
from identity.caller import Caller
from identity.certificate import IdentityError, read_caller, read_subject
from registry.balance import in_scope
from registry.endpoint import Pool, Route
from registry.hostname import Host, canonical, covers
from registry.sieve import sift
from router.inspect.explanation import Claim, Explanation, Handshake, Mark, Question, Status
from router.inspect.scene import Scene
from router.l7.refusal import REFUSALS, Code, malformed
from router.l7.route_service import parse_service_url
from router.l7.target import Target, normalised_path, resolve_target
from router.tls.certificates import UNREADABLE
from router.tls.contexts import ClientPolicy
from router.tls.rehearsal import Rehearsed, rehearse
from router.wire.client_hello import read_server_name
from router.wire.http1 import HeadLimits, parse_request_head
from router.wire.malformed import Malformed

MAX_HEAD: Final = 64 * 1024

_PATH: Final = re.compile(r"/[!-\"$-~]*", re.ASCII)
_HOST: Final = re.compile(r"[!-~]+", re.ASCII)
_OU: Final = x509.NameOID.ORGANIZATIONAL_UNIT_NAME.dotted_string
_KINDS: Final = (frozenset({"org", "space"}), frozenset({"org"}), frozenset({"space"}))

_WHY: Final = {
    "no_certificate": "no client certificate is shown, and one is required",
    "unknown_ca": "no authority that counts here stands behind the certificate",
    "expired": "the certificate, or one above it, has expired",
    "not_yet_valid": "the certificate, or one above it, is not valid yet",
    "revoked": "the certificate, or one above it, is on a revocation list",
    "crl_missing": "a certificate of the chain has no revocation list, and lists are checked",
    "crl_stale": "a revocation list is out of date",
    "bad_purpose": "the certificate is not for clients (extended key usage)",
    "leaf_is_ca": "an authority's own certificate is nobody's identity",
    "certificate_metadata": "the certificate's subject is not among those allowed below its authority",
}
"""Reasons of a failed handshake in words; any other stands for itself."""


def explain(question: Question, scene: Scene, now_epoch: float) -> Explanation | Malformed:
    """What would come of the call at `now_epoch` (seconds); Malformed for one that no client could send."""
    target = _target(question)
    sni = _sni(question, target)
    if isinstance(target, Malformed) or isinstance(sni, Malformed):
        return target if isinstance(target, Malformed) else Malformed("bad_sni")
    domain = scene.domains.claim(target.host)
    call = _Call(question, scene, target, domain, scene.policy_of(domain))
    call.shake(sni)
    return call.judge(now_epoch)


@dataclass(slots=True)
class _Call:
    """One call on its way through the layers; `trail` grows with it."""

    question: Question
    scene: Scene
    target: Target
    domain: DomainPolicy | None
    policy: ClientPolicy
    handshake: Handshake | None = None
    identity: Caller | IdentityError | None = None
    ous: tuple[str, ...] | None = None
    route: Route | None = None
    trail: list[Mark] = field(default_factory=list)

    def shake(self, sni: str | None) -> None:
        """The handshake, if there is one, and whom the certificate names."""
        question, scene = self.question, self.scene
        self.identity = question.caller if question.certificate is None else read_caller(question.certificate)
        if question.certificate is not None:
            subject = read_subject(question.certificate)
            self.ous = () if isinstance(subject, IdentityError) else tuple(text for oid, text in subject if oid == _OU)
        if question.plain:
            return
        enforced = scene.domains.claim(sni) if sni is not None else None
        policy = scene.policy_of(enforced)
        assumed = question.certificate is None and question.caller is not None and policy.mode != "none"
        chain = () if question.certificate is None else (question.certificate, *question.intermediates)
        outcome = Rehearsed("ok") if assumed else rehearse(policy, chain)
        self.handshake = Handshake(sni, enforced, policy, outcome, assumed)
        self.trail.append(_handshake_mark(self.handshake, shown=bool(chain)))

    def judge(self, now_epoch: float) -> Explanation:
        """The layers after the handshake, in the data plane's order."""
        scene, host = self.scene, self.target.host
        self.route = self._lookup()
        if self.handshake is not None and not self.handshake.outcome.ok:
            return self._alert(self.handshake, now_epoch)
        bound, caller = self._bound(now_epoch), self._caller()
        listed = denied_request(scene.deny, host, self.domain, caller)
        if not bound.passed or listed is not None:
            return self._denied(decide(bound, self.domain, caller, NO_POLICY, denied=listed))
        normal = normalised_path(self.target.path)
        if normal is not None and self._lookup(normal) is not self.route:
            return self._ambiguous(bound, normal)
        if self.route is None:
            step = Step("developer", "route", f"map a route for {host} that covers this path")
            return self._refused(bound, "unknown_route", "no route has this host and path", step)
        sifted = sift(scene.deny, self.route)
        if sifted.barred is not None:
            return self._denied(decide(bound, self.domain, caller, NO_POLICY, denied=sifted.barred))
        self.route = sifted.route
        decision = decide(bound, self.domain, caller, self.route.pool.policy)
        return self._denied(decision) if isinstance(decision, Deny) else self._pick(bound, decision, self.route.pool)

    def _pick(self, bound: Check, allow: Allow, pool: Pool) -> Explanation:
        """What is refused for want of an endpoint, and else the Allow."""
        if not pool.endpoints:
            step = Step("developer", "route", "start an instance: the route has none")
            return self._refused(bound, "no_endpoints", "the route has no endpoint", step, allow)
        url = parse_service_url(pool.route_service_url) if pool.route_service_url else None
        if pool.route_service_url and not self.scene.asks_services:
            step = Step("developer", "route", "unbind the route service: this router calls none")
            return self._refused(bound, "route_service_unsupported", "the route wants a route service", step, allow)
        if pool.route_service_url and url is None:
            step = Step("developer", "route", "bind a route service with a URL such as https://guard.example/check")
            return self._refused(bound, "bad_route_service_url", "the URL of the route's service cannot be asked", step, allow)
        if allow.scopes and not any(in_scope(endpoint, allow.scopes, allow.caller) for endpoint in pool.endpoints):
            decision = deny_scope(allow)
            if isinstance(decision, Deny):
                return self._denied(decision)
            allow = decision
        self.trail += (Mark(*check) for check in allow.trail)
        if url is not None:
            detail = f"the request goes to the route service {url.authority.decode()} first, which may answer by itself"
            self.trail.append(Mark("route", "route_service", True, detail))
        return self._explanation(200, allow, None, allow.rule, allow.reason, self._remedy(allow))

    # ---- facts

    def _bound(self, now_epoch: float) -> Check:
        """The 421 check of a connection whose handshake has just ended well."""
        shaken = self.handshake
        if shaken is None:
            return check_binding(None, self.domain, "", now_epoch, revoked=False)
        pattern = shaken.domain.pattern if shaken.domain is not None else None
        today = shaken.policy.fingerprint
        binding = TlsBinding(shaken.sni, pattern, today, self._verified(), None, None)
        return check_binding(binding, self.domain, today, now_epoch, revoked=False)

    def _verified(self) -> bool:
        shaken, question = self.handshake, self.question
        showed = question.certificate is not None or question.caller is not None
        return shaken is not None and showed and shaken.policy.mode != "none"

    def _caller(self) -> Caller | IdentityError | None:
        """As Downstream.caller_for: nobody where no certificate was verified or the domain reads no identity."""
        if self.domain is None or not self.domain.reads_identity or not self._verified():
            return None
        return self.identity

    def _lookup(self, path: str | None = None) -> Route | None:
        return self.scene.table.lookup(self.target.host, self.target.path if path is None else path)

    def _shared(self) -> frozenset[str]:
        """The scopes that one endpoint of the route shares with the caller."""
        caller = self.identity if isinstance(self.identity, Caller) else None
        endpoints = self.route.pool.endpoints if self.route is not None else ()
        return next((kinds for kinds in _KINDS if any(in_scope(each, kinds, caller) for each in endpoints)), frozenset())

    # ---- answers

    def _alert(self, shaken: Handshake, now_epoch: float) -> Explanation:
        reason = f"{_WHY.get(shaken.outcome.reason, shaken.outcome.reason)} (alert {shaken.outcome.alert_name})"
        steps = Remedy((_handshake_step(shaken, self.question, now_epoch),))
        return self._explanation("alert", None, None, f"handshake:{shaken.outcome.reason}", reason, steps)

    def _denied(self, decision: Decision) -> Explanation:
        assert isinstance(decision, Deny)
        self.trail += (Mark(*check) for check in decision.trail)
        return self._explanation(decision.status, decision, decision.code, decision.rule, decision.reason, self._remedy(decision))

    def _ambiguous(self, bound: Check, normal: str) -> Explanation:
        answer = malformed(Malformed("ambiguous_path"))
        detail = "another spelling of the path selects another route"
        self.trail += (Mark(*bound), Mark("route", "ambiguous_path", False, detail))
        step = Step("caller", "path", f"ask for {normal[:200]}, the one spelling of this path")
        return self._explanation(answer.status, None, "malformed_request", None, detail, Remedy((step,)))

    def _refused(self, bound: Check, code: Code, why: str, step: Step, allow: Allow | None = None) -> Explanation:
        rule = REFUSALS[code]
        checks = (bound,) if allow is None else allow.trail
        self.trail += (*(Mark(*check) for check in checks), Mark("route", code, False, why))
        return self._explanation(rule.status, allow, rule.error, None, why, Remedy((step,)))

    def _remedy(self, decision: Decision) -> Remedy | None:
        if self.route is None:
            found = remedy(decision, self.domain, self.identity, NO_POLICY, host=self.target.host)
            if found is None or found.steps[0].edit is None:
                return found
            return Remedy((found.steps[0], Step("developer", "route", f"map a route for {self.target.host}: there is none")))
        policy = self.route.pool.policy
        return remedy(decision, self.domain, self.identity, policy, host=self.target.host, shared=self._shared())

    def _explanation(
        self,
        status: Status,
        decision: Decision | None,
        error: str | None,
        rule: str | None,
        reason: str | None,
        way: Remedy | None,
    ) -> Explanation:
        return Explanation(
            question=self.question, host=self.target.host, path=self.target.path,
            claim=_claim(self.scene.domains, self.domain, self.target.host), domain=self.domain, policy=self.policy,
            handshake=self.handshake, identity=self.identity, ous=self.ous, route=self.route, decision=decision, status=status,
            error=error, rule=rule, reason=reason, trail=tuple(self.trail), remedy=way, names=self.scene.names,
        )  # fmt: skip


def _target(question: Question) -> Target | Malformed:
    """What the router would read from a request that says this, by its own parsers."""
    host: str | None = question.host if question.host.isascii() else canonical(question.host)
    if not host or not _HOST.fullmatch(host):
        return Malformed("bad_host")
    if not _PATH.fullmatch(question.path):
        return Malformed("bad_target")
    head = parse_request_head(f"GET {question.path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), HeadLimits(MAX_HEAD, 1))
    if head is None or isinstance(head, Malformed):
        return head or Malformed("bad_target")
    return resolve_target(head)


def _sni(question: Question, target: Target | Malformed) -> str | Malformed | None:
    """The server name that the client sends: an address is none (RFC 6066, section 3)."""
    if question.sni is not None:
        name = question.sni if question.sni.isascii() else canonical(question.sni)
        if name is None:
            return Malformed("bad_sni")
        return read_server_name(name.encode()) if name else None
    if isinstance(target, Malformed) or target.host.startswith("["):
        return None
    return read_server_name(target.host.encode())


def _claim(domains: DomainTable, domain: DomainPolicy | None, host: Host) -> Claim:
    others = tuple(each.pattern for each in domains.policies if each is not domain and covers(each.pattern, host))
    bare = tuple(each.pattern for each in domains.policies if each.pattern == f"*.{host}")
    if domain is None:
        return Claim("none", bare, others)
    return Claim("suffix" if domain.pattern.startswith("*.") else "exact", bare, others)


def _handshake_mark(shaken: Handshake, *, shown: bool) -> Mark:
    name = f"SNI {shaken.sni}" if shaken.sni is not None else "no SNI"
    whose = f"{name} is in {shaken.domain.pattern}" if shaken.domain is not None else f"{name} is in no mTLS domain"
    outcome, mode = shaken.outcome, shaken.policy.mode
    if not outcome.ok:
        said = _WHY.get(outcome.reason, outcome.reason)
    elif mode == "none":
        said = "no client certificate is asked for"
    elif shaken.assumed:
        said = "a client certificate is asked for; one that its authorities issued is taken for granted"
    else:
        said = "the client certificate is good" if shown else "a client certificate is asked for and not insisted on"
    return Mark("handshake", outcome.reason, outcome.ok, f"{whose}: {said}")


def _handshake_step(shaken: Handshake, question: Question, now_epoch: float) -> Step:
    """Who can do what about a handshake that fails."""
    domain, reason = shaken.domain, shaken.outcome.reason
    whose = f"{domain.dialect}[domain={domain.pattern}]" if domain is not None else "client_cert_validation"
    name = domain.pattern if domain is not None else "hosts in no domain"
    if reason in ("crl_missing", "crl_stale"):
        return Step("operator", f"{whose}.crls", f"load today's revocation list of every authority of {name}")
    if reason == "expired" and not any(_ends(der) < now_epoch for der in (question.certificate or b"", *question.intermediates)):
        return Step("operator", f"{whose}.ca_certs", f"replace the authority of {name} that has expired")
    change = {
        "no_certificate": f"show a client certificate of an authority of {name}",
        "unknown_ca": f"get a certificate of an authority of {name}, and send its intermediates along",
        "expired": "get a new certificate: one of the chain has expired",
        "not_yet_valid": "wait until the certificate is valid, or set the clock that issued it",
        "revoked": "get a new certificate: one of the chain is revoked",
        "bad_purpose": "get a certificate for clients (extended key usage clientAuth)",
    }.get(reason, f"get a sound certificate of an authority of {name} ({reason})")
    return Step("caller", "certificate", change)


def _ends(der: bytes) -> float:
    """When a certificate ends, in epoch seconds; never for what is none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
    except UNREADABLE:
        return float("inf")
