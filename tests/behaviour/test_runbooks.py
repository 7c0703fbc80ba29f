"""The promise: what docs/runbooks.md says to type works as written, from the first look to the undoing.

The page's shell functions and blocks run in a real bash against a real router; `systemctl` and `journalctl` are stood in for.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import EAST
from tests.support.backend import EchoBackend
from tests.support.certs import CA
from tests.support.client import Client, Tls, get
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain

PAGE = (Path(__file__).parents[2] / "docs/runbooks.md").read_text()
PHISHING = "phishing.apps.example"
ORG = "8f3b2c6e-5a0e-4c56-9a52-1f0a4c0f7e11"

pytestmark = pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl"))), reason="for people who have bash and curl")

MakeRegistrar = Callable[[NatsServer, RouterProcess], Registrar]


def section(incident: str) -> str:
    return PAGE.partition(f"\n## {incident}\n")[2].partition("\n## ")[0]


def part(incident: str, name: str) -> str:
    """One part of a runbook: `Act`."""
    return section(incident).partition(f"**{name}.**")[2].partition("\n**")[0]


def block(text: str, kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"no {kind} in {text}"
    return found[1]


def typed(text: str) -> list[str]:
    """The indented lines, which are to be typed."""
    return [line.strip() for line in re.findall(r"^ {4}\S.*$", text, re.MULTILINE)]


def quoted(text: str, program: str) -> str:
    """A command that stands in a sentence, in backquotes."""
    found = re.search(rf"`({program} .*?)`", text)
    assert found, f"no {program} in {text}"
    return found[1]


class Desk:
    """An operator's shell beside one router, whose logs begin when the operator comes."""

    def __init__(self, router: RouterProcess, place: Path) -> None:
        self.router = router
        self._place = place
        place.mkdir()
        files = [router.directory / "stdout", router.directory / "access.log"]
        assert router.events  # and all of what came before is written
        self._begin, _ = begins = [file.stat().st_size for file in files]
        logs = [f"tail -c +{begin + 1} {file}" for begin, file in zip(begins, files, strict=True)]
        self._program("journalctl", "; ".join(logs))
        self._program("sleep", "exit 0")
        counted = f"$(grep -c config-reload {router.directory}/stdout)"
        waiting = f"for _ in {{1..200}}; do [ {counted} != $before ] && break; /bin/sleep 0.05; done"
        self._program("systemctl", f"before={counted}; kill -HUP {router.pid}; {waiting}")
        self._program("vestibule", f'exec {sys.executable} -m router "$@"')

    @property
    def log(self) -> str:
        """What the router has said since."""
        return (self.router.directory / "stdout").read_bytes()[self._begin :].decode()

    def type(self, commands: str) -> str:
        """What they write; `reload` and the others are the page's own functions."""
        text = f"{block(PAGE, 'sh')}\n{commands}\n"
        for written, here in (("/etc/vestibule/router.yml", self.router.config_file), (":9100", f":{self.router.metrics_port}")):
            text = text.replace(written, str(here))
        path = f"{self._place}:{os.environ['PATH']}"
        done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, env={**os.environ, "PATH": path})
        assert done.stderr == ""
        return done.stdout

    def act(self, configuration: str) -> str:
        """Put it into the router's file, and reload as the page says."""
        self.router.write_config(**yaml.safe_load(configuration))
        return self.type("reload")

    def _program(self, name: str, line: str) -> None:
        file = self._place / name
        file.write_text(f"#!/bin/bash\n{line}\n")
        file.chmod(0o755)


@pytest.fixture(scope="module")
def router(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    with RouterProcess(
        tmp_path_factory.mktemp("runbooks"),
        nats=nats_server,
        mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)],
        logging={"level": "info", "extra_access_log_fields": ["caller_cf_org"]},
    ) as process:
        yield process


@pytest.fixture(name="desk")
def _desk(router: RouterProcess, tmp_path: Path) -> Iterator[Desk]:
    with router.restored():
        yield Desk(router, tmp_path / "bin")


