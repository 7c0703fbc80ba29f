"""router/workers/heard_names.py: names that registrations said reach every worker."""

from registry.names import HeardNames
from router.workers.heard_names import NAMES_A_MESSAGE, NamesFeed, learn


def test_a_worker_knows_the_names_that_the_supervisor_heard_before_and_after_it_began() -> None:
    """The whole once, then what is new; the last word counts."""
    heard, worker = HeardNames(), HeardNames()
    for number in range(NAMES_A_MESSAGE + 1):
        heard.put(f"guid-{number}", "old")
    feed = NamesFeed(heard)
    heard.put("guid-0", "new")
    whole = list(feed.whole())
    assert [len(named) for named in whole] == [NAMES_A_MESSAGE, 1]
    for named in whole:
        learn(worker, named)
    heard.put("guid-1", "new")
    changes = list(feed.changes())
    assert changes == [[("guid-0", "new"), ("guid-1", "new")]]
    assert list(feed.changes()) == []
    for named in changes:
        learn(worker, named)
    assert dict(heard.items()) == dict(worker.items())
