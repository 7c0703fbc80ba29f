"""A route registered several times with different options: the policy is what all its live endpoints say together."""

import itertools

import pytest

from tests.behaviour.conftest import ANY, LATER, At
from tests.behaviour.place import Place
from tests.support.backend import EchoBackend
from tests.support.certs import Credential

WIDE, NARROW, NONE = {"mtls_allowed_apps": "app-a,app-b"}, {"mtls_allowed_apps": "app-b"}, None


def statuses(place: Place, caller: Credential) -> set[int]:
    """The answers of as many calls as there are endpoints, twice."""
    return {place.call(caller).response.status for _ in range(4)}


@pytest.mark.parametrize("order", list(itertools.permutations([WIDE, NARROW])), ids=["wide-first", "narrow-first"])
def test_all_must_allow_whatever_the_order(
    at: At, alice: Credential, bob: Credential, second_backend: EchoBackend, order: tuple[dict[str, str], ...]
) -> None:
    """R264, decision 4: two instances with different lists: only who is on both gets in, at every endpoint."""
    place = at(ANY, order[0])
    place.register(order[1], backend=second_backend, index=1)
    assert statuses(place, alice) == {403}
    assert statuses(place, bob) == {200}


@pytest.mark.parametrize("order", [(WIDE, NONE), (NONE, WIDE)], ids=["lost-later", "lost-first"])
@pytest.mark.parametrize(("domain", "status"), [(ANY, 403), (LATER, 200)])
def test_an_instance_that_lost_its_options_does_not_open_the_route(
    at: At,
    alice: Credential,
    carol: Credential,
    second_backend: EchoBackend,
    order: tuple[dict[str, str] | None, ...],
    domain: str,
    status: int,
) -> None:
    """R252, decision 4: on an enforcing domain it denies; in the second dialect the others' lists still hold."""
    place = at(domain, order[0])
    place.register(order[1], backend=second_backend, index=1)
    assert statuses(place, alice) == {status}
    assert statuses(place, carol) == {403}


def test_revoking_acts_with_the_first_message_and_granting_with_the_last(
    at: At, alice: Credential, second_backend: EchoBackend
) -> None:
    """Decision 4: one instance that says less denies at once; the grant holds when every instance has repeated it."""
    place = at(ANY, WIDE)
    place.register(WIDE, backend=second_backend, index=1)
    assert statuses(place, alice) == {200}
    place.register(NARROW, backend=second_backend, index=1)
    assert statuses(place, alice) == {403}
    place.register(WIDE, backend=second_backend, index=1)
    assert statuses(place, alice) == {200}


def test_an_endpoint_that_leaves_takes_its_demands_along(at: At, alice: Credential, second_backend: EchoBackend) -> None:
    """Decision 4: only live endpoints count."""
    place = at(ANY, WIDE)
    place.register(NARROW, backend=second_backend, index=1)
    assert statuses(place, alice) == {403}
    place.registrar.unregister(place.host, backend=second_backend, index=1)
    assert statuses(place, alice) == {200}
    assert second_backend.received == []


def test_a_changed_policy_acts_on_a_connection_that_is_open(at: At, alice: Credential) -> None:
    """Decision 6: every exchange is judged by the policy of the day, also the next one on a kept connection."""
    place = at(ANY, WIDE)
    with place.connect(alice) as client:
        place.ask(client).assert_allowed("route:mtls_allowed_apps")
        place.register(NARROW)
        place.ask(client).assert_denied("route:mtls_allowed_apps", "caller app app-a not in mtls_allowed_apps")
        place.register({"mtls_allow_any": True})
        place.ask(client).assert_allowed("route:mtls_allow_any")


def test_dialects_of_different_endpoints_must_all_allow(
    at: At, alice: Credential, bob: Credential, second_backend: EchoBackend
) -> None:
    """Decision 4: one instance still registers the first dialect, the next already the second: both are asked."""
    place = at(ANY, WIDE)
    place.register({"route_policy_scope": "any", "route_policy_sources": "cf:app:app-a"}, backend=second_backend, index=1)
    assert statuses(place, alice) == {200}
    assert statuses(place, bob) == {403}
