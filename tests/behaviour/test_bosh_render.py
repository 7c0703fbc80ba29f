"""The promise: a deployment manifest becomes a job that runs, stops and drains as BOSH wants it, or nothing at all."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from router.config.job import SAME_AS
from tests.support.certs import authority
from tests.support.nats import NatsServer
from tests.support.rendered import BOSH, RenderedRouter, authority_pair, pair, vestibule
from tests.support.router import wait_until

ROOT = BOSH.parent
DEPLOYMENT = BOSH / "examples/app-to-app/deployment.yml"
ENABLE = BOSH / "ops/enable-mtls-domain.yml"

Words = list[str | Path]

GOROUTER = """\
name: cf
addons:
- name: bosh-dns-aliases
  jobs:
  - name: bosh-dns-aliases
    properties: {aliases: []}
instance_groups:
- name: router
  networks: [{name: default, static_ips: [10.0.1.5]}]
  jobs:
  - name: gorouter
    release: routing
    properties:
      request_timeout_in_seconds: 300
      metron: {port: 3457}
      uaa: {ca_cert: ((of_uaa)), ssl: {port: 8443}}
      nats: {machines: [10.0.0.4, 10.0.0.5], port: 4224, user: nats, password: ((nats_password)), tls_enabled: false}
      router:
        enable_ssl: true
        tls_port: 8443
        tls_pem: [((router_ssl_pair))]
        status: {user: router-status, password: pw}
        drain_wait: 10
        frontend_idle_timeout: 600
        requested_route_registration_interval_in_seconds: 5
        forwarded_client_cert: sanitize_set
        client_cert_validation: none
        max_idle_connections: 50
        logging_level: info
        html_error_template: |
          <h1>{{ .Status }}</h1>
          <p>{{ .Message }}</p>
        redact_query_parameters: hash
        trace_key: 22
        number_of_cpus: -1
        route_services_timeout: 60
        route_services_internal_lookup: true
        trusted_proxies: []
        domains:
        - {name: "*.apps.identity", ca_certs: ((diego_instance_identity_ca.certificate)), xfcc_format: envoy}
"""


def values() -> Mapping[str, object]:
    server = authority("server").issue_server("*.apps.mtls.internal")
    return {
        "router_ssl": pair(server),
        "router_ssl_pair": {"cert_chain": server.chain_pem, "private_key": server.key_pem},
        "diego_instance_identity_ca": authority_pair(authority("instance identity")),
        "nats_password": "nats",
        "of_uaa": "",
        "router_status_password": "pw",
    }


@pytest.fixture
def variables(tmp_path: Path) -> Path:
    file = tmp_path / "vars.yml"
    file.write_text(yaml.safe_dump(values()))
    return file


def test_a_deployment_of_gorouter_renders_unchanged(tmp_path: Path, variables: Path) -> None:
    """The properties of GoRouter's job mean what they mean there: names, seconds, NATS machines."""
    (tmp_path / "cf.yml").write_text(GOROUTER)
    done = vestibule(
        "bosh", "render", "-m", tmp_path / "cf.yml", "--job", "gorouter", "--vars-file", variables, "--output", tmp_path / "job"
    )
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "job/config/gorouter.yml").read_text())
    assert {key: config[key] for key in ("ssl_port", "drain_wait", "frontend_idle_timeout", "endpoint_timeout")} == {
        "ssl_port": 8443, "drain_wait": "10s", "frontend_idle_timeout": "600s", "endpoint_timeout": "300s",
    }  # fmt: skip
    assert (config["route_services_timeout"], config["route_services_hairpinning"]) == ("60s", True)
    assert config["html_error_template_file"] == "<h1>{{ .Status }}</h1>\n<p>{{ .Message }}</p>\n"
    assert config["nats"]["hosts"] == [{"hostname": "10.0.0.4", "port": 4224}, {"hostname": "10.0.0.5", "port": 4224}]
    assert (config["status"]["pass"], config["logging"]) == ("pw", {"level": "info", "redact_query_params": "hash"})
    warned = {line.rpartition(" ")[2] for line in done.stderr.splitlines() if ": warning: " in line}
    assert {"metron", "uaa", "router.number_of_cpus"} <= warned
    assert vestibule("check", "-c", tmp_path / "job/config/gorouter.yml").returncode == 0


