"""router/workers/merge.py: many processes are scraped as one, and no worker's word can spoil it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from router.observe.meters import MAX_CHILDREN, MAX_LABEL, Sampled, SampledVector, Single, Vector
from router.observe.metrics import Metrics
from router.workers.merge import LARGEST, MAX_ENTRIES, MAX_GROWTH, MAX_SIZE, OF_SUPERVISOR, Growth, Merged

WORKERS = 3
TOLD = [family for family in Metrics(per_app=True).families if family.name not in OF_SUPERVISOR]

Step = tuple[int, str, tuple[str, ...], int, bool]


def count(metrics: Metrics, name: str, labels: tuple[str, ...], amount: int) -> None:
    """Count or observe a whole number in whatever family this is."""
    family = next(family for family in metrics.families if family.name == name)
    assert isinstance(family, Single | Vector)
    meter = family.meter if isinstance(family, Single) else family.labels(*labels)
    if family.kind == "counter":
        meter.inc(amount)
    else:
        meter.observe(amount)


def tell(worker: int, growth: Growth, merged: Merged) -> None:
    """One telling over the pipe; all of it must be believed."""
    for entries in growth.take():
        assert merged.take(worker, json.loads(json.dumps(entries))) == 0


def scrape(merged: Merged | Metrics) -> dict[str, float]:
    """Every sample, but for what the client library says of the process."""
    found = {}
    for line in merged.render().decode().splitlines():
        if not line.startswith(("#", "process_", "python_", "file_descriptors")):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def value(merged: Merged, sample: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in merged.render().decode().splitlines() if line.startswith(f"{sample} "))


@st.composite
def steps(draw: st.DrawFn) -> Step:
    family = draw(st.sampled_from([family for family in TOLD if isinstance(family, Single | Vector)]))
    labels = tuple(draw(st.sampled_from(["", "a", 'b"\n', "c"])) for _ in family.label_names)
    amount = draw(st.integers(0, 1000))
    return draw(st.integers(0, WORKERS - 1)), family.name, labels, amount, draw(st.booleans())


@given(st.lists(steps(), max_size=30))
def test_what_many_tell_is_what_one_would_have_counted(done: list[Step]) -> None:
    """No name, label or count is lost or counted twice, however often and in whatever order they tell."""
    one, supervisor = Metrics(per_app=True), Metrics(per_app=True)
    workers = [Metrics(per_app=True) for _ in range(WORKERS)]
    growths, merged = [Growth(each) for each in workers], Merged(supervisor)
    for worker, name, labels, amount, told in done:
        count(one, name, labels, amount)
        count(workers[worker], name, labels, amount)
        if told:
            tell(worker, growths[worker], merged)
    for worker, growth in enumerate(growths):
        tell(worker, growth, merged)
        merged.forget(worker)
    assert scrape(one) == scrape(merged)


@given(st.lists(st.tuples(steps(), st.booleans()), max_size=20))
def test_no_counter_goes_back_whoever_dies(done: list[tuple[Step, bool]]) -> None:
    """A worker that is replaced begins at nothing; what it told stays."""
    merged = Merged(Metrics(per_app=True))
    workers = [Metrics(per_app=True) for _ in range(WORKERS)]
    growths = [Growth(each) for each in workers]
    before: dict[str, float] = {}
    for (worker, name, labels, amount, told), dies in done:
        count(workers[worker], name, labels, amount)
        if told:
            tell(worker, growths[worker], merged)
        if dies:
            merged.forget(worker)
            workers[worker] = Metrics(per_app=True)
            growths[worker] = Growth(workers[worker])
        now = scrape(merged)
        assert {sample: now[sample] for sample in before if now[sample] < before[sample]} == {}
        before = now


def test_names_types_and_help_texts_are_those_of_one_process() -> None:
    """A dashboard cannot tell the difference, but for the help texts of the process's own metrics, which say what they add up."""
    one, merged = Metrics(per_app=True), Merged(Metrics(per_app=True))

    def heads(text: bytes) -> list[str]:
        lines = [line for line in text.decode().splitlines() if line.startswith("#")]
        return [line for line in lines if not line.startswith(("# HELP process_", "# HELP python_"))]

    assert heads(one.render()) == heads(merged.render())
    helps = {family.name: family.documentation for family in text_string_to_metric_families(merged.render().decode())}
    assert {name: text.rpartition(", ")[2] for name, text in helps.items() if name.startswith("process_")} == {
        "process_virtual_memory_bytes": "of all processes together.",
        "process_resident_memory_bytes": "of all processes together.",
        "process_start_time_seconds": "of the supervisor.",
        "process_cpu_seconds": "of all processes together.",
        "process_open_fds": "of the process that has most.",
        "process_max_fds": "of each process.",
    }


