"""A configuration that contradicts itself is refused before anything starts: `vestibule check` and `vestibule run`, as typed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.certs import CA, authority
from tests.support.router import mtls_domain, server_credential, tls_pem
from tests.support.typed import typed

ENFORCED = {"mode": "cf_identity"}
CF_OU = {"identity_extractor": "cf_ou"}


def vestibule(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as an operator runs it."""
    command = [sys.executable, "-m", "router", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, cwd=Path(__file__).parents[2])


def write(folder: Path, config: dict[str, Any]) -> Path:
    file = folder / "router.yml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def entry(number: int, **more: Any) -> dict[str, Any]:
    """A domain that is good but for what `more` says."""
    return {"domain": f"*.d{number}.test", "ca_certs": authority("config errors").pem, **more}


def with_lists(**config: Any) -> dict[str, Any]:
    return {"xfcc": CF_OU, "authorization": {**ENFORCED, "config": config}}


MISTAKES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "R267",
        with_lists(orgs=["o"], spaces=["s"]),
        "authorization.config",
        "they are mutually exclusive",
    ),
    (
        "R269",
        with_lists(scope="org"),
        "authorization.config.scope",
        "one domain per org (*.apps.mtls.org1.internal with orgs: [org1])",
    ),
    ("R269", {"xfcc": CF_OU, "authorization": {**ENFORCED, "scope": "any"}}, "authorization.scope", "list the callers' GUIDs"),
    ("R262", {"allowed_sources": {"apps": ["a"]}}, "allowed_sources", 'set mtls_allowed_apps: "guid1,guid2"'),
    ("R262", {"mtls_allowed_sources": {"any": True}}, "mtls_allowed_sources", "mtls_allow_any: true on the route"),
    (
        "R262",
        {"authorization": {"config": {"mtls_allowed_sources": {}}}},
        "authorization.config.mtls_allowed_sources",
        "mtls_allowed_spaces",
    ),
    ("R264", {"mtls_allow_any": True}, "mtls_allow_any", "set the option on the route"),
    ("R315", {"authorization": {**ENFORCED}}, "authorization.mode", "xfcc.identity_extractor: cf_ou; without an identity nobody"),
    (
        "R315",
        {"xfcc": {"identity_extractor": "none"}, "authorization": {**ENFORCED}},
        "authorization.mode",
        "identity_extractor: cf_ou",
    ),
    ("R315", {"authorization": {"config": {"orgs": ["o"]}}}, "authorization.config", "without it they restrict nobody"),
    ("R315", {"authorization": {"mode": "strict"}}, "authorization.mode", ""),
    ("R270", {"authorization": {"report_only": True}}, "authorization.report_only", "there is nothing to report"),
    ("R265", with_lists(orgs=[]), "authorization.config.orgs", "it locks nothing"),
    ("R266", with_lists(spaces=None), "authorization.config.spaces", "it locks nothing"),
    ("R317", with_lists(orgs=["not a guid"]), "authorization.config.orgs[0]", "one GUID an item"),
    ("R312", {"forwarded_client_cert": "append"}, "forwarded_client_cert", ""),
    ("R313", {"xfcc": {"format": "pem"}}, "xfcc.format", ""),
    (
        "R313",
        {"xfcc": {"format": "envoy"}, "forwarded_client_cert": "always_forward"},
        "forwarded_client_cert",
        "nothing to format",
    ),
    ("R314", {"xfcc": {"identity_extractor": "subject_cn"}}, "xfcc.identity_extractor", ""),
    ("R245", {"ca_certs": ""}, "ca_certs", "would admit nobody"),
    ("R245", {"ca_certs": None}, "ca_certs", ""),
    (
        "R245",
        {"ca_certs": "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n"},
        "ca_certs",
        "does not parse",
    ),
    ("R311", {"domain": "a.*.test"}, "domain", "only as the whole first label"),
    ("R311", {"domain": "*x.test"}, "domain", "only as the whole first label"),
    ("R311", {"domain": "*.d0.test."}, "domain", "it is also mtls_domains[0]"),
    ("R310", {"domain": "10.0.0.1"}, "domain", ""),
    ("R310", {"authorisation": {}}, "authorisation", "authorization"),
]


