"""`-m`, `--vars-file` and `--var`: files in, one reading of all manifests out."""

import argparse
from pathlib import Path

import pytest

from authz.domain import DomainTable
from registry.manifest import ManifestRead
from registry.source import MAX_BYTES
from router.cli.manifests import add_manifests, demands_policies, load_manifests
from router.config.compile import compile_domains
from tests.router.config.support import config
from tests.support.certs import authority

MANIFEST = "applications:\n- name: a\n  routes:\n  - route: ((host)).example.com\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(*words: str) -> ManifestRead:
    parser = argparse.ArgumentParser()
    add_manifests(parser)
    return load_manifests(parser.parse_args(words))


def test_a_variable_of_the_command_line_wins_over_files_and_the_last_file_over_the_first(folder: Path) -> None:
    """The order of the cf CLI."""
    (folder / "m.yml").write_text(MANIFEST)
    (folder / "1.yml").write_text("host: one\n")
    (folder / "2.yml").write_text("host: two\n")
    files = ["-m", "m.yml", "--vars-file", "1.yml", "--vars-file", "2.yml"]
    assert [route.uri for route in read(*files).routes] == ["two.example.com"]
    assert [route.uri for route in read(*files, "--var", "host=three").routes] == ["three.example.com"]


def test_a_variable_of_the_command_line_has_the_type_that_it_is_written_with(folder: Path) -> None:
    (folder / "m.yml").write_text(MANIFEST + "    options: {mtls_allow_any: ((any))}\n")
    (route,) = read("-m", "m.yml", "--var", "host=h", "--var", "any=true").routes
    assert dict(route.options) == {"mtls_allow_any": True}


def test_all_problems_of_all_files_come_at_once(folder: Path) -> None:
    (folder / "m.yml").write_text(MANIFEST)
    (folder / "n.yml").write_text("applications: 1\n")
    (folder / "v.yml").write_text("- 1\n")
    words = ["-m", "m.yml", "-m", "n.yml", "-m", "none.yml", "--vars-file", "v.yml", "--vars-file", "none.yml"]
    found = read(*words, "--var", "x", "--var", "y={")
    assert found.routes == ()
    assert [(problem.file, problem.line, problem.expected.partition(":")[0]) for problem in found.problems] == [
        ("v.yml", 1, "a mapping of names to values"),
        ("none.yml", 0, "a file that can be read"),
        ("--var", 0, "NAME=VALUE"),
        ("--var", 0, "a value in YAML"),
        ("m.yml", 4, "a value for the variable `host`"),
        ("n.yml", 1, "a list of applications"),
        ("none.yml", 0, "a file that can be read"),
    ]


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "."])
def test_a_name_that_is_no_file_is_a_problem(folder: Path, name: str) -> None:
    assert [problem.expected for problem in read("-m", name).problems] == ["a file that can be read"]


def test_a_huge_file_is_refused(folder: Path) -> None:
    (folder / "m.yml").write_bytes(b" " * (MAX_BYTES + 10))
    assert [problem.expected for problem in read("-m", "m.yml").problems] == [f"at most {MAX_BYTES} bytes"]


def test_a_domain_demands_policies_where_a_route_without_them_is_shut() -> None:
    """Decision 8: `cf_identity` of the first dialect, and nobody else."""
    enforced = {"xfcc": {"identity_extractor": "cf_ou"}, "authorization": {"mode": "cf_identity"}}
    ca = authority("demands").pem
    ours = [{"domain": "*.a", "ca_certs": ca, **enforced}, {"domain": "*.b", "ca_certs": ca}]
    table: DomainTable = compile_domains(config({"mtls_domains": ours, "domains": [{"name": "*.c", "ca_certs": ca}]}))[0]
    demands = demands_policies(table)
    assert [demands(host) for host in ("x.a", "*.x.a", "a", "x.b", "x.c", "d")] == [True, True, False, False, False, False]
