"""Shapes and keys of other times: GoRouter's older spellings, and its keys that have no effect here.

Promises: turns any tree into today's shape and says once a key what has no effect; changes nothing else,
raises nothing. Refuses to know what a value may be (model.py).

Source: contract g.1: "Older and newer shapes, all accepted".
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from registry.problems import Where
from router.config.model import MAX_HEAD_BYTES
from router.config.scalars import boolean, parse_duration

Tree = dict[str, object]


class Notice(NamedTuple):
    """A warning about one place of the file."""

    where: Where
    said: str
    remedy: str


_NATS_ONLY = "no effect: routes come from NATS, never from the routing API"
_NO_PORT = "no effect: a route service that is a route here is asked inside the process, by no port"
_DROPSONDE = (
    "no effect: Loggregator is not spoken to; metrics go to Prometheus, the access log to a file, syslog or standard output"
)
_ALWAYS = "no effect: this is always so"
_LIMITS = "no effect: the service manager sets this"

NO_EFFECT: dict[str, str] = {
    "logging.metron_address": _DROPSONDE,
    "logging.loggregator_enabled": _DROPSONDE,
    "enable_http1_concurrent_read_write": "no effect: a response always passes while its request still comes",
    "publish_start_message_interval": "no effect, as in GoRouter: the start message goes out at each connection and greet",
    "route_services_internal_server_port": _NO_PORT,
    "route_services.enable_websockets": "no effect: an upgrade on a route with a route service is answered 503",
    "keep_alive_100_continue_requests": _ALWAYS,
    "healthcheck_poll_interval": "no effect: it belongs to gorouter-healthchecker",
    "healthcheck_timeout": "no effect: it belongs to gorouter-healthchecker",
    "per_request_metrics_reporting": _ALWAYS,
    "enable_envelope_v1_metrics": _DROPSONDE,
    "send_http_start_stop_server_event": _DROPSONDE,
    "send_http_start_stop_client_event": _DROPSONDE,
    "go_max_procs": "no effect: there is no Go runtime; `workers` says how many processes serve",
    "debug_addr": "no effect: there is no debug server; the log level is in logging.level",
    "pid_file": "no effect: the service manager knows the process",
    "ip_local_port_range": _LIMITS,
    "max_open_files": _LIMITS,
    "oauth": _NATS_ONLY,
    "routing_api": _NATS_ONLY,
    "token_fetcher_max_retries": _NATS_ONLY,
    "token_fetcher_retry_interval": _NATS_ONLY,
    "token_fetcher_expiration_buffer_time": _NATS_ONLY,
}

AGREED: dict[str, bool] = {
    "route_services.enable_websockets": False,
    "keep_alive_100_continue_requests": True,
    "enable_http1_concurrent_read_write": True,
    "per_request_metrics_reporting": True,
    "logging.loggregator_enabled": False,
    "enable_envelope_v1_metrics": False,
    "send_http_start_stop_server_event": False,
    "send_http_start_stop_client_event": False,
}
"""Keys without effect whose value may ask for what is so anyway: then there is nothing to say."""

_LOCKS = frozenset({"mtls_domains", "domains", "deny", "listeners", "firewall"})
"""Keys that keep what is written without a value: it reads like a lock, and is an error."""

ZERO_MEANS_DEFAULT = (
    "read_header_timeout", "frontend_idle_timeout", "tls_handshake_timeout", "client_stall_timeout",
    "websocket_idle_timeout",
    "max_request_headers", "max_response_headers", "max_response_header_bytes",
    "max_request_header_bytes",
)  # fmt: skip


def modernise(tree: Tree) -> tuple[Tree, list[Notice]]:
    """Today's shape of a top-level mapping, and what there is to say of it. The argument is not changed."""
    fresh = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return fresh, [notice for step in _STEPS for notice in step(fresh)]


def _drop_nulls(tree: Tree) -> Iterator[Notice]:
    """A key without a value takes its default, as in GoRouter. (Where it reads like a lock it is an error.)"""
    for key in [key for key in tree if key not in _LOCKS]:
        if tree[key] is None:
            del tree[key]
        else:
            tree[key] = _without_nulls(tree[key])
    yield from ()


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return tuple(_without_nulls(item) for item in value) if isinstance(value, tuple) else value


def _older_shapes(tree: Tree) -> Iterator[Notice]:
    """`nats` as a list, `ca_certs` as one text, the limit of heads by its other name."""
    if isinstance(tree.get("nats"), tuple):
        _lift_nats(tree)
    if isinstance(tree.get("ca_certs"), str | dict):
        tree["ca_certs"] = (tree["ca_certs"],)
    other, ours = "max_header_bytes", "max_request_header_bytes"
    if other in tree:
        value = tree.pop(other)
        if tree.setdefault(ours, value) != value:
            yield Notice((other,), f"the same setting as `{ours}`; `{ours}` counts", "keep one of the two")


def _lift_nats(tree: Tree) -> None:
    """`[{host, port, user, pass}]` as `{hosts: [{hostname, port}], user, pass}`; left alone where the
    users differ.
    """
    hosts = tree["nats"]
    if not isinstance(hosts, tuple) or not hosts or not all(isinstance(host, dict) for host in hosts):
        return
    if any({k: h.get(k) for k in ("user", "pass")} != {k: hosts[0].get(k) for k in ("user", "pass")} for h in hosts):
        return
    section: Tree = {key: hosts[0][key] for key in ("user", "pass") if hosts[0].get(key) is not None}
    section["hosts"] = tuple({key: value for key, value in host.items() if key not in ("user", "pass")} for host in hosts)
    tree["nats"] = section


def _zeros(tree: Tree) -> Iterator[Notice]:
    """Decision 13: 0 is GoRouter's "off" for a bound that must not be off by accident."""
    for key in ZERO_MEANS_DEFAULT:
        if key in tree and _is_zero(tree[key]):
            del tree[key]
            yield Notice((key,), ("0 means Vestibule's default here"), "write a value, or `unlimited` to have no bound")


def _is_zero(value: object) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return parse_duration(value) == 0
    except ValueError:
        return False


def _head_cap(tree: Tree) -> Iterator[Notice]:
    value = tree.get("max_request_header_bytes")
    if isinstance(value, int) and value > MAX_HEAD_BYTES:
        tree["max_request_header_bytes"] = MAX_HEAD_BYTES
        yield Notice(
            ("max_request_header_bytes",),
            f"at most {MAX_HEAD_BYTES}, as in GoRouter; that is used",
            "lower it",
        )


def _without_effect(tree: Tree) -> Iterator[Notice]:
    for path, said in NO_EFFECT.items():
        first, _, second = path.partition(".")
        section = tree.get(first) if second else tree
        key = second or first
        if isinstance(section, dict) and key in section:
            value = boolean(section.pop(key))
            if value is not None and value is AGREED.get(path):
                continue
            yield Notice((first, second) if second else (first,), said, "remove the key")


_STEPS: tuple[Callable[[Tree], Iterator[Notice]], ...] = (
    _drop_nulls, _older_shapes, _zeros, _head_cap, _without_effect,
)  # fmt: skip