@pytest.fixture(scope="module")
def broken_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file with every mistake: entry N of `mtls_domains` has mistake N."""
    domains = [{**entry(number), **mistake} for number, (_, mistake, _, _) in enumerate(MISTAKES)]
    return write(tmp_path_factory.mktemp("broken"), {"enable_ssl": False, "trusted_proxies": [], "mtls_domains": domains})


@pytest.fixture(scope="module")
def errors(broken_file: Path) -> list[dict[str, Any]]:
    """What `vestibule check -o json` says of it."""
    done = vestibule("check", "-c", broken_file, "-o", "json")
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert found["ok"] is False
    errors: list[dict[str, Any]] = found["errors"]
    return errors


@pytest.mark.parametrize(
    ("number", "mistake"), list(enumerate(MISTAKES)), ids=[f"{n}-{m[0]}-{m[2]}" for n, m in enumerate(MISTAKES)]
)
def test_each_mistake_is_one_error_with_its_full_path_and_the_way_out(
    errors: list[dict[str, Any]], broken_file: Path, number: int, mistake: tuple[str, dict[str, Any], str, str]
) -> None:
    """R262, R264, R265, R266, R267, R269, R270, R271, R310, R311, R312, R313, R314, R315, R317: refused, each at its own path.

    The path is whole (`mtls_domains[0].authorization.config.orgs`, not `orgs`), with the line, what was expected, and a remedy.
    """
    _, _, key, remedy = mistake
    (error,) = (one for one in errors if one["path"].startswith(f"mtls_domains[{number}]"))
    assert error["path"] == f"mtls_domains[{number}].{key}"
    assert remedy in error["remedy"]
    assert error["expected"]
    assert error["file"] == str(broken_file)
    line = broken_file.read_text().splitlines()[error["line"] - 1]
    assert key.rpartition(".")[2].partition("[")[0] in line or "domain:" in line or "not a guid" in line


def test_scope_is_refused_with_its_reason(errors: list[dict[str, Any]]) -> None:
    """R269, K2: the reader learns why: a target's org and space are unknown to the router."""
    said = [one["expected"] for one in errors if one["path"].endswith(".scope")]
    assert said == ["no `scope`: the router cannot know the org or space of a target from `mtls_*` options"] * 2