def test_every_ops_file_of_the_project_applies(tmp_path: Path, variables: Path) -> None:
    """R288, R292: the domains, the roll-out switch and the DNS alias."""
    more = {
        "org_domain": "*.apps.mtls.org1.internal", "org_guid": "org-1", "partner_domain": "*.partners.example",
        "space_domain": "*.apps.mtls.space1.internal", "space_guid": "space-1", "foundation_domain": "*.west.internal",
        "partner_ca": authority_pair(authority("partners")), "foundation_ca": authority_pair(authority("west")),
    }  # fmt: skip
    (tmp_path / "more.yml").write_text(yaml.safe_dump(more))
    (tmp_path / "cf.yml").write_text(GOROUTER.replace("name: gorouter", "name: vestibule").partition("        domains:")[0])
    ops: Words = [
        word for file in sorted((BOSH / "ops").iterdir(), key=lambda file: (file != ENABLE, file)) for word in ("-o", file)
    ]
    files: Words = ["--vars-file", variables, "--vars-file", tmp_path / "more.yml"]
    done = vestibule("bosh", "render", "-m", tmp_path / "cf.yml", *ops, *files, "--output", tmp_path / "job")
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "job/config/gorouter.yml").read_text())
    assert [domain["domain"] for domain in config["mtls_domains"]] == [
        "*.apps.mtls.internal", "*.west.internal", "*.apps.mtls.org1.internal", "*.partners.example",
        "*.apps.mtls.space1.internal",
    ]  # fmt: skip
    assert config["mtls_domains"][0]["authorization"] == {"mode": "cf_identity", "report_only": True}


def test_an_ops_file_says_what_it_needs(tmp_path: Path, variables: Path) -> None:
    """R292: an mTLS domain without a TLS listener is refused with the way out."""
    text = DEPLOYMENT.read_text().replace("enable_ssl: true", "enable_ssl: false")
    (tmp_path / "d.yml").write_text(text)
    done = vestibule(
        "bosh", "render", "-m", tmp_path / "d.yml", "-o", ENABLE, "--vars-file", variables, "--output", tmp_path / "job"
    )
    assert done.returncode == 1
    assert f"{ENABLE}:5: error: /instance_groups/name=router" in done.stderr
    assert "a client certificate needs TLS; set router.enable_ssl and router.tls_pem first" in done.stderr


def test_bad_combinations_stop_the_rendering(tmp_path: Path, variables: Path) -> None:
    """R267, R269, R271, R272: all at once, by full property path and place, exit 1, and the old rendering stays."""
    job = tmp_path / "job"
    words: Words = ["bosh", "render", "-m", DEPLOYMENT, "-o", ENABLE, "--vars-file", variables, "--output", job]
    assert vestibule(*words).returncode == 0
    before = (job / "config/gorouter.yml").read_bytes()
    place = "/instance_groups/name=router/jobs/name=vestibule/properties/router"
    bad = f"""\
- type: replace
  path: {place}/mtls_domains/0/authorization/config?
  value: {{orgs: [a], spaces: [b], scope: org}}
- type: replace
  path: {place}/mtls_domans?
  value: []
- type: replace
  path: {place}/drain_wait?
  value: soon
"""
    (tmp_path / "bad.yml").write_text(bad)
    done = vestibule(*words, "-o", tmp_path / "bad.yml")
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line for line in done.stderr.splitlines() if ": error: " in line]
    file = tmp_path / "bad.yml"
    assert lines == [
        f"{file}:6: error: router.mtls_domans",
        f"{file}:3: error: router.mtls_domains[0].authorization.config",
        f"{file}:3: error: router.mtls_domains[0].authorization.config.scope",
        f"{file}:9: error: router.drain_wait",
    ]
    assert "did you mean `router.mtls_domains`?" in done.stderr
    assert "nothing written: 4 errors" in done.stderr
    assert (job / "config/gorouter.yml").read_bytes() == before


