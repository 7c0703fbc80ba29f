"""The promise: `vestibule emit` keeps the routes of a manifest registered while they are healthy, and takes them back."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from router.demo.process import spawn, stop
from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import get
from tests.support.nats import NatsConnection, NatsServer
from tests.support.register import message, unique_host
from tests.support.router import RouterProcess, wait_until

ROOT = Path(__file__).parents[2]
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


class EmitProcess:
    """`vestibule emit` as a user would type it."""

    def __init__(self, directory: Path, manifest: str, *words: str, **environ: str) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._words = [
            sys.executable,
            "-W",
            "always::ResourceWarning",
            "-m",
            "router",
            "emit",
            "-m",
            str(directory / "manifest.yml"),
            *words,
        ]
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
        (directory / "manifest.yml").write_text(manifest)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with (self._directory / "out").open("wb") as out, (self._directory / "err").open("wb") as err:
            self._process = spawn(self._words, stdout=out, stderr=err, env=self._environ)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        stop(self._process)
        assert "Traceback" not in self.stderr
        assert "Warning" not in self.stderr

    @property
    def stdout(self) -> str:
        return (self._directory / "out").read_text()

    @property
    def stderr(self) -> str:
        return (self._directory / "err").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The data of every event of this name."""
        lines = [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line["data"] for line in lines if line["message"] == name]

    def wait_for(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """At least so many events."""
        return wait_until(lambda: found if len(found := self.events(name)) >= count else None, f"{count} {name}: {self.stderr}")

    def leave(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to go; its exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(10)


Emit = Callable[..., EmitProcess]


@pytest.fixture
def emit(tmp_path: Path) -> Iterator[Emit]:
    """Emitters for one host each; `options` are of its route."""
    made: list[EmitProcess] = []

    def make(nats: NatsServer, host: str, *words: str, options: str = "{}", **environ: str) -> EmitProcess:
        manifest = f"applications:\n- name: orders\n  routes:\n  - route: {host}\n    options: {options}\n"
        made.append(EmitProcess(tmp_path / f"emit-{len(made)}", manifest, "--nats", nats.url, *words, **environ))
        return made[-1].__enter__()

    yield make
    for one in made:
        one.__exit__()


def at(*backends: EchoBackend) -> list[str]:
    return ["--instance", ",".join(one.address for one in backends)]


def endpoints(router: RouterProcess, host: str) -> set[str]:
    """Addresses in the router's table."""
    return {one["address"] for one in router.routes().get(host, [])}


def wait_for_endpoints(router: RouterProcess, host: str, *backends: EchoBackend) -> None:
    expected = {one.address for one in backends}
    wait_until(lambda: endpoints(router, host) == expected, f"{host} to lead to {expected}, not {endpoints(router, host)}")


def test_routes_appear_and_go_with_the_emitter(
    router: RouterProcess, nats_server: NatsServer, backend: EchoBackend, emit: Emit
) -> None:
    """Issue 3: registered at once with GUID and options; unregistered by SIGTERM, not by time. What it costs is printed."""
    host = unique_host(OPEN)
    process = emit(
        nats_server, host, *at(backend), "--app", "orders=guid-1", "--routers", "3", options="{loadbalancing: least-connection}"
    )
    wait_for_endpoints(router, host, backend)
    assert get(router.port, host).status == 200
    assert backend.last.get("x-cf-applicationid") == "guid-1"
    assert re.fullmatch(
        r"1 message of 1 instance to 3 routers every 20 s: .* options 5\.4 bytes/s \(36 of \d+ .*\)\n", process.stdout
    )
    assert process.leave() == 0
    wait_until(lambda: get(router.port, host).status == 404, "the route to go")
    assert [one["uris"] for one in process.events("unregistered")] == [[host]]


def test_only_the_unhealthy_instance_leaves_and_it_returns(
    router: RouterProcess, nats_server: NatsServer, make_backend: Callable[..., EchoBackend], emit: Emit
) -> None:
    """Issue 3: each instance has its own health."""
    host, one, two = unique_host(OPEN), make_backend("one"), make_backend("two")
    words = ["--health-url", "http://{host}:{port}/health", "--health-interval", "0.05", "--health-timeout", "5"]
    process = emit(nats_server, host, *at(one, two), *words)
    wait_for_endpoints(router, host, one, two)
    two.always(BUSY)
    wait_for_endpoints(router, host, one)
    assert process.events("instance-unhealthy") == [{"app": "orders", "instance": two.address, "reason": "the answer is 503"}]
    two.always(None)
    wait_for_endpoints(router, host, one, two)


def test_a_command_decides_and_what_fails_while_nats_is_away_is_gone_when_it_is_back(
    make_nats: Callable[..., NatsServer], make_router: MakeRouter, backend: EchoBackend, emit: Emit, tmp_path: Path
) -> None:
    """Issue 3: NATS away loses nothing that must be unregistered, and says so once; NATS back brings what is well."""
    nats, well, host = make_nats(), tmp_path / "well", unique_host(OPEN)
    router = make_router(nats=nats)
    well.touch()
    process = emit(
        nats, host, *at(backend), "--health-command", f"test -e {well}", "--health-interval", "0.05", "--health-timeout", "5"
    )
    wait_for_endpoints(router, host, backend)
    nats.kill()
    process.wait_for("nats-away")
    well.unlink()
    process.wait_for("instance-unhealthy")
    assert get(router.port, host).status == 200
    nats.start()
    wait_for_endpoints(router, host)
    assert len(process.events("registered")) == 1
    well.touch()
    wait_for_endpoints(router, host, backend)
    assert [len(process.events(name)) for name in ("nats-away", "unregistered", "registered")] == [1, 1, 2]


def test_a_new_nats_server_and_a_new_router_hear_of_it_at_once(
    make_nats: Callable[..., NatsServer], make_router: MakeRouter, backend: EchoBackend, emit: Emit
) -> None:
    """Issue 3: again on reconnect, and again on router.start; no interval passes."""
    nats, host = make_nats("trace: true"), unique_host(OPEN)
    emit(nats, host, *at(backend)).wait_for("registered")
    wait_for_endpoints(make_router(nats=nats), host, backend)
    nats.restart()
    wait_until(lambda: "[PUB router.register " in nats.log(), "the registration in the new server's log")


def test_a_farewell_without_nats_says_what_stays(make_nats: Callable[..., NatsServer], emit: Emit) -> None:
    """Issue 3: exit status 1, each route with what ends it."""
    nats, host = make_nats(), unique_host(OPEN)
    process = emit(nats, host, "--instance", "127.0.0.1:9", "--stale-threshold", "60")
    process.wait_for("registered")
    nats.kill()
    process.wait_for("nats-away")
    assert process.leave(signal.SIGINT) == 1
    (left,) = process.events("left-registered")
    assert (left["uris"], left["what_follows"]) == ([host], "ends by itself 60 s after its last registration")


def test_a_tls_instance_is_dialled_by_the_name_it_was_registered_with(
    nats_server: NatsServer, make_router: MakeRouter, make_backend: Callable[..., EchoBackend], emit: Emit
) -> None:
    """Issue 3: tls_port and server_cert_domain_san. One that shows another name is not served."""
    ca = authority("backends")
    router = make_router(ca_certs=[ca.pem])
    backend = make_backend("secure", credential=ca.issue_server("orders.internal"))
    right, wrong = unique_host(OPEN), unique_host(OPEN)
    for host, san in ((right, "orders.internal"), (wrong, "other.internal")):
        emit(nats_server, host, "--instance", "127.0.0.1:9", "--tls-port", str(backend.port), "--san", san).wait_for("registered")
    wait_until(lambda: right in router.routes() and wrong in router.routes(), "both routes")
    assert get(router.port, right).status == 200
    assert (get(router.port, wrong).status, len(backend.received)) == (503, 1)


@pytest.mark.parametrize(("route", "words", "status"), [("good.example", ["--dry-run"], 0), ("bad.example:80", [], 1)])
def test_a_dry_run_and_a_bad_manifest_send_nothing(
    make_nats: Callable[..., NatsServer], emit: Emit, route: str, words: list[str], status: int
) -> None:
    """Issue 3: not even a connection is made."""
    nats = make_nats("trace: true")
    with NatsConnection(nats.port) as listener:
        listener.subscribe("router.*")
        process = emit(nats, route, "--instance", "127.0.0.1:9", *words)
        assert process._process is not None
        assert process._process.wait(20) == status
        listener.publish("router.start", b"marker")
        assert listener.next_message().data == b"marker"
    assert nats.log().count("[CONNECT ") == 1
    assert (route in process.stdout) is (status == 0)
    assert ("manifest.yml:4: error: applications[0].routes[0].route" in process.stderr) is (status == 1)


def test_a_password_comes_from_a_file_and_shows_nowhere(make_nats: Callable[..., NatsServer], emit: Emit, tmp_path: Path) -> None:
    """Not on the command line, not in the log."""
    nats, file = make_nats('authorization { user: "app", password: "s3cret-word" }'), tmp_path / "password"
    words = ["--instance", "127.0.0.1:9", "--nats-user", "app"]
    file.write_text("s3cret-word\n")
    process = emit(nats, "a.example", *words, "--nats-password-file", str(file))
    process.wait_for("registered")
    wrong = emit(nats, "a.example", *words, VESTIBULE_NATS_PASSWORD="wrong-word")
    assert "Authorization Violation" in wrong.wait_for("nats-away")[0]["error"]
    for one in (process, wrong):
        assert not re.search("s3cret-word|wrong-word", one.stdout + one.stderr)


def test_the_documented_class_registers_pauses_and_leaves(make_nats: Callable[..., NatsServer]) -> None:
    """docs/emit.md: its example runs as it stands there, but for the port."""
    nats = make_nats()
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/emit.md").read_text(), re.DOTALL)
    with NatsConnection(nats.port) as listener:
        listener.subscribe("router.register")
        listener.subscribe("router.unregister")
        exec(compile(example.replace("4222", str(nats.port)), "docs/emit.md", "exec"), {})
        heard = [listener.next_message().subject for _ in range(2)]
        listener.publish("router.register", json.dumps(message("marker.example", backend=9)).encode())
        while "marker.example" not in (last := listener.next_message()).data.decode():
            heard.append(last.subject)
    assert (heard[0], heard[-1]) == ("router.register", "router.unregister")
