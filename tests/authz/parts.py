"""Domains, policies and callers for the tests of this package."""

from collections.abc import Mapping
from typing import Any

from authz.domain import DomainPolicy
from authz.policy import PoolPolicy, RoutePolicy, conjunction, route_policy
from identity.caller import Caller, Guid

APP, SPACE, ORG = Guid("app-1"), Guid("space-1"), Guid("org-1")
CALLER = Caller(APP, SPACE, ORG)


def domain(**changes: Any) -> DomainPolicy:
    """Return an enforcing domain of the first dialect, with `changes`."""
    values: dict[str, Any] = {
        "pattern": "*.apps.mtls.internal",
        "dialect": "mtls_domains",
        "mode": "cf_identity",
        "identity_extractor": "cf_ou",
        "orgs": None,
        "spaces": None,
        "report_only": False,
        "xfcc_mode": "sanitize_set",
        "xfcc_format": "raw",
        "client_policy": "p1",
    }
    return DomainPolicy(**(values | changes))


def registered(options: Mapping[str, object], *bad_keys: str) -> RoutePolicy:
    """Return the policy of one registration with these options."""
    return route_policy(options, bad_keys, "ok", (*options, *bad_keys))


def pool(*registrations: Mapping[str, object]) -> PoolPolicy:
    """Return the policy of a pool with these registrations' options."""
    return conjunction(registered(options) for options in registrations)
