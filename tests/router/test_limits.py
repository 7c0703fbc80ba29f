"""The bounds and deadlines of the data plane."""

import dataclasses
import inspect
import re
from typing import Any

import pytest

from router import limits
from router.limits import FOREVER, UNBOUNDED, Limits
from tests.router.config.support import config


def test_the_defaults_are_those_of_an_empty_configuration() -> None:
    assert Limits.from_config(config({})) == Limits()


@pytest.mark.parametrize(
    ("mapping", "name", "value"),
    [
        ({"read_header_timeout": "3s"}, "read_header_deadline", 3.0),
        ({"read_header_timeout": "unlimited"}, "read_header_deadline", FOREVER),
        ({"read_header_timeout": 0}, "read_header_deadline", 10.0),
        ({"endpoint_timeout": 0}, "endpoint_deadline", FOREVER),
        ({"http_1_endpoint_timeout": "7s", "endpoint_timeout": "9s"}, "endpoint_deadline", 7.0),
        ({"http_1_endpoint_timeout": "7s", "endpoint_timeout": "9s"}, "http2_endpoint_deadline", 9.0),
        ({"http_2_endpoint_timeout": "7s"}, "http2_endpoint_deadline", 7.0),
        ({"http_2_endpoint_timeout": "7s"}, "endpoint_deadline", 900.0),
        ({"endpoint_timeout": 0}, "http2_endpoint_deadline", FOREVER),
        ({"tls_handshake_timeout": "1s"}, "hello_deadline", 1.0),
        ({"tls_handshake_timeout": "unlimited"}, "hello_deadline", 5.0),
        ({"max_request_headers": "unlimited"}, "request_fields", UNBOUNDED),
        ({"max_request_body_bytes": 5}, "request_body_bytes", 5),
        ({"max_connections": 0}, "max_connections", UNBOUNDED),
        ({"max_connections_per_address": 0}, "max_connections_per_address", 0),
        ({"backends": {"max_conns": 0}}, "max_in_flight_per_endpoint", UNBOUNDED),
        ({"backends": {"max_attempts": 0}}, "max_attempts", 1),
        ({"backends": {"retry_timeout": "2s"}}, "retry_deadline", 2.0),
        ({"backends": {"retry_timeout": 0}}, "retry_deadline", FOREVER),
        ({"disable_keep_alives": True}, "max_idle_backends", 0),
        ({"droplet_stale_threshold": "40s"}, "failed_mark", 10.0),
        ({"client_stall_timeout": "7s"}, "client_write_stall", 7.0),
        ({"endpoint_dial_timeout": "7s"}, "upgrade_dial_deadline", 7.0),
        ({"websocket_dial_timeout": "3s"}, "upgrade_dial_deadline", 3.0),
        ({"websocket_dial_timeout": 0, "endpoint_dial_timeout": 0}, "upgrade_dial_deadline", FOREVER),
        ({"websocket_idle_timeout": "7s"}, "upgrade_idle_deadline", 7.0),
        ({"websocket_idle_timeout": "unlimited"}, "upgrade_idle_deadline", FOREVER),
    ],
)
def test_what_the_operator_writes_is_the_limit(mapping: dict[str, Any], name: str, value: float) -> None:
    """Decision 13: every one configurable."""
    assert getattr(Limits.from_config(config(mapping)), name) == value


def test_every_limit_is_a_plain_number_above_zero_or_off() -> None:
    limits = Limits()
    numbers = {f.name: getattr(limits, f.name) for f in dataclasses.fields(Limits) if f.name != "http2"} | limits.http2._asdict()
    assert [name for name, number in numbers.items() if number < 0] == []


def test_every_limit_says_what_it_is_for() -> None:
    source = inspect.getsource(limits)
    documented = set(re.findall(r'^    (\w+): (?:int|float|Http2Limits) = .+\n    """', source, re.MULTILINE))
    assert {field.name for field in dataclasses.fields(Limits)} == documented


def test_a_chunked_decoder_has_these_bounds() -> None:
    decoder = Limits().chunked_decoder()
    assert decoder.feed(b"0\r\n\r\n") == []
    assert decoder.done
