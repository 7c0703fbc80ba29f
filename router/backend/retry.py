"""May a request be sent again? The resend rule, pure.

A request is sent again only when not one of its bytes left for a backend, or when it is idempotent, has no body or a wholly
kept one, and the failure came on a *reused* connection before any response byte: then the backend closed an idle connection
while the request was on its way, and nobody served it. Idempotent is what GoRouter takes for it: GET, HEAD, OPTIONS, TRACE,
or a request that carries an idempotency key. Any request is sent again that an HTTP/2 backend has said it did not process.
Source: RFC 9110 section 9.2.2, RFC 9112 section 9.3.1, RFC 9113 section 8.7.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from router.faults import Fault
from router.wire.http1 import RequestHead

_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
_KEYS: Final = frozenset({b"idempotency-key", b"x-idempotency-key"})


class Sent(NamedTuple):
    """How far a try got when it failed."""

    bytes_left: bool
    reused: bool
    response_began: bool
    body_kept: bool


def is_idempotent(head: RequestHead) -> bool:
    return head.method in _SAFE or any(name in _KEYS for name, _ in head.fields)


def may_resend(fault: Fault, head: RequestHead, sent: Sent) -> bool:
    """Is another try allowed after `fault`?"""
    rule = fault.rule.retriable
    if rule == "no" or sent.response_began:
        return False
    if not sent.bytes_left:
        return True
    if rule == "unprocessed":
        return sent.body_kept
    return rule == "idempotent_reused" and sent.reused and sent.body_kept and is_idempotent(head)
