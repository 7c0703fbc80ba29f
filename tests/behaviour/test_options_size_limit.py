"""max_route_options_size, and what a map that is invalid as a whole or in one pair means on a domain that enforces."""

import json
from collections.abc import Iterator

import pytest

from tests.behaviour.conftest import ANY, At, json_log
from tests.behaviour.place import Place, make_place
from tests.support.certs import CA, Credential
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess, mtls_domain

INVALID = ("route:invalid_options", "route options are invalid or too large, so nobody is allowed")
NOTHING = ("route:no_mtls_allowed_options", "route has no mtls_allowed_* options configured")


def options_of(size: int, filler: str = "x") -> dict[str, str]:
    """A map that admits app-a and is `size` bytes of compact JSON in UTF-8."""
    options = {"mtls_allowed_apps": "app-a", "padding": ""}
    used = len(json.dumps(options, separators=(",", ":")))
    count, rest = divmod(size - used, len(filler.encode()))
    options["padding"] = filler * count + "x" * rest
    assert len(json.dumps(options, separators=(",", ":"), ensure_ascii=False).encode()) == size
    return options


@pytest.mark.parametrize("filler", ["x", "ä", "😀"])
def test_the_default_limit_is_1024_bytes_of_utf8(at: At, alice: Credential, filler: str) -> None:
    """R281: 1024 bytes are enough, 1025 are too many, counted in bytes of compact JSON: then nobody gets in."""
    place = at(ANY, options_of(1024, filler))
    place.call(alice).assert_allowed("route:mtls_allowed_apps")
    place.register(options_of(1025, filler))
    place.call(alice).assert_denied(*INVALID)
    place.register(options_of(1024, filler))
    place.call(alice).assert_allowed("route:mtls_allowed_apps")


def test_blanks_of_the_message_do_not_count(at: At, alice: Credential) -> None:
    """R281: the parsed map is measured, not the emitter's spelling of it."""
    place = at(ANY)
    body = json.dumps({**place.sent[0], "options": options_of(1024)}, indent=40).encode()
    place.registrar.publish_raw("router.register", body)
    place.call(alice).assert_allowed("route:mtls_allowed_apps")


@pytest.mark.parametrize("options", ["text", [{"mtls_allow_any": True}], 7, True])
def test_a_map_that_is_none_denies(at: At, alice: Credential, options: object) -> None:
    """R321, decision 8: options that are no object never open a domain that enforces."""
    at(ANY, options).call(alice).assert_denied(*INVALID)


def test_rejected_options_do_not_fail_the_registration(at: At, house: RouterProcess) -> None:
    """R321: the router never fails on options: the route is there, and the rejection is counted by its reason."""
    before = {
        reason: house.metric("route_options_rejected", reason=reason) for reason in ("too_large", "not_an_object", "nested")
    }
    place = at(ANY, options_of(2000))
    place.register("text")
    place.register({"mtls_allowed_apps": ["app-a"]})
    assert place.host in house.routes()
    for reason, count in before.items():
        assert house.metric("route_options_rejected", reason=reason) == count + 1


@pytest.mark.parametrize("nested", [["app-a"], {"apps": ["app-a"]}, None, 5, True, {}])
def test_a_value_that_is_not_flat_text_counts_as_an_empty_list(
    at: At, alice: Credential, bob: Credential, nested: object
) -> None:
    """R261, R321, decision 8: one bad pair is left out, the others still apply; nothing left means deny."""
    place = at(ANY, {"mtls_allowed_apps": nested, "mtls_allowed_orgs": "org-2"})
    place.call(bob).assert_allowed("route:mtls_allowed_orgs")
    place.call(alice).assert_denied("route:mtls_allowed_orgs", "caller org org-1 not in mtls_allowed_orgs")
    place.register({"mtls_allowed_apps": nested})
    place.call(alice).assert_denied(*NOTHING)


