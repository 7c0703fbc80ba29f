"""The `listeners` section, as it is read."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.listeners import Backend, ListenerConfig, ListenerRoute
from tests.router.config.support import config, errors, loaded
from tests.support.certs import CA

AUTHORITY = CA("listener tests")
SERVED = AUTHORITY.issue_server("api.example.com", "*.wild.example")
L7 = {"mode": "l7", "tls_cert": SERVED.chain_pem, "tls_key": SERVED.key_pem}
BACKEND = {"backends": ["10.0.0.7:443"]}


def listener(**more: Any) -> ListenerConfig:
    (one,) = config({"listeners": [{"port": 8443, "kind": "tls", **more}]}).listeners
    return one


def route(**more: Any) -> ListenerRoute:
    (one,) = listener(routes=[{"hostname": "api.example.com", **BACKEND, **more}]).routes
    return one


def wrong(**more: Any) -> list[str]:
    found = errors({"listeners": [{"port": 8443, "kind": "tls", "routes": [{"hostname": "api.example.com", **BACKEND, **more}]}]})
    return [path.removeprefix("listeners[0].routes[0]").removeprefix(".") for path in found]


def test_a_listener_is_tls_or_tcp_or_http_and_listens_everywhere() -> None:
    """R72, R123, K33: nothing is believed, limited or allowed that the file does not say."""
    one = listener()
    assert (one.address, one.port, one.kind, one.routes) == (("::",), 8443, "tls", ())
    assert (one.proxy_protocol, one.proxy_protocol_trusted, one.allowed_cidrs, one.max_connections) == (False, (), None, None)
    assert listener(max_connections=0).max_connections == 0
    assert config({}).listeners == ()
    assert config({}).l7.enabled is True


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", ("::",)),
        ("0.0.0.0", ("0.0.0.0",)),
        ("[2001:DB8::1]", ("2001:db8::1",)),
        (["192.0.2.1", "2001:db8::1", "192.0.2.1"], ("192.0.2.1", "2001:db8::1")),
        ([], ("::",)),
    ],
)
def test_an_address_is_one_of_this_machine_or_several(address: object, expected: tuple[str, ...]) -> None:
    """R221: IPv4 and IPv6 alike, under one port and one set of routes."""
    assert listener(address=address).address == expected


@pytest.mark.parametrize("kind", ["udp", "UDP", "quic", "ssl", "", 7, ["tls"]])
def test_udp_is_refused_and_so_is_every_other_kind(kind: object) -> None:
    """R5: a UDP listener is an error with the reason."""
    (problem,) = loaded({"listeners": [{"port": 8443, "kind": kind}]}).problems
    assert (problem.path, problem.line) == ("listeners[0].kind", 3)
    assert ("UDP is not routed" in problem.expected) is (str(kind).lower() in ("udp", "quic"))


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"port": "https"}, "port"),
        ({"address": "localhost"}, "address"),
        ({"address": "192.0.2.1:443"}, "address"),
        ({"address": ["192.0.2.1", 7]}, "address"),
        ({"proxy_protocol_trusted": ["10.0.0.1/8"]}, "proxy_protocol_trusted[0]"),
        ({"allowed_cidrs": ["everybody"]}, "allowed_cidrs[0]"),
        ({"max_connections": -1}, "max_connections"),
        ({"protocol": "udp"}, "protocol"),
        ({"routes": None}, "routes"),
    ],
)
def test_a_bad_listener_is_an_error_at_its_path(entry: dict[str, object], path: str) -> None:
    """Before start, and at a reload, with the line and the way out."""
    assert errors({"listeners": [{"port": 8443, "kind": "tls", **entry}]}) == [f"listeners[0].{path}"]


@pytest.mark.parametrize("missing", ["port", "kind"])
def test_port_and_kind_have_no_default(missing: str) -> None:
    """What is opened is explicit (R220)."""
    entry = {"port": 8443, "kind": "tls"}
    del entry[missing]
    assert errors({"listeners": [entry]}) == [f"listeners[0].{missing}"]


def test_a_route_passes_through_unless_it_says_otherwise() -> None:
    """R1, R7, R73, R76: no mode is L4, without a PROXY header, with deadlines of its own."""
    one = route()
    assert (one.mode, one.hostname, one.backends) == ("l4", "api.example.com", (Backend("10.0.0.7", 443),))
    assert (one.send_proxy_protocol, one.connect_timeout, one.idle_timeout, one.total_timeout) == ("", 5.0, 3600.0, None)
    timed = route(connect_timeout="1s", idle_timeout="0s", total_timeout="8h")
    assert (timed.connect_timeout, timed.idle_timeout, timed.total_timeout) == (1.0, None, 28800.0)


@pytest.mark.parametrize("key", ["mode", "protocol_hint"])
@pytest.mark.parametrize(
    ("spelling", "mode"),
    [("", "l4"), ("l4", "l4"), ("tls_passthrough", "l4"), ("l7", "l7"), ("http_terminate", "l7")],
)
def test_a_mode_has_the_names_of_both_documents(key: str, spelling: str, mode: str) -> None:
    """R6, R73, K9."""
    more = L7 if mode == "l7" else {}
    assert (
        route(
            **{**more, key: spelling} if key == "mode" else {**{k: v for k, v in more.items() if k != "mode"}, key: spelling}
        ).mode
        == mode
    )


@pytest.mark.parametrize("mode", ["L7", "l5", "udp", "tcp", 4, True, ["l4"]])
def test_any_other_mode_is_an_error(mode: object) -> None:
    """R6, R73."""
    assert "mode" in wrong(mode=mode)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.7:443", Backend("10.0.0.7", 443)),
        ("[FD00:0::7]:5432", Backend("fd00::7", 5432)),
        ("Db.Internal.:1", Backend("db.internal", 1)),
    ],
)
def test_a_backend_is_a_name_or_an_address_and_a_port(text: str, expected: Backend) -> None:
    """R10: IPv6 literals in brackets; one alone needs no list, by its name in source 001."""
    assert route(backends=[text]).backends == (expected,)
    single = {"hostname": "api.example.com", "backend": text}
    assert listener(routes=[single]).routes[0].backends == (expected,)


@pytest.mark.parametrize(
    "text", ["10.0.0.7", "fd00::7:443", "[fd00::7]", "db:0", "db:65536", "db:http", "db:١", ":443", "a b:1", "http://db:1", 7]
)
def test_what_is_no_backend_is_an_error(text: object) -> None:
    """R10."""
    assert wrong(backends=["db:1", text]) == ["backends[1]"]


@given(st.text(max_size=40) | st.from_regex(r"[\[\]0-9a-f.:]{0,40}", fullmatch=True))
def test_no_text_of_a_backend_raises(text: str) -> None:
    """An answer with a place, or a host and a port in range."""
    found = loaded({"listeners": [{"port": 8443, "kind": "tls", "routes": [{"hostname": "a.example", "backends": [text]}]}]})
    if found.config is None:
        assert {problem.path for problem in found.problems} == {"listeners[0].routes[0].backends[0]"}
    else:
        ((host, port),) = found.config.listeners[0].routes[0].backends
        assert 0 < port < 65536
        assert host.strip("[]") == host


@pytest.mark.parametrize(("value", "expected"), [(True, "v2"), ("yes", "v2"), (False, ""), ("v1", "v1"), ("v2", "v2")])
def test_a_proxy_header_to_the_backend_is_version_2_unless_it_says_1(value: object, expected: str) -> None:
    """R76, R92."""
    assert route(send_proxy_protocol=value).send_proxy_protocol == expected


@pytest.mark.parametrize("value", ["v3", 1, 2, "true-ish", []])
def test_no_other_version_is_sent(value: object) -> None:
    """R76."""
    assert wrong(send_proxy_protocol=value) == ["send_proxy_protocol"]


@pytest.mark.parametrize("hostname", ["a.example:443", "*", "a.*.example", "192.0.2.1", "[::1]", "", "a b"])
def test_a_hostname_is_a_name_or_a_suffix(hostname: str) -> None:
    """R14: the rule of domains, so that one name has one spelling at both doors."""
    assert "hostname" in wrong(hostname=hostname)


def test_a_hostname_is_canonical() -> None:
    """R14."""
    assert route(hostname="*.API.Bücher.Example.").hostname == "*.api.xn--bcher-kva.example"


def test_an_l7_route_has_a_certificate_a_key_and_backends_as_registrations_describe_them(tmp_path: Path) -> None:
    """R74, R75, R77, R102, R128: paths are read, beside the file."""
    cert, key = SERVED.files(tmp_path)
    key.chmod(0o600)
    paths = {"mode": "l7", "tls_cert": cert.name, "tls_key": key.name}
    more = {
        "backend_tls": True,
        "protocol": "http1",
        "server_cert_domain_san": "Backend.Example",
        "send_proxy_protocol": "v2-ssl-cn",
    }
    policies = [{"type": "required_header", "value": "X-Api-Key"}]
    entry = {"hostname": "api.example.com", **BACKEND, **paths, **more, "l7_policies": policies}
    one = config({"listeners": [{"port": 8443, "kind": "tls", "routes": [entry]}]}, folder=tmp_path).listeners[0].routes[0]
    assert one.tls_cert == cert.read_text()
    assert (one.backend_tls, one.protocol, one.server_cert_domain_san, one.send_proxy_protocol) == (
        True, "http1", "backend.example", "v2-ssl-cn",
    )  # fmt: skip
    shared = {"protocol": "http2", "send_proxy_protocol": ""}
    other = {"listeners": [{"port": 8443, "kind": "tls", "routes": [{**entry, **shared}]}]}
    assert config(other, folder=tmp_path).listeners[0].routes[0].protocol == "http2"
    assert [(policy.type, policy.value) for policy in one.l7_policies] == [("required_header", "X-Api-Key")]


OTHER = AUTHORITY.issue_server("other.example")


@pytest.mark.parametrize(
    ("more", "path", "words"),
    [
        ({"tls_key": SERVED.key_pem}, "", "tls_cert and tls_key"),
        ({"tls_cert": SERVED.chain_pem}, "", "tls_cert and tls_key"),
        ({"tls_cert": SERVED.chain_pem, "tls_key": OTHER.key_pem}, "", "private key of the first certificate"),
        ({"tls_cert": OTHER.chain_pem, "tls_key": OTHER.key_pem}, "", "for this hostname"),
        ({"tls_cert": "/nowhere.pem", "tls_key": SERVED.key_pem}, "tls_cert", "can be read"),
        ({**L7, "l7_policies": [{"type": "waf", "value": "x"}]}, "l7_policies[0].type", "user_agent_block"),
        ({**L7, "l7_policies": [{"type": "required_header", "value": "X Y"}]}, "l7_policies[0]", "field name"),
        ({**L7, "protocol": "http3"}, "protocol", "http2"),
    ],
)
def test_an_l7_route_that_could_not_be_served_is_an_error(more: dict[str, object], path: str, words: str) -> None:
    """R15, R77, R128: what is missing or does not fit, before any client finds out; no key is shown."""
    entry = {"hostname": "api.example.com", **BACKEND, "mode": "l7", **more}
    (problem,) = loaded({"listeners": [{"port": 8443, "kind": "tls", "routes": [entry]}]}).problems
    assert problem.path == "listeners[0].routes[0]" + (f".{path}" if path else "")
    assert words in problem.expected
    assert "PRIVATE KEY" not in str(problem)


@pytest.mark.parametrize("hostname", ["api.example.com", "a.wild.example"])
def test_a_certificate_may_be_a_wildcard(hostname: str) -> None:
    """One label deep, as clients read it."""
    assert route(hostname=hostname, **L7).hostname == hostname


def test_backends_are_asked_for() -> None:
    """A route without one leads nowhere."""
    assert wrong(backends=[]) == ["backends"]
    assert errors({"listeners": [{"port": 8443, "kind": "tls", "routes": [{"hostname": "a.example"}]}]}) == [
        "listeners[0].routes[0].backends"
    ]
