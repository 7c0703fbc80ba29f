"""The promise: the configurations that come with the project load, mean what they say, and start."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import OPEN, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, authority
from tests.support.client import Alert, Tls, expect_alert, get
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, tls_pem

FOLDER = Path(__file__).parents[2] / "bosh_like_config"
HARNESS_KEYS = ("enable_ssl", "tls_pem", "prometheus", "logging", "load_balancer_healthy_threshold",
                "drain_wait", "drain_timeout")  # fmt: skip
"""What the harness would add; taken away so that the file alone counts."""


@pytest.mark.parametrize("name", ["router.yml", "minimal.yml"])
def test_a_file_of_the_project_checks_without_error_or_warning(name: str) -> None:
    """`vestibule check` finds nothing to say about either file, and exits 0."""
    command = [sys.executable, "-m", "router", "check", "-o", "json", "-c", str(FOLDER / name)]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, check=False, timeout=30)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"ok": True, "errors": [], "warnings": []})


def started(make_router: MakeRouter, file: str, **changes: object) -> RouterProcess:
    """A router with a file of the project; only ports and addresses of the test machine are put in their place."""
    content = yaml.safe_load((FOLDER / file).read_text())
    for key in ("port", "ssl_port", "nats", "status", "prometheus"):
        content.pop(key, None)
    without: dict[str, object] = dict.fromkeys(HARNESS_KEYS)
    return make_router(**{**without, **content, "start_response_delay_interval": "0s", **changes})


def test_the_minimal_file_starts_and_routes(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], backend: EchoBackend
) -> None:
    """Minimal.yml is enough for an app to register and be reached."""
    router = started(make_router, "minimal.yml")
    assert "config-warning" not in router.stdout
    host = unique_host(OPEN)
    make_registrar(nats_server, router).register(host, backend=backend)
    assert get(router.port, host).status == 200


def test_the_first_mtls_domain_of_the_minimal_file_works_as_written(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], backend: EchoBackend
) -> None:
    """The commented example of minimal.yml, with its comment signs taken off, guards its domain."""
    example = (FOLDER / "minimal.yml").read_text().partition("# enable_ssl")[2]
    uncommented = re.sub(r"^# ?", "", "# enable_ssl" + example, flags=re.MULTILINE)
    content = yaml.safe_load(uncommented)
    ca: CA = authority("instances")
    server = authority("server").issue_server("*.apps.mtls.internal")
    assert list(content["tls_pem"][0]) == list(tls_pem(server))
    content["tls_pem"] = [tls_pem(server)]
    [domain] = content["mtls_domains"]
    domain["ca_certs"] = ca.pem
    del content["ssl_port"]
    router = started(make_router, "minimal.yml", **content)
    host = unique_host("apps.mtls.internal")
    make_registrar(nats_server, router).register(host, backend=backend, options={"mtls_allowed_apps": "app-1"})
    assert expect_alert(router.ssl_port, Tls(host)) == Alert.CERTIFICATE_REQUIRED
    assert get(router.ssl_port, host, tls=Tls(host, credential=ca.issue_instance("app-1"))).status == 200
    assert get(router.ssl_port, host, tls=Tls(host, credential=ca.issue_instance("app-2"))).status == 403


def test_the_whole_file_starts_with_its_own_defaults(
    make_router: MakeRouter, nats_server: NatsServer, make_registrar: Callable[..., Registrar], backend: EchoBackend
) -> None:
    """Router.yml, every property written out, runs and routes."""
    router = started(make_router, "router.yml", access_log=None)
    host = unique_host(OPEN)
    make_registrar(nats_server, router).register(host, backend=backend)
    assert get(router.port, host).status == 200
