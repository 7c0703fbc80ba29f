"""The promise: a reload says which changed keys it could not carry out, and carries out all the others.

One router is reloaded with a change of every kind of key; the list itself is judged key by key without one.
"""

import json
from pathlib import Path

import pytest

from router.config.load import load
from router.config.model import Config
from router.parts import NEEDS_RESTART, needs_restart
from tests.conftest import MakeRouter


def config_of(text: str, directory: Path) -> Config:
    path = directory / "router.yml"
    path.write_text(text)
    loaded = load(path)
    assert loaded.config is not None, loaded.problems
    return loaded.config


@pytest.mark.parametrize("key", NEEDS_RESTART)
def test_each_key_of_the_list_exists(key: str) -> None:
    """A key that was renamed would never be reported."""
    assert key in Config.model_fields


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logging: {level: debug}", []),
        ("logging: {level: debug, redact_query_params: none}", ["logging"]),
        ("balancing_algorithm: least-connection", ["balancing_algorithm"]),
        ("nats_client_ping_interval: 5s", ["nats_client_ping_interval"]),
        ("max_request_headers: 200\ndrain_wait: 1s", []),
        ("status: {port: 8099}\nindex: 3", ["status", "index"]),
    ],
)
def test_a_key_read_only_at_the_start_is_named_when_it_changes(text: str, expected: list[str], tmp_path: Path) -> None:
    """Part 11: the operator learns what waits for a restart; the log level does not."""
    old, new = config_of("port: 80", tmp_path), config_of(f"port: 80\n{text}", tmp_path)
    assert needs_restart(old, new) == expected


def test_a_reload_warns_of_what_it_did_not_carry_out(make_router: MakeRouter) -> None:
    """R174: whoever hides queries by a reload must not believe that they are hidden."""
    router = make_router(logging={"redact_query_params": "none"})
    assert router.reload(logging={"redact_query_params": "all"}, drain_timeout="5s") == {'result="ok"': 1.0}
    warning = json.loads(router.wait_for_event("config-needs-restart"))
    assert warning["data"] == {"changed": ["logging"]}
