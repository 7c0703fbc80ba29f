"""The `deny` section: whom and what the operator takes out at once, and the lists that it compiles to.

Promises: every entry is checked as elsewhere (GUIDs, hosts or `*.suffix`, networks or addresses); hosts are canonical. Refuses to
know what a hit means (authz/deny.py, authz/decide.py) and which entries are idle (deny_advice.py).

Source: requirements 237-239.
"""

from pydantic import BaseModel

from authz.deny import NO_DENY, DenyLists
from router.config.domains import STRICT, entry
from router.config.scalars import GuidText, Network, Pattern

_OWNERS = "as callers (where a domain reads identities), and as owners of routes"


class Deny(BaseModel):
    """Lists that come before every other rule, and that nothing softens."""

    model_config = STRICT
    apps: tuple[GuidText, ...] = entry((), f"GUIDs of apps that are out: {_OWNERS} (by `app`, or their tag `app_id`)")
    spaces: tuple[GuidText, ...] = entry((), f"GUIDs of spaces that are out: {_OWNERS} (their tag `space_id`)")
    orgs: tuple[GuidText, ...] = entry((), f"GUIDs of orgs that are out: {_OWNERS} (their tag `organization_id`)")
    hosts: tuple[Pattern, ...] = entry((), "hosts that are out, or `*.suffix` for every host below it, at any depth; mTLS or not")
    backend_networks: tuple[Network, ...] = entry((), "networks or addresses of nodes that no request reaches, by whatever name")


def deny_lists(deny: Deny) -> DenyLists:
    """What the data plane asks; NO_DENY itself where nothing is listed."""
    lists = DenyLists(
        frozenset(deny.apps), frozenset(deny.spaces), frozenset(deny.orgs), frozenset(deny.hosts), deny.backend_networks
    )
    return NO_DENY if lists.empty else lists
