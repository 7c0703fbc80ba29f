"""router/observe/meters.py: counters and histograms, and the text a scrape reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from router.observe.meters import (
    OTHER,
    Counter,
    Family,
    Histogram,
    Sampled,
    SampledVector,
    Single,
    Vector,
    label_text,
    number,
    render,
)


def test_a_counter_keeps_its_name() -> None:
    """R49: no `_total`, as in GoRouter."""
    single = Single("bad_gateways", "counter", "Help.", Counter())
    single.meter.inc()
    single.meter.inc(2)
    assert render([single]) == b"# HELP bad_gateways Help.\n# TYPE bad_gateways counter\nbad_gateways 3\n"


def test_a_vector_has_a_child_for_each_label_set() -> None:
    """The child is the same object each time."""
    vector = Vector("responses", "counter", "Help.", ("status_group",), Counter)
    vector.labels("2xx").inc()
    vector.labels("2xx").inc()
    vector.labels("5xx").inc()
    assert list(vector.samples()) == ['responses{status_group="2xx"} 2', 'responses{status_group="5xx"} 1']


def test_a_full_vector_counts_the_rest_under_other() -> None:
    """R235: no peer can grow it."""
    vector = Vector("v", "counter", "Help.", ("a", "b"), Counter, max_children=3)
    for value in ("1", "2", "3", "4", "1"):
        vector.labels(value, "x").inc()
    assert ['v{a="1",b="x"} 2', 'v{a="2",b="x"} 1', f'v{{a="{OTHER}",b="{OTHER}"}} 2'] == list(vector.samples())


def test_values_cut_alike_share_a_child() -> None:
    """A label value has a bound."""
    vector = Vector("v", "counter", "Help.", ("a",), Counter)
    vector.labels("x" * 256).inc()
    vector.labels("x" * 300).inc()
    assert [f'v{{a="{"x" * 256}"}} 2'] == list(vector.samples())


def test_the_wrong_number_of_labels_is_a_mistake_of_ours() -> None:
    """Said where it is made."""
    vector = Vector("v", "counter", "Help.", ("a", "b"), Counter)
    with pytest.raises(TypeError, match="v has the labels"):
        vector.labels("only one")


def test_a_histogram_counts_up_to_and_including_its_bounds() -> None:
    """Buckets are cumulative, as the format wants."""
    histogram = Histogram((0.5, 1, 10_000))
    for value in (0.1, 0.5, 0.6, 2, 20_000):
        histogram.observe(value)
    assert list(histogram.samples("h", "")) == [
        'h_bucket{le="0.5"} 2',
        'h_bucket{le="1"} 3',
        'h_bucket{le="10000"} 4',
        'h_bucket{le="+Inf"} 5',
        "h_sum 20003.2",
        "h_count 5",
    ]


def test_a_labelled_histogram_has_its_labels_first() -> None:
    """`le` comes last, as GoRouter's library prints it."""
    vector = Vector("latency", "histogram", "Help.", ("component",), lambda: Histogram((1,)))
    vector.labels("api").observe(0.5)
    assert list(vector.samples()) == [
        'latency_bucket{component="api",le="1"} 1',
        'latency_bucket{component="api",le="+Inf"} 1',
        'latency_sum{component="api"} 0.5',
        'latency_count{component="api"} 1',
    ]


def test_sampled_values_are_read_at_each_scrape() -> None:
    """0 or nothing until somebody says where they are."""
    gauge, vector = Sampled("g", "gauge", "Help."), SampledVector("v", "gauge", "Help.", ("name",))
    assert (list(gauge.samples()), list(vector.samples())) == (["g 0"], [])
    gauge.source, vector.source = lambda: 1.5, lambda: {("a",): 2.0}
    assert (list(gauge.samples()), list(vector.samples())) == (["g 1.5"], ['v{name="a"} 2'])


def test_a_family_without_samples_cannot_be_made() -> None:
    """The base class is not a metric."""
    with pytest.raises(TypeError, match="samples"):
        Family("x", "gauge", "Help.")  # type: ignore[abstract]


def test_help_is_escaped() -> None:
    """A line feed would start another line."""
    assert b"# HELP g a\\\\b\\nc\n" in render([Sampled("g", "gauge", "a\\b\nc")])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.0, "3"),
        (0.25, "0.25"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
        (1e300, "1e+300"),
    ],
)
def test_numbers_are_written_short(value: float, text: str) -> None:
    """Whole numbers have no fraction."""
    assert text == number(value)


@given(st.text(max_size=40))
def test_any_label_value_can_be_read_back(value: str) -> None:
    """Property: quotes, backslashes and line feeds survive; lone surrogates are shown, not raised."""
    text = f"v{{{label_text(('a',), (value,))}}} 1\n"
    (family,) = text_string_to_metric_families(text)
    shown = value.encode("utf-8", "backslashreplace").decode()
    assert [shown] == [sample.labels["a"] for sample in family.samples]