def test_a_gauge_is_the_sum_of_those_that_live() -> None:
    """What a dead worker had open is open no more; what it dropped was dropped."""
    supervisor = Metrics()
    supervisor.connections_open.source = lambda: 1
    merged = Merged(supervisor)
    for worker in (1, 2):
        metrics = Metrics()
        metrics.connections_open.source = lambda worker=worker: 10 * worker  # type: ignore[misc]
        metrics.access_log_dropped.source = lambda: 5
        tell(worker, Growth(metrics), merged)
    assert (value(merged, "connections_open"), value(merged, "access_log_dropped")) == (31, 10)
    merged.forget(2)
    assert (value(merged, "connections_open"), value(merged, "access_log_dropped")) == (11, 10)


def test_what_only_the_supervisor_knows_is_not_added_up() -> None:
    """The table, NATS and certificates are the same for all: a worker neither tells of them nor is believed."""
    metrics = Metrics()
    for name in OF_SUPERVISOR:
        family = next((family for family in metrics.families if family.name == name), None)
        if isinstance(family, Sampled):
            family.source = lambda: 7
        elif isinstance(family, SampledVector):
            family.source = lambda: {("name",): 7}
    merged = Merged(metrics)
    tell(1, Growth(metrics), merged)
    assert (value(merged, "total_routes"), value(merged, "nats_connected")) == (7, 7)
    assert merged.take(1, [["total_routes", [], 9], ["config_reloads", ["ok"], 9]]) == 2
    assert value(merged, "total_routes") == 7
    assert value(merged, 'worker_reports_rejected{reason="unknown"}') == 2


def test_what_follows_from_another_counter_is_told_once() -> None:
    """A request with an empty Content-Length is one malformed request, in both of GoRouter's and our words."""
    worker, supervisor = Metrics(), Metrics()
    merged, growth = Merged(supervisor), Growth(worker)
    worker.malformed_requests.labels("empty_content_length").inc()
    tell(1, growth, merged)
    assert value(merged, "empty_content_length_header") == 1
    tell(1, growth, merged)
    assert value(merged, 'malformed_requests{reason="empty_content_length"}') == 1
    assert value(merged, "empty_content_length_header") == 1


def test_a_process_is_measured_with_the_others() -> None:
    """Time and memory add up; descriptors are those of the fullest process, for their limit is each one's own."""
    merged = Merged(Metrics())
    own = value(merged, "process_resident_memory_bytes")
    told = [
        ["process_resident_memory_bytes", [], 10**12],
        ["process_cpu_seconds_total", [], 10**6],
        ["process_open_fds", [], 10**4],
        ["file_descriptors", [], 10**4],
        ["python_gc_collections_total", ["0"], 10**9],
    ]
    assert merged.take(1, told) + merged.take(2, told) == 0
    assert 0 < own < 10**12
    assert 2 * 10**12 < value(merged, "process_resident_memory_bytes") < 3 * 10**12
    assert 2 * 10**6 < value(merged, "process_cpu_seconds_total") < 3 * 10**6
    assert [value(merged, name) for name in sorted(LARGEST)] == [10**4, 10**4]
    assert value(merged, 'python_gc_collections_total{generation="0"}') >= 2 * 10**9
    assert value(merged, "process_max_fds") < 10**12


def test_only_what_changed_is_told() -> None:
    """A child is told once when it is new, and then when it has grown."""
    metrics = Metrics()
    growth = Growth(metrics)
    metrics.file_descriptors.source = lambda: 7
    assert sum(map(len, growth.take())) > 30
    metrics.bad_gateways.inc(2)
    metrics.gorouter_time.observe(0.003)
    metrics.responses.labels("5xx").inc(3)
    metrics.l4_dial_failures.labels("refused")
    told = [entry for entries in growth.take() for entry in entries]
    ours = [entry for entry in told if isinstance(entry, list) and not str(entry[0]).startswith(("process_", "python_"))]
    assert ours == [
        ["responses", ["5xx"], 3],
        ["gorouter_time", [], [[0, 0, 0, 1, *[0] * 8], 0.003]],
        ["bad_gateways", [], 2],
        ["l4_dial_failures", ["refused"], 0],
    ]


def test_a_sum_that_steps_back_is_told_when_it_has_caught_up() -> None:
    """A clock that steps back cannot make the scrape's sum smaller than it was."""
    metrics = Metrics()
    growth, merged = Growth(metrics), Merged(Metrics())
    for observed in (3.0, -2.0, 5.0):
        metrics.gorouter_time.observe(observed)
        tell(1, growth, merged)
    assert (value(merged, "gorouter_time_sum"), value(merged, "gorouter_time_count")) == (6, 3)


