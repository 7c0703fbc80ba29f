"""router/l7_side.py: the composition of everything that HTTP needs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from router.config.compile_error import CompileError
from router.config.model import Config
from router.l7_side import L7Side
from router.net.deadline import Wheel
from router.net.doorstep import Doorstep
from router.observe.access_log import AccessLog
from router.observe.health import Health
from router.observe.log import Logger
from router.observe.metrics import Metrics
from tests.router.desk import Records, settings
from tests.support.recorder import RecordingLog
from tests.support.router import server_credential, tls_pem


class _Log(RecordingLog):
    def named(self, component: str) -> "_Log":
        return self


def make(config: Config) -> L7Side:
    loop = asyncio.get_running_loop()
    return L7Side(
        config,
        loop,
        Wheel(loop),
        Doorstep(loop),
        Metrics(),
        cast("Logger", _Log()),
        cast("AccessLog", Records()),
        Health(),
    )


@asynccontextmanager
async def side(**more: Any) -> AsyncIterator[L7Side]:
    made = make(settings(**more))
    try:
        yield made
    finally:
        made.close()
        for work in made.work():
            work.close()


def static(host: str, backend: str) -> dict[str, Any]:
    pair = tls_pem(server_credential())
    route = {"hostname": host, "mode": "l7", "backend": backend, "tls_cert": pair["cert_chain"], "tls_key": pair["private_key"]}
    return {"listeners": [{"port": 8443, "kind": "tls", "routes": [route]}]}


async def test_static_routes_are_in_the_table_from_the_start_and_follow_a_reload() -> None:
    """R74: the operator's hosts, whoever registers them."""
    async with side(**static("www.open.example", "10.0.0.1:80")) as one:
        route = one.live.table.lookup("www.open.example", "/")
        assert route is not None
        assert [endpoint.address for endpoint in route.pool.endpoints] == ["10.0.0.1:80"]
        one.adopt(one.prepare(settings(**static("app.open.example", "10.0.0.2:80"))))
        await asyncio.sleep(0.2)
        assert one.live.table.lookup("www.open.example", "/") is None
        assert one.live.table.lookup("app.open.example", "/") is not None


async def test_a_prepared_configuration_is_in_force_only_when_adopted() -> None:
    """Whatever fails in between, nothing has changed."""
    async with side() as one:
        before = one.live.snapshot
        prepared = one.prepare(settings(max_request_headers=7))
        assert one.live.snapshot is before
        one.adopt(prepared)
        assert (one.live.snapshot.generation, one.live.snapshot.limits.request_fields) == (2, 7)


async def test_a_configuration_that_cannot_be_built_is_an_error_at_the_start() -> None:
    """Before anything listens."""
    with pytest.raises(CompileError, match="nats"):
        make(settings(nats={"hosts": [{"hostname": "x", "port": 1}], "nkey_seed": "SUnone"}))


async def test_the_status_port_has_its_handlers() -> None:
    """The route table, and what looks into the router."""
    async with side() as one:
        assert {"/routes", "/explain", "/policies"} <= one.handlers(("user", "password"), tuple).keys()
