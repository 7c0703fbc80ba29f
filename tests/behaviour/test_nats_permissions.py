"""The promise: NATS can be told who may say what, and the configuration of docs/nats.md does so.

The server runs with the very block of that page.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.options import encoded_size
from router.demo.nats_server import binary
from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import get
from tests.support.nats import NatsConnection, NatsServer
from tests.support.register import Registrar, message, unique_host
from tests.support.router import RouterProcess, mtls_domain, wait_until

PAGE = Path(__file__).parents[2] / "docs/nats.md"
PASSWORDS = {"router": "router-word", "platform": "platform-word", "orders": "orders-word"}

MakeNats = Callable[..., NatsServer]


def block(kind: str, holding: str) -> str:
    """A fenced block of the page."""
    found = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(next(text for text in found if holding in text))


@pytest.fixture(name="guarded")
def _guarded(make_nats: MakeNats, monkeypatch: pytest.MonkeyPatch) -> NatsServer:
    """A server with the page's permissions."""
    for user, password in PASSWORDS.items():
        monkeypatch.setenv(f"{user.upper()}_PASSWORD", password)
    return make_nats(block("conf", "authorization"))


def connected(server: NatsServer, user: str) -> NatsConnection:
    return NatsConnection(server.port, options=login(user))


def login(user: str) -> dict[str, str]:
    return {"user": user, "pass": PASSWORDS[user]}


def router_of(make_router: MakeRouter, server: NatsServer, **more: Any) -> RouterProcess:
    section = {"hosts": [{"hostname": "127.0.0.1", "port": server.port}], "user": "router", "pass": PASSWORDS["router"]}
    return make_router(nats=section, **more)


def test_router_and_emitter_work_with_what_they_are_allowed(
    guarded: NatsServer, make_router: MakeRouter, backend: EchoBackend
) -> None:
    """R184: the least that each needs is enough: start, greeting, registration, unregistration."""
    with connected(guarded, "orders") as listener:
        listener.subscribe("router.start")
        router = router_of(make_router, guarded)
        start = json.loads(listener.next_message().data)
        assert json.loads(listener.request("router.greet").data) == start
    host = unique_host(OPEN)
    with Registrar(guarded.port, router, options=login("platform")) as registrar:
        registrar.register(host, backend=backend)
        assert get(router.port, host).status == 200
        registrar.unregister(host, backend=backend)
        assert get(router.port, host).status == 404
    assert [line for line in router.events if "Permissions Violation" in line] == []


def test_the_command_works_with_what_it_is_allowed(
    guarded: NatsServer, make_router: MakeRouter, backend: EchoBackend, tmp_path: Path
) -> None:
    """R184: `vestibule emit` registers and unregisters as the user of one app, and never asks for more."""
    router, host = router_of(make_router, guarded), unique_host(OPEN)
    (tmp_path / "manifest.yml").write_text(f"applications: [{{name: orders, routes: [{{route: {host}}}]}}]")
    command = [sys.executable, "-m", "router", "emit", "-m", str(tmp_path / "manifest.yml"), "--nats", guarded.url]
    command += ["--nats-user", "orders", "--instance", f"127.0.0.1:{backend.port}"]
    environment = {**os.environ, "VESTIBULE_NATS_PASSWORD": PASSWORDS["orders"]}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as emitter:
        try:
            wait_until(lambda: host in router.routes(), "the route to be registered")
            emitter.terminate()
            _, errors = emitter.communicate(timeout=10)
        finally:
            emitter.kill()
    wait_until(lambda: host not in router.routes(), "the route to be unregistered")
    assert emitter.returncode == 0
    assert "nats-connection-failed" not in errors


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("router", "router.register"),
        ("router", "router.unregister"),
        ("orders", "router.start"),
        ("orders", "router.active_apps"),
        ("orders", "_INBOX.of.somebody"),
        ("platform", "anything.else"),
    ],
)
def test_nobody_publishes_what_is_not_his(guarded: NatsServer, user: str, subject: str) -> None:
    """R184: a router registers nothing, an app speaks for no router."""
    with connected(guarded, user) as connection, pytest.raises(ConnectionError, match="Permissions Violation for Publish"):
        connection.publish(subject, b"{}")