def test_many_children_are_told_in_messages_that_fit() -> None:
    """A thousand label sets of the longest labels are some messages, none of them long."""
    metrics = Metrics(per_app=True)
    assert metrics.http_latency_seconds is not None
    for number in range(MAX_CHILDREN + 10):
        metrics.http_latency_seconds.labels(f"{number:0{MAX_LABEL}}")
    messages = list(Growth(metrics).take())
    assert len(messages) > 4
    assert max(map(len, messages)) <= MAX_ENTRIES
    assert max(len(json.dumps(entries)) for entries in messages) < 2 * MAX_SIZE
    merged = Merged(Metrics(per_app=True))
    assert [merged.take(1, entries) for entries in messages] == [0] * len(messages)


def test_two_workers_with_too_many_children_stay_within_the_bound() -> None:
    """What comes later is counted under `other`, as in one process, and stays there."""
    metrics = Metrics()
    merged = Merged(metrics)
    for worker in range(2):
        entries = [["total_requests", [f"{worker}-{number}"], 1] for number in range(MAX_CHILDREN)]
        for start in range(0, MAX_CHILDREN, MAX_ENTRIES):
            assert merged.take(worker, entries[start : start + MAX_ENTRIES]) == 0
    assert len(metrics.total_requests.children()) == MAX_CHILDREN
    assert value(merged, 'total_requests{component="other"}') == MAX_CHILDREN + 1


BUCKETS = len(Metrics().gorouter_time.counts)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (None, "message"), ({}, "message"), ([["bad_gateways", [], 1]] * (MAX_ENTRIES + 1), "message"),
        ([7], "entry"), ([[]], "entry"), ([["bad_gateways", []]], "entry"), ([["bad_gateways", "", 1]], "entry"),
        ([[["bad_gateways"], [], 1]], "entry"), ([["bad_gateways", [], 1, 1]], "entry"),
        ([["no_such_metric", [], 1]], "unknown"), ([["certificate_expiry_seconds", ["x"], 1]], "unknown"),
        ([["python_gc_collections_total", ["77"], 1]], "unknown"), ([["connections_open", ["x"], 1]], "unknown"),
        ([["bad_gateways", ["x"], 1]], "labels"), ([["responses", [], 1]], "labels"), ([["responses", [7], 1]], "labels"),
        ([["responses", ["x" * (MAX_LABEL + 1)], 1]], "labels"), ([["responses", [["2xx"]], 1]], "labels"),
        ([["bad_gateways", [], -1]], "number"), ([["bad_gateways", [], MAX_GROWTH + 1]], "number"),
        ([["bad_gateways", [], 1.0]], "number"), ([["bad_gateways", [], True]], "number"),
        ([["bad_gateways", [], "1"]], "number"), ([["bad_gateways", [], [[1], 1]]], "number"),
        ([["connections_open", [], float("nan")]], "number"), ([["connections_open", [], float("inf")]], "number"),
        ([["connections_open", [], -1]], "number"), ([["connections_open", [], None]], "number"),
        ([["gorouter_time", [], 1]], "number"), ([["gorouter_time", [], [[0] * (BUCKETS - 1), 0]]], "number"),
        ([["gorouter_time", [], [[-1] * BUCKETS, 0]]], "number"),
        ([["gorouter_time", [], [[0] * BUCKETS, float("nan")]]], "number"),
    ],
)  # fmt: skip
def test_what_no_worker_would_say_is_dropped_and_counted(told: Any, reason: str) -> None:
    """A worker faces clients: whoever took one over changes no more of a scrape than its own numbers."""
    metrics = Metrics()
    merged = Merged(metrics)
    before = scrape(merged)
    assert merged.take(1, told) == 1
    after = scrape(merged)
    assert after.pop(f'worker_reports_rejected{{reason="{reason}"}}') == 1
    assert before == after


def test_one_bad_entry_spoils_no_other() -> None:
    """Each is judged by itself."""
    merged = Merged(Metrics())
    assert merged.take(1, [["bad_gateways", [], 1], ["bad_gateways", [], -1], ["bad_gateways", [], 2]]) == 1
    assert value(merged, "bad_gateways") == 3


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([each.name for each in TOLD]),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    )
)
def test_nothing_a_worker_says_raises(told: Any) -> None:
    """Any JSON at all."""
    merged = Merged(Metrics())
    merged.take(1, told)
    merged.take(1, [told])
    text_string_to_metric_families(merged.render().decode())


def test_every_name_of_the_lists_is_a_metric() -> None:
    """A metric that was renamed would be added up unnoticed."""
    names = {family.name for family in Metrics().families} | {"process_start_time_seconds", "process_max_fds", "process_open_fds"}
    assert names >= OF_SUPERVISOR | LARGEST
