"""Which apps had requests, and the messages that say so."""

import json
import zlib

from registry.active_apps import APPS_A_MESSAGE, MAX_APPS, ActiveApps


def read(message: bytes) -> list[str]:
    apps: list[str] = json.loads(zlib.decompress(message))
    return apps


def test_an_app_counts_once_between_two_messages() -> None:
    """Contract b.1: a zlib-compressed list; whoever had no request since is not in the next."""
    active = ActiveApps()
    for app in ("app-2", "app-1", "app-2", ""):
        active.mark(app)
    assert [read(message) for message in active.take()] == [["app-1", "app-2"]]
    assert [read(message) for message in active.take()] == [[]]


def test_many_apps_go_in_messages_that_nats_takes() -> None:
    """Bounded in all, and each below NATS's 1 MiB."""
    active = ActiveApps()
    for number in range(MAX_APPS + 10):
        active.mark(f"{number:036}")
    messages = list(active.take())
    assert len(messages) == MAX_APPS // APPS_A_MESSAGE
    assert sum(len(read(message)) for message in messages) == MAX_APPS
    assert max(map(len, messages)) < 512 * 1024


def test_the_apps_are_also_to_be_had_as_they_are() -> None:
    """For a process that tells another one."""
    active = ActiveApps()
    for app in ("c", "a", "b"):
        active.mark(app)
    assert active.lists(2) == [["a", "b"], ["c"]]
    assert active.lists(2) == []
