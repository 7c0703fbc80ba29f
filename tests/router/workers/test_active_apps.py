"""router/workers/active_apps.py: which apps had requests, from the workers."""

from typing import Any

import pytest

from registry.active_apps import ActiveApps
from router.workers.active_apps import APPS_A_MESSAGE, MAX_APP, hear


def test_an_app_that_two_workers_served_counts_once() -> None:
    """Contract b.1: what goes out is one list for the whole router."""
    active, workers = ActiveApps(), [ActiveApps() for _ in range(2)]
    for worker, apps in zip(workers, (("app-1", "app-2"), ("app-2", "app-3")), strict=True):
        for app in apps:
            worker.mark(app)
        assert all(hear(active, told) for told in worker.lists(APPS_A_MESSAGE))
    assert active.lists() == [["app-1", "app-2", "app-3"]]


@pytest.mark.parametrize(
    "told", [None, {}, "app", ["app", 7], [""], ["a\n"], ["é"], ["a" * (MAX_APP + 1)], ["app"] * (APPS_A_MESSAGE + 1)]
)
def test_what_is_no_list_of_apps_is_refused_whole(told: Any) -> None:
    """A worker faces clients; NATS gets nothing that no registration could have said."""
    active = ActiveApps()
    assert hear(active, told) is False
    assert active.lists() == []
