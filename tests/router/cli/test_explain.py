"""`vestibule explain`: from files, and asked of a status endpoint on loopback; docs/explain.md's example as it stands there."""

import datetime as dt
import http.server
import json
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from router.cli import main
from router.inspect.explain_http import explain_handler
from router.inspect.scene import scene_of_config
from router.wire.http1 import HeadLimits, RequestHead, parse_request_head
from tests.router.desk import settings
from tests.router.inspect.shop import said, table_of
from tests.support.certs import CA, Credential, authority
from tests.support.router import mtls_domain, server_credential

PAGE = Path(__file__).parents[3] / "docs/explain.md"
EAST = authority("east instance identity")
HOST = "a.east.example"
ROUTER = """
mtls_domains:
  - domain: "*.east.example"
    ca_certs: ca.crt
    xfcc: {identity_extractor: cf_ou}
    authorization: {mode: cf_identity}
nats: {hosts: [{hostname: 127.0.0.1, port: 4222}]}
trusted_proxies: []
status: {pass: secret}
"""
ALICE = ("--app", "app-a", "--space", "space-1", "--org", "org-1")
ALLOWED = '{"mtls_allowed_apps": "app-a"}'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with router.yml and ca.crt."""
    (tmp_path / "ca.crt").write_text(EAST.pem)
    (tmp_path / "router.yml").write_text(ROUTER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked() -> list[dict[str, list[str]]]:
    """The queries that the router was asked."""
    return []


@pytest.fixture
def live(asked: list[dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a status endpoint with one route, and the password in the environment."""
    config = settings(mtls_domains=[mtls_domain("*.east.example", EAST)])
    scene = scene_of_config(config, table_of(said(HOST, options={"mtls_allowed_apps": "app-a"})))
    handler = explain_handler(lambda: scene, lambda: 0.0)

    class Status(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(parse_qs(urlsplit(self.path).query))
            head = parse_request_head(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), HeadLimits(16384, 9))
            assert isinstance(head, RequestHead)
            response = handler(head)
            assert isinstance(response.body, bytes)
            self.send_response(response.status)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    monkeypatch.setenv("VESTIBULE_STATUS_PASS", "secret")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Status) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def explain(*words: str) -> int:
    return main(["explain", "--host", HOST, *words])


def offline(*words: str, options: str = ALLOWED) -> int:
    return explain("-c", "router.yml", "--options", options, *words)


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


# ---- from files


def test_exit_0_for_what_would_be_forwarded_and_1_for_what_would_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict is the first line."""
    assert offline(*ALICE) == 0
    assert capsys.readouterr().out.startswith(f"ALLOWED by the route layer, rule route:mtls_allowed_apps: https://{HOST}/\n")
    assert offline("--app", "app-b") == 1
    assert capsys.readouterr().out.startswith(
        f"DENIED with 403 by the route layer, rule route:mtls_allowed_apps: https://{HOST}/\n"
    )
    assert offline() == 1
    first = capsys.readouterr().out.partition("\n")[0]
    assert first == f"REFUSED with a TLS alert by the handshake layer, rule handshake:no_certificate: https://{HOST}/"


def test_a_certificate_file_is_verified_with_its_intermediates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A leaf of an intermediate authority passes with it, and not without; keys in the file are passed over."""
    middle = CA("east middle", parent=EAST).issue_instance("app-a", "space-1", "org-1")
    (folder / "whole.pem").write_text(middle.key_pem + middle.chain_pem)
    (folder / "leaf.pem").write_text(Credential(middle.certificate, middle.key).chain_pem)
    assert offline("--cert", "whole.pem", "-o", "json") == 0
    told = printed(capsys)
    assert (told["handshake"]["verified"], told["question"]["caller"], told["identity"]["org"]) == (True, "certificate", "org-1")
    assert offline("--cert", "leaf.pem", "-o", "json") == 1
    told = printed(capsys)
    assert (told["rule"], told["handshake"]["alert"]["name"]) == ("handshake:unknown_ca", "unknown_ca")


