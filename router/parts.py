"""What each part of the router is made of, from the configuration: the plain values that `app.py` builds with.

Promise: pure functions of a valid configuration, but for the access log's file, which is opened. Refuses to know when a part
is built and what becomes of it.
"""

from __future__ import annotations

import ssl
from typing import Final

from registry.connect_nats import NatsSettings
from registry.ledger import LedgerSettings
from registry.subscriber_nats import SubscriberSettings
from router import nats
from router.config.compile_error import CompileError
from router.config.model import Config
from router.observe.access_log import AccessLog, AccessLogOptions
from router.observe.line_lock import LineLock
from router.observe.sink import FileTarget, Sink
from router.observe.syslog import SyslogTarget

NEEDS_RESTART: Final = (
    "nats", "status", "prometheus", "metrics", "isolation_segments", "routing_table_sharding_mode", "droplet_stale_threshold",
    "prune_stale_droplets_interval", "start_response_delay_interval", "max_route_options_size", "index", "access_log",
    "empty_pool_response_code_503", "empty_pool_timeout", "suspend_pruning_if_nats_unavailable",
    "per_app_prometheus_http_metrics_reporting", "extra_headers_to_log", "balancing_algorithm", "nats_client_ping_interval",
    "logging", "publish_active_apps_interval", "route_latency_metric_muzzle_duration", "load_balancer_healthy_threshold",
    "l7", "workers",
)  # fmt: skip
"""Keys whose change a reload reports but does not carry out; of `logging` the level and the names change at once."""


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that differ and were read at the start only."""
    logging = old.logging.model_copy(update={"level": new.logging.level, "names_file": new.logging.names_file})
    was = {key: getattr(old, key) for key in NEEDS_RESTART} | {"logging": logging}
    return [key for key, value in was.items() if getattr(new, key) != value]


def nats_settings(config: Config) -> NatsSettings:
    """Where NATS is and who we are to it. Raises CompileError for a key or credentials that are none."""
    try:
        return nats.nats_settings(config)
    except (ValueError, ssl.SSLError) as error:
        raise CompileError("nats", str(error)) from error


def ledger_settings(config: Config) -> LedgerSettings:
    """How registrations are kept."""
    return LedgerSettings(
        sharding_mode=config.routing_table_sharding_mode,
        isolation_segments=frozenset(config.isolation_segments),
        empty_pool_503=config.empty_pool_response_code_503,
        empty_pool_timeout=config.empty_pool_timeout,
        algorithm=config.balancing_algorithm,
    )


def subscriber_settings(config: Config) -> SubscriberSettings:
    """How registrations are heard."""
    return SubscriberSettings(
        register_interval=config.start_response_delay_interval,
        stale_threshold=config.droplet_stale_threshold,
        prune_interval=config.prune_stale_droplets_interval,
        suspend_pruning=config.suspend_pruning_if_nats_unavailable,
        max_options=config.max_route_options_size,
        index=config.index,
        active_interval=config.publish_active_apps_interval,
    )


def access_log(config: Config, stdout: Sink, lock: LineLock | None = None) -> AccessLog:
    """The access log with its destinations; without any it goes to `stdout`. Raises OSError when its file cannot be opened.

    `lock`: what the processes that write the file have in common.
    """
    settings = config.logging
    options = AccessLogOptions(
        format=config.access_log.format,
        disable_log_forwarded_for=settings.disable_log_forwarded_for,
        disable_log_source_ip=settings.disable_log_source_ip,
        redact_query_params=settings.redact_query_params,
        extra_headers_to_log=config.extra_headers_to_log,
        extra_access_log_fields=settings.extra_access_log_fields,
        enable_attempts_details=settings.enable_attempts_details,
        sampling=config.access_log.sampling,
    )
    sinks = []
    if config.access_log.file:
        sinks.append(Sink(FileTarget(config.access_log.file, lock)))
    if config.access_log.enable_streaming and settings.syslog_addr is not None:
        name = settings.syslog or "gorouter"
        target = SyslogTarget(settings.syslog_network or "udp", settings.syslog_addr, name, settings.syslog_truncate)
        sinks.append(Sink(target))
    return AccessLog(options, sinks or [stdout])
