"""router/backend/http1.py: a backend connection while it works and while it rests."""

from ipaddress import ip_network

from authz.deny import NO_DENY, DenyLists
from router.net.deadline import NEVER
from tests.router.backend.parts import endpoint, upstream


class Keeper:
    def __init__(self) -> None:
        self.evicted: list[object] = []

    def evict(self, one: object) -> None:
        self.evicted.append(one)

    def give(self, one: object) -> None:
        raise AssertionError("nobody gave it back")


async def test_a_new_connection_is_no_reused_one() -> None:
    """Fresh: nothing read ahead, no times, and it rests nowhere."""
    to = endpoint(1234)
    one, peer = upstream(to)
    assert one.endpoint is to
    assert (one.reused, one.buffer, one.dial_time, one.tls_time) == (False, b"", 0.0, 0.0)
    assert one.rest.keeper is None
    one.close()
    peer.close()


async def test_a_rest_that_expires_is_told_to_its_keeper_alone() -> None:
    """Where nobody keeps the connection, its expiry means nothing."""
    one, peer = upstream()
    keeper = Keeper()
    one.rest.expire()
    one.rest.keeper = keeper
    one.rest.expire()
    assert keeper.evicted == [one]
    one.close()
    peer.close()


async def test_a_closed_connection_leaves_nothing_in_the_wheel() -> None:
    """Its idle deadline is forgotten with it, and closing twice is once."""
    one, peer = upstream()
    wheel = one.stream.wheel
    wheel.arm(one.rest, one.stream.loop.time() + 100)
    one.close()
    one.close()
    assert one.stream.closed
    assert (one.rest.slot, one.rest.deadline) == (None, NEVER)
    assert peer.recv(1) == b""
    peer.close()


async def test_a_peer_is_judged_once_for_each_set_of_lists() -> None:
    """R238: by the address that the system names; others are asked anew, and one that is gone passes none."""
    one, peer = upstream()
    others, loopback = DenyLists(networks=(ip_network("10.0.0.0/8"),)), DenyLists(networks=(ip_network("127.0.0.0/8"),))
    assert one.passes(others)
    assert one.passed is others
    hit = one.denied(loopback)
    assert hit is not None
    assert hit.rule == "deny:backend_networks"
    assert not one.passes(loopback)
    assert one.passes(NO_DENY)
    one.close()
    peer.close()
    assert one.passes(NO_DENY)
    assert not one.passes(others)
