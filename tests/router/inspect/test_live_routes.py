"""router/inspect/live_routes.py: the answer of /policies turned back into what it was told from."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.domain import DomainTable
from authz.policy import route_policy
from identity.caller import Caller, Guid
from registry.ledger import Ledger, LedgerSettings
from registry.message import Malformed, parse_message
from registry.table import RouteTable
from router.inspect.callers import KnownCaller
from router.inspect.live_routes import read_live_routes
from router.inspect.policies import route_json


def table_of(*messages: dict[str, Any]) -> RouteTable:
    """The table after these registrations."""
    ledger = Ledger(LedgerSettings())
    for number, message in enumerate(messages):
        data = json.dumps({"host": "2001:db8::1", "port": 80 + number, **message}).encode()
        parsed = parse_message(data)
        assert not isinstance(parsed, Malformed)
        ledger.register(parsed, data, 0.0)
    return ledger.publish()


def answer(table: RouteTable) -> dict[str, Any]:
    domains = DomainTable(())
    told = {"generation": 1, "domains": [], "routes": [route_json(route, None, domains, 0.0) for route in table]}
    read: dict[str, Any] = json.loads(json.dumps(told))
    return read


OWNER = {"app": "app-1", "tags": {"space_id": "space-1", "organization_id": "org-1", "app_name": "front"}}
OPTIONS = [
    {},
    {"mtls_allowed_apps": "a,b", "mtls_allowed_orgs": "o"},
    {"mtls_allow_any": True},
    {"route_policy_scope": "org", "route_policy_sources": "cf:space:s,cf:app:a"},
    {"route_policy_sources": "cf:any"},
    {"mtls_allowed_spaces": "s", "route_policy_scope": "any", "route_policy_sources": "cf:any"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_route_comes_back_as_it_was(options: dict[str, object]) -> None:
    """Key, policy, owners and addresses: all that a decision asks for."""
    before = table_of({"uris": ["*.apps.example/V1"], "options": options, **OWNER})
    after = read_live_routes(answer(before)).table
    (route,), (again,) = before, after
    assert (again.key, again.host, again.path) == (route.key, route.host, route.path)
    assert again.pool.policy.parts == route.pool.policy.parts
    (endpoint,), (once_more,) = route.pool.endpoints, again.pool.endpoints
    assert (once_more.app, once_more.tags, once_more.address) == (endpoint.app, endpoint.tags, endpoint.address)
    assert after.lookup("x.apps.example", "/v1/y") is again


def test_invalid_options_stay_invalid() -> None:
    before = table_of({"uris": ["a.example"], "options": {"mtls_allowed_apps": "a" * 2000}})
    (route,) = read_live_routes(answer(before)).table
    assert route.pool.policy.parts == route_policy({}, (), "invalid", ("mtls_allowed_apps",)).parts


def test_what_a_route_wants_besides_comes_back_too() -> None:
    """A route service is refused by this router: nobody is let in."""
    before = table_of({"uris": ["a.example"], "route_service_url": "https://service.example"})
    (route,), (again,) = before, read_live_routes(answer(before)).table
    assert again.pool.route_service_url == route.pool.route_service_url == "https://service.example"


def test_registered_apps_are_callers_with_their_space_and_org() -> None:
    """One that tells no org, or two different ones, is nobody that could be asked about as a whole."""
    torn = [{**OWNER, "app": "app-2", "tags": {**OWNER["tags"], "space_id": space}} for space in ("s-1", "s-2")]  # type: ignore[dict-item]
    table = table_of(
        {"uris": ["a.example"], **OWNER},
        {"uris": ["b.example"], "app": "app-3"},
        *({"uris": ["c.example"], **one} for one in torn),
    )
    caller = Caller(Guid("app-1"), Guid("space-1"), Guid("org-1"))
    assert read_live_routes(answer(table)).callers == {"app-1": KnownCaller("app front (app-1)", caller)}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"routes": 1},
        {"routes": [1]},
        {"routes": [{}]},
        {"routes": [{"host": "A", "path": "", "endpoints": [], "policy": []}]},
    ],
)
def test_another_answer_is_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(
        ValueError, match=r"^the answer is not what /policies tells \(.{1,80}\); is it a router of this version\?$"
    ):
        read_live_routes(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
KEYS = ("host", "path", "endpoints", "policy", "owners", "route")


@given(
    st.sampled_from(KEYS),
    JSON,
    st.sampled_from(("address", "app", "tags", "tls", "options", "scope", "apps", "any", "named")),
    JSON,
)
def test_nothing_but_a_value_error_is_raised(key: str, value: object, inner: str, other: object) -> None:
    whole = answer(table_of({"uris": ["a.example"], "options": OPTIONS[3], **OWNER}))
    whole["routes"][0][key] = value
    deep = answer(table_of({"uris": ["a.example"], "options": OPTIONS[3], **OWNER}))
    for part in (*deep["routes"][0]["endpoints"], *deep["routes"][0]["policy"]):
        part[inner] = other
    for told in (whole, deep):
        assert refusal(told)[:38] in ("", "the answer is not what /policies tells")


def refusal(told: object) -> str:
    """Why an answer is refused; nothing where it is not."""
    try:
        read_live_routes(told)
    except ValueError as error:
        return str(error)
    return ""
