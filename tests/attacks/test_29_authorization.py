"""Attacks 29 to 33: a valid certificate, and a route or a domain that is not for it."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.policy import conjunction, route_policy
from tests.attacks.conftest import Door, assert_misdirected, assert_unseen
from tests.conftest import EAST, OPEN
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Alert, Response, Tls, expect_alert, get, render_request
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain

DENIED = (403, "mtls_authorization_denied", b"Forbidden")


def told(response: Response) -> tuple[int, str | None, bytes]:
    return response.status, response.get("x-cf-routererror"), response.body


def ask(router: RouterProcess, door: Door, credential: Credential, target: str = "/") -> Response:
    return get(router.ssl_port, door.host, target, tls=Tls(door.host, credential))


@pytest.fixture(scope="module")
def json_router(
    nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RouterProcess, Registrar]]:
    """A router with the JSON access log and a domain for one org."""
    directory = tmp_path_factory.mktemp("router")
    domains = [mtls_domain(f"*.{EAST}", east_ca), mtls_domain("*.org1.example", east_ca, orgs=["org1"])]
    log = {"file": str(directory / "access.log"), "format": "json"}
    process = RouterProcess(directory, nats=nats_server, mtls_domains=domains, access_log=log)
    with process as router, Registrar(nats_server.port, router) as registrar:
        yield router, registrar


@pytest.mark.parametrize(
    ("suffix", "options", "rule", "reason"),
    [
        (EAST, {"mtls_allowed_apps": "other"}, "route:mtls_allowed_apps", "caller app me not in mtls_allowed_apps"),
        (EAST, {"mtls_allowed_spaces": "other"}, "route:mtls_allowed_spaces", "caller space my-space not in mtls_allowed_spaces"),
        (EAST, {"mtls_allowed_orgs": "other"}, "route:mtls_allowed_orgs", "caller org my-org not in mtls_allowed_orgs"),
        ("org1.example", {"mtls_allow_any": True}, "domain:orgs", "caller org my-org not in authorization.config.orgs"),
    ],
    ids=["app", "space", "org", "boundary"],
)
def test_a_caller_outside_the_list_is_refused_by_name_in_the_log(
    json_router: tuple[RouterProcess, Registrar], make_backend: Callable[..., EchoBackend], east_ca: CA,
    suffix: str, options: Mapping[str, Any], rule: str, reason: str,
) -> None:  # fmt: skip
    """Attack 29: 403 with nothing but `Forbidden`, no backend contact, and who it was and why in the access log."""
    router, registrar = json_router
    door = Door(unique_host(suffix), make_backend())
    registrar.register(door.host, backend=door.backend, options=options)
    answer = ask(router, door, east_ca.issue_instance("me", "my-space", "my-org"))
    assert told(answer) == DENIED
    assert_unseen(door)
    assert door.backend.connections == 0
    line = json.loads(router.wait_for_log(door.host))
    assert (line["caller_cf_app"], line["caller_cf_space"], line["caller_cf_org"]) == ("me", "my-space", "my-org")
    assert (line["mtls_auth"], line["mtls_rule"]) == ("denied", rule)
    assert line["mtls_denied_reason"].startswith(reason)
    assert line["tls_sni"] == door.host
    for secret in ("other", "org1", "my-org", rule):
        assert secret.encode() not in answer.head + answer.body


CLOSED: dict[str, Any] = {
    "nothing": None,
    "empty-map": {},
    "empty-list": {"mtls_allowed_apps": ""},
    "blank-list": {"mtls_allowed_apps": " , ,"},
    "three-empty-lists": {"mtls_allowed_apps": "", "mtls_allowed_spaces": "", "mtls_allowed_orgs": ""},
    "any-is-false": {"mtls_allow_any": False},
    "any-is-no-boolean": {"mtls_allow_any": "yes"},
    "any-is-one": {"mtls_allow_any": 1},
    "any-beside-a-list": {"mtls_allow_any": True, "mtls_allowed_apps": "other"},
    "star": {"mtls_allowed_apps": "*"},
    "part-of-the-guid": {"mtls_allowed_apps": "caller"},
    "more-than-the-guid": {"mtls_allowed_apps": "caller-app-2"},
    "upper-case": {"mtls_allowed_apps": "CALLER-APP"},
    "space-as-app": {"mtls_allowed_apps": "caller-space"},
    "app-as-space": {"mtls_allowed_spaces": "caller-app"},
    "list-as-array": {"mtls_allowed_apps": ["caller-app"]},
    "list-as-object": {"mtls_allowed_apps": {"caller-app": True}},
    "list-is-a-number": {"mtls_allowed_apps": 7},
    "list-is-true": {"mtls_allowed_apps": True},
    "unknown-key": {"mtls_allowed_users": "caller-app"},
    "key-in-upper-case": {"MTLS_ALLOWED_APPS": "caller-app"},
    "nested": {"mtls_allowed_sources": {"apps": ["caller-app"]}},
    "oversize": {"mtls_allowed_apps": "caller-app," + "x" * 1100},
    "array-for-a-map": ["mtls_allow_any"],
    "text-for-a-map": "mtls_allow_any",
    "unknown-scope": {"route_policy_scope": "planet", "route_policy_sources": "cf:any"},
    "no-scope": {"route_policy_sources": "cf:any"},
    "no-sources": {"route_policy_scope": "any"},
    "unknown-selector": {"route_policy_scope": "any", "route_policy_sources": "cf:user:caller-app"},
    "selector-in-upper-case": {"route_policy_scope": "any", "route_policy_sources": "CF:ANY"},
    "selector-without-guid": {"route_policy_scope": "any", "route_policy_sources": "cf:app:"},
    "any-beside-a-source": {"route_policy_scope": "any", "route_policy_sources": "cf:any,cf:app:other"},
    "one-dialect-of-two": {"mtls_allow_any": True, "route_policy_scope": "any", "route_policy_sources": "cf:app:other"},
}


@pytest.mark.parametrize("options", CLOSED.values(), ids=CLOSED)
def test_options_that_admit_nobody_in_particular_admit_nobody(
    router: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend], caller: Credential, options: Any
) -> None:
    """Attack 30: an empty list, an unknown selector, a value of the wrong type or size: 403, never any caller."""
    door = Door(unique_host(EAST), make_backend())
    body = {**registrar.register(unique_host("unused.invalid"), backend=door.backend, wait=False), "uris": [door.host]}
    body.pop("options", None)
    registrar.publish("router.register", body if options is None else {**body, "options": options})
    assert door.host in router.routes()
    assert told(ask(router, door, caller)) == DENIED
    assert_unseen(door)


def test_an_update_that_is_half_applied_denies(
    router: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend], caller: Credential
) -> None:
    """Attack 30: while some endpoints of a route grant and some do not yet, nobody passes whom not all let in."""
    door, second = Door(unique_host(EAST), make_backend()), make_backend()
    old, new = {"mtls_allowed_apps": "other"}, {"mtls_allowed_apps": "caller-app"}
    for backend in (door.backend, second):
        registrar.register(door.host, backend=backend, options=old)
    registrar.register(door.host, backend=door.backend, options=new)
    assert {ask(router, door, caller).status for _ in range(6)} == {403}
    assert (door.backend.received, second.received) == ([], [])
    registrar.register(door.host, backend=second, options=new)
    assert {ask(router, door, caller).status for _ in range(6)} == {200}
    registrar.register(door.host, backend=second, options=old)
    assert {ask(router, door, caller).status for _ in range(6)} == {403}


OWNERS = {"mine": "caller-app,shared-app", "theirs": "their-app,shared-app"}


@pytest.mark.parametrize("order", [*itertools.permutations(OWNERS), ("mine", "theirs", "mine")])
def test_a_shared_route_is_as_strict_as_both_owners(
    router: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend], east_ca: CA, caller: Credential,
    order: tuple[str, ...],
) -> None:  # fmt: skip
    """Attack 31: two owners with two lists: whoever is on both passes, whoever is on one does not, in any order."""
    host, backends = unique_host(EAST), {name: make_backend(name) for name in OWNERS}
    for name in order:
        registrar.register(host, backend=backends[name], app=name, options={"mtls_allowed_apps": OWNERS[name]})
    door = Door(host, backends["mine"])
    for app, status in (("caller-app", 403), ("their-app", 403), ("shared-app", 200)):
        assert {ask(router, door, east_ca.issue_instance(app)).status for _ in range(4)} == {status}
    shares = [len(backend.received) for backend in backends.values()]
    assert sum(shares) == 4
    assert router.width > 1 or shares == [2, 2]  # each worker goes its own round
    registrar.unregister(host, backend=backends["theirs"], app="theirs")
    assert ask(router, door, caller).status == 200


_guids = st.lists(st.sampled_from("abc"), max_size=3).map(",".join)
_pairs = st.fixed_dictionaries(
    {}, optional={"mtls_allowed_apps": _guids, "mtls_allowed_spaces": _guids, "mtls_allow_any": st.booleans()}
)


@given(st.lists(_pairs, min_size=1, max_size=4), st.randoms())
def test_the_order_of_registrations_never_matters(registrations: list[dict[str, Any]], random: Any) -> None:
    """Attack 31: the policy of a pool is the same for every order and repetition of its owners' policies."""
    policies = [route_policy(pairs, frozenset(), "ok", frozenset(pairs)) for pairs in registrations]
    shuffled = [*policies, random.choice(policies)]
    random.shuffle(shuffled)
    assert set(conjunction(policies).parts) == set(conjunction(shuffled).parts)
    assert conjunction(policies).parts == conjunction(reversed(policies)).parts


