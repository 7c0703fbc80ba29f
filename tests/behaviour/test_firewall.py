"""The promise: the firewall judges each new connection by today's rules, on every port, and never touches one that runs."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from router.demo.process import free_port
from router.observe.log import SPARSE_PER_INTERVAL
from tests.conftest import MakeRouter
from tests.support.router import RouterProcess

FAR, OTHER = "127.0.0.66", "127.0.0.77"
"""Two clients."""


@pytest.fixture
def backend() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


@pytest.fixture
def router(make_router: MakeRouter, backend: socket.socket) -> RouterProcess:
    """Raw TCP on one port, GoRouter's HTTP on another."""
    routes = [{"backend": f"127.0.0.1:{backend.getsockname()[1]}"}]
    return make_router(listeners=[{"port": free_port(), "kind": "tcp", "routes": routes}])


def come(router: RouterProcess, source: str, port: int | None = None) -> socket.socket:
    to = router.config["listeners"][0]["port"] if port is None else port
    return socket.create_connection(("127.0.0.1", to), 10, (source, 0))


def is_refused(router: RouterProcess, source: str, port: int | None = None) -> bool:
    """Whether the client is reset, which may be before it knows that it is connected; it hears nothing otherwise."""
    try:
        with come(router, source, port) as sock:
            sock.settimeout(0.5)
            sock.recv(1)
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    raise AssertionError("it was let in, and sent away")


def blocked(router: RouterProcess) -> dict[str, float]:
    return router.metric_values("connections_blocked")


def test_a_reload_changes_who_may_connect_and_leaves_those_who_are(router: RouterProcess, backend: socket.socket) -> None:
    """R94, R134, R136: on GoRouter's ports too; the rule is in the log, the reason in the metric, and lifting it lifts it."""
    with come(router, FAR) as client, backend.accept()[0] as there:
        assert router.reload(firewall={"blocked_cidrs": ["127.0.0.64/29"]}) == {'result="ok"': 1}
        listener = f"tcp:{router.config['listeners'][0]['port']}"
        assert is_refused(router, FAR)
        assert is_refused(router, FAR, router.port)
        assert not is_refused(router, OTHER)
        assert blocked(router) == {
            f'listener="{listener}",reason="blocked_address"': 1,
            'listener="http",reason="blocked_address"': 1,
        }
        assert "127.0.0.64/29" in router.wait_for_event("connection-blocked")
        there.sendall(b"still here")
        assert client.recv(100) == b"still here"
        assert router.reload(firewall={}) == {'result="ok"': 1}
        assert not is_refused(router, FAR)


def test_a_listeners_own_list_holds_for_it_alone_and_changes_live(router: RouterProcess) -> None:
    """R136: an allow list, not a word about the other ports."""
    listeners = [{**router.config["listeners"][0], "allowed_cidrs": [f"{OTHER}/32"]}]
    assert router.reload(listeners=listeners) == {'result="ok"': 1}
    assert is_refused(router, FAR)
    assert not is_refused(router, FAR, router.port)
    assert not is_refused(router, OTHER)
    assert sum(blocked(router).values()) == 1


def test_who_hammers_is_refused_counted_and_soon_no_longer_logged(router: RouterProcess) -> None:
    """R45, R134: each block is counted, a few of them are logged, and the others have their own share."""
    assert router.reload(firewall={"rate_limit": 5, "rate_window": "10m"}) == {'result="ok"': 1}
    many = 5 + 4 * SPARSE_PER_INTERVAL
    for _ in range(many):
        with contextlib.suppress(ConnectionResetError):
            come(router, FAR).close()
    router.wait_for_metric("connections_blocked", many - 5, reason="rate")
    assert not is_refused(router, OTHER)
    router.wait_for_event("connection-blocked")
    logged = len([event for event in router.events if "connection-blocked" in event])
    assert SPARSE_PER_INTERVAL <= logged <= SPARSE_PER_INTERVAL * max(router.config.get("workers", 0), 1)  # each has its share
