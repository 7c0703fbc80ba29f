"""The operator's policies about requests as such: a User-Agent that is out, a header that must be there.

Promises: pure; the answer is the first policy that a request breaks, or None. A policy holds for its host and every path below
its own: every reading of a path counts that some backend may have, so that no spelling slips past. A header that is empty, or
that `Connection` tells the router to remove, is not there. Refuses to know routes, callers and what becomes of an answer.

Source: requirements 126-128 and 130.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from router.l7.target import readings
from router.wire.http1 import Fields

PolicyType = Literal["user_agent_block", "required_header"]


class Policy(NamedTuple):
    """One policy. `host` is canonical, or `*.suffix` for every host below it; `path` "" or "/..."; `value` as the operator wrote
    it: a part of the User-Agent, or a header's name, both without regard to case.
    """

    host: str
    path: str
    type: PolicyType
    value: str


class _Compiled(NamedTuple):
    policy: Policy
    paths: frozenset[str]  # empty: every path
    needle: bytes


class L7Policies:
    """All policies of one configuration, by host."""

    __slots__ = ("_by_host",)

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._by_host: dict[str, list[_Compiled]] = {}
        for policy in policies:
            paths = readings(policy.path) if policy.path else frozenset()
            needle = policy.value.lower().encode("ascii")
            self._by_host.setdefault(policy.host, []).append(_Compiled(policy, paths, needle))

    def broken(self, host: str, path: str, fields: Fields, connection: frozenset[bytes]) -> Policy | None:
        """The first policy that the request breaks. `host` must be canonical; `connection`: what its Connection fields name."""
        pattern, dot = host, host.find(".", 1)
        read: frozenset[str] | None = None
        while True:
            for one in self._by_host.get(pattern, ()):
                if one.paths:
                    read = readings(path) if read is None else read
                    if not _is_below(read, one.paths):
                        continue
                if _breaks(one, fields, connection):
                    return one.policy
            if dot < 0:
                return None
            pattern, dot = "*" + host[dot:], host.find(".", dot + 1)


def _is_below(read: frozenset[str], paths: frozenset[str]) -> bool:
    return any(one == path or one.startswith(path + "/") for one in read for path in paths)


def _breaks(one: _Compiled, fields: Fields, connection: frozenset[bytes]) -> bool:
    needle = one.needle
    match one.policy.type:
        case "user_agent_block":
            return any(name == b"user-agent" and needle in value.lower() for name, value in fields)
        case "required_header":
            return needle in connection or not any(name == needle and value for name, value in fields)
