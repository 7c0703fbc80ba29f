"""router/observe/endpoints.py: what the operator's endpoints answer."""

import base64
import json
from collections.abc import Iterator

import pytest

from authz.policy import NO_POLICY
from registry.endpoint import Balancing, Endpoint, Pool, Route, Tags
from registry.hostname import Host
from router.observe.endpoints import (
    Handler,
    Response,
    health_handlers,
    metrics_handlers,
    render_routes,
    respond,
    routes_handlers,
)
from router.observe.health import Health
from router.observe.metrics import Metrics
from router.wire.http1 import HeadLimits, RequestHead, parse_request_head


def get(target: str, *lines: str, method: str = "GET") -> RequestHead:
    """A parsed request."""
    text = "\r\n".join((f"{method} {target} HTTP/1.1", "Host: x", *lines, "", ""))
    head = parse_request_head(text.encode(), HeadLimits(16_384, 100))
    assert isinstance(head, RequestHead)
    return head


def whole(response: Response) -> bytes:
    """The body, put together."""
    if isinstance(response.body, bytes):
        return response.body
    assert isinstance(response.body, Iterator)
    return b"".join(response.body)


def basic(credentials: str) -> str:
    """An Authorization line."""
    return "Authorization: Basic " + base64.b64encode(credentials.encode()).decode()


ROUND_ROBIN = Balancing()
UNCACHED = {(b"cache-control", b"private, max-age=0"), (b"expires", b"0")}


def test_health_follows_the_state() -> None:
    """503 until the router serves, 200 `ok`, 503 from the drain on; never cached."""
    health = Health()
    handlers = health_handlers(health)
    answers = [respond(get("/health"), handlers)]
    health.started()
    answers.append(respond(get("/health?x=1"), handlers))
    health.degrade()
    answers.append(respond(get("/health"), handlers))
    assert [(answer.status, answer.body) for answer in answers] == [(503, b""), (200, b"ok\n"), (503, b"")]
    assert all(set(answer.fields) >= UNCACHED for answer in answers)


def test_the_process_is_alive_whatever_its_health() -> None:
    """The path that no load balancer should use."""
    answer = respond(get("/is-process-alive-do-not-use-for-loadbalancing"), health_handlers(Health()))
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert set(answer.fields) >= UNCACHED


def test_metrics_are_served_at_their_path() -> None:
    """K37: `metrics.path` can move them."""
    handlers = metrics_handlers(Metrics().render, "/scrape")
    answer = respond(get("/scrape"), handlers)
    assert b"# TYPE total_routes gauge\n" in whole(answer)
    assert (b"content-type", b"text/plain; version=0.0.4; charset=utf-8") in answer.fields
    assert respond(get("/metrics"), handlers).status == 404


@pytest.mark.parametrize(
    ("request_head", "status"),
    [(get("/nothing"), 404), (get("*", method="OPTIONS"), 405), (get("/health", method="POST"), 405)],
)
def test_anything_else_is_refused(request_head: RequestHead, status: int) -> None:
    """GET and HEAD of known paths only."""
    assert status == respond(request_head, health_handlers(Health())).status


@pytest.fixture
def guarded() -> dict[str, Handler]:
    """/routes with a user and a password."""
    return routes_handlers("status", "päss", list)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (basic("status:wrong"),),
        (basic("statu:späss"),),
        (basic("status:päss") + "!",),
        ("Authorization: Bearer x",),
        ("Authorization: Basic",),
        ("Authorization: Basic \xff",),
        (basic("status:päss"), basic("status:päss")),
    ],
)
def test_routes_need_the_right_credentials(guarded: dict[str, Handler], lines: tuple[str, ...]) -> None:
    """401 with a challenge, and not a byte of the table."""
    answer = respond(get("/routes", *lines), guarded)
    assert answer.status == 401
    assert (b"www-authenticate", b'Basic realm="Authorization Required"') in answer.fields


def test_routes_open_for_the_right_credentials(guarded: dict[str, Handler]) -> None:
    """The scheme's case does not matter (RFC 7617)."""
    for line in (basic("status:päss"), basic("status:päss").replace("Basic", "bAsIc")):
        answer = respond(get("/routes", line), guarded)
        assert (answer.status, whole(answer)) == (200, b"{}")


@pytest.mark.parametrize(("user", "password"), [("", ""), ("status", ""), ("", "pass")])
def test_without_configured_credentials_nobody_gets_in(user: str, password: str) -> None:
    """An empty password is no password."""
    answer = respond(get("/routes", basic(f"{user}:{password}")), routes_handlers(user, password, list))
    assert answer.status == 401


def route(key: str, *endpoints: Endpoint, balancing: Balancing = ROUND_ROBIN) -> Route:
    """A route of these endpoints."""
    host, _, path = key.partition("/")
    return Route(key, Host(host), f"/{path}" if path else "", Pool(endpoints, NO_POLICY, balancing))


def test_the_table_is_gorouters_json() -> None:
    """uri -> endpoints; what is not set is left out where GoRouter leaves it out."""
    plain = Endpoint("10.0.0.1", 8080)
    rich = Endpoint(
        *("::1", 61443, True, "app", "instance", "0", "san"),
        tags=Tags(("component",), ("api",)),
        availability_zone="z1",
        isolation_segment="seg",
        ttl=60.0,
    )
    shown = json.loads(b"".join(render_routes([route("a.b/c", plain, rich, balancing=Balancing("hash", "x-user", 1.5))])))
    common = {
        "load_balancing_algorithm": "hash",
        "hash_header": "x-user",
        "hash_balance": 1.5,
        "protocol": "http1",
    }
    assert {
        "a.b/c": [
            {
                "address": "10.0.0.1:8080",
                "availability_zone": "",
                "tls": False,
                "ttl": 120,
                "tags": {},
                **common,
            },
            {
                "address": "[::1]:61443",
                "availability_zone": "z1",
                "tls": True,
                "ttl": 60,
                "tags": {"component": "api"},
                "isolation_segment": "seg",
                "private_instance_id": "instance",
                "server_cert_domain_san": "san",
                **common,
            },
        ]
    } == shown


def test_a_large_table_comes_in_pieces() -> None:
    """Nobody holds 100,000 routes as one text."""
    routes = [route(f"h{number}.example", Endpoint("10.0.0.1", 80)) for number in range(1000)]
    pieces = list(render_routes(routes))
    assert len(pieces) > 4
    assert [r.key for r in routes] == list(json.loads(b"".join(pieces)))
