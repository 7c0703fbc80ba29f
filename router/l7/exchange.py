"""THE OTHER STORY: one request and its response, from head to access record.

    target -> domain -> binding (421) -> route (404) -> decide (403) -> pick -> headers -> forward -> relay -> record

Promise: nothing is forwarded without an `Allow`; every attempt asks again, under the policy of its moment; every exchange
ends in exactly one access record. The backend sees no byte of a request that was refused. Bodies stream both ways with
back-pressure: an exchange holds one receive's worth of each. Refuses to know: how a decision is made (`authz/decide.py`),
what a fault means (`router/faults.py`), which fields pass (`hygiene.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, NoReturn

from authz.binding import check_binding
from authz.decide import decide, deny_scope
from authz.decision import Allow, Check, Deny
from authz.domain import DomainPolicy
from authz.policy import NO_POLICY
from identity.caller import Caller
from registry.balance import NoEndpoint, Selector, choose, parse_app_instance, parse_process_instance
from registry.endpoint import Endpoint, Route
from registry.hostname import Host
from router.backend.retry import Sent, may_resend
from router.backend.upstream import Upstream
from router.downstream import Downstream
from router.faults import Fault
from router.l7.entropy import Entropy
from router.l7.hygiene import (
    RANDOM_BYTES,
    make_ids,
    refusal_fields,
    request_fields,
    response_fields,
    vcap_trace,
)
from router.l7.refusal import Code, Refusal, failure, healthcheck, malformed, refusal
from router.l7.target import Target, normalised_path, resolve_target
from router.limits import Limits
from router.live import Live
from router.net.channel import Body, BodyMalformed, BodyTruncated
from router.observe.access_log import AccessLog
from router.observe.access_record import AccessRecord
from router.observe.health import Health
from router.observe.log import Logger
from router.observe.metrics import Metrics
from router.wire.http1 import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    ChunkedDecoder,
    Fields,
    RequestHead,
    ResponseHead,
    encode_chunk,
    encode_last_chunk,
    parse_response_head,
    render_request_head,
    render_response_head,
)
from router.wire.malformed import Malformed

_NO_TARGET: Final = Target(Host(""), "", b"")
_NO_HEAD: Final = RequestHead(b"", b"", 1, [], None, NO_BODY, False, False, frozenset(), None, 0)


class Router:
    """What every exchange of the process shares."""

    __slots__ = ("access_log", "entropy", "headers_to_log", "health", "live", "local_address", "log", "loop", "metrics", "prune")

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
        self.entropy = Entropy(RANDOM_BYTES)


class Refused(Exception):
    """The router answers by itself."""

    def __init__(self, answer: Refusal) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Permit:
    """What `admit` found: the route and the `Allow` that forwarding demands, both of one moment."""

    __slots__ = ("allow", "domain", "route")

    def __init__(self, route: Route, allow: Allow, domain: DomainPolicy | None) -> None:
        self.route = route
        self.allow = allow
        self.domain = domain


class Exchange:
    """One request and its response."""

    __slots__ = (
        "began", "body", "broken", "bytes_left", "component", "conn", "gone", "head", "ids", "keep", "malformed", "pump",
        "record", "router", "selector", "snapshot", "started", "taken", "target", "upstream", "whole",
    )  # fmt: skip

    def __init__(self, router: Router, conn: Downstream, head: RequestHead | Malformed) -> None:
        self.router = router
        self.conn = conn
        self.malformed = head if isinstance(head, Malformed) else None
        self.head: RequestHead = head if isinstance(head, RequestHead) else _NO_HEAD
        self.snapshot = snapshot = router.live.snapshot
        conn.under(snapshot)
        self.started = router.loop.time()
        self.ids = make_ids(self.head.fields, snapshot.headers, router.entropy.take())
        self.record = AccessRecord(time.time())
        self.keep = False
        self.began = False
        self.bytes_left = False
        self.taken = False  # has the backend been sent the whole request?
        self.broken: Fault | None = None  # what ended the request's body early
        self.gone = False
        self.upstream: Upstream | None = None
        self.pump: asyncio.Task[None] | None = None
        self.selector: Selector | None = None
        self.target = _NO_TARGET
        self.component = ""
        self.whole: bytes | None = b""
        limits = snapshot.limits
        framing = self.head.body
        self.body = Body(conn, framing, _decoder(limits) if framing == CHUNKED else None)

    # ---- the story

    async def run(self) -> bool:
        """Answer the request; True when the connection may carry another. Raises OSError or TimeoutError when the client is
        gone.
        """
        try:
            self._describe()
            self._read_target()
            self.keep = self.head.keep_alive and not self.router.health.draining
            permit = self._admit()
            self.whole = self.body.buffered()
            await self._forward(permit)
        except Refused as refused:
            await self._answer(refused.answer)
        except Fault as fault:
            await self._fail(fault)
        finally:
            self._finish()
        return self.keep and self.body.done and not self.conn.closing

    def _read_target(self) -> None:
        """What the head asks for, and what the router answers by itself before anybody's policy."""
        if self.malformed is not None:
            self._refuse_malformed(self.malformed)
        head = self.head
        target = resolve_target(head, self.conn.facts.host)
        if isinstance(target, Malformed):
            self._refuse_malformed(target)
        self.target = target
        agent = self.snapshot.healthcheck_user_agent
        if agent:
            probe = healthcheck(head.fields, agent, healthy=self.router.health.good, is_head=head.method == b"HEAD")
            if probe is not None:
                raise Refused(probe)

    def _admit(self) -> Permit:
        """Both doors, by the snapshots of this moment. Raises Refused."""
        snapshot, conn, target = self.router.live.snapshot, self.conn, self.target
        self.snapshot = snapshot
        conn.under(snapshot)
        domain = snapshot.domains.claim(target.host)
        bound = self._bound(domain)
        route = self._lookup() if bound.passed else None
        if bound.passed and route is None:
            self._refuse("unknown_route")
        policy = route.pool.policy if route is not None else NO_POLICY
        decision = conn.decisions.get((domain, policy))
        if decision is None or not bound.passed:
            decision = decide(bound, domain, conn.caller_for(domain), policy)
            if bound.passed:
                conn.decisions[domain, policy] = decision
        if isinstance(decision, Deny):
            self._deny(decision, domain, route)
        assert route is not None
        self._note(decision, domain)
        self._check_pool(route)
        return Permit(route, decision, domain)

    def _bound(self, domain: DomainPolicy | None) -> Check:
        """The 421 check; remembered for the connection while the configuration stands and the certificate is in date."""
        conn = self.conn
        binding = conn.binding
        expired = binding is not None and binding.not_after is not None and binding.not_after < self.record.started_at
        bound = conn.bound.get(domain)
        if bound is not None and not expired:
            return bound
        policy = self.snapshot.client_policy(binding.domain) if binding is not None else None
        revoked = policy is not None and conn.client is not None and conn.client.is_on(policy.revoked)
        today = policy.fingerprint if policy is not None else ""
        bound = conn.bound[domain] = check_binding(binding, domain, today, self.record.started_at, revoked)
        return bound

    def _lookup(self) -> Route | None:
        """The route, unless another spelling of the path would select another one: then 400."""
        started = time.perf_counter_ns()
        table, target = self.router.live.table, self.target
        route = table.lookup(target.host, target.path)
        normal = normalised_path(target.path)
        if normal is not None and table.lookup(target.host, normal) is not route:
            self._refuse_malformed(Malformed("ambiguous_path"))
        self.router.metrics.route_lookup_time.observe(time.perf_counter_ns() - started)
        return route

    def _check_pool(self, route: Route) -> None:
        """What can be refused before an endpoint is chosen."""
        head, pool = self.head, route.pool
        if not pool.endpoints:
            self._refuse("no_endpoints")
        if pool.route_service_url:
            self._refuse("route_service_unsupported")
        limit = self.snapshot.limits.request_body_bytes
        if head.body > limit:
            self._refuse("request_body_too_large")
        self.selector = self._read_selector()

    def _read_selector(self) -> Selector | None:
        """The instance that the client wants: X-CF-App-Instance, else X-CF-Process-Instance; the same twice is malformed."""
        app: Selector | None = None
        process: Selector | None = None
        for name, value in self.head.fields:
            if name == b"x-cf-app-instance":
                app = parse_app_instance(value) if app is None else None
                if app is None:
                    self._refuse("invalid_cf_app_instance_header")
            elif name == b"x-cf-process-instance":
                process = parse_process_instance(value) if process is None else None
                if process is None:
                    self._refuse("invalid_cf_process_instance_header")
        return app or process

    async def _forward(self, permit: Permit) -> None:
        """Try endpoints until one has answered, as often as the operator allows and the resend rule permits."""
        tried: set[str] = set()
        last: Fault | None = None
        attempts = 0
        while True:
            endpoint, permit = self._pick(permit, tried, last)
            tried.add(endpoint.address)
            attempts += 1
            began = self.router.loop.time()
            try:
                await self._try(permit, endpoint)
                return
            except Fault as fault:
                sent = self._sent()
                stale = sent.reused and fault.kind in ("connection_closed", "connection_reset")
                self._after_fault(fault, permit.route, endpoint, sent, began)
                if not may_resend(fault, self.head, sent):
                    raise
                if stale:
                    # The endpoint closed an idle connection: that says nothing about it, and costs no attempt.
                    tried.discard(endpoint.address)
                    attempts -= 1
                    self.snapshot.idle.drop(endpoint)
                elif attempts >= self.snapshot.limits.max_attempts:
                    raise
                last = fault
            permit = self._admit()

    def _pick(self, permit: Permit, tried: set[str], last: Fault | None) -> tuple[Endpoint, Permit]:
        """An endpoint that the caller may reach and that was not tried yet. Raises Refused, or `last` when none is left."""
        allow, pool = permit.allow, permit.route.pool
        scopes = allow.scopes
        while True:
            found = choose(
                pool, scopes, allow.caller, self.router.loop.time(), tried,
                selector=self.selector, max_conns=self.snapshot.limits.max_in_flight_per_endpoint,
            )  # fmt: skip
            if isinstance(found, Endpoint):
                self._describe_endpoint(found)
                return found, permit
            if last is not None:
                raise last
            self.router.metrics.backend_selection_errors.labels(found.reason).inc()
            if found.reason != "scope" or not scopes:
                self._refuse_unpicked(found)
            softened = deny_scope(allow)
            if isinstance(softened, Deny):
                self._deny(softened, permit.domain, permit.route)
            permit.allow = allow = softened
            scopes = allow.scopes
            self._note(allow, permit.domain)

    def _refuse_unpicked(self, found: NoEndpoint) -> None:
        match found.reason:
            case "instance":
                selector = self.selector
                assert selector is not None
                self._refuse("unknown_instance", instance=selector.index or "", guid=selector.guid)
            case "overloaded":
                self.router.metrics.backend_exhausted_conns.inc()
                self._refuse("Connection Limit Reached")
            case _:
                self._refuse("no_endpoints")

    # ---- one attempt

    async def _try(self, permit: Permit, endpoint: Endpoint) -> None:
        """Send the request to `endpoint` and relay its answer. Raises Fault."""
        router, conn = self.router, self.conn
        self.began = self.bytes_left = False
        upstream = await self._connect(endpoint)
        self.upstream = upstream
        pulse = endpoint.pulse
        pulse.in_flight += 1
        counted = True
        try:
            deadline = self.started + self.snapshot.limits.endpoint_deadline
            await self._send_request(permit, upstream, deadline)
            if self.pump is None:
                conn.stream.watch(self._client_stirred)
            response = await self._read_response_head(upstream, deadline)
            pulse.in_flight -= 1
            counted = False
            await self._relay(upstream, response, deadline)
        except BaseException:
            upstream.close()
            raise
        finally:
            conn.stream.watch(None)
            if counted:
                pulse.in_flight -= 1
            if self.pump is not None:
                await self._stop_pump(self.pump)
        router.metrics.total_requests.labels(self.component).value += 1

    async def _connect(self, endpoint: Endpoint) -> Upstream:
        """A pooled connection that is still alive as far as can be known, else a new one."""
        snapshot, record = self.snapshot, self.record
        while (upstream := snapshot.idle.take(endpoint)) is not None:
            # An idle backend has nothing to say: what it said all the same would pass for the answer to this request.
            if upstream.stream.quiet():
                return upstream
            upstream.close()
        upstream = await snapshot.dialer.dial(endpoint)
        record.dial_time, record.tls_time = upstream.dial_time, upstream.tls_time
        self.router.metrics.backend_dial_seconds.observe(upstream.dial_time)
        return upstream

    async def _send_request(self, permit: Permit, upstream: Upstream, until: float) -> None:
        """The head, with as much of the body as is here; the rest goes its own way beside the response."""
        data = self._render_head(permit, upstream.endpoint)
        if self.whole:
            data += self.whole
        stream = upstream.stream
        self.bytes_left = True
        try:
            rest = stream.push(data)
            if rest is not None:
                await stream.send(rest, until)
        except TimeoutError:
            raise Fault("endpoint_timeout", "sending") from None
        except OSError as error:
            raise Fault("connection_reset", str(error)) from error
        self.taken = self.whole is not None
        if not self.taken:
            self.pump = self.router.loop.create_task(self._send_body(upstream, until))

    def _render_head(self, permit: Permit, endpoint: Endpoint) -> bytes:
        head, conn, snapshot = self.head, self.conn, self.snapshot
        mode, form = snapshot.xfcc_for(permit.domain)
        xfcc = conn.client.xfcc(form) if conn.client is not None else None
        start = b"%d" % (self.record.started_at * 1000)
        fields = request_fields(head, conn.facts, snapshot.headers, mode, xfcc, self.ids, endpoint, start)
        if conn.facts.trusted:
            self._describe_forwarded(fields)
        if head.body == CHUNKED:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if head.expect_continue and self.whole is None:
            fields.append((b"Expect", b"100-continue"))
        if snapshot.idle.per_endpoint <= 0:
            fields.append((b"Connection", b"close"))
        return render_request_head(head.method, self.target.raw, fields)

    async def _send_body(self, upstream: Upstream, until: float) -> None:
        """The request body, piece by piece, in a task of its own: the response may begin, and even end, before it."""
        body, loop, stall = self.body, self.router.loop, self.snapshot.limits.client_read_stall
        limit = self.snapshot.limits.request_body_bytes
        try:
            while True:
                data = await body.read(loop.time() + stall)
                if body.received > limit:
                    raise Fault("request_body_too_large")
                if body.framing == CHUNKED:
                    data = encode_chunk(data) if data else b""
                    if body.done:
                        data += encode_last_chunk(body.trailers)
                if data and not await self._send_piece(upstream, data, until):
                    return
                if body.done:
                    self.taken = True
                    return
        except Fault as fault:
            self._interrupt(upstream, fault)
        except TimeoutError:
            self._interrupt(upstream, Fault("request_timeout", "body"))
        except BodyMalformed as error:
            self.router.metrics.malformed_requests.labels(error.reason).inc()
            self._interrupt(upstream, Fault("request_malformed", error.reason))
        except (BodyTruncated, OSError):
            self._interrupt(upstream, Fault("client_cancelled", "body"))

    async def _send_piece(self, upstream: Upstream, data: bytes, until: float) -> bool:
        """False when the backend reads no more: it may still answer, so its response, or its end, is for the reading side to
        find.
        """
        try:
            await upstream.stream.send(data, until)
        except TimeoutError:
            raise Fault("endpoint_timeout", "sending") from None
        except OSError:
            self.keep = False
            return False
        return True

    def _interrupt(self, upstream: Upstream, fault: Fault) -> None:
        """Raise `fault` in the task that waits for the response; from the body's task, so on the loop's next turn. If it waits
        for the client just then, it finds the fault when it turns to the backend again.
        """
        self.keep = False
        self.broken = fault
        self.router.loop.call_soon(upstream.stream.interrupt, fault)

    async def _stop_pump(self, pump: asyncio.Task[None]) -> None:
        self.pump = None
        if not pump.done():
            self.keep = False
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pump

    def _client_stirred(self) -> None:
        """The client did something while it waits for its response: if it left, stop asking for it."""
        upstream = self.upstream
        if upstream is not None and self.conn.stream.peer_left():
            upstream.stream.interrupt(Fault("client_cancelled"))

    async def _read_response_head(self, upstream: Upstream, until: float) -> ResponseHead:
        """The final response's head; interim ones (1xx) are passed on as they come. Raises Fault."""
        left = self.snapshot.limits.informational_responses
        while True:
            response = await self._read_one_head(upstream, until)
            if response.status == 101:
                raise Fault("response_malformed", "101 without an upgrade")
            if response.status >= 200:
                return response
            if left == 0:
                raise Fault("response_malformed", "too many interim responses")
            left -= 1
            if self.head.minor == 1:
                fields = response_fields(response.fields, response.connection, self.snapshot.headers, self.ids)
                await self._send_client(render_response_head(response.status, response.reason, fields))

    async def _read_one_head(self, upstream: Upstream, until: float) -> ResponseHead:
        data: bytes | bytearray = upstream.buffer
        upstream.buffer = b""
        searched = 0
        while True:
            if data:
                self.began = True
                head = parse_response_head(data, self.snapshot.response_limits, self.head.method, searched)
                if isinstance(head, ResponseHead):
                    upstream.buffer = bytes(data[head.size :])
                    return head
                if head is not None:
                    raise Fault("response_too_large" if head.status == 431 else "response_malformed", head.reason)
                searched = len(data)
            if self.broken is not None:
                raise self.broken
            try:
                more = await upstream.stream.recv(until)
            except TimeoutError:
                raise Fault("endpoint_timeout", "response head") from None
            except OSError as error:
                raise Fault("connection_reset", str(error)) from error
            if not more:
                raise Fault("response_truncated" if data else "connection_closed")
            if isinstance(data, bytearray):
                data += more
            else:
                data = bytearray(data) + more if data else more

    async def _relay(self, upstream: Upstream, response: ResponseHead, until: float) -> None:
        """Pass the response on. From here on nothing can be retried, and a failure can only end the client's connection."""
        conn, record = self.conn, self.record
        body = Body(upstream, response.body, _decoder(self.snapshot.limits) if response.body == CHUNKED else None)
        chunked = response.body in (CHUNKED, UNTIL_CLOSE) and self.head.minor == 1
        if (response.body < 0 and not chunked) or not self.taken or conn.closing:
            self.keep = False
        record.status = response.status
        data = self._response_head(upstream, response, chunked=chunked)
        ended = body.done
        if ended or not upstream.buffer:
            self.gone = True
            await self._send_client(data)
            data = b""
        while not ended:
            piece = await self._read_piece(body, until)
            record.bytes_out += len(piece)
            ended = body.done
            if chunked:
                piece = encode_chunk(piece) if piece else b""
                if ended:
                    piece += encode_last_chunk(body.trailers)
            if data or piece:
                self.gone = True
                await self._send_client(data + piece if data else piece)
                data = b""
        record.backend_time = record.app_time = self.router.loop.time() - self.started
        if response.keep_alive and response.body != UNTIL_CLOSE and self.taken:
            self.snapshot.idle.give(upstream)
        else:
            upstream.close()

    async def _read_piece(self, body: Body, until: float) -> bytes:
        if self.broken is not None:
            raise self.broken
        try:
            return await body.read(until)
        except TimeoutError:
            raise Fault("endpoint_timeout", "response body") from None
        except BodyMalformed as error:
            raise Fault("response_malformed", error.reason) from error
        except BodyTruncated as error:
            raise Fault("response_truncated") from error
        except OSError as error:
            raise Fault("response_truncated", str(error)) from error

    def _response_head(self, upstream: Upstream, response: ResponseHead, *, chunked: bool) -> bytes:
        ids = self.ids
        extra = vcap_trace(self.router.local_address, upstream.endpoint.address.encode()) if ids.traced else ()
        fields = response_fields(response.fields, response.connection, self.snapshot.headers, ids, extra)
        if chunked:
            fields.append((b"Transfer-Encoding", b"chunked"))
        elif response.status == 204:  # RFC 9110 section 8.6: no length where there can be no content
            fields = [field for field in fields if field[0] != b"content-length"]
        self._add_connection(fields)
        return render_response_head(response.status, response.reason, fields)

    def _add_connection(self, fields: Fields) -> None:
        if not self.keep:
            fields.append((b"Connection", b"close"))
        elif self.head.minor == 0:
            fields.append((b"Connection", b"keep-alive"))

    async def _send_client(self, data: bytes) -> None:
        try:
            rest = self.conn.stream.push(data)
            if rest is not None:
                await self.conn.stream.send(rest, self.router.loop.time() + self.snapshot.limits.client_write_stall)
        except (OSError, TimeoutError) as error:
            raise Fault("client_gone_while_streaming", type(error).__name__) from error

    # ---- refusing

    def _refuse(self, code: Code, *, instance: str = "", guid: str = "") -> NoReturn:
        is_head = self.head.method == b"HEAD"
        raise Refused(refusal(code, is_head=is_head, host=self.target.host, instance=instance, guid=guid))

    def _refuse_malformed(self, reason: Malformed) -> NoReturn:
        self.router.metrics.malformed_requests.labels(reason.reason).inc()
        self.router.log.sparse("malformed-request", reason=reason.reason, status=reason.status, remote=self.conn.remote)
        raise Refused(malformed(reason, is_head=self.head.method == b"HEAD"))

    def _deny(self, decision: Deny, domain: DomainPolicy | None, route: Route | None) -> NoReturn:
        """Refuse with the decision's code; its reason goes to the access record and the metrics, never to the client."""
        metrics, record = self.router.metrics, self.record
        name = domain.pattern if domain is not None else ""
        if decision.status == 421:
            metrics.mtls_misdirected.labels(name or self.conn.binding_domain).inc()
        metrics.mtls_decisions.labels(name, "deny", decision.label).inc()
        record.mtls_auth, record.mtls_rule, record.mtls_denied_reason = decision.log_fields()
        if route is not None and route.pool.endpoints:
            record.app_id = route.pool.endpoints[0].app
        self.router.log.sparse(
            "mtls-enforcement-mismatch" if decision.status == 421 else "mtls-pre-auth-denied",
            host=self.target.host,
            tls_sni=record.tls_sni,
            tls_mtls_domain=self.conn.binding_domain,
            vcap_request_id=self.ids.vcap,
            trail=[check._asdict() for check in decision.trail],
        )
        if decision.close:
            self.keep = False
        self._refuse(decision.code)

    async def _answer(self, answer: Refusal) -> None:
        """Send a response of the router's own."""
        if answer.close or not self._drained():
            self.keep = False
        record = self.record
        record.status = answer.status
        record.bytes_out = len(answer.body)
        fields = refusal_fields(answer.fields, self.snapshot.headers, self.ids)
        record.router_error = next((value.decode() for name, value in fields if name == b"X-Cf-RouterError"), "")
        self._add_connection(fields)
        self.router.metrics.rejected_requests.value += 1
        self.gone = True
        data = render_response_head(answer.status, answer.reason, fields) + answer.body
        try:
            await self._send_client(data)
        except Fault:
            self.keep = False

    def _drained(self) -> bool:
        """Is the request's body out of the way, so that the next head can follow?"""
        return self.body.done or self.body.buffered() is not None

    async def _fail(self, fault: Fault) -> None:
        """Answer for a fault where the response has not begun; else all that is left is to end the connection."""
        record = self.record
        record.router_error = fault.rule.router_error
        if self.gone or (fault.side == "downstream" and fault.rule.status == 499):
            self.keep = False
            record.status = record.status or fault.rule.status
            self.conn.stream.reset()
            return
        if fault.rule.status == 502:
            self.router.metrics.bad_gateways.inc()
        await self._answer(failure(fault, is_head=self.head.method == b"HEAD"))

    # ---- telling

    def _sent(self) -> Sent:
        upstream = self.upstream
        self.upstream = None
        reused = upstream is not None and upstream.reused
        return Sent(self.bytes_left, reused, self.began, self.whole is not None)

    def _after_fault(self, fault: Fault, route: Route, endpoint: Endpoint, sent: Sent, began: float) -> None:
        """Log a failed attempt, and mark or prune the endpoint if the fault says something about it."""
        router, record, loop = self.router, self.record, self.router.loop
        rule = fault.rule
        record.failed_attempts += 1
        record.failed_attempts_time = max(record.failed_attempts_time, 0.0) + loop.time() - began
        if fault.side == "downstream":
            return
        router.log.sparse(
            "backend-endpoint-failed", error=fault.kind, detail=fault.detail, address=endpoint.address, route=self.target.host,
            attempt=record.failed_attempts, conn_reused=sent.reused, vcap_request_id=self.ids.vcap,
        )  # fmt: skip
        router.metrics.count_backend_fault(fault.kind)
        if rule.failable and not (sent.reused and not sent.response_began):
            endpoint.pulse.failed_until = loop.time() + self.snapshot.limits.failed_mark
        if rule.prunable and endpoint.tls:
            router.prune(route.key, endpoint)

    def _note(self, decision: Allow, domain: DomainPolicy | None) -> None:
        record = self.record
        record.mtls_auth, record.mtls_rule, record.mtls_denied_reason = decision.log_fields()
        if decision.auth is not None:
            name = domain.pattern if domain is not None else ""
            self.router.metrics.mtls_decisions.labels(name, decision.auth, "").value += 1

    def _describe(self) -> None:
        """What the access record says of the request."""
        record, conn, head, ids = self.record, self.conn, self.head, self.ids
        record.host = head.host or b""
        record.method = head.method
        record.uri = head.target
        record.proto = b"HTTP/1.1" if head.minor else b"HTTP/1.0"
        record.remote_addr = conn.remote
        record.vcap_request_id = ids.vcap
        record.request_id = ids.request
        record.trace_id = ids.trace_id
        record.generation = self.snapshot.generation
        _, record.x_forwarded_for = conn.facts.forwarded[0]
        _, record.x_forwarded_proto = conn.facts.forwarded[1]
        for name, value in head.fields:
            if name == b"referer":
                record.referer = value
            elif name == b"user-agent":
                record.user_agent = value
        if self.router.headers_to_log:
            sent = dict(head.fields)
            record.extra_headers = tuple(sent.get(name, b"") for name in self.router.headers_to_log)
        if conn.binding is not None:
            record.tls_sni = conn.binding.sni
            if conn.client is not None and isinstance(caller := conn.client.caller, Caller):
                record.caller_cf_app, record.caller_cf_space, record.caller_cf_org = (
                    caller.app,
                    caller.space,
                    caller.org,
                )

    def _describe_forwarded(self, fields: Fields) -> None:
        """Behind a trusted proxy the forwarding fields are not the connection's alone."""
        sent = dict(fields)
        self.record.x_forwarded_for = sent.get(b"X-Forwarded-For", b"")
        self.record.x_forwarded_proto = sent.get(b"X-Forwarded-Proto", b"")

    def _describe_endpoint(self, endpoint: Endpoint) -> None:
        record = self.record
        record.backend_addr = endpoint.address
        record.app_id = endpoint.app
        record.app_index = endpoint.instance_index
        record.instance_id = endpoint.instance_id
        self.component = endpoint.tags.get("component", "")

    def _finish(self) -> None:
        """Exactly one record, and the numbers."""
        record, router = self.record, self.router
        record.bytes_in = self.body.received
        record.response_time = seconds = router.loop.time() - self.started
        metrics = router.metrics
        metrics.count_response(record.status)
        metrics.gorouter_time.observe(seconds - record.app_time)
        metrics.bytes_in.value += record.bytes_in
        metrics.bytes_out.value += record.bytes_out
        if record.backend_addr:
            metrics.latency.labels(self.component).observe(seconds * 1000)
            if metrics.http_latency_seconds is not None:
                metrics.http_latency_seconds.labels(record.app_id).observe(seconds)
        router.access_log.add(record)


def _decoder(limits: Limits) -> ChunkedDecoder:
    return ChunkedDecoder(limits.chunk_line_bytes, limits.trailer_bytes, limits.trailer_fields)
