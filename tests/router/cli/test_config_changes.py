"""`check --diff`: what changes, what it takes, and whose connections end."""

import json
from typing import Any

import pytest

from router.cli.config_changes import Changes, changes
from tests.router.config.support import config
from tests.support.certs import authority


def compared(old: dict[str, Any], new: dict[str, Any]) -> Changes:
    return changes(config(old), config(new))


@pytest.mark.parametrize(
    ("new", "restarts"),
    [
        ({"port": 81}, [False]),
        ({"index": 1}, [True]),
        ({"logging": {"level": "debug"}}, [False]),
        ({"logging": {"level": "debug", "redact_query_params": "hash"}}, [False, True]),
        ({"nats": {"hosts": [{"hostname": "a"}]}}, [True, True]),
        ({"status": {"pass": "x"}}, [True]),
    ],
)
def test_each_change_says_whether_it_waits_for_a_restart(new: dict[str, Any], restarts: list[bool]) -> None:
    """The same list that a reload reports by."""
    found = compared({}, new)
    assert [found.needs_restart(one.path) for one in found.differences] == restarts


def test_the_text_has_a_few_lines_a_change() -> None:
    ca = authority("changes").pem
    found = compared({}, {"index": 1, "mtls_domains": [{"domain": "*.a", "ca_certs": ca}]}).as_text().splitlines()
    assert found[0] == "change: mtls_domains[*.a]"
    assert found[3:] == [
        "change: index",
        "    old:      0",
        "    new:      1",
        "    restart:  a reload reports it and leaves it; restart the router",
        "421: *.a: the domain is new: connections to its hosts showed no certificate for it; they are closed and made anew",
    ]


def test_nothing_is_said_to_change_where_nothing_does() -> None:
    assert compared({}, {"port": 80}).as_text() == "nothing changes"


def test_json_is_for_programs() -> None:
    assert json.loads(json.dumps(compared({}, {"port": 81}).as_json())) == {
        "changes": [{"path": "port", "old": "80", "new": "81", "restart": False}],
        "misdirected": [],
    }
