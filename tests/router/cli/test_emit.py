"""`vestibule emit`: what it prints and what it refuses, before anything is sent."""

import json
from pathlib import Path

import pytest

from router.cli import main
from router.demo.process import free_port

MANIFEST = """\
applications:
- name: orders
  routes:
  - route: orders.example
  - route: orders.example/admin
    options: {mtls_allowed_apps: app-a}
"""
BAD = """\
applications:
- name: orders
  routes:
  - route: orders.example:80
  - route: other.example
    options: {mtls: {allow: any}}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "manifest.yml"
    file.write_text(MANIFEST)
    return file


def emit(manifest: Path, *words: str) -> int:
    return main(["emit", "-m", str(manifest), "--instance", "10.0.0.1:8080", *words])


def test_a_dry_run_prints_messages_and_cost(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object a line, then what they cost; NATS need not be named."""
    assert emit(manifest, "--dry-run", "--app", "orders=g-1", "--tag", "space_id=s=1", "--routers", "4") == 0
    *messages, cost = capsys.readouterr().out.splitlines()
    read = [json.loads(message) for message in messages]
    assert [(one["uris"], one.get("options")) for one in read] == [
        (["orders.example"], None),
        (["orders.example/admin"], {"mtls_allowed_apps": "app-a"}),
    ]
    assert {one["app"] for one in read} == {"g-1"}
    assert read[0]["tags"] == {"component": "vestibule-emit", "app_name": "orders", "space_id": "s=1"}
    size = len('{"mtls_allowed_apps":"app-a"}')
    assert cost.startswith("2 messages of 1 instance to 4 routers every 20 s: ")
    assert f"options {size * 4 / 20:.1f} bytes/s ({size} of " in cost


def test_the_cost_is_that_of_the_routers_own_interval(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R283: bytes, times instances, times routers, by the interval; half the interval costs twice as much."""
    assert emit(manifest, "--instance", "10.0.0.2:8080", "--dry-run", "--routers", "4", "--interval", "10") == 0
    size = 2 * len('{"mtls_allowed_apps":"app-a"}')
    cost = capsys.readouterr().out.splitlines()[-1]
    assert cost.startswith("4 messages of 2 instances to 4 routers every 10 s: ")
    assert f"options {size * 4 / 10:.1f} bytes/s ({size} of " in cost


def test_json_has_messages_and_cost(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For programs, in one object."""
    assert emit(manifest, "--dry-run", "-o", "json", "--tls-port", "8443", "--san", "orders.internal") == 0
    shown = json.loads(capsys.readouterr().out)
    assert {one["server_cert_domain_san"] for one in shown["messages"]} == {"orders.internal"}
    assert shown["cost"]["options_bytes_per_second"] == round(len('{"mtls_allowed_apps":"app-a"}') / 20, 1)
    assert (shown["cost"]["messages"], shown["cost"]["instances"], shown["cost"]["routers"]) == (2, 1, 1)


def test_every_problem_of_a_manifest_is_said_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Issue 3: exit 1, nothing sent, and standard output stays empty."""
    file = tmp_path / "bad.yml"
    file.write_text(BAD)
    assert emit(file, "--nats", f"nats://127.0.0.1:{free_port()}") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{file}:4: error: applications[0].routes[0].route" in shown.err
    assert f"{file}:6: error: applications[0].routes[1].options.mtls" in shown.err
    assert shown.err.endswith("vestibule emit: nothing is sent: mend the manifest\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--instance", "shop=10.0.0.2:80"], "'shop'=...: no application of that name"),
        (["--max-route-options-size", "10"], "Options must be smaller than 10 bytes"),
    ],
)
def test_what_the_manifest_does_not_bear_exits_1(
    manifest: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """The call is right; manifest and options do not fit."""
    assert emit(manifest, "--nats", f"nats://127.0.0.1:{free_port()}", *words) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--instance", "10.0.0.2"], "--instance '10.0.0.2': expected HOST:PORT"),
        (["--app", "orders"], "--app 'orders': expected NAME=VALUE"),
        (["--tag", "a=1", "--tag", "a=2"], "--tag 'a=2': expected NAME=VALUE, each name once"),
        (["--san", "a"], "give --tls-port too"),
        (["--health-command", "no-such-program"], "no program 'no-such-program'"),
        (["--health-url", "ftp://x"], "is the form of the URL"),
        (["--health-ca", "x"], "--health-ca is for --health-url"),
        (["--nats", "tls://two"], "write tls:// for all"),
        (["--nats-token-file", "/none"], "/none: cannot be read"),
    ],
)
def test_options_that_cannot_be_used_are_a_wrong_call(
    manifest: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """Said with what to do, before NATS is asked."""
    assert emit(manifest, "--nats", f"nats://127.0.0.1:{free_port()}", *words) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--nats", "nats://one", "--tls-port", "0"],
        ["--nats", "nats://one", "--tls-port", "1,,2"],
        ["--nats", "nats://one", "--routers", "0"],
        ["--nats", "nats://one", "--stale-threshold", "9" * 5000],
        ["--nats", "nats://one", "--health-interval", "nan"],
        ["--nats", "nats://one", "--health-timeout", "soon"],
        ["--nats", "nats://one", "--health-command", "true", "--health-url", "http://x"],
        ["--nats-password", "s3cret"],
    ],
)
def test_a_wrong_call_exits_2(manifest: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """A secret is no option: there is nowhere to put it on the command line."""
    assert emit(manifest, *words) == 2
    assert "vestibule emit" in capsys.readouterr().err


def test_who_has_no_instance_here_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One manifest for all machines, one emitter on each."""
    file = tmp_path / "two.yml"
    file.write_text(MANIFEST + "- name: stock\n  routes: [{route: stock.example}]\n")
    assert main(["emit", "-m", str(file), "--instance", "stock=10.0.0.1:80", "--dry-run", "-o", "json"]) == 0
    shown = capsys.readouterr()
    assert [one["uris"] for one in json.loads(shown.out)["messages"]] == [["stock.example"]]
    assert shown.err == "vestibule emit: application 'orders' has no instance here: its routes are not registered\n"