@pytest.mark.parametrize("key", ["allowed_sources", "mtls_allowed_sources"])
def test_the_nested_form_of_older_drafts_admits_nobody(at: At, alice: Credential, key: str) -> None:
    """R261, R262, K1: `allowed_sources: {apps: [...]}` is not accepted in a registration."""
    for value in ({"apps": ["app-a"], "any": True}, {"any": True}):
        at(ANY, {key: value}).call(alice).assert_denied(*NOTHING)


def test_a_bad_option_that_is_not_about_access_changes_nothing_else(at: At, alice: Credential) -> None:
    """R321: one invalid pair is ignored while the others apply."""
    options = {"mtls_allowed_apps": "app-a", "loadbalancing": "no-such-algorithm", "unknown-option": 3.5, "trim-path": True}
    at(ANY, options).call(alice).assert_allowed("route:mtls_allowed_apps")


@pytest.fixture(scope="module")
def small(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router whose limit is 100 bytes."""
    directory = tmp_path_factory.mktemp("small")
    domains = [mtls_domain(ANY, east_ca)]
    with RouterProcess(
        directory, nats=nats_server, mtls_domains=domains, max_route_options_size=100, access_log=json_log(directory)
    ) as process:
        yield process


@pytest.fixture
def small_place(small: RouterProcess, nats_server: NatsServer) -> Iterator[Place]:
    with Registrar(nats_server.port, small) as registrar:
        place = make_place(small, registrar, ANY)
        yield place
        place.leave()


def test_the_limit_is_the_operators(small_place: Place, alice: Credential) -> None:
    """R281: `max_route_options_size` moves the limit, for every route alike."""
    small_place.register(options_of(100))
    small_place.call(alice).assert_allowed("route:mtls_allowed_apps")
    small_place.register(options_of(101))
    small_place.call(alice).assert_denied(*INVALID)


def logged(place: Place, event: str) -> list[dict[str, str]]:
    """The data of these events about a place's route, in order."""
    found = (json.loads(line) for line in place.router.events if line.startswith("{"))
    return [one["data"] for one in found if one["message"] == event and one["data"]["uri"] == place.host]


def test_the_log_says_what_why_and_what_is_in_effect_once_a_change(small_place: Place) -> None:
    """R321: one line a change: the option, its value, what was wrong, what holds instead."""

    def lines() -> list[dict[str, str]]:
        keys = ("option", "value", "reason", "in_effect")
        return [{key: data[key] for key in keys} for data in logged(small_place, "route-option-rejected")]

    large = {"option": "", "value": "101 bytes", "reason": "too_large", "in_effect": "no option: the limit is 100 bytes"}
    nested = {"option": "'mtls_allowed_apps'", "value": "list", "reason": "nested", "in_effect": "the pair is left out"}
    for _ in range(3):
        small_place.register(options_of(101))
    assert lines() == [large]
    small_place.register({"mtls_allowed_apps": ["app-a"]})
    assert lines() == [large, nested]


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (
            {"mtls_allow_any": True, "mtls_allowed_apps": "app-a"},
            "mtls_allow_any: true excludes the mtls_allowed_* lists: it is dropped, the lists stand",
        ),
        ({"mtls_allowed_apps": "app a,app-a"}, "mtls_allowed_apps: 'app a' skipped, expected a GUID"),
        (
            {"mtls_allowed_sources": "x"},
            (
                "option 'mtls_allowed_sources' has no effect, "
                "expected mtls_allowed_apps, mtls_allowed_spaces, mtls_allowed_orgs or mtls_allow_any"
            ),
        ),
    ],
)
def test_a_policy_that_is_not_taken_as_written_is_said_once(small_place: Place, options: dict[str, object], warning: str) -> None:
    """R258, R262, R321: log and metric tell it once, however often the message is repeated."""
    before = small_place.router.metric("route_options_rejected", reason="bad_policy")
    for _ in range(3):
        small_place.register(options)
    assert small_place.router.metric("route_options_rejected", reason="bad_policy") == before + 1
    assert [data["warning"] for data in logged(small_place, "malformed-route-policy")] == [warning]
