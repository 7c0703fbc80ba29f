"""The bench works: a run of a moment's length, and what it computes with. No figure is judged here."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bench import aims
from bench.__main__ import SCENARIOS
from bench.client_http2 import frame, is_ok, request_block
from bench.findings import Finding, Report, ratios, spread
from bench.gorouter import configs
from bench.l4_peers import STARTS
from bench.load import shared
from bench.markdown import markdown
from bench.order import Done, Order, read_done
from bench.peers import KINDS
from bench.proxies import Ports
from bench.registrar import instances, portions
from bench.waits import gather, quantile
from router.config.load import load
from router.demo.certificates import Authority

ROOT = Path(__file__).parents[1]
ORDER = Order("keep", 443, "a.example", "/", True, "", 10, 1.0)


def test_a_short_run_measures_and_meets_no_error() -> None:
    """Router, backend, NATS and our own generators: without wrk and h2load, which a fresh machine has not."""
    scenarios = ("mtls", "http2")
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *scenarios, "--peers=", "--rounds=1", "--seconds=0.1", "--json"],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PATH": os.devnull},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = json.loads(ended.stdout)
    assert {finding["scenario"] for finding in said["findings"]} == set(scenarios)
    assert all(finding["seen"]["median"] > 0 for finding in said["findings"] if not finding["what"].endswith("CPU a request"))
    assert not [note for note in said["notes"] if "ERRORS" in note or "NOT" in note]


def test_waits_are_told_within_a_step() -> None:
    """A quantile is that of the waits themselves, to two per cent, whether counted in one process or in two."""
    low, high = gather([0.001] * 50 + [0.010] * 49), gather([0.100])
    assert quantile(low + high, 0.50) == pytest.approx(0.001, rel=0.02)
    assert quantile(low + high, 0.99) == pytest.approx(0.010, rel=0.02)
    assert quantile(low + high, 1.0) == pytest.approx(0.100, rel=0.02)
    assert math.isnan(quantile(gather([]), 0.5))


def test_a_ratio_is_formed_within_a_round() -> None:
    """A minute in which everything was slow does not show."""
    assert list(ratios({"ours": [2.0, 20.0, 4.0], "peer": [1.0, 10.0, 1.0]})) == [("peer", (2.0, 2.0, 4.0))]


@pytest.mark.parametrize(
    ("seen", "bounds", "verdict"),
    [(1.0, (1.0, None), "reached"), (1.1, (1.0, None), "MISSED"), (1.7, (None, 1.8), "MISSED"), (9.0, (None, None), "")],
)
def test_a_verdict_is_the_median_s(seen: float, bounds: tuple[float | None, float | None], verdict: str) -> None:
    """A bound itself is reached; without one there is no verdict."""
    assert verdict == Finding("s", "w", spread([seen]), "", *bounds).verdict


def test_every_aim_is_of_a_scenario_and_a_peer_that_there_are() -> None:
    """A name that nobody measures would never be missed."""
    scenarios = {*SCENARIOS, "bulk http/1.1", "bulk h2", "l4-bulk", "l4-new"}
    assert {scenario for scenario, _ in aims.CPU_RATIO} <= scenarios
    assert {name for _, name in aims.CPU_RATIO} | aims.LATENCY_RATIO.keys() | STARTS.keys() <= KINDS.keys()


def test_an_order_is_shared_by_the_cores_beside_the_backend_s() -> None:
    """All connections are there, and what holds a pace is not parted."""
    assert shared(ORDER, 1) == [ORDER]
    assert [part.connections for part in shared(ORDER, 4)] == [4, 3, 3]
    assert [replace(ORDER, mode="paced")] == shared(replace(ORDER, mode="paced"), 4)


def test_what_a_generator_did_survives_its_line() -> None:
    """Waits too, whose steps are numbers."""
    done = Done(requests=2, why="é", waits=gather([0.001, 0.002]))
    assert done == read_done(done.line())


@pytest.mark.parametrize(
    ("block", "ok"),
    [(b"\x88", True), (b"\x20\x88\x76", True), (b"\x3f\xe1\x1f\x88", True), (b"\x8d", False), (b"\x3f\xff", False), (b"", False)],
)
def test_a_response_block_is_judged_by_its_status(block: bytes, ok: bool) -> None:
    """RFC 7541: 200 is the field 0x88; changes of the table's size may stand before it."""
    assert ok is is_ok(block)


def test_a_request_is_one_frame() -> None:
    """RFC 9113 section 4.1: length, type, flags, stream."""
    block = request_block("a.example", "/")
    assert len(block).to_bytes(3) + b"\x01\x05\x00\x00\x00\x03" + block == frame(0x1, 0x5, 3, block)
    with pytest.raises(ValueError, match="at most 126"):
        request_block("a" * 127, "/")


def test_heartbeats_are_the_registrations_again() -> None:
    """Byte for byte, in NATS's protocol, a hundredth of a second's in each portion."""
    parts = portions(routes=10, count=25, rate=1000)
    assert [part.count(b"PUB router.register ") for part in parts] == [10, 10, 5]
    first = next(instances(10, 25))
    assert parts[0].startswith(b"PUB router.register %d\r\n%b\r\n" % (len(first), first))


def test_gorouter_s_configuration_is_one_that_we_read(tmp_path: Path) -> None:
    """Its keys are GoRouter's: each file loads, which one with an unknown key would not."""
    pair = Authority("bench").issue_server("a.example")
    for name in ("open", "east"):
        (tmp_path / f"{name}.crt").write_text(pair.certificate)
        (tmp_path / f"{name}.key").write_text(pair.key)
    (tmp_path / "east-ca.pem").write_text(Authority("east").pem)
    for config in configs(tmp_path, tmp_path, 4222, Ports(1080, 1443, 2443)):
        file = tmp_path / "gorouter.yml"
        file.write_text(yaml.safe_dump(config))
        assert load(file).problems == ()


def test_the_page_s_table_has_a_column_a_proxy() -> None:
    """A line a figure; a ratio stands in the column of the peer that it is to, with its verdict."""
    findings = (
        Finding("plain", "CPU a request", spread([50.0, 40.0, 60.0]), "µs", who="vestibule"),
        Finding("plain", "CPU a request", spread([25.0]), "µs", who="nginx"),
        Finding("plain", "CPU ratio to", spread([2.0]), "", 1.5, who="nginx"),
    )
    assert markdown(["a machine"], [Report(findings, ("a note",))]).splitlines() == [
        "- a machine",
        "",
        "| scenario | what | vestibule | nginx |",
        "| --- | --- | --- | --- |",
        "| plain | CPU a request, µs | 50.0 (40.0\N{EN DASH}60.0) | 25.0 |",
        "| plain | CPU ratio to |  | 2.00; ≤ 1.50: **missed** |",
        "",
        "- a note",
    ]
