"""Loading: every problem at once, never an exception, never a secret."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.legacy import NO_EFFECT
from router.config.load import known_keys, load, load_bytes
from router.config.model import Config
from tests.router.config.support import errors, loaded
from tests.support.certs import CA

_KEYS = st.sampled_from(sorted({*Config.model_fields, *(p.partition(".")[0] for p in NO_EFFECT), "nats", "x", ""}))
_INNER = st.sampled_from(["domain", "name", "ca_certs", "authorization", "config", "mode", "hosts", "pass", "file", "tls"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_INNER | st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
@settings(max_examples=200, deadline=None)
def test_no_mapping_makes_loading_raise(mapping: dict[str, Any]) -> None:
    found = load_bytes(yaml.safe_dump(mapping).encode(), Path("router.yml"), {})
    assert (found.config is None) == bool(found.problems)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_no_bytes_make_loading_raise(data: bytes) -> None:
    found = load_bytes(data, Path("router.yml"), {})
    assert (found.config is None) == bool(found.problems)


def test_every_problem_is_reported_at_once_in_the_order_of_the_file() -> None:
    """The issue: file, line, path, value, what was expected, and the remedy."""
    found = loaded("prot: 80\nstatus:\n  port: http\nenable_ssl: true\nport: 1\nport: 2\nmtls_domains:\n- domain: a.*.b\n")
    assert [(problem.line, problem.path) for problem in found.problems] == [
        (1, "prot"), (3, "status.port"), (4, "enable_ssl"), (6, "port"), (8, "mtls_domains[0].ca_certs"),
        (8, "mtls_domains[0].domain"),
    ]  # fmt: skip
    assert all(p.file and p.expected and p.remedy for p in found.problems)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("prot: 1", "port"), ("mtls_domain: []", "mtls_domains"), ("nats: {host: []}", "hosts"),
        ("status: {passs: x}", "pass"), ("logging: {sysloog: x}", "syslog"), ("enable_prox: true", "enable_proxy"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_an_error_with_the_nearest_name(text: str, near: str) -> None:
    (problem,) = loaded(text).problems
    assert (problem.expected, problem.remedy) == ("a known key", f"did you mean `{near}`?")


@pytest.mark.parametrize(
    "text",
    [
        "passs: hunter2", "status: {passs: hunter2}", "nats: {pass: [hunter2]}", "nats: nats://u:hunter2@h",
        "status: {pass: {hunter2: x}}", (
            "nats: {token: {env: "
            "hunter2}}"
        ), "pass: hunter2\nx: [", "tls_pem: [hunter2, hunter2]",
    ],
)  # fmt: skip
def test_no_problem_shows_a_secret(text: str) -> None:
    found = loaded(text)
    assert found.problems != ()
    assert "hunter2" not in repr([(p.value, p.expected, p.remedy) for p in found.problems])


@pytest.mark.parametrize(
    ("text", "value"), [("", "empty file"), ("# nothing", "empty file"), ("- a", "(a list of 1)"), ("x", "'x'")]
)
def test_a_file_that_is_no_mapping_is_an_error(text: str, value: str) -> None:
    (problem,) = loaded(text).problems
    assert (problem.value, problem.expected) == (value, "a mapping of keys")


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (problem,) = load(tmp_path / "none.yml", {}).problems
    assert problem.expected == "a file that can be read"


def test_the_files_that_were_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CA("load tests").pem)
    (tmp_path / "router.yml").write_text("ca_certs: ca.pem\n")
    assert load(tmp_path / "router.yml", {}).files == (tmp_path / "router.yml", tmp_path / "ca.pem")


def test_a_key_file_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("x")
    (tmp_path / "word").chmod(0o644)
    found = loaded("status: {pass: {file: word}}\ntrusted_proxies: []\n", folder=tmp_path)
    assert [warning.file for warning in found.warnings] == [str(tmp_path / "word")]


@pytest.mark.parametrize(("mode", "told"), [(0o644, 1), (0o640, 1), (0o600, 0)])
def test_a_configuration_with_a_key_in_it_that_others_can_read_is_a_warning(tmp_path: Path, mode: int, told: int) -> None:
    """K8: it is a key file itself, as a deployment renders it."""
    file, server = tmp_path / "router.yml", CA("load tests").issue_server("a.example")
    pair = {"cert_chain": server.chain_pem, "private_key": server.key_pem}
    file.write_text(yaml.safe_dump({"enable_ssl": True, "tls_pem": [pair], "trusted_proxies": []}))
    file.chmod(mode)
    found = load(file, {})
    assert [warning.remedy for warning in found.warnings if warning.file == str(file)] == [
        "chmod 600, and give it to the router's user"
    ] * told


def test_the_environment_answers_for_secrets() -> None:
    """K14."""
    found = loaded("nats: {pass: {env: WORD}}", environ={"WORD": "w"})
    assert found.config is not None
    assert found.config.nats.password.get_secret_value() == "w"


def test_known_keys_are_those_of_the_section() -> None:
    assert known_keys(("nats", "hosts", 0)) == {"hostname", "port"}
    assert {"pass", "tls", "enable_deprecated_varz_healthz_endpoints"} <= known_keys(("status",))


@pytest.mark.parametrize("name", ["router.yml", "minimal.yml"])
def test_the_shipped_files_load_without_a_word(name: str) -> None:
    found = load(Path(__file__).parents[3] / "bosh_like_config" / name, {})
    assert (found.problems, found.warnings) == ((), ())


def test_no_error_hides_another() -> None:
    assert errors("port: x\ndisable_http: true\n") == ["port", "disable_http"]
