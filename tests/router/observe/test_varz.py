"""router/observe/varz.py: the older endpoints."""

import json

from router.observe.endpoints import respond
from router.observe.health import Health
from router.observe.metrics import Metrics
from router.observe.varz import numbers, older_handlers
from tests.router.observe.test_endpoints import basic, get, whole


def test_healthz_says_what_health_says() -> None:
    """Contract h."""
    health = Health()
    handlers = older_handlers(("u", "p"), health, Metrics(), 0, lambda: 0.0)
    before = respond(get("/healthz"), handlers)
    health.started()
    after = respond(get("/healthz"), handlers)
    assert [(answer.status, whole(answer)) for answer in (before, after)] == [(503, b""), (200, b"ok\n")]


def test_varz_is_for_the_user_of_the_status_endpoints_alone() -> None:
    handlers = older_handlers(("u", "p"), Health(), Metrics(), 7, lambda: 0.0)
    assert [respond(get("/varz", *lines), handlers).status for lines in ((), (basic("u:x"),))] == [401, 401]
    answer = respond(get("/varz", basic("u:p")), handlers)
    assert answer.status == 200
    assert json.loads(whole(answer))["index"] == 7
    nobody = older_handlers(("u", ""), Health(), Metrics(), 7, lambda: 0.0)
    assert respond(get("/varz", basic("u:")), nobody).status == 401


def test_the_numbers_are_those_of_the_metrics() -> None:
    metrics = Metrics()
    metrics.count_response(200)
    metrics.count_response(404)
    metrics.bad_gateways.inc()
    metrics.total_routes.source = lambda: 3
    shown = numbers(metrics, 0, 93_784.9)
    assert shown["uptime"] == "1d:2h:3m:4s"
    assert (shown["requests"], shown["responses_2xx"], shown["responses_4xx"], shown["responses_xxx"]) == (2, 1, 1, 0)
    assert (shown["urls"], shown["bad_gateways"], shown["type"]) == (3, 1, "Router")