def test_keys_are_for_their_owner_alone(tmp_path: Path, variables: Path) -> None:
    """The file with the keys has mode 0600; no key and no password is printed."""
    job = tmp_path / "job"
    done = vestibule("bosh", "render", "-m", DEPLOYMENT, "-o", ENABLE, "--vars-file", variables, "--output", job)
    assert stat.S_IMODE((job / "config/gorouter.yml").stat().st_mode) == 0o600
    assert "PRIVATE KEY" in (job / "config/gorouter.yml").read_text()
    assert "PRIVATE KEY" not in done.stdout + done.stderr


def test_the_security_group_of_the_example(variables: Path) -> None:
    """R289: from the deployment's own addresses."""
    done = vestibule("bosh", "security-group", "-m", DEPLOYMENT)
    assert [(rule["destination"], rule["ports"]) for rule in json.loads(done.stdout)] == [
        ("10.0.1.5", "443"),
        ("10.0.1.6", "443"),
    ]


def test_the_dns_alias_leads_to_the_routers_of_the_examples() -> None:
    """R288: a runtime config of its own and an ops-file say the same of `_.apps.mtls.internal`."""
    runtime = yaml.safe_load((BOSH / "runtime-config/dns-alias.yml").read_text())
    (alias,) = runtime["addons"][0]["jobs"][0]["properties"]["aliases"]
    (operation,) = yaml.safe_load((BOSH / "ops/dns-alias.yml").read_text())
    assert operation["value"] == alias
    deployment = yaml.safe_load(DEPLOYMENT.read_text())
    (target,) = alias["targets"]
    assert (alias["domain"], target["query"]) == ("_.apps.mtls.internal", "*")
    assert (target["deployment"], target["instance_group"]) == (deployment["name"], deployment["instance_groups"][0]["name"])


@pytest.fixture
def job(tmp_path: Path, nats_server: NatsServer) -> Iterator[RenderedRouter]:
    """A rendered job whose process the scripts start."""
    router = RenderedRouter(tmp_path / "r", nats_server, DEPLOYMENT, [ENABLE], values())
    router.directory.mkdir()
    router._choose_ports()
    router.write_config()
    yield router
    script(router, "ctl", "stop")


