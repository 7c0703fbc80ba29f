"""The `deny` section and the lists that it becomes."""

from ipaddress import ip_network
from typing import Any

import pytest

from authz.deny import NO_DENY, denied_host
from router.config.deny import deny_lists
from tests.router.config.support import config, loaded


def test_nothing_listed_is_no_lists_at_all() -> None:
    """The very constant: idle connections need not be asked anew after a reload."""
    for text in ("{}", "deny: {}", "deny: {apps: [], hosts: []}"):
        assert deny_lists(config(text).deny) is NO_DENY


def test_every_list_is_taken() -> None:
    """Numbers are the text that the file spells; hosts are canonical, addresses are networks of one."""
    lists = deny_lists(
        config(
            {
                "deny": {
                    "apps": ["app-1"],
                    "spaces": ["space-1"],
                    "orgs": ["org-1", "org-2"],
                    "hosts": ["Evil.Example.", "*.BAD.example", "bücher.example"],
                    "backend_networks": ["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::ffff:172.16.0.0/108"],
                }
            }
        ).deny
    )
    assert lists.apps == {"app-1"}
    assert lists.spaces == {"space-1"}
    assert lists.orgs == {"org-1", "org-2"}
    assert lists.hosts == {"evil.example", "*.bad.example", "xn--bcher-kva.example"}
    assert lists.networks == tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.7", "fd00::/8", "172.16.0.0/12")))
    assert denied_host(lists, "a.b.bad.example") is not None


@pytest.mark.parametrize(
    ("deny", "path", "line"),
    [
        ("deny:\n  orgs: [a, 'b c']", "deny.orgs[1]", 2),
        ("deny:\n  apps:\n    - ''", "deny.apps[0]", 3),
        ("deny:\n  spaces: space-1", "deny.spaces", 2),
        ("deny:\n  orgs:", "deny.orgs", 2),
        ("deny:", "deny", 1),
        ("deny: [org-1]", "deny", 1),
        ("deny:\n  hosts: ['a.*.example']", "deny.hosts[0]", 2),
        ("deny:\n  hosts: ['*']", "deny.hosts[0]", 2),
        ("deny:\n  hosts: [a.example:443]", "deny.hosts[0]", 2),
        ("deny:\n  hosts: [a.example/path]", "deny.hosts[0]", 2),
        ("deny:\n  hosts: [10.0.0.1]", "deny.hosts[0]", 2),
        ("deny:\n  backend_networks: [10.0.0.1/8]", "deny.backend_networks[0]", 2),
        ("deny:\n  backend_networks: [node-7.internal]", "deny.backend_networks[0]", 2),
        ("deny:\n  backend_networks: ['']", "deny.backend_networks[0]", 2),
        ("deny:\n  org: [a]", "deny.org", 2),
    ],
)
def test_a_bad_entry_is_an_error_with_path_and_line(deny: str, path: str, line: int) -> None:
    """R271: a lock that cannot be read is never silently none."""
    outcome = loaded(f"{deny}\ntrusted_proxies: []\n")
    assert outcome.config is None
    assert [(problem.path, problem.line) for problem in outcome.problems] == [(path, line)]
    assert all(problem.expected for problem in outcome.problems)


def test_an_unknown_list_is_named_with_the_nearest() -> None:
    """So that a misspelt list is not an empty one."""
    outcome: Any = loaded("deny: {host: [a.example]}")
    assert outcome.problems[0].remedy == "did you mean `hosts`?"