@pytest.mark.parametrize(
    ("user", "subject"),
    [("orders", "router.register"), ("orders", "router.*"), ("orders", ">"), ("router", "_INBOX.>"), ("router", ">")],
)
def test_nobody_listens_to_what_is_not_his(guarded: NatsServer, user: str, subject: str) -> None:
    """R184: an app does not learn what others register."""
    with connected(guarded, user) as connection, pytest.raises(ConnectionError, match="Permissions Violation for Subscription"):
        connection.subscribe(subject)


@pytest.mark.parametrize(
    "options",
    [{}, {"user": "orders", "pass": "wrong"}, {"user": "stranger", "pass": "orders-word"}, {"auth_token": "orders-word"}],
)
def test_a_stranger_is_not_let_in(guarded: NatsServer, options: dict[str, str]) -> None:
    """R186: who has no user there cannot publish at all."""
    with pytest.raises(ConnectionError, match="Authorization Violation"):
        NatsConnection(guarded.port, options=options)


def test_a_user_who_may_register_still_cannot_pass_the_operators_door(
    guarded: NatsServer, make_router: MakeRouter, backend: EchoBackend
) -> None:
    """R186: a registration for somebody else's host goes through, as the page says; without a certificate nobody enters."""
    ca = authority("guarded")
    router = router_of(make_router, guarded, mtls_domains=[mtls_domain("*.guarded.example", ca)])
    host = unique_host("guarded.example")
    with Registrar(guarded.port, router, options=login("orders")) as intruder:
        intruder.register(host, backend=backend, options={"mtls_allow_any": True})
    assert get(router.port, host).status == 421
    assert backend.received == []


def test_the_server_accepts_the_tls_block(tmp_path: Path) -> None:
    """`nats-server -t` judges it, with a certificate and an authority beside it."""
    ca = authority("nats")
    server = ca.issue_server("nats.internal")
    for name, text in (("nats.crt", server.chain_pem), ("nats.key", server.key_pem), ("ca.crt", ca.pem)):
        (tmp_path / name).write_text(text)
    (tmp_path / "nats.conf").write_text(block("conf", "tls {"))
    subprocess.run([binary(), "-t", "-c", "nats.conf"], cwd=tmp_path, check=True, capture_output=True)


def test_the_tables_of_the_page_are_right() -> None:
    """R283: bytes a second by instances and interval, and how many GUIDs fit into a limit."""
    text = PAGE.read_text()
    for instances, interval, into, out in re.findall(r"^\| ([\d,]+) \| (\d+) s \| (.+?) \| (.+?) \|$", text, re.MULTILINE):
        size = 1024 * int(instances.replace(",", "")) / int(interval)
        assert [in_words(size), in_words(3 * size)] == [into, out]
    limits = re.findall(r"^\| (\d+)(?: \(default\))? \| (\d+) \|$", text, re.MULTILINE)
    assert [int(limit) for limit, _ in limits] == [512, 1024, 2048, 4096]
    for limit, fitting in limits:
        fits, more = ({"mtls_allowed_apps": ",".join(["g" * 36] * (int(fitting) + extra))} for extra in (0, 1))
        assert (encoded_size(fits) or 0) <= int(limit) < (encoded_size(more) or 0)


def in_words(rate: float) -> str:
    return f"{rate / 1e6:.1f} MB/s" if rate >= 1e6 else f"{rate / 1e3:.0f} kB/s"


def test_a_message_without_options_is_as_long_as_the_page_says() -> None:
    """Some 400 bytes, as the platform's emitter sends it."""
    guid = "8f3b2c6e-0000-4000-8000-000000000000"
    tags = {"component": "route-emitter", "organization_id": guid, "space_id": guid}
    body = message("orders.apps.mtls.internal", backend=8080, app=guid, tags=tags)
    assert 300 < len(json.dumps(body, separators=(",", ":"))) < 500
