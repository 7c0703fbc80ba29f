"""Attack 25: an authority file that is missing, empty, unreadable or no PEM, at the start and at a reload."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.attacks.conftest import MakeRegistrar
from tests.conftest import EAST, MakeRouter
from tests.support.backend import EchoBackend
from tests.support.certs import CA, Credential
from tests.support.client import Alert, Client, Tls, expect_alert, get
from tests.support.nats import NatsServer
from tests.support.register import unique_host
from tests.support.router import mtls_domain, server_credential, tls_pem, wait_until

BROKEN_BASE64 = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"


def bad_values(directory: Path, good: str) -> dict[str, object]:
    """Values of `ca_certs` that hold no authority, made in this directory."""
    empty, text, folder, half = (directory / name for name in ("empty.pem", "text.pem", "folder.pem", "half.pem"))
    empty.write_text("")
    text.write_text("no certificate here\n")
    folder.mkdir(exist_ok=True)
    half.write_text(good[: len(good) // 2])
    made: dict[str, object] = {
        "missing-file": str(directory / "nothing.pem"),
        "empty-file": str(empty),
        "no-pem-in-file": str(text),
        "unreadable": str(folder),
        "cut-file": str(half),
        "empty": "",
        "null": None,
        "broken-base64": BROKEN_BASE64,
        "one-good-one-broken": good + BROKEN_BASE64,
        "missing-variable": {"env": "VESTIBULE_TEST_NO_SUCH_VARIABLE"},
    }
    assert list(made) == NAMES
    return made


NAMES = [
    "missing-file", "empty-file", "no-pem-in-file", "unreadable", "cut-file", "empty", "null", "broken-base64",
    "one-good-one-broken", "missing-variable",
]  # fmt: skip


def bad_domain(domain: str, ca: CA, value: object) -> dict[str, Any]:
    return {**mtls_domain(domain, ca), "ca_certs": value}


@pytest.mark.parametrize("name", NAMES)
def test_the_router_does_not_start_without_its_authority(tmp_path: Path, east_ca: CA, name: str) -> None:
    """Attack 25: status 1, the key is named, and nothing listens: neither system roots nor no check stand in."""
    config = {
        "enable_ssl": True,
        "tls_pem": [tls_pem(server_credential())],
        "mtls_domains": [bad_domain(f"*.{EAST}", east_ca, bad_values(tmp_path, east_ca.pem)[name])],
    }
    file = tmp_path / "router.yml"
    file.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "router", "run", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=20, cwd=Path(__file__).parents[2], text=True)
    assert done.returncode == 1
    assert "Error loading config" in done.stderr
    assert "mtls_domains[0].ca_certs" in done.stderr
    assert "router-started" not in done.stdout


def test_a_reload_keeps_the_last_good_authority(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend, tmp_path: Path,
    east_ca: CA, caller: Credential, stranger: Credential,
) -> None:  # fmt: skip
    """Attack 25: each bad value at a reload is an error, counted and logged; the old set stands, for old and new connections."""
    router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", east_ca)])
    host = unique_host(EAST)
    make_registrar(nats_server, router).register(host, backend=backend, options={"mtls_allow_any": True})
    with Client(router.ssl_port, Tls(host, caller)) as lasting:
        assert lasting.request(host).status == 200
        for name, value in bad_values(tmp_path, east_ca.pem).items():
            assert router.reload(mtls_domains=[bad_domain(f"*.{EAST}", east_ca, value)]) == {'result="error"': 1}, name
        wait_until(lambda: sum("config-reload-failed" in line for line in router.events) == len(NAMES), "one line for each")
        assert lasting.request(host).status == 200
    assert get(router.ssl_port, host, tls=Tls(host, caller)).status == 200
    assert expect_alert(router.ssl_port, Tls(host, stranger)) == Alert.UNKNOWN_CA
    assert expect_alert(router.ssl_port, Tls(host)) == Alert.CERTIFICATE_REQUIRED
    assert router.health() == 200


def test_a_file_that_goes_bad_under_a_running_router_changes_nothing(
    make_router: MakeRouter, make_registrar: MakeRegistrar, nats_server: NatsServer, backend: EchoBackend, tmp_path: Path,
    east_ca: CA, west_ca: CA, caller: Credential, stranger: Credential,
) -> None:  # fmt: skip
    """Attack 25: the same file emptied, then gone, then holding another authority: only the last reload changes who enters."""
    file = tmp_path / "authority.pem"
    file.write_text(east_ca.pem)
    router = make_router(mtls_domains=[mtls_domain(f"*.{EAST}", str(file))])
    host = unique_host(EAST)
    make_registrar(nats_server, router).register(host, backend=backend, options={"mtls_allow_any": True})
    file.write_text("")
    assert router.reload() == {'result="error"': 1}
    file.unlink()
    assert router.reload() == {'result="error"': 1}
    assert get(router.ssl_port, host, tls=Tls(host, caller)).status == 200
    file.write_text(west_ca.pem)
    assert router.reload() == {'result="ok"': 1}
    assert expect_alert(router.ssl_port, Tls(host, caller)) == Alert.UNKNOWN_CA
    assert get(router.ssl_port, host, tls=Tls(host, stranger)).status == 200
