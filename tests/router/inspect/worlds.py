"""Small worlds to compare: domains, registered routes, and what decide.py answers there."""

import json
from collections.abc import Mapping
from typing import Any

from authz.binding import BOUND_DOMAIN, BOUND_OPEN
from authz.decide import decide, deny_scope
from authz.decision import Allow
from authz.deny import NO_DENY, DenyLists, denied_request
from authz.domain import DomainPolicy, DomainTable
from registry.balance import in_scope
from registry.ledger import Ledger, LedgerSettings
from registry.message import Malformed, parse_message
from registry.table import RouteTable
from router.inspect.judgement import Ask, Asked, Seen
from router.inspect.scene import Scene

Routes = Mapping[str, Mapping[str, object]]
"""uri -> options."""


def domain(pattern: str = "*.mtls.example", **more: Any) -> DomainPolicy:
    """A domain that enforces."""
    values: dict[str, Any] = {
        "dialect": "mtls_domains", "mode": "cf_identity", "identity_extractor": "cf_ou", "orgs": None, "spaces": None,
        "report_only": False, "xfcc_mode": "sanitize_set", "xfcc_format": "raw", "client_policy": "ca-1",
    }  # fmt: skip
    listed = {key: frozenset(value) for key, value in more.items() if key in ("orgs", "spaces") and value is not None}
    return DomainPolicy(pattern=pattern, **{**values, **more, **listed})


def table(routes: Routes, **more: Any) -> RouteTable:
    """As if an application had registered each of these; `more` are fields of all their messages."""
    ledger = Ledger(LedgerSettings())
    for uri, options in routes.items():
        data = json.dumps({"host": "192.0.2.1", "port": 80, "uris": [uri], "options": options, **more}).encode()
        message = parse_message(data)
        assert not isinstance(message, Malformed)
        ledger.register(message, data, 0.0)
    return ledger.publish()


def side(routes: Routes, *domains: DomainPolicy, deny: DenyLists = NO_DENY, **more: Any) -> Scene:
    """One state of the world."""
    return Scene(DomainTable(domains), {}, deny, table(routes, **more))


def asking(world: Scene) -> Ask:
    """What the doors of this world answer to callers whose handshake went well."""

    def ask(asked: Asked) -> Seen:
        claimed = world.domains.claim(asked.host)
        caller = asked.caller.identity
        if claimed is not None and caller is None:
            return Seen(False, "handshake")
        route = world.table.lookup(asked.host, asked.path)
        if route is None:
            return Seen(False, "404", 404, "unknown_route")
        bound = BOUND_OPEN if claimed is None else BOUND_DOMAIN
        denied = denied_request(world.deny, asked.host, claimed, caller)
        decision = decide(bound, claimed, caller if claimed is not None else None, route.pool.policy, denied=denied)
        scopes = decision.scopes if isinstance(decision, Allow) else frozenset[str]()
        if isinstance(decision, Allow) and not any(in_scope(each, scopes, caller) for each in route.pool.endpoints if scopes):
            decision = deny_scope(decision) if scopes else decision
        allowed = isinstance(decision, Allow)
        return Seen(allowed, "forwarded" if allowed else "403", None if allowed else 403, decision.rule, decision.reason or "")

    return ask
