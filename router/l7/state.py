"""What an exchange is: the request, what is known of it so far, and the record that it leaves behind.

Promise: one `Exchange` a request, filled as the story (`exchange.py`) and its attempts (`attempt.py`) go on; `finish` counts
it and hands exactly one access record over. Refuses to know: what is done next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from authz.decision import Allow, Decision
from authz.domain import DomainPolicy
from registry.active_apps import ActiveApps
from registry.balance import Pin, Selector
from registry.endpoint import Endpoint, Route
from registry.hostname import Host
from router.downstream import Downstream
from router.faults import Fault
from router.l7.entropy import Entropy
from router.l7.hygiene import NAMING, RANDOM_BYTES, make_ids
from router.l7.response_writer import ResponseWriter
from router.l7.route_service import Sealed, ServiceUrl, Unsealed
from router.l7.target import Target
from router.l7.upgrade import asked_upgrade
from router.live import Live
from router.net.body import BodyReader
from router.net.relay import Relay
from router.net.stream import Stream
from router.observe.access_log import AccessLog
from router.observe.access_record import AccessRecord
from router.observe.health import Health
from router.observe.log import Logger
from router.observe.metrics import Metrics
from router.observe.tap import Tap
from router.wire.http1 import NO_BODY, Fields, RequestHead
from router.wire.malformed import Malformed

SEMICOLON: Final = b"deprecated-semicolon-params"
_NO_TARGET: Final = Target(Host(""), "", b"")
NO_HEAD: Final = RequestHead(b"", b"", 1, [], None, NO_BODY, False, False, frozenset(), None, 0)


def _nowhere() -> Stream:
    raise Fault("dial_failed", "no way inside")


class Router:
    """What every exchange of the process shares."""

    __slots__ = (
        "access_log", "active", "connect_inside", "entropy", "headers_to_log", "health", "live", "local_address", "log", "loop",
        "metrics", "prune", "relays", "tap",
    )  # fmt: skip

    def __init__(
        self,
        live: Live,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        log: Logger,
        access_log: AccessLog,
        health: Health,
        prune: Callable[[str, Endpoint], object],
        local_address: bytes = b"",
        headers_to_log: tuple[bytes, ...] = (),
        tap: Tap | None = None,
        active: ActiveApps | None = None,
    ) -> None:
        self.live = live
        self.loop = loop
        self.metrics = metrics
        self.log = log
        self.access_log = access_log
        self.health = health
        self.prune = prune
        self.local_address = local_address
        self.headers_to_log = headers_to_log
        self.tap = Tap() if tap is None else tap
        self.active = active
        self.entropy = Entropy(RANDOM_BYTES)
        self.connect_inside: Callable[[], Stream] = _nowhere  # a connection of the router to itself
        self.relays: set[Relay] = set()  # of connections that switched to another protocol


class Permit:
    """What forwarding demands: the route and the `Allow`, both of one moment. `service` is where the request goes first."""

    __slots__ = ("allow", "domain", "route", "service")

    def __init__(self, route: Route, allow: Allow, domain: DomainPolicy | None, service: ServiceUrl | None = None) -> None:
        self.route = route
        self.allow = allow
        self.domain = domain
        self.service = service


class Exchange:
    """One request and its response; `body` and `writer` are how the client's version of HTTP moves them.

    `party` is whom the request is judged as: `conn`, but for what a route service sends back. `seal` is what the request says
    of a route service (None: nothing) and `passed_on` the fields of it that go on.
    `sent` is the last value of each field of the head, by name.
    `decision` is the last one made for it, None before any. `upgrade` is what a backend may switch to.
    `whole` is the body where all of it came with the head (None: it streams); `answering` is set once a byte of a final
    response may have gone to the client; `keep` says whether the connection may carry another request. `started` is
    the loop's clock, for deadlines; `clock` and `forwarded` are exact ones, for the record.
    """

    __slots__ = (
        "answering", "body", "clock", "component", "conn", "decision", "forwarded", "head", "ids", "keep", "malformed", "party",
        "passed_on", "pin", "record", "router", "seal", "selector", "sent", "snapshot", "started", "target", "upgrade", "whole",
        "writer",
    )  # fmt: skip

    def __init__(
        self, router: Router, conn: Downstream, head: RequestHead | Malformed, body: BodyReader, writer: ResponseWriter
    ) -> None:
        self.router = router
        self.body = body
        self.writer = writer
        self.conn = self.party = conn
        self.seal: Sealed | Unsealed | None = None
        self.passed_on: Fields = []
        self.malformed = head if isinstance(head, Malformed) else None
        self.head: RequestHead = head if isinstance(head, RequestHead) else NO_HEAD
        self.sent = sent = dict(self.head.fields)
        self.snapshot = snapshot = router.live.snapshot
        conn.under(snapshot)
        self.started = router.loop.time()
        self.clock = self.forwarded = time.perf_counter()
        named = [] if NAMING.isdisjoint(sent) else self.head.fields
        self.ids = make_ids(named, snapshot.headers, router.entropy.take())
        self.record = AccessRecord(time.time())
        self.upgrade = asked_upgrade(self.head) if self.head.upgrade is not None else None
        self.keep = False
        self.answering = False
        self.selector: Selector | None = None
        self.pin: Pin | None = None
        self.decision: Decision | None = None
        self.target = _NO_TARGET
        self.component = ""
        self.whole: bytes | None = b""

    @property
    def is_head(self) -> bool:
        return self.head.method == b"HEAD"

    @property
    def returned(self) -> bool:
        """Does a route service send this request back?"""
        return self.party is not self.conn

    @property
    def too_late(self) -> bool:
        """Has the time passed in which another attempt may begin?"""
        return self.router.loop.time() - self.started >= self.snapshot.limits.retry_deadline

    def as_it_matters(self, fault: Fault) -> Fault:
        """The fault, unless nobody waits for an answer any more: then the client cancelled, which is held against no endpoint,
        and nothing is tried again.
        """
        if fault.side != "upstream" or self.answering or not self.writer.gone():
            return fault
        return Fault("client_cancelled", fault.kind)

    def warnings(self) -> Fields:
        """What the response says of the request itself: `;` in its target, which frameworks no longer part parameters by."""
        if b";" not in self.head.target:
            return []
        self.router.log.sparse("deprecated-semicolon-params", vcap_request_id=self.ids.vcap)
        self.record.router_error = SEMICOLON.decode()
        return [(b"X-Cf-RouterError", SEMICOLON)]

    # ---- the record

    def describe(self) -> None:
        """What the access record says of the request."""
        record, conn, head, ids = self.record, self.conn, self.head, self.ids
        record.host = head.host or b""
        record.method = head.method
        record.uri = head.target
        record.proto = self.writer.proto
        record.remote_addr = conn.remote
        record.vcap_request_id = ids.vcap
        record.request_id = ids.request
        record.trace_id = ids.trace_id
        record.generation = self.snapshot.generation
        sent = self.sent
        record.referer = sent.get(b"referer", b"")
        record.user_agent = sent.get(b"user-agent", b"")
        if self.router.headers_to_log:
            record.extra_headers = tuple(sent.get(name, b"") for name in self.router.headers_to_log)
        self.describe_party()

    def describe_party(self) -> None:
        """What the access record says of the client."""
        record, party = self.record, self.party
        _, record.x_forwarded_for = party.facts.forwarded[0]
        _, record.x_forwarded_proto = party.facts.forwarded[1]
        if party.binding is not None:
            record.tls_sni = party.binding.sni
            if (caller := party.caller) is not None:
                record.caller_cf_app, record.caller_cf_space, record.caller_cf_org = caller.app, caller.space, caller.org
                record.caller_names = party.caller_names

    def describe_forwarded(self, fields: Fields) -> None:
        """Behind a trusted proxy the forwarding fields are not the connection's alone."""
        sent = dict(fields)
        self.record.x_forwarded_for = sent.get(b"X-Forwarded-For", b"")
        self.record.x_forwarded_proto = sent.get(b"X-Forwarded-Proto", b"")

    def describe_endpoint(self, endpoint: Endpoint) -> None:
        record = self.record
        record.backend_addr = endpoint.address
        record.app_id = endpoint.app
        record.app_index = endpoint.instance_index
        record.instance_id = endpoint.instance_id
        self.component = endpoint.tags.text("component")

    def describe_decision(self, allow: Allow, domain: DomainPolicy | None) -> None:
        record = self.record
        self.decision = allow
        record.mtls_auth, record.mtls_rule, record.mtls_denied_reason = allow.auth, allow.rule, allow.reason
        if allow.auth is not None:
            name = domain.pattern if domain is not None else ""
            self.router.metrics.mtls_decisions.labels(name, allow.auth, "").value += 1

    def finish(self) -> None:
        """Exactly one record, and the numbers."""
        record, router = self.record, self.router
        record.bytes_in += self.body.received
        record.response_time = seconds = time.perf_counter() - self.clock
        metrics = router.metrics
        metrics.count_response(record.status)
        metrics.gorouter_time.observe(seconds - record.app_time)
        metrics.bytes_in.value += record.bytes_in
        metrics.bytes_out.value += record.bytes_out
        if record.backend_addr:
            if router.active is not None:
                router.active.mark(record.app_id)
            if record.status != 101:  # the life of an upgraded connection is no latency
                self._count_answer(seconds)
        router.access_log.add(record)
        if router.tap.listeners:
            router.tap.offer(record, self.target.host, self.target.path, self.decision)

    def _count_answer(self, seconds: float) -> None:
        """What a backend's answer, or the want of one, adds to the numbers."""
        metrics = self.router.metrics
        metrics.latency.labels(self.component).observe(seconds * 1000)
        if metrics.http_latency_seconds is not None:
            metrics.http_latency_seconds.labels(self.record.app_id).observe(seconds)
        if self.upgrade is not None:
            metrics.websocket_failures.inc()