def test_yaml_says_the_same_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One value, three forms."""
    import yaml

    assert offline(*ALICE, "-o", "yaml") == 0
    as_yaml = yaml.safe_load(capsys.readouterr().out)
    assert offline(*ALICE, "-o", "json") == 0
    assert printed(capsys) == as_yaml


def test_a_manifest_gives_the_routes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With variables; an application is its name there."""
    (folder / "manifest.yml").write_text(
        f"applications:\n- name: api\n  routes:\n  - route: {HOST}/v1\n    options: {{mtls_allowed_apps: ((caller))}}\n"
    )
    manifest = ("-c", "router.yml", "-m", "manifest.yml", "--var", "caller=app-a", "-o", "json")
    assert explain(*manifest, *ALICE, "--path", "/v1/x") == 0
    assert printed(capsys)["route"]["key"] == f"{HOST}/v1"
    assert explain(*manifest, *ALICE, "--path", "/v2") == 1
    assert printed(capsys)["status"] == 404


def test_the_owner_of_the_route_can_be_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it no scope is shared with anybody."""
    options = '{"route_policy_scope": "space", "route_policy_sources": "cf:any"}'
    assert offline(*ALICE, "-o", "json", options=options) == 1
    assert printed(capsys)["rule"] == "domain:scope=space"
    assert offline(*ALICE, "--route-space", "space-1", "-o", "json", options=options) == 0
    assert printed(capsys)["route"]["instances"][0]["space"] == "space-1"
    assert offline(*ALICE, "--route-space", "space-9", "--route-org", "org-1", "-o", "json", options=options) == 1
    assert printed(capsys)["remedy"][0]["change"] == "set route_policy_scope of the route to org"


def test_options_of_any_shape_are_judged_as_registered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also those that no platform would let through, and those over the limit."""
    for options, rule in (
        ("{}", "route:no_mtls_allowed_options"),
        ('{"mtls_allowed_apps": ["app-a"]}', "route:no_mtls_allowed_options"),
        ('["x"]', "route:invalid_options"),
        (json.dumps({"mtls_allowed_apps": "x" * 2000}), "route:invalid_options"),
    ):
        assert offline(*ALICE, "-o", "json", options=options) == 1
        assert printed(capsys)["rule"] == rule


