"""Names beside GUIDs: from `logging.names_file` and from registrations, in both forms of the access log and in denials."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EAST, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Tls, get
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain

APP, SPACE, ORG = "6a4f1b6e-0001-4000-8000-000000000001", "6a4f1b6e-0002-4000-8000-000000000002", "org-1"
NAMES = f"apps: {{{APP}: checkout}}\nspaces: {{{SPACE}: production}}\norgs: {{{ORG}: shop}}\n"
OK, ERROR = {'result="ok"': 1.0}, {'result="error"': 1.0}


@pytest.fixture
def names(tmp_path: Path) -> Path:
    file = tmp_path / "names.yml"
    file.write_text(NAMES)
    return file


@pytest.fixture
def caller(east_ca: CA) -> Credential:
    return east_ca.issue_instance(APP, SPACE, ORG)


class World:
    """A router with JSON lines, one host, and calls to it."""

    def __init__(self, router: RouterProcess, registrar: Registrar, backend: EchoBackend, caller: Credential) -> None:
        self.router = router
        self.registrar = registrar
        self.host = unique_host(EAST)
        self._backend = backend
        self._caller = caller
        self._calls = 0

    def register(self, **more: Any) -> None:
        self.registrar.register(self.host, backend=self._backend, **more)

    def call(self) -> tuple[int, list[str | None]]:
        """The status of a call, and the names of the caller in the log."""
        self._calls += 1
        path = f"/call-{self._calls}"
        status = get(self.router.ssl_port, self.host, path, tls=Tls(self.host, credential=self._caller)).status
        record = json.loads(self.router.wait_for_log(f'"{path}"'))
        return status, [record[f"caller_cf_{kind}_name"] for kind in ("app", "space", "org")]


@pytest.fixture
def world(
    make_router: MakeRouter,
    make_registrar: Callable[[NatsServer, RouterProcess], Registrar],
    nats_server: NatsServer,
    east_ca: CA,
    backend: EchoBackend,
    caller: Credential,
    tmp_path: Path,
    names: Path,
) -> World:
    router = make_router(
        mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)],
        access_log={"file": str(tmp_path / "router-0" / "access.log"), "format": "json"},
        logging={"level": "debug", "names_file": str(names)},
    )
    return World(router, make_registrar(nats_server, router), backend, caller)


def test_a_caller_is_logged_with_its_names(world: World) -> None:
    """Issue, part 7: beside the GUIDs, in the access log and where a caller is refused."""
    world.register(options={"mtls_allowed_apps": "another"})
    assert world.call() == (403, ["checkout", "production", "shop"])
    said = json.loads(world.router.wait_for_event(lambda line: "mtls-pre-auth-denied" in line and world.host in line))["data"]
    assert said["caller_app"] == f"checkout ({APP})"
    assert said["caller_org"] == f"shop ({ORG})"


def test_names_are_read_anew_at_a_reload_and_decide_nothing(world: World, names: Path) -> None:
    """Issue, part 7: with every name swapped, even for listed GUIDs and names that look like them, the answers are the same."""
    world.register(options={"mtls_allowed_apps": APP})
    assert world.call() == (200, ["checkout", "production", "shop"])
    names.write_text(f"apps: {{{APP}: another}}\norgs: {{{ORG}: {APP}, another: {ORG}}}\n")
    assert world.router.reload(deny={"apps": ["another", "checkout"], "orgs": ["shop"]}) == OK
    assert world.call() == (200, ["another", None, APP])
    assert not [line for line in world.router.events if "config-needs-restart" in line and '"logging"' in line]


def test_a_bad_file_keeps_the_old_names_and_says_every_line(world: World, names: Path) -> None:
    """Issue, bad input: the problems name the names file, and nothing changes."""
    world.register(options={"mtls_allow_any": True})
    names.write_text('apps:\n  "not a guid": x\nteams: {}\n')
    assert world.router.reload() == ERROR
    problems = [json.loads(line)["data"] for line in world.router.events if "config-problem" in line]
    assert [(one["file"], one["line"], one["path"]) for one in problems] == [
        (str(names), 2, "apps.not a guid"), (str(names), 3, "teams"),
    ]  # fmt: skip
    assert world.call() == (200, ["checkout", "production", "shop"])


def test_registrations_name_what_the_file_does_not(world: World, names: Path) -> None:
    """Issue, part 7: by the tags `app_name`, `space_name` and `organization_name`; the file wins."""
    names.write_text(f"orgs: {{{ORG}: ours}}\n")
    assert world.router.reload() == OK
    owners = {"space_id": SPACE, "organization_id": ORG}
    tags = owners | {"app_name": "from the tag", "space_name": "prod", "organization_name": "theirs"}
    world.register(options={"mtls_allow_any": True}, app=APP, tags=tags)
    assert world.call() == (200, ["from the tag", "prod", "ours"])
    assert world.router.reload() == OK
    assert world.call() == (200, ["from the tag", "prod", "ours"])


def test_gorouters_line_shows_names_that_are_asked_for(
    make_router: MakeRouter,
    make_registrar: Callable[[NatsServer, RouterProcess], Registrar],
    nats_server: NatsServer,
    east_ca: CA,
    backend: EchoBackend,
    caller: Credential,
    names: Path,
) -> None:
    """Contract h: by `logging.extra_access_log_fields`; quotes in a name break nothing."""
    names.write_text(f"apps: {{{APP}: 'check \"out\"'}}\n")
    fields = ["caller_cf_app", "caller_cf_app_name", "caller_cf_org_name"]
    router = make_router(
        mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)], logging={"names_file": str(names), "extra_access_log_fields": fields}
    )
    host = unique_host(EAST)
    make_registrar(nats_server, router).register(host, backend=backend, options={"mtls_allow_any": True})
    assert get(router.ssl_port, host, tls=Tls(host, credential=caller)).status == 200
    expected = f'caller_cf_app:"{APP}" caller_cf_app_name:"check \\"out\\"" caller_cf_org_name:"-" '
    assert expected in router.wait_for_log(host)


def test_check_says_every_problem_of_the_names(tmp_path: Path, names: Path) -> None:
    """Issue, bad input: as a person types it, with the file and line of each, and exit status 1."""
    names.write_text("apps:\n  a b: x\norgs:\n  g:\n")
    config = tmp_path / "router.yml"
    config.write_text("logging: {names_file: names.yml}\n")
    found = subprocess.run(
        [sys.executable, "-m", "router", "check", "-c", str(config)], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode == 1
    assert f"{names}:2: error: apps.a b" in found.stdout
    assert f"{names}:4: error: orgs.g" in found.stdout
