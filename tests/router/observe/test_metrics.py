"""router/observe/metrics.py: the list of all metrics."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.observe.metrics import DEFAULT_BUCKETS, Metrics, count_descriptors

GOROUTER = {
    "counter": (
        "registry_message unregistry_message routes_pruned total_requests rejected_requests bad_gateways "
        "empty_content_length_header backend_invalid_id backend_invalid_tls_cert "
        "backend_tls_handshake_failed backend_exhausted_conns websocket_upgrades websocket_failures "
        "responses responses_route_services"
    ),
    "gauge": ("total_routes ms_since_last_registry_update file_descriptors buffered_messages total_dropped_messages"),
    "histogram": "route_lookup_time gorouter_time route_registration_latency latency http_latency_seconds",
}

OURS = {
    "tls_handshakes": ("domain", "result"),
    "mtls_decisions": ("domain", "result", "reason"),
    "mtls_misdirected": ("domain",),
    "route_options_rejected": ("reason",),
    "config_reloads": ("result",),
    "certificate_expiry_seconds": ("name",),
    "websocket_terminated": ("reason",),
    "connections_shed": ("reason",),
    "backend_selection_errors": ("reason",),
    "malformed_requests": ("reason",),
    "rate_limited_requests": (),
    "l7_policy_denied": ("type",),
    "nats_messages_dropped": ("reason",),
    "worker_reports_rejected": ("reason",),
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for kind, names in GOROUTER.items() for name in names.split()])
def test_gorouters_metrics_keep_name_and_kind(name: str, kind: str) -> None:
    """R49: dashboards made for GoRouter keep working."""
    families = {family.name: family for family in Metrics(per_app=True).families}
    assert kind == families[name].kind


@pytest.mark.parametrize(("name", "labels"), OURS.items())
def test_our_own_metrics_have_bounded_labels(name: str, labels: tuple[str, ...]) -> None:
    """R51, R52, R63, R133, R235: what the doors and the limits did, by reason."""
    families = {family.name: family for family in Metrics().families}
    assert labels == families[name].label_names


def test_names_are_unique_and_every_metric_is_explained() -> None:
    """One name, one meaning."""
    families = Metrics(per_app=True).families
    assert len(families) == len({family.name for family in families})
    assert all(family.help.endswith((".", ")")) for family in families)


def test_no_app_is_a_label_by_default() -> None:
    """R235: no GUID, no path."""
    assert Metrics().http_latency_seconds is None


def test_apps_are_labels_where_the_operator_asks_for_it() -> None:
    """`per_app_prometheus_http_metrics_reporting`."""
    metrics = Metrics(per_app=True)
    assert metrics.http_latency_seconds is not None
    metrics.http_latency_seconds.labels("app-guid").observe(0.2)
    assert b'http_latency_seconds_bucket{source_id="app-guid",le="0.2"} 1\n' in metrics.render()


def test_buckets_are_the_operators_where_given() -> None:
    """`prometheus.meters`; sorted, each once; the others keep their default."""
    metrics = Metrics({"route_lookup_time_histogram_buckets": [5, 1, 5], "http_latency_histogram_buckets": []})
    assert list(metrics.route_lookup_time.bounds) == [1, 5]
    assert DEFAULT_BUCKETS["gorouter_time_histogram_buckets"] == metrics.gorouter_time.bounds


@pytest.mark.parametrize(
    ("status", "group"),
    [(200, "2xx"), (301, "3xx"), (404, "4xx"), (502, "5xx"), (101, "xxx"), (None, "xxx"), (600, "xxx")],
)
def test_responses_are_counted_by_group(status: int | None, group: str) -> None:
    """GoRouter's groups; everything else is `xxx`."""
    metrics = Metrics()
    metrics.count_response(status)
    assert f'responses{{status_group="{group}"}} 1\n'.encode() in metrics.render()


def test_a_scrape_can_be_parsed_and_has_the_process_too() -> None:
    """R132: Prometheus text, ours and the client library's."""
    metrics = Metrics(per_app=True)
    metrics.total_requests.labels('a"b\\\n').inc()
    metrics.latency.labels("api").observe(3)
    names = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    assert {"total_routes", "latency", "process_resident_memory_bytes", "file_descriptors"} <= names


def test_open_descriptors_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 where the system does not tell."""
    assert count_descriptors() > 2
    monkeypatch.setattr("os.listdir", lambda _: (_ for _ in ()).throw(FileNotFoundError()))
    assert count_descriptors() == 0


@pytest.mark.parametrize(
    ("status", "group"), [(200, "2xx"), (302, "3xx"), (421, "4xx"), (526, "5xx"), (None, "xxx"), (999, "xxx")]
)
def test_answers_of_route_services_are_counted_by_group(status: int | None, group: str) -> None:
    """Contract h: `responses_route_services`; `xxx` where there was none."""
    metrics = Metrics()
    metrics.count_route_service(status)
    assert f'responses_route_services{{status_group="{group}"}} 1'.encode() in metrics.render()
