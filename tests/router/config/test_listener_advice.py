"""What is legal but unwise about listeners, PROXY headers and the firewall."""

from pathlib import Path
from typing import Any

import pytest

from tests.router.config.support import warnings
from tests.support.certs import CA
from tests.support.mmdb import database

SERVED = CA("listener advice tests").issue_server("a.example")


def listener(**more: Any) -> dict[str, Any]:
    return {"listeners": [{"port": 8443, "kind": "tls", **more}]}


def route(**more: Any) -> dict[str, Any]:
    return listener(routes=[{"hostname": "a.example", "backends": ["10.0.0.7:443"], **more}])


TRUSTED = "listeners[0].proxy_protocol_trusted"


@pytest.mark.parametrize(
    ("mapping", "paths"),
    [
        ({"enable_proxy": True}, ["enable_proxy"]),
        ({"enable_proxy": True, "proxy_protocol_trusted": ["10.0.0.0/8"]}, []),
        ({"enable_proxy": True, "proxy_protocol_trusted": ["10.0.0.0/8", "::/0"]}, ["proxy_protocol_trusted[1]"]),
        ({"proxy_protocol_trusted": ["10.0.0.0/8"]}, ["proxy_protocol_trusted"]),
        (listener(proxy_protocol_trusted=["10.0.0.0/8"]), [TRUSTED]),
        (listener(proxy_protocol=True, proxy_protocol_trusted=["0.0.0.0/0"]), [f"{TRUSTED}[0]"]),
        (listener(proxy_protocol=True, proxy_protocol_trusted=["10.0.0.0/8"]), []),
        (route(), []),
        (route(idle_timeout=30), ["listeners[0].routes[0].idle_timeout"]),
        (route(idle_timeout=0, connect_timeout="5s"), []),
        ({"firewall": {"rate_limit": 5, "rate_window": 10}}, ["firewall.rate_window"]),
        (route(backend_tls=True), []),
        (route(tls_cert=SERVED.chain_pem, tls_key=SERVED.key_pem), ["listeners[0].routes[0].tls_cert"]),
        (route(tls_key=SERVED.key_pem), ["listeners[0].routes[0].tls_key"]),
        (route(mode="l7", tls_cert=SERVED.chain_pem, tls_key=SERVED.key_pem), []),
    ],
)
def test_each_finding_is_one_warning_at_its_place(mapping: dict[str, Any], paths: list[str]) -> None:
    """R78, R79, R227; K47: keys of the other mode warn or say nothing, trust that is too wide warns."""
    assert warnings(mapping) == paths


def test_a_database_that_nobody_asks_is_said_so(tmp_path: Path) -> None:
    """The operator meant to block somebody."""
    (tmp_path / "geo.mmdb").write_bytes(database({"192.0.2.0/24": {"country": {"iso_code": "NO"}}}))
    assert warnings({"firewall": {"geoip_db": "geo.mmdb"}}, folder=tmp_path) == ["firewall.geoip_db"]
    assert warnings({"firewall": {"geoip_db": "geo.mmdb", "blocked_countries": ["NO"]}}, folder=tmp_path) == []
