"""The reference page of all metrics, made from the code.

python -m router.observe.reference > docs/reference/metrics.md
"""

import sys
from collections.abc import Iterator

from router.observe.metrics import DEFAULT_BUCKETS, Metrics

_HEAD = """\
# Metrics

Served as Prometheus text where `prometheus.port` (or its alias `metrics.addr`) says. The names are GoRouter's
where GoRouter has the metric, and counters have no `_total`. A labelled metric holds at most 1,000 label
sets; what comes later is counted under `other`. Labels never hold a GUID or a path, but for `source_id`.
Process and garbage-collection metrics (`process_*`, `python_gc_*`) follow on the same page.

With `workers` a scrape shows all processes as one: counters and histograms are sums and stay when a worker ends,
gauges are sums over the processes that live, `python_gc_*` and `process_*` too, but for `file_descriptors` and
`process_open_fds` (of the process that has most), `process_max_fds` (of each) and `process_start_time_seconds` (of the
supervisor). Memory that processes share counts once for each.

This page is made by `python -m router.observe.reference`; a test compares it with the code.
"""


def page() -> str:
    """The page's text."""
    return "\n".join((_HEAD, *_table(), "", *_buckets())) + "\n"


def _table() -> Iterator[str]:
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for family in sorted(Metrics(per_app=True).families, key=lambda family: family.name):
        labels = ", ".join(f"`{name}`" for name in family.label_names)
        yield f"| `{family.name}` | {family.kind} | {labels} | {family.help} |"


def _buckets() -> Iterator[str]:
    yield "## Histogram buckets"
    yield ""
    yield "Set in `prometheus.meters`; these are the defaults."
    yield ""
    yield "| key | upper bounds |"
    yield "|---|---|"
    for key, bounds in DEFAULT_BUCKETS.items():
        yield f"| `{key}` | {', '.join(f'{bound:g}' for bound in bounds)} |"


if __name__ == "__main__":
    sys.stdout.write(page())