def test_a_name_inside_a_strict_domain_is_strict_from_its_first_request(
    router: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend], open_door: Door, caller: Credential
) -> None:
    """Attack 32: an app that registers a name under a strict domain without options opens nothing, over no road."""
    for name in (unique_host(EAST), "deep." + unique_host(EAST), unique_host(EAST).upper(), unique_host(EAST) + "."):
        door = Door(name, make_backend())
        registrar.register(name, backend=door.backend)
        assert_misdirected(get(router.port, name))
        assert_misdirected(get(router.ssl_port, name, tls=Tls(open_door.host)))
        assert expect_alert(router.ssl_port, Tls(name), render_request(name)) == Alert.CERTIFICATE_REQUIRED
        assert told(ask(router, door, caller)) == DENIED
        assert_unseen(door)


def test_a_wildcard_route_over_a_strict_domain_opens_nothing(
    router: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend], caller: Credential
) -> None:
    """Attack 32: a wildcard route of an app, on the domain or around it, is behind the domain's door like any other."""
    backend, below = make_backend(), unique_host(EAST)
    registrar.register(f"*.{below}", f"x.{below}/path", backend=backend)
    for target, status in (("/", 403), ("/path", 403), ("/path/more", 403), ("//path", 400), ("/./path", 400)):
        assert_misdirected(get(router.port, f"x.{below}", target))
        assert get(router.ssl_port, f"x.{below}", target, tls=Tls(f"x.{below}", caller)).status == status
    assert backend.received == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 421, 401, 403, 404, 500, 503])