def test_an_org_is_out_and_in_again(
    desk: Desk, east_ca: CA, nats_server: NatsServer, make_registrar: MakeRegistrar, backend: EchoBackend
) -> None:
    """R237: one entry, one reload: callers of the org get 403; without the entry they are back."""
    incident, host = "An org must be out now", unique_host(EAST)
    make_registrar(nats_server, desk.router).register(host, backend=backend, options={"mtls_allow_any": True})
    caller = Tls(host, east_ca.issue_instance(app="taken-over", space="any", org=ORG))

    def call() -> int:
        with Client(desk.router.ssl_port, caller) as client:
            return client.request(host).status

    assert call() == 200
    desk.router.wait_for_log(ORG)
    assert desk.type(typed(part(incident, "First look"))[0]).count(host) == 1
    assert "config-reloaded" in desk.act(block(part(incident, "Act"), "yaml"))
    assert call() == 403
    desk.router.wait_for_event("deny-list-hit")
    assert 'reason="deny_orgs"' in desk.type(quoted(part(incident, "Verify"), "metrics"))
    desk.router.write_config(deny=None)
    assert "config-reloaded" in desk.type("reload")
    assert call() == 200


def test_a_route_is_out_however_often_it_registers(
    desk: Desk, nats_server: NatsServer, make_registrar: MakeRegistrar, backend: EchoBackend
) -> None:
    """R239: the first look finds who registered it, the entry answers 403 for it, and another host is untouched."""
    incident, registrar = "A route must go", make_registrar(nats_server, desk.router)
    other = unique_host("open.example")
    registrar.register(PHISHING, other, backend=backend, tags={})
    desk.router.wait_for_event(PHISHING)
    routes, log = (desk.type(line) for line in typed(part(incident, "First look"))[:2])
    assert f":{backend.port}" in routes
    assert f":{backend.port}" in log
    assert "config-reloaded" in desk.act(block(part(incident, "Act"), "yaml"))
    registrar.register(PHISHING, backend=backend)
    asked = quoted(part(incident, "Verify"), "curl").replace(":80:", f":{desk.router.port}:")
    seen = desk.type(asked.replace(f"http://{PHISHING}", f"http://{PHISHING}:{desk.router.port}"))
    assert "403 Forbidden" in seen
    assert "X-Cf-RouterError: access_denied" in seen
    assert get(desk.router.port, other).status == 200


def test_a_node_gets_no_request(desk: Desk, nats_server: NatsServer, make_registrar: MakeRegistrar, backend: EchoBackend) -> None:
    """R238: no request reaches the address any more; the route answers 403 where no other endpoint is left."""
    incident, host = "A node must be quarantined", unique_host("open.example")
    make_registrar(nats_server, desk.router).register(host, backend=backend)
    assert get(desk.router.port, host).status == 200
    assert host in desk.type(typed(part(incident, "First look"))[0].replace("10.0.16.7", "127.0.0.1"))
    assert "config-reloaded" in desk.act(block(part(incident, "Act"), "yaml").replace("10.0.16.7", "127.0.0.1"))
    reached = len(backend.received)
    assert get(desk.router.port, host).status == 403
    assert len(backend.received) == reached


@pytest.mark.parametrize("incident", ["Memory or descriptors run out", "Slow clients, or too many"])
def test_a_limit_is_set_by_a_reload(desk: Desk, incident: str) -> None:
    """The keys of the page take effect at once; none of them needs a restart."""
    said = desk.act(block(part(incident, "Act"), "yaml"))
    assert "config-reloaded" in said
    assert "config-needs-restart" not in said


def test_a_file_that_does_not_load_is_not_sent(desk: Desk) -> None:
    """`reload` checks first: the router does not even hear of it."""
    desk.router.write_config(port="many")
    assert "would not start" in desk.type("reload || true")
    assert "config-problem" not in desk.log


def test_no_look_at_the_metrics_is_misspelt(desk: Desk) -> None:
    """Every metric that a pattern of the page names is told by a router, with its help at least, and every line runs."""
    lines = sorted(set(re.findall(r"^ {4}(metrics \|.*)$", PAGE, re.MULTILINE)))
    assert len(lines) > 4
    told = desk.router.metrics()
    assert [name for line in lines for name in re.findall(r"[a-z]+(?:_[a-z]+)+", line) if f" {name} " not in told] == []
    desk.type("\n".join(lines))