def test_server_name_and_plain_http(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both ways to a 421, and no server name at all."""
    for words, rule in (("--sni", "x.example"), "no_mtls"), (("--sni", "-"), "no_mtls"), (("--plain",), "plain_http"):
        assert offline(*ALICE, *words, "-o", "json") == 1
        assert printed(capsys)["rule"] == rule


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-c", "router.yml"), "which route? give one of them: --options JSON, -m MANIFEST or --live URL"),
        (("-c", "router.yml", "--options", "{}", "--live", "x"), "--live and --options exclude each other"),
        (("--options", "{}"), "--options and -m need -c FILE"),
        (("-c", "router.yml", "--options", "{"), "--options { is no JSON"),
        (("-c", "router.yml", "--options", "[" * 100_000), "is no JSON"),
        (("-c", "router.yml", "--options", "{}", "--cert", "x", "--app", "y"), "exclude each other"),
        (("-c", "router.yml", "--options", "{}", "--space", "y"), "--space and --org need --app"),
        (("-c", "router.yml", "--options", "{}", "--app", "a b"), "--app 'a b' is no GUID"),
        (("-c", "router.yml", "--options", "{}", "--plain", "--sni", "x"), "--plain and --sni exclude each other"),
        (("--live", "http://127.0.0.1:1", "--route-org", "x"), "a router knows them"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_a_wrong_call_is_2_and_says_what_is_right(
    folder: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As argparse does, with a command to type next."""
    assert explain(*words) == 2
    shown = capsys.readouterr()
    assert (said in shown.err, shown.out) == (True, "")
    assert shown.err.endswith("try: vestibule explain --help\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-c", "none.yml", "--options", "{}"), "Error loading config"),
        (("-c", "bad.yml", "--options", "{}"), "Error loading config"),
        (("-c", "router.yml", "-m", "none.yml"), "the manifests have problems"),
        (("-c", "router.yml", "--options", "{}", "--names", "none.yml"), "--names none.yml"),
        (("-c", "router.yml", "--options", "{}", "--cert", "none.pem"), "--cert none.pem: No such file or directory"),
        (("-c", "router.yml", "--options", "{}", "--cert", "router.yml"), "--cert router.yml holds no PEM certificate"),
        (("-c", "router.yml", "--options", "{}", "--cert", "huge.pem"), "--cert huge.pem has more than"),
        (("-c", "router.yml", "--options", "{}", "--path", "x"), "path 'x' is none that a client can send"),
        (("-c", "router.yml", "--options", "{}", "--host", "a b"), "host 'a b' is none"),
        (("-c", "router.yml", "--options", "{}", "--sni", "a b"), "sni 'a b' is no server name"),
    ],
)
def test_what_goes_wrong_is_1_and_a_sentence(
    folder: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing on standard output."""
    (folder / "bad.yml").write_text("mtls_domains: [{domain: '*.x'}]\n")
    (folder / "huge.pem").write_bytes(b"x" * (1024 * 1024 + 1))
    assert explain(*words) == 1
    shown = capsys.readouterr()
    assert (said in shown.err, shown.out) == (True, "")
    assert shown.err.startswith("vestibule explain: ")


# ---- from a running router


def test_a_running_router_is_asked_by_guids(
    live: str, asked: list[dict[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole question goes along."""
    assert explain("--live", live, *ALICE, "--path", "/x", "-o", "json") == 0
    assert printed(capsys)["rule"] == "route:mtls_allowed_apps"
    assert explain("--live", live, "--plain") == 1
    assert explain("--live", live, "--sni", "-", "--app", "app-a") == 1
    assert asked == [
        {"host": [HOST], "path": ["/x"], "app": ["app-a"], "space": ["space-1"], "org": ["org-1"]},
        {"host": [HOST], "path": ["/"], "plain": ["true"]},
        {"host": [HOST], "path": ["/"], "app": ["app-a"], "sni": ["-"]},
    ]


def test_a_certificate_stays_where_it_is(
    live: str, asked: list[dict[str, list[str]]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only whom it names is sent, and the output says what was not verified."""
    chain, _ = authority("strangers").issue_instance("app-a", "space-1").files(folder)
    (folder / "names.yml").write_text("apps: {app-a: checkout}\n")
    assert explain("--live", live, "--cert", str(chain), "--names", "names.yml") == 0
    text = capsys.readouterr().out
    assert "caller      app checkout (app-a), space space-1, org -; read from the certificate here, which was not sent" in text
    assert "the router did not verify its chain" in text
    assert asked == [{"host": [HOST], "path": ["/"], "app": ["app-a"], "space": ["space-1"]}]


def test_a_certificate_that_names_nobody_cannot_be_asked_about(
    live: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The router has no words for it; without --live it is explained."""
    chain, _ = EAST.issue_instance(extra_ous=["web"]).files(folder)
    assert explain("--live", live, "--cert", str(chain)) == 1
    assert "names nobody a router could be asked about" in capsys.readouterr().err
    assert offline("--cert", str(chain), "-o", "json") == 1
    assert printed(capsys)["identity"]["error"]["reason"] == "no_app"


def test_the_routers_refusal_of_a_question_is_told(live: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In its own words."""
    assert main(["explain", "--live", live, "--host", "a b"]) == 1
    assert "the router does not accept the question: host 'a b' is none" in capsys.readouterr().err


# ---- the page


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of the page, and its first command."""
    ca = CA("instance identity", not_after=dt.datetime(2036, 1, 1, tzinfo=dt.UTC))
    server = server_credential()
    (tmp_path / "ca.crt").write_text(ca.pem)
    (tmp_path / "router.crt").write_text(server.chain_pem)
    (tmp_path / "router.key").write_text(server.key_pem)
    for text in blocks("yaml"):
        (tmp_path / text.split("\n")[0].removeprefix("# ")).write_text(text)
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(blocks("sh")[0])
    assert program == "vestibule"
    return words


def test_the_example_of_the_page_is_what_is_printed(written: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """docs/explain.md: the table as it stands there."""
    assert main(written) == 1
    assert [capsys.readouterr().out] == blocks("text")


def test_the_json_of_the_page_is_what_is_printed(written: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """docs/explain.md: the JSON as it stands there."""
    assert main([*written, "-o", "json"]) == 1
    assert [capsys.readouterr().out] == blocks("json")
