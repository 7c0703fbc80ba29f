"""`vestibule bosh security-group`."""

import json
from pathlib import Path

import pytest

from router.cli import main

MANIFEST = """\
instance_groups:
- name: router
  networks: [{name: default, static_ips: [10.0.1.5, 10.0.1.6 - 10.0.1.8]}]
  jobs: [{name: vestibule, properties: {router: {tls_port: 8443, status: {password: ((unknown))}}}}]
- name: empty
  jobs: [{name: other}]
"""


def run(*words: str) -> int:
    return main(["bosh", "security-group", *words])


def rules(text: str) -> list[tuple[str, str]]:
    return [(rule["destination"], rule["ports"]) for rule in json.loads(text)]


def test_addresses_alone_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    """R289: TCP to 443 unless told otherwise."""
    assert run("--address", "10.0.1.5", "--address", "10.0.2.0/24") == 0
    assert rules(capsys.readouterr().out) == [("10.0.1.5", "443"), ("10.0.2.0/24", "443")]
    assert run("--address", "10.0.1.5", "--port", "8443") == 0
    assert rules(capsys.readouterr().out) == [("10.0.1.5", "8443")]


def test_a_deployment_gives_addresses_and_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R289: of the instance group with the job; variables of properties need no value."""
    (tmp_path / "d.yml").write_text(MANIFEST)
    assert run("-m", str(tmp_path / "d.yml"), "--address", "10.0.3.1") == 0
    assert rules(capsys.readouterr().out) == [("10.0.1.5", "8443"), ("10.0.1.6-10.0.1.8", "8443"), ("10.0.3.1", "8443")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no address; give -m FILE or --address"),
        (["-m", "/no/such"], "No such file"),
        (["-m", "{d}", "--job", "none"], "choose with --job NAME"),
        (["-m", "{d}", "--job", "other"], "no static_ips in the instance group; give --address"),
        (["-m", "{d}", "-o", "{d}"], "a list of operations"),
    ],
)
def test_what_is_missing_is_said(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1, nothing on standard output."""
    (tmp_path / "d.yml").write_text(MANIFEST)
    assert run(*(word.replace("{d}", str(tmp_path / "d.yml")) for word in words)) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err


def test_a_port_whose_variable_has_no_value_is_no_guess(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rather nothing than a rule for the wrong port."""
    (tmp_path / "d.yml").write_text(MANIFEST.replace("8443", "((port))"))
    assert run("-m", str(tmp_path / "d.yml")) == 1
    assert "value:    ((port))" in capsys.readouterr().err
    assert run("-m", str(tmp_path / "d.yml"), "-v", "port=8444") == 0
    assert rules(capsys.readouterr().out)[0] == ("10.0.1.5", "8444")
    assert run("-m", str(tmp_path / "d.yml"), "--port", "8445") == 0
    assert rules(capsys.readouterr().out)[0] == ("10.0.1.5", "8445")


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1"])
def test_a_wrong_port_is_a_wrong_call(port: str) -> None:
    """Exit 2."""
    assert run("--address", "10.0.1.5", "--port", port) == 2


def test_what_is_no_address_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and what an address looks like."""
    assert run("--address", "router.example") == 2
    assert "'router.example' is none; expected an address, a network (10.0.1.0/24) or a range" in capsys.readouterr().err