def test_what_a_backend_answers_leads_nowhere(
    router: RouterProcess, strict: Door, open_door: Door, caller: Credential, status: int
) -> None:
    """Attack 33: a redirect or a 421 of the backend goes to the client; the router follows nothing and asks once."""
    there = f"https://{open_door.host}/next"
    strict.backend.script(f"HTTP/1.1 {status} So\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode())
    answer = ask(router, strict, caller)
    assert (answer.status, answer.get("location"), answer.get("x-cf-routererror")) == (status, there, None)
    assert len(strict.backend.received) == 1
    assert_unseen(open_door)


def test_a_route_service_is_behind_both_doors(
    router: RouterProcess, registrar: Registrar, make_backend: Callable[..., EchoBackend], open_door: Door, caller: Credential
) -> None:
    """Attack 33: a route with `route_service_url`: 421 and 403 first, and 502 route_service_unsupported only past both."""
    url = f"https://{open_door.host}/"
    closed, let_in = Door(unique_host(EAST), make_backend()), Door(unique_host(EAST), make_backend())
    registrar.register(closed.host, backend=closed.backend, route_service_url=url)
    registrar.register(let_in.host, backend=let_in.backend, route_service_url=url, options={"mtls_allow_any": True})
    for door in (closed, let_in):
        assert_misdirected(get(router.port, door.host))
        assert_misdirected(get(router.ssl_port, door.host, tls=Tls(open_door.host)))
        assert expect_alert(router.ssl_port, Tls(door.host), render_request(door.host)) == Alert.CERTIFICATE_REQUIRED
    assert told(ask(router, closed, caller)) == DENIED
    answer = ask(router, let_in, caller)
    assert (answer.status, answer.get("x-cf-routererror")) == (502, "route_service_unsupported")
    assert_unseen(closed, let_in, open_door)


def test_signed_headers_of_a_route_service_open_nothing(router: RouterProcess, strict: Door, open_door: Door) -> None:
    """Attack 33: X-CF-Proxy-Signature, -Metadata and X-CF-Forwarded-Url, true or not, skip no policy."""
    names = ("X-CF-Proxy-Signature", "X-CF-Proxy-Metadata", "X-CF-Forwarded-Url")
    headers = [(name, f"https://{strict.host}/") for name in names]
    assert_misdirected(get(router.port, strict.host, headers=headers), strict)
    assert_misdirected(get(router.ssl_port, strict.host, tls=Tls(open_door.host), headers=headers), strict, open_door)
    assert get(router.port, open_door.host, headers=[("Host-Override", f"{strict.host}.{OPEN}"), *headers]).status == 200
    assert_unseen(strict)
    assert [open_door.backend.received[0].all(name) for name in names[:2]] == [[], []]
