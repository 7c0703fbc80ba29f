"""The promise: what older operators read still tells them: active apps over NATS, /healthz and /varz beside /health."""

import base64
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.behaviour.conftest import OPEN
from tests.behaviour.place import Place, make_place
from tests.support.nats import NatsConnection, NatsServer
from tests.support.register import Registrar
from tests.support.router import STATUS_PASSWORD, STATUS_USER, RouterProcess

_TOKEN = base64.b64encode(f"{STATUS_USER}:{STATUS_PASSWORD}".encode()).decode()


class OlderRouter(RouterProcess):
    """A router with the older endpoints on its health port."""

    def _defaults(self) -> dict[str, Any]:
        config = super()._defaults()
        config["status"]["enable_deprecated_varz_healthz_endpoints"] = True
        return config


@pytest.fixture(scope="module")
def older(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    directory = tmp_path_factory.mktemp("older")
    with OlderRouter(directory, nats=nats_server, publish_active_apps_interval="50ms") as process:
        yield process


@pytest.fixture
def place(older: RouterProcess, nats_server: NatsServer) -> Iterator[Place]:
    with Registrar(nats_server.port, older) as registrar:
        made = make_place(older, registrar, OPEN)
        made.register()
        yield made
        made.leave()


def test_apps_with_requests_are_told_over_nats(place: Place, nats_server: NatsServer) -> None:
    """Contract b.1: the app's GUID in a compressed list, soon after its request."""
    app = place.sent[0]["app"]
    with NatsConnection(nats_server.port) as nats:
        nats.subscribe("router.active_apps")
        place.call(plain=True)
        told = iter(lambda: json.loads(zlib.decompress(nats.next_message().data)), None)
        assert next(apps for apps in told if apps) == [app]


def test_the_older_endpoints_stand_beside_health(older: RouterProcess, house: RouterProcess) -> None:
    """Contract h: /healthz for anybody, /varz for the user; neither unless the operator asks."""
    assert older.fetch(older.status_port, "/healthz").body == b"ok\n"
    assert older.fetch(older.status_port, "/varz").status == 401
    answer = older.fetch(older.status_port, "/varz", [("Authorization", f"Basic {_TOKEN}")])
    assert json.loads(answer.body)["type"] == "Router"
    assert [house.fetch(house.status_port, path).status for path in ("/healthz", "/varz")] == [404, 404]
