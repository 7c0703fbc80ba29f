"""From a manifest to files, or to everything that is wrong."""

from pathlib import Path

import pytest

from registry.source import read_source
from router.bosh.release import CONFIG
from router.bosh.render import Rendered, Text, render
from router.config.compile_error import CompileError
from tests.support.certs import authority
from tests.support.rendered import BOSH

MANIFEST = """\
name: cf
instance_groups:
- name: router
  jobs:
  - name: vestibule
    properties:
      nats: {machines: [127.0.0.1]}
      router:
        trusted_proxies: []
        status: {password: ((password))}
"""
DOMAIN = """\
- type: replace
  path: /instance_groups/name=router/jobs/name=vestibule/properties/router/mtls_domains?/-
  value:
    domain: "*.apps.mtls.internal"
    ca_certs: ((ca.certificate))
    xfcc: {identity_extractor: cf_ou}
    authorization:
      mode: cf_identity
"""


def rendered(tmp_path: Path, *ops: str, manifest: str = MANIFEST, **variables: object) -> Rendered:
    values = {"password": "secret", "ca": {"certificate": authority("instances").pem}, **variables}
    texts = [Text(f"ops-{number}.yml", text.encode()) for number, text in enumerate(ops)]
    return render(Text("deployment.yml", manifest.encode()), texts, values, "vestibule", None, tmp_path / "job", {})


@pytest.mark.parametrize("group", ["edge", "origin"])
def test_edge_and_origin_render_without_a_word(tmp_path: Path, group: str) -> None:
    """R138: two hops in one deployment; an edge without L7 misses no NATS."""
    file = BOSH / "examples/edge-and-origin/deployment.yml"
    own = authority("server").issue_server("*.apps.example.com")
    pair = {"certificate": own.chain_pem, "private_key": own.key_pem}
    values = {"router_status_password": "secret", "nats_password": "secret", "router_ssl": pair}
    done = render(Text(str(file), file.read_bytes()), [], values, "vestibule", group, tmp_path / "job", {})
    assert (done.problems, done.warnings) == ((), ())


def test_a_good_deployment_becomes_the_files(tmp_path: Path) -> None:
    """What was judged is what is written; nothing is written yet."""
    done = rendered(tmp_path, DOMAIN)
    assert done.problems == ()
    assert [(one.file, one.line, one.path) for one in done.warnings] == [("ops-0.yml", 3, "router.mtls_domains")]  # no TLS yet
    config = next(file for file in done.files if file.path == CONFIG)
    tree = read_source(config.content.encode()).tree
    assert isinstance(tree, dict)
    assert tree["status"] == {"pass": "secret"}
    assert tree["mtls_domains"][0]["ca_certs"] == authority("instances").pem
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("authorization", "line", "path", "said"),
    [
        ("mode: cf_identity\n      config: {orgs: [a], spaces: [b]}", 9, ".authorization.config", "mutually exclusive"),
        ("mode: cf_identity\n      config: {scope: org}", 9, ".authorization.config.scope", "one domain per org"),
        ("config: {orgs: [a]}", 8, ".authorization.config", "set router.mtls_domains[0].authorization.mode: cf_identity"),
        ("mode: cf_identity\n      config: {orgs: []}", 9, ".authorization.config.orgs", "empty, it locks nothing"),
        ("mode: cf_identity\n      config: {orgs: ['a b']}", 9, ".authorization.config.orgs[0]", ""),
        ("mode: cf_identety", 8, ".authorization.mode", ""),
        ("mode: cf_identity\n      confg: {}", 9, ".authorization.confg", "did you mean `config`?"),
    ],
)
def test_a_bad_combination_is_rejected_with_its_whole_path(
    tmp_path: Path, authorization: str, line: int, path: str, said: str
) -> None:
    """R267, R269, R271, R272: when the deployment is rendered, with the property's path and the line of the ops-file."""
    done = rendered(tmp_path, DOMAIN.replace("mode: cf_identity", authorization))
    assert done.files == ()
    found = [(one.file, one.line, one.path, one.remedy) for one in done.problems]
    assert [one[:3] for one in found] == [("ops-0.yml", line, f"router.mtls_domains[0]{path}")]
    assert said in found[0][3]


def test_problems_of_properties_and_of_values_come_together(tmp_path: Path) -> None:
    """Unknown names, bad values, contradictions: one run tells all."""
    wrong = MANIFEST.replace("trusted_proxies: []", "prot: 1, disable_http: true, drain_wait: soon").replace(
        "router:\n        prot: 1, disable_http: true, drain_wait: soon\n        status: {password: ((password))}",
        "router: {prot: 1, disable_http: true, drain_wait: soon, tls_port: 99999}",
    )
    done = rendered(tmp_path, manifest=wrong)
    assert {(one.line, one.path) for one in done.problems} == {
        (8, "router.prot"), (8, "router.disable_http"), (8, "router.drain_wait"), (8, "router.tls_port"),
    }  # fmt: skip


def test_ops_files_are_all_read_before_any_is_applied(tmp_path: Path) -> None:
    """So that every one that is wrong is told."""
    done = rendered(tmp_path, "- x\n", "a: [", "- {type: remove, path: /no}")
    assert [(one.file, one.line) for one in done.problems] == [("ops-0.yml", 1), ("ops-1.yml", 2)]
    done = rendered(tmp_path, "- {type: remove, path: /no}")
    assert [(one.file, one.path) for one in done.problems] == [("ops-0.yml", "/no")]


@pytest.mark.parametrize("manifest", ["", "[", "a: 1", "- 1", "x" * 5_000_000])
def test_what_is_no_manifest_is_a_problem(tmp_path: Path, manifest: str) -> None:
    """Never an exception."""
    done = rendered(tmp_path, manifest=manifest)
    assert done.files == ()
    assert [one.file for one in done.problems] == ["deployment.yml"]


def test_a_missing_variable_keeps_values_from_being_judged(tmp_path: Path) -> None:
    """What they would mean is not known."""
    done = rendered(tmp_path, DOMAIN, ca={})
    assert [one.value for one in done.problems] == ["((ca.certificate)); ((ca)) has no keys"]


def test_warnings_name_properties_too(tmp_path: Path) -> None:
    """And a deployment without NATS is told where it will look."""
    plain = MANIFEST.replace("      nats: {machines: [127.0.0.1]}\n", "").replace("trusted_proxies: []", "pid_file: x")
    done = rendered(tmp_path, manifest=plain)
    assert done.problems == ()
    assert [(one.line, one.path) for one in done.warnings] == [
        (8, "router.pid_file"), (7, "router.trusted_proxies"), (6, "nats.machines"),
    ]  # fmt: skip


def test_no_secret_is_part_of_a_problem(tmp_path: Path) -> None:
    """Not of a value, not of a variable."""
    done = rendered(tmp_path, password={"secret": "hunter2"})
    assert [one.path for one in done.problems] == ["router.status.password"]
    assert "hunter2" not in str(done.problems)


def test_what_could_not_be_built_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What OpenSSL refuses shows when it is rendered, not when it starts."""
    monkeypatch.setattr("router.bosh.render.why_not", lambda _: CompileError("tls_pem", "no context"))
    done = rendered(tmp_path)
    assert [(one.file, one.line, one.path, one.expected) for one in done.problems] == [
        ("deployment.yml", 8, "router.tls_pem", "no context")
    ]
