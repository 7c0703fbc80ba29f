"""router/parts.py: from the configuration to the values that the parts are built with."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config.compile_error import CompileError
from router.config.load import load_bytes
from router.config.model import Config
from router.observe.access_record import AccessRecord
from router.observe.line_lock import LineLock, make_line_lock
from router.observe.sink import DescriptorTarget, FileTarget, Sink
from router.parts import (
    NEEDS_RESTART,
    access_log,
    ledger_settings,
    nats_settings,
    needs_restart,
    subscriber_settings,
)


def config(**keys: Any) -> Config:
    loaded = load_bytes(yaml.safe_dump({"port": 8081, **keys}).encode(), Path("router.yml"), {})
    assert loaded.config is not None, loaded.problems
    return loaded.config


def record() -> AccessRecord:
    made = AccessRecord(0.0)
    made.host, made.method, made.uri, made.proto, made.status = b"a.example", b"GET", b"/", b"HTTP/1.1", 200
    return made


def test_keys_that_need_a_restart_exist() -> None:
    """NEEDS_RESTART is a list of keys of the configuration."""
    assert set(NEEDS_RESTART) <= set(Config.model_fields)


def test_a_change_that_needs_a_restart_is_named_and_a_level_is_not(tmp_path: Path) -> None:
    """A reload reports what it does not carry out; the log level, the names and the deny lists take effect at once."""
    names = tmp_path / "names.yml"
    names.write_text("apps: {a: x}")
    old = config()
    assert needs_restart(old, config(logging={"names_file": str(names)}, deny={"orgs": ["org-1"]})) == []
    assert needs_restart(old, config(logging={"level": "debug"})) == []
    assert needs_restart(old, config(index=3, balancing_algorithm="round-robin", workers="auto")) == ["index", "workers"]


def test_registrations_are_kept_and_heard_as_the_file_says() -> None:
    """Sharding, empty pools, thresholds and intervals."""
    made = config(
        routing_table_sharding_mode="segments", isolation_segments=["a"], empty_pool_timeout="3s",
        droplet_stale_threshold="60s", start_response_delay_interval="7s", max_route_options_size=99, index=4,
    )  # fmt: skip
    ledger, subscriber = ledger_settings(made), subscriber_settings(made)
    assert (ledger.sharding_mode, ledger.isolation_segments, ledger.empty_pool_timeout) == ("segments", frozenset({"a"}), 3.0)
    assert (subscriber.stale_threshold, subscriber.register_interval) == (60.0, 7.0)
    assert (subscriber.max_options, subscriber.index) == (99, 4)


def test_the_file_is_written_under_the_lock_that_its_writers_share(tmp_path: Path) -> None:
    """Another process that was killed left half a line: it is not the beginning of ours."""
    descriptor = make_line_lock()
    lock, killed = LineLock(descriptor), LineLock(descriptor)
    (tmp_path / "access.log").write_text("half a li")
    killed.hold()
    killed.release(finished=False)
    log = access_log(config(access_log={"file": str(tmp_path / "access.log")}), Sink(DescriptorTarget(1)), lock)
    log.add(record())
    assert log.close(10)
    assert [line[:9] for line in (tmp_path / "access.log").read_text().splitlines()] == ["half a li", "a.example"]
    for each in (lock, killed):
        each.close()
    os.close(descriptor)


def test_a_key_that_is_none_is_found_before_the_start() -> None:
    """An NKey seed that does not parse is a configuration error that names its section."""
    with pytest.raises(CompileError, match="nats"):
        nats_settings(config(nats={"hosts": [{"hostname": "x", "port": 1}], "nkey_seed": "SUnone"}))


def test_the_access_log_goes_to_standard_output_a_file_and_syslog(tmp_path: Path) -> None:
    """Contract g.1: `access_log.file`, `enable_streaming` with `logging.syslog_addr`; neither set: standard output."""
    stdout = tmp_path / "stdout"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        plain = access_log(config(), Sink(FileTarget(str(stdout))))
        streaming = access_log(
            config(
                access_log={"file": str(tmp_path / "access.log"), "enable_streaming": True},
                logging={"syslog": "vcap.router", "syslog_addr": f"127.0.0.1:{server.getsockname()[1]}"},
            ),
            Sink(FileTarget(str(stdout))),
        )
        for log in (plain, streaming):
            log.add(record())
            assert log.close(10)
        message = server.recv(65536)
    assert b" vcap.router " in message
    assert b'a.example - [1970-01-01T00:00:00.000000000Z] "GET / HTTP/1.1" 200' in message
    assert stdout.read_text().count("\n") == (tmp_path / "access.log").read_text().count("\n") == 1
