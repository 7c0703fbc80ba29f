"""Every metric of the router, with its help text: the one list that code, scrape and reference page share.

Promises: GoRouter's names exactly, without `_total`; labels that no client can widen (never a GUID or a path,
but for `http_latency_seconds`, which exists only where `per_app_prometheus_http_metrics_reporting` asks for
it).
Refuses to know who counts, and HTTP (status.py serves the text). Counting costs what meters.py says.

Whoever counts keeps the child: `allowed = metrics.mtls_decisions.labels(domain, "allowed", "")`, then
`allowed.inc()`.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest

from router.faults import Kind
from router.observe.meters import Counter, Family, Histogram, Sampled, SampledVector, Single, Vector, render

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

DEFAULT_BUCKETS: Mapping[str, tuple[float, ...]] = {
    "route_lookup_time_histogram_buckets": tuple(range(10_000, 100_001, 10_000)),
    "route_registration_latency_histogram_buckets": (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4),
    "routing_response_latency_histogram_buckets": (1, 2, 4, 6, 8, 10, 20, 40, 50, 100, 500, 1000),
    "http_latency_histogram_buckets": (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6),
    "gorouter_time_histogram_buckets": (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
}
"""Bucket bounds by their key in `prometheus.meters`, where they can be changed."""

DIAL_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)

AnyFamily = TypeVar("AnyFamily", bound=Family)


class Metrics:
    """All families, as attributes. `meters`: the operator's bucket bounds (`prometheus.meters`)."""

    def __init__(self, meters: Mapping[str, Sequence[float]] | None = None, *, per_app: bool = False) -> None:
        self.families: list[Family] = []
        self.process = _process_registry()
        self._define_registry(meters or {})
        self._define_requests(meters or {}, per_app=per_app)
        self._define_backends()
        self._define_doors()
        self._define_passthrough()
        self._define_router()
        groups = ("2xx", "3xx", "4xx", "5xx")
        self.bytes_in = self.client_bytes.labels("in")
        self.bytes_out = self.client_bytes.labels("out")
        self._xxx = self.responses.labels("xxx")
        self._by_group = {group: self.responses.labels(name) for group, name in enumerate(groups, start=2)}

    def count_response(self, status: int | None) -> None:
        """Count a final status by its group; one that is no status, or none at all, under `xxx`."""
        self._by_group.get((status or 0) // 100, self._xxx).value += 1

    def count_route_service(self, status: int | None) -> None:
        """Count what a route service answered, by its group; None: it did not."""
        group = (status or 0) // 100
        self.responses_route_services.labels(f"{group}xx" if 2 <= group <= 5 else "xxx").inc()

    def count_backend_fault(self, kind: Kind) -> None:
        """Count a failed attempt under GoRouter's name for its cause, where there is one."""
        match kind:
            case "tls_name_mismatch":
                self.backend_invalid_id.inc()
            case "tls_untrusted" | "tls_expired" | "tls_client_certificate_rejected":
                self.backend_invalid_tls_cert.inc()
            case "tls_not_spoken" | "tls_handshake_failed" | "tls_handshake_timeout":
                self.backend_tls_handshake_failed.inc()
            case _:
                pass

    def render(self) -> bytes:
        """What a scrape of the metrics endpoint reads."""
        return render(self.families) + generate_latest(self.process)

    def _define_registry(self, meters: Mapping[str, Sequence[float]]) -> None:
        self.registry_message = self._counters(
            "registry_message", "Route registration messages, by what they did.", "component", "action"
        )
        self.unregistry_message = self._counters("unregistry_message", "Unregister messages.", "component")
        self.routes_pruned = self._counter("routes_pruned", "Routes removed because they went stale.")
        self.routes_registered = self._counter("routes_registered", "Endpoints registered for the first time.")
        self.routes_unregistered = self._counter("routes_unregistered", "Endpoints unregistered.")
        self.total_routes = self._sampled("gauge", "total_routes", "Routes in the table.")
        self.ms_since_last_registry_update = self._sampled(
            "gauge", "ms_since_last_registry_update", "Milliseconds since the last registration message."
        )
        self.route_registration_latency = self._histogram(
            "route_registration_latency",
            "Milliseconds from an app's change to its registration here (`endpoint_updated_at_ns`).",
            _bounds(meters, "route_registration_latency_histogram_buckets"),
        )
        self.nats_connected = self._sampled("gauge", "nats_connected", "1 while a NATS server is connected, else 0.")
        self.buffered_messages = self._sampled("gauge", "buffered_messages", "NATS messages waiting to be read.")
        self.total_dropped_messages = self._sampled(
            "gauge", "total_dropped_messages", "NATS messages dropped because too many were waiting."
        )
        self.nats_messages_dropped = self._counters("nats_messages_dropped", "NATS messages not applied, by reason.", "reason")
        self.route_options_rejected = self._counters("route_options_rejected", "Route options not applied, by reason.", "reason")

    def _define_requests(self, meters: Mapping[str, Sequence[float]], *, per_app: bool) -> None:
        self.total_requests = self._counters(
            "total_requests", "Requests sent to a backend, by the component tag of its endpoint.", "component"
        )
        self.rejected_requests = self._counter("rejected_requests", "Requests the router itself refused.")
        self.rate_limited_requests = self._counter(
            "rate_limited_requests", "Requests answered 429: their route was at its `rate-limit-rps`."
        )
        self.l7_policy_denied = self._counters(
            "l7_policy_denied", "Requests answered 403 by an entry of `l7_policies`, by its type.", "type"
        )
        self.responses = self._counters("responses", "Responses sent, by status group.", "status_group")
        self.responses_route_services = self._counters(
            "responses_route_services", "Responses of route services, by status group.", "status_group"
        )
        self.empty_content_length_header = self._sampled(
            "counter", "empty_content_length_header", "Requests with an empty Content-Length header."
        )
        self.malformed_requests = self._counters(
            "malformed_requests", "Request heads that broke the protocol, by reason.", "reason"
        )
        self.http2_connections_ended = self._counters(
            "http2_connections_ended", "HTTP/2 connections ended with GOAWAY for what their client sent, by reason.", "reason"
        )
        empty = self.malformed_requests.labels("empty_content_length")
        self.empty_content_length_header.source = lambda: empty.value
        self.websocket_upgrades = self._counter("websocket_upgrades", "Connections switched to another protocol.")
        self.websocket_failures = self._counter("websocket_failures", "Upgrades that a backend did not agree to.")
        self.websocket_open = self._sampled("gauge", "websocket_open", "Upgraded connections open now.")
        self.websocket_terminated = self._counters(
            "websocket_terminated",
            "Upgraded connections ended by the router: `idle`, `stalled`, `drained`, or why today's policy denies them.",
            "reason",
        )
        self.latency = self._histograms(
            "latency",
            "Milliseconds from a request's head to its response's end.",
            _bounds(meters, "routing_response_latency_histogram_buckets"),
            "component",
        )
        self.route_lookup_time = self._histogram(
            "route_lookup_time",
            "Nanoseconds a route lookup took.",
            _bounds(meters, "route_lookup_time_histogram_buckets"),
        )
        self.gorouter_time = self._histogram(
            "gorouter_time",
            "Seconds a request spent in the router itself.",
            _bounds(meters, "gorouter_time_histogram_buckets"),
        )
        self.http_latency_seconds: Vector[Histogram] | None = None
        if per_app:
            self.http_latency_seconds = self._histograms(
                "http_latency_seconds",
                "Seconds from a request's head to its response's end, by app "
                "(only with `per_app_prometheus_http_metrics_reporting`).",
                _bounds(meters, "http_latency_histogram_buckets"),
                "source_id",
            )

    def _define_backends(self) -> None:
        self.bad_gateways = self._counter("bad_gateways", "Requests answered 502.")
        self.backend_invalid_id = self._counter("backend_invalid_id", "Backends whose certificate names another instance.")
        self.backend_invalid_tls_cert = self._counter(
            "backend_invalid_tls_cert", "Backends whose certificate is not trusted or has expired."
        )
        self.backend_tls_handshake_failed = self._counter(
            "backend_tls_handshake_failed", "Backend TLS handshakes that failed otherwise."
        )
        self.backend_exhausted_conns = self._counter(
            "backend_exhausted_conns",
            "Requests refused because every endpoint was at `backends.max_conns` or its route's `connection-limit`.",
        )
        self.backend_selection_errors = self._counters(
            "backend_selection_errors", "Requests for which no endpoint could be chosen, by reason.", "reason"
        )
        self.backend_health_checks = self._counters(
            "backend_health_checks", "Health checks of endpoints, by result (`passed` or why not).", "result"
        )
        self.backends_unhealthy = self._sampled(
            "gauge", "backends_unhealthy", "Endpoints of routes that failed health checks keep out of the choice."
        )
        self.backend_dial_seconds = self._histogram(
            "backend_dial_seconds", "Seconds a new backend connection took, TLS left out.", DIAL_BUCKETS
        )

    def _define_doors(self) -> None:
        self.tls_handshakes = self._counters(
            "tls_handshakes", "Client handshakes, by domain and result (`ok` or why not).", "domain", "result"
        )
        self.mtls_decisions = self._counters("mtls_decisions", "Authorization decisions.", "domain", "result", "reason")
        self.mtls_misdirected = self._counters(
            "mtls_misdirected", "Requests answered 421: the handshake did not enforce the domain.", "domain"
        )
        self.certificate_expiry_seconds = self._sampled_vector(
            "certificate_expiry_seconds", "When a configured certificate ends, in epoch seconds.", "name"
        )

    def _define_passthrough(self) -> None:
        self.l4_connections = self._counters(
            "l4_connections", "Connections passed through, by route and how they ended.", "route", "ending"
        )
        self.l4_open = self._sampled("gauge", "l4_open", "Connections passed through now.")
        self.l4_bytes = self._counters("l4_bytes", "Bytes passed through, `in` from clients or `out` to them.", "direction")
        self.l4_dial_seconds = self._histogram(
            "l4_dial_seconds", "Seconds a connection to a backend of an L4 route took.", DIAL_BUCKETS
        )
        self.l4_dial_failures = self._counters(
            "l4_dial_failures", "Attempts to reach a backend of an L4 route that failed, by reason.", "reason"
        )

    def _define_router(self) -> None:
        self.connections_accepted = self._counters(
            "connections_accepted", "Client connections accepted, by listener.", "listener"
        )
        self.connections_open = self._sampled("gauge", "connections_open", "Client connections open now.")
        self.connections_shed = self._counters("connections_shed", "Client connections closed by a limit, by reason.", "reason")
        self.connections_refused = self._counters(
            "connections_refused", "Client connections ended before their first request, by reason.", "reason"
        )
        self.internal_errors = self._counter(
            "internal_errors", "Connections ended by an error in the router itself; each is logged."
        )
        self.connections_blocked = self._counters(
            "connections_blocked", "Client connections that the firewall refused, by listener and reason.", "listener", "reason"
        )
        self.hellos = self._counters(
            "hellos", "ClientHellos read, by listener and what became of them: `passed_through`, `terminated`, or why neither.",
            "listener", "outcome",
        )  # fmt: skip
        self.client_bytes = self._counters("client_bytes", "Body bytes exchanged with clients, `in` or `out`.", "direction")
        self.config_reloads = self._counters("config_reloads", "Reloads of the configuration, by result.", "result")
        self.access_log_dropped = self._sampled(
            "counter", "access_log_dropped", "Access-log lines that a slow or broken sink could not take."
        )
        self.log_dropped = self._sampled(
            "counter", "log_dropped", "Component-log lines that a slow or broken sink could not take."
        )
        self.log_pending_bytes = self._sampled("gauge", "log_pending_bytes", "Component-log bytes that wait for their sink.")
        self.file_descriptors = self._sampled(
            "gauge", "file_descriptors", "Open file descriptors; with `workers` those of the process that has most."
        )
        self.file_descriptors.source = count_descriptors

        self.workers_serving = self._sampled(
            "gauge", "workers_serving", "Worker processes that serve; 0 where one process does all."
        )
        self.workers_replaced = self._counter("workers_replaced", "Worker processes that ended unasked and were replaced.")
        self.worker_reports_rejected = self._counters(
            "worker_reports_rejected", "What a worker process told its supervisor and was not believed, by reason.", "reason"
        )

    def _add(self, family: AnyFamily) -> AnyFamily:
        self.families.append(family)
        return family

    def _counter(self, name: str, help_text: str) -> Counter:
        return self._add(Single(name, "counter", help_text, Counter())).meter

    def _counters(self, name: str, help_text: str, *labels: str) -> Vector[Counter]:
        return self._add(Vector(name, "counter", help_text, labels, Counter))

    def _histogram(self, name: str, help_text: str, bounds: tuple[float, ...]) -> Histogram:
        return self._add(Single(name, "histogram", help_text, Histogram(bounds))).meter

    def _histograms(self, name: str, help_text: str, bounds: tuple[float, ...], *labels: str) -> Vector[Histogram]:
        return self._add(Vector(name, "histogram", help_text, labels, lambda: Histogram(bounds)))

    def _sampled(self, kind: str, name: str, help_text: str) -> Sampled:
        return self._add(Sampled(name, "counter" if kind == "counter" else "gauge", help_text))

    def _sampled_vector(self, name: str, help_text: str, *labels: str) -> SampledVector:
        return self._add(SampledVector(name, "gauge", help_text, labels))


def count_descriptors() -> int:
    """Open descriptors of this process; 0 where the system has no /proc."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def _bounds(meters: Mapping[str, Sequence[float]], key: str) -> tuple[float, ...]:
    return tuple(sorted(set(meters.get(key) or DEFAULT_BUCKETS[key])))


def _process_registry() -> CollectorRegistry:
    """Memory, CPU and garbage collection of the process: the client library reads these well."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
