"""Where a call would happen: what the operator demands, and the routes; of a running router, or of files alone.

Promises: both ways to a scene compile by the same functions, so that what is explained from files is what the router would do.
Refuses to know calls, and what comes of them (explain.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from authz.deny import DenyLists
from authz.domain import DomainPolicy, DomainTable
from registry.names import NO_NAMES, Names
from registry.table import RouteTable
from router.config.compile import compile_domains, compile_open_policy
from router.config.deny import deny_lists
from router.config.model import Config
from router.live import Snapshot
from router.tls.contexts import ClientPolicy


class Scene(NamedTuple):
    """Where a call would happen: the operator's will, and the routes. `policies` are by pattern, `open_policy` is that of hosts
    in no domain.
    """

    domains: DomainTable
    policies: Mapping[str, ClientPolicy]
    deny: DenyLists
    table: RouteTable
    names: Names = NO_NAMES
    open_policy: ClientPolicy = ClientPolicy()
    asks_services: bool = False  # are route services asked?

    def policy_of(self, domain: DomainPolicy | None) -> ClientPolicy:
        """What a handshake of this domain (None: of no domain) must enforce."""
        return self.open_policy if domain is None else self.policies[domain.pattern]


def scene_of(snapshot: Snapshot, table: RouteTable, names: Names | None = None) -> Scene:
    """The scene of a running router."""
    found = {domain.pattern: snapshot.client_policy(domain.pattern) for domain in snapshot.domains.policies}
    policies = {pattern: policy for pattern, policy in found.items() if policy is not None}
    open_policy = snapshot.client_policy(None) or ClientPolicy()
    asks = snapshot.route_services is not None
    return Scene(snapshot.domains, policies, snapshot.deny, table, snapshot.names if names is None else names, open_policy, asks)


def scene_of_config(config: Config, table: RouteTable, names: Names = NO_NAMES) -> Scene:
    """The scene of a configuration that does not run. Raises CompileError."""
    domains, policies = compile_domains(config)
    asks = bool(config.route_services_secret.get_secret_value())
    return Scene(domains, policies, deny_lists(config.deny), table, names, compile_open_policy(config), asks)
