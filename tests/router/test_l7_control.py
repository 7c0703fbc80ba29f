"""router/l7_control.py: what is registered, and what the operator may look at."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router.config.compile_error import CompileError
from router.config.model import Config
from router.l7_control import L7Control
from router.process import Process
from tests.router.desk import settings
from tests.support.router import server_credential, tls_pem
from tests.support.waiting import until


def make(config: Config) -> L7Control:
    return L7Control(config, Process(config, asyncio.get_running_loop()))


@asynccontextmanager
async def side(**more: Any) -> AsyncIterator[L7Control]:
    made = make(settings(**more))
    try:
        yield made
    finally:
        made.live.snapshot.retire()
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
        await until(lambda: one.live.table.lookup("www.open.example", "/") is None, "the new table")
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


async def test_who_serves_elsewhere_is_told_of_each_new_table() -> None:
    """Workers follow the table that stands in `live` at that moment."""
    async with side() as one:
        sizes: list[int] = []
        one.published = lambda: sizes.append(len(one.live.table))
        one.adopt(one.prepare(settings(**static("app.open.example", "10.0.0.2:80"))))
        await until(lambda: sizes, "a table")
        assert sizes == [1]
