"""The operator's will about route services: who is asked inside, and who not at all."""

from ipaddress import ip_network

import pytest

from authz.deny import NO_DENY, DenyLists, denied_address
from router.l7.route_service import ServiceUrl, parse_service_url
from router.l7.route_services import blocked, blocks, endpoint_of
from tests.router.desk import desk

ALLOWED = ["*.services.example", "one.example"]


@pytest.mark.parametrize(
    ("config", "inside"),
    [
        ({}, set()),
        ({"route_services_hairpinning_allowlist": ALLOWED}, set()),
        (
            {"route_services_hairpinning": True},
            {"one.example", "a.services.example", "a.b.services.example", "services.example", "x"},
        ),
        (
            {"route_services_hairpinning": True, "route_services_hairpinning_allowlist": ALLOWED},
            {"one.example", "a.services.example"},
        ),
    ],
)
async def test_who_is_asked_inside(config: dict[str, object], inside: set[str]) -> None:
    """`route_services_hairpinning`, its list with one label for `*`; without a list everyone, as in GoRouter."""
    hosts = {"one.example", "a.services.example", "a.b.services.example", "services.example", "x"}
    async with desk(route_services_secret="tulips", **config) as one:
        services = one.live.snapshot.route_services
        assert services is not None
        assert {host for host in hosts if services.stays_inside(host)} == inside


async def test_without_a_secret_there_are_none() -> None:
    async with desk() as one:
        assert one.live.snapshot.route_services is None


def url(text: str) -> ServiceUrl:
    found = parse_service_url(text)
    assert found is not None
    return found


def test_blocked_is_what_is_listed_and_what_is_denied() -> None:
    deny = DenyLists(hosts=frozenset({"*.out.example"}), networks=(ip_network("203.0.113.0/24"),))
    lists = blocked([ip_network("10.0.0.0/8")], deny)
    assert denied_address(lists, "10.1.2.3") is not None
    assert denied_address(lists, "203.0.113.9") is not None
    assert denied_address(lists, "192.0.2.1") is None
    assert blocks(lists, url("https://guard.out.example/")) == "host guard.out.example is on deny.hosts (*.out.example)"
    assert blocks(lists, url("https://guard.example/")) == blocks(blocked([], NO_DENY), url("https://x.out.example/")) == ""


@pytest.mark.parametrize(
    ("text", "address", "san"),
    [
        ("https://guard.example/x", "guard.example:443", "guard.example"),
        ("https://10.0.0.1:8443/", "10.0.0.1:8443", ""),
        ("https://[2001:db8::1]/", "[2001:db8::1]:443", ""),
    ],
)
def test_a_service_is_dialled_and_verified_by_its_url(text: str, address: str, san: str) -> None:
    """By its name, or where it has none by its address among the certificate's."""
    endpoint = endpoint_of(url(text))
    assert (endpoint.address, endpoint.tls, endpoint.san, endpoint.app) == (address, True, san, "")