def test_run_says_the_same_and_does_not_start(broken_file: Path, errors: list[dict[str, Any]]) -> None:
    """R272, K20: `run` prints `Error loading config` with every problem and exits 1; `check` finds it before any deployment."""
    done = vestibule("run", "-c", broken_file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error loading config\n")
    assert all(one["path"] in done.stderr for one in errors)
    assert done.stderr.count(": error: ") == len(errors)
    assert "Traceback" not in done.stderr


def test_check_prints_a_table_for_people(broken_file: Path, errors: list[dict[str, Any]]) -> None:
    """R271, R272: every error at once with file and line, and one line that sums up."""
    done = typed("check", "-c", broken_file)
    assert done.returncode == 1
    assert f"{broken_file}:{errors[0]['line']}: error: {errors[0]['path']}" in done.stdout
    assert done.stdout.endswith(f"would not start: {len(errors)} errors, 0 warnings\n")


@pytest.fixture
def good(east_ca: CA) -> dict[str, Any]:
    """Every key of the documented shape, in both dialects."""
    full = {
        "domain": "*.full.test",
        "ca_certs": east_ca.pem,
        "forwarded_client_cert": "sanitize_set",
        "xfcc": {"format": "envoy", "identity_extractor": "cf_ou"},
        "authorization": {"mode": "cf_identity", "config": {"orgs": ["org-1"]}},
    }
    per_org = [mtls_domain(f"*.apps.mtls.{org}.internal", east_ca, orgs=[org]) for org in ("org1", "org2")]
    later = [
        {"name": "*.apps.identity", "ca_certs": east_ca.pem, "forwarded_client_cert": "sanitize_set", "xfcc_format": "envoy"}
    ]
    return {
        "trusted_proxies": [],
        "enable_ssl": True,
        "tls_pem": [tls_pem(server_credential())],
        "mtls_domains": [full, *per_org],
        "domains": later,
    }


def test_the_documented_shape_is_good(tmp_path: Path, good: dict[str, Any]) -> None:
    """R310, R311, R312, R313, R314, R315, K24: the whole shape of `mtls_domains`, and `domains`, load without an error."""
    done = typed("check", "-c", write(tmp_path, good), "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["errors"]) == (0, [])


def test_without_domains_a_file_is_good(tmp_path: Path) -> None:
    """R250: opt-in: a file that knows nothing of mTLS domains is as good as ever."""
    done = typed("check", "-c", write(tmp_path, {"trusted_proxies": []}))
    assert (done.returncode, done.stdout) == (0, "good: 0 errors, 0 warnings\n")


def test_what_is_legal_but_unwise_is_a_warning_and_no_error(tmp_path: Path, good: dict[str, Any], east_ca: CA) -> None:
    """R311, K6, decisions 2, 8, 9, 11: a bare suffix beside `*.suffix`, report-only, XFCC from clients, unverified backends."""
    good["tls_pem"] = [tls_pem(authority("server").issue_server("*.full.test", "full.test"))]
    good["mtls_domains"][0]["authorization"]["report_only"] = True
    good["domains"][0]["forwarded_client_cert"] = "forward"
    del good["trusted_proxies"]
    done = typed("check", "-c", write(tmp_path, {**good, "skip_ssl_validation": True}), "-o", "json")
    warnings = {one["path"]: one["expected"] + one["value"] for one in json.loads(done.stdout)["warnings"]}
    assert done.returncode == 0
    assert {
        "tls_pem[0]",
        "mtls_domains[0].authorization.report_only",
        "domains[0].forwarded_client_cert",
        "skip_ssl_validation",
        "trusted_proxies",
    } <= warnings.keys()
    assert "`full.test` is served here but not claimed by the domain `*.full.test`: it is open" in warnings["tls_pem[0]"]


@pytest.mark.parametrize("config", [{"enable_proxy": True, "proxy_protocol_trusted": []}, {"prot": 80}, {"mtls_domains": None}])
def test_a_key_whose_missing_effect_would_open_or_break_traffic_is_an_error(tmp_path: Path, config: dict[str, Any]) -> None:
    """R250, R272, decision 13: trust in nobody, misspelt, or a lock without bolts."""
    assert typed("check", "-c", write(tmp_path, config)).returncode == 1


def test_a_secret_is_never_shown(tmp_path: Path, good: dict[str, Any]) -> None:
    """R271: an error names path and line of a broken key or password, never its content."""
    good["tls_pem"][0]["private_key"] = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWJ5dGVz\n-----END PRIVATE KEY-----\n"
    good["nats"] = {"hosts": [{"hostname": "127.0.0.1", "port": "not-a-port"}], "user": "u", "pass": {"s3cret": "s3cret"}}
    file = write(tmp_path, good)
    for done in (vestibule("check", "-c", file), vestibule("run", "-c", file)):
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert "tls_pem[0].private_key" in said
        assert "nats.hosts[0].port" in said
        assert "s3cret" not in said
        assert "c2VjcmV0" not in said


@pytest.mark.parametrize("arguments", [["check"], ["run"], ["check", "--bogus", "x"], ["start"]])
def test_a_wrong_call_exits_2(arguments: list[str]) -> None:
    """R272: 2 is for the caller's mistake, 1 for the file's."""
    assert vestibule(*arguments).returncode == 2