def script(router: RenderedRouter, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """One of the job's scripts, as BOSH's agent or monit runs it."""
    wrapper = router.directory / "vestibule"
    wrapper.write_text(f'#!/bin/bash\nexec {sys.executable} -m router "$@"\n')
    wrapper.chmod(0o755)
    environment = {
        "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "VESTIBULE": str(wrapper),
        "VESTIBULE_RUN_DIR": str(router.directory / "run"), "VESTIBULE_LOG_DIR": str(router.directory / "log"),
    }  # fmt: skip
    command = [str(router.job / "bin" / name), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def pid_of(router: RenderedRouter) -> int:
    return int((router.directory / "run/vestibule.pid").read_text())


def gone(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


def healthy(router: RenderedRouter) -> None:
    try:
        wait_until(lambda: router.health() == 200, "the router to be healthy", 20)
    except AssertionError:
        wrote = "".join(file.read_text() for file in (router.directory / "log").iterdir())
        raise AssertionError(f"the router is not healthy; it wrote:\n{wrote[-4000:]}") from None


def test_the_scripts_start_and_drain_the_router(job: RenderedRouter) -> None:
    """Pre-start checks, ctl starts, drain asks to be called again until the process has gone."""
    checked = script(job, "pre-start")
    assert (checked.returncode, "good: 0 errors" in checked.stdout) == (0, True)
    assert script(job, "ctl", "start").returncode == 0
    healthy(job)
    pid = pid_of(job)
    assert os.getpgid(pid) == pid  # what ends the group ends workers too
    assert script(job, "ctl", "start").returncode == 0
    assert pid_of(job) == pid  # a second start changes nothing
    assert script(job, "drain").stdout == "-5\n"
    wait_until(lambda: gone(pid), "the router to end")
    last = script(job, "drain")
    assert (last.returncode, last.stdout) == (0, "0\n")
    assert not (job.directory / "run/vestibule.pid").exists()


def test_drain_waits_for_the_drain_time(job: RenderedRouter) -> None:
    """While health is bad but requests are served, each call says: again in five seconds."""
    job.write_config(drain_wait=60)
    script(job, "ctl", "start")
    healthy(job)
    assert script(job, "drain").stdout == "-5\n"
    wait_until(lambda: job.health() == 503, "health to turn bad")
    assert script(job, "drain").stdout == "-5\n"
    pid = pid_of(job)
    assert script(job, "ctl", "stop").returncode == 0
    assert gone(pid)


def test_pre_start_fails_where_the_router_would_not_start(job: RenderedRouter) -> None:
    """The machine is asked once more: the file may have been changed there."""
    job.config_file.write_text("prot: 1\n")
    checked = script(job, "pre-start")
    assert (checked.returncode, "did you mean `port`?" in checked.stdout) == (1, True)


def test_a_number_that_is_used_again_is_not_ours(job: RenderedRouter) -> None:
    """Neither drain nor stop signals a process that is no router of this job."""
    other = subprocess.Popen(["/bin/sleep", "60"])
    try:
        (job.directory / "run").mkdir()
        for name, *words in (("drain",), ("ctl", "stop")):
            (job.directory / "run/vestibule.pid").write_text(str(other.pid))
            assert script(job, name, *words).returncode == 0
            assert other.poll() is None
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()


def test_monit_starts_and_stops_by_the_script(job: RenderedRouter) -> None:
    """With BOSH's pidfile."""
    text = (job.job / "monit").read_text()
    assert f'start program "{job.job}/bin/ctl start" with timeout 60 seconds' in text
    assert "with pidfile /var/vcap/sys/run/vestibule/vestibule.pid" in text
    assert script(job, "ctl", "restart").returncode == 2


@pytest.fixture
def wheel(tmp_path: Path) -> Callable[[], Path]:
    """Builds the project from a copy, so that nothing is left in the tree."""

    def build() -> Path:
        source = tmp_path / "source"
        for folder in ("identity", "authz", "registry", "router", "bosh_like_config"):
            shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        code = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
        done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return source / done.stdout.splitlines()[-1]

    return build


def test_what_is_installed_finds_its_templates(tmp_path: Path, variables: Path, wheel: Callable[[], Path]) -> None:
    """A wheel holds the job beside the code; rendering needs no checkout."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel()) as archive:
        archive.extractall(site)
    (site / "bosh_like_config/jobs/vestibule/templates/monit.j2").write_text("from the wheel")
    command = [sys.executable, "-m", "router", "bosh", "render", "-m", str(DEPLOYMENT), "--vars-file", str(variables),
               "-o", str(site / "bosh_like_config/ops/enable-mtls-domain.yml"), "--output", str(tmp_path / "job")]  # fmt: skip
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "job/monit").read_text() == "from the wheel"


def test_the_pages_of_the_folder_lead_somewhere() -> None:
    """Each link of bosh_like_config's pages is there, and the index names every ops-file and example."""
    pages = sorted(BOSH.rglob("*.md"))
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
    named = {(BOSH / link).resolve() for page, link in links if page.parent == BOSH}
    files = [*(BOSH / "ops").iterdir(), *(BOSH / "runtime-config").iterdir(), *BOSH.glob("examples/*/README.md")]
    assert [file.name for file in files if file not in named] == []


def test_the_page_names_every_property_that_is_called_otherwise() -> None:
    """docs/bosh.md has the whole table of GoRouter's job names."""
    text = (ROOT / "docs/bosh.md").read_text()
    assert [name for name in SAME_AS if f"`{name}`" not in text] == []
