"""Properties of the job and the configuration they mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.problems import Problem
from router.bosh.document import Node, graft, plain
from router.bosh.properties import Converted, convert, in_properties, place_of, property_path, tls_port
from tests.router.bosh.parts import node
from tests.support.effort import at_most


def converted(text: str) -> Converted:
    return convert(node(text))


def good(text: str) -> object:
    done = converted(text)
    assert (done.problems, done.warnings) == ((), ())
    return plain(done.config)


@pytest.mark.parametrize(
    ("properties", "config"),
    [
        ("router: {port: 81, status: {port: 8089}}", {"port": 81, "status": {"port": 8089}}),
        ("router: {tls_port: 8443}", {"ssl_port": 8443}),
        ("router: {status: {port: 1, password: x}}", {"status": {"port": 1, "pass": "x"}}),
        ("router: {status: {password: x}}", {"status": {"pass": "x"}}),
        ("router: {logging_level: debug, disable_log_source_ip: true}",
         {"logging": {"level": "debug", "disable_log_source_ip": True}}),
        ("router: {drain_wait: 20, drain_timeout: 1m}", {"drain_wait": "20s", "drain_timeout": "1m"}),
        ("router: {drain_wait: 0.50}", {"drain_wait": "0.50s"}),
        ("request_timeout_in_seconds: 60", {"endpoint_timeout": "60s"}),
        ("router: {max_header_kb: 64}", {"max_request_header_bytes": 65536}),
        ("router: {html_error_template: '<p>{{.Status}}</p>'}", {"html_error_template_file": "<p>{{.Status}}</p>"}),
        ("for_backwards_compatibility_only: {empty_pool_response_code_503: false}", {"empty_pool_response_code_503": False}),
        ("nats: {machines: [a, b], port: 4224, user: u, password: p}",
         {"nats": {"user": "u", "hosts": ({"hostname": "a", "port": 4224}, {"hostname": "b", "port": 4224}), "pass": "p"}}),
        ("nats: {machines: [a]}", {"nats": {"hosts": ({"hostname": "a", "port": 4222},)}}),
        ("nats: {hosts: [{hostname: a, port: 1}]}", {"nats": {"hosts": ({"hostname": "a", "port": 1},)}}),
        ("{}", {}),
        ("router:", {}),
        ("router: {logging: 5, logging_level: debug}", {"logging": 5}),
        ("router: {tls_port: null, status: {password: null}}", {}),
    ],
)  # fmt: skip
def test_a_property_sets_its_key(properties: str, config: object) -> None:
    """One rule, and the names of GoRouter's job; a number at a duration is seconds."""
    assert good(properties) == config


@pytest.mark.parametrize(
    ("properties", "path", "remedy"),
    [
        ("router: {prot: 1}", "router.prot", "did you mean `router.port`?"),
        ("router: {prot: 1, tls_prt: 1}", "router.tls_prt", "did you mean `router.tls_port`?"),
        ("router: {zzzzzz: 1}", "router.zzzzzz", "remove it; the job's spec lists all"),
        ("routr: {port: 1}", "routr", "did you mean `router`?"),
        ("router: {nats: {}}", "router.nats", "`nats` stands beside `router`, not below it"),
        ("router: {tls_port: 1, ssl_port: 2}", "router.tls_port", "keep one of the two"),
        ("nats: {machines: [a], hosts: []}", "nats", "keep one of the two forms"),
        ("nats: {port: 1, hosts: []}", "nats", "keep one of the two forms"),
        ("nats: {machines: a}", "nats.machines", "write [10.0.0.4]"),
        ("router: 1", "router", "write router: {...}"),
        ("[]", "", "write router: {...}"),
    ],
)
def test_what_fits_nothing_is_a_problem_with_the_nearest_name(properties: str, path: str, remedy: str) -> None:
    """Names of GoRouter's job are candidates too."""
    assert (path, remedy) in [(problem.path, problem.remedy) for problem in converted(properties).problems]


def test_what_has_no_effect_is_a_warning() -> None:
    """So that a GoRouter deployment can be rendered as it is."""
    done = converted("metron: {port: 3457}\nuaa: {ssl: {port: 8443}}\nrouter: {number_of_cpus: -1, zone: z1}\n")
    assert [(warning.line, warning.path) for warning in done.warnings] == [
        (3, "router.number_of_cpus"),
        (1, "metron"),
        (2, "uaa"),
    ]
    assert (plain(done.config), done.problems) == ({"zone": "z1"}, ())


@pytest.mark.parametrize(
    ("path", "shown", "line"),
    [
        ("mtls_domains[0].authorization.config.orgs", "router.mtls_domains[0].authorization.config.orgs", 4),
        ("status.pass", "router.status.password", 5),
        ("nats.hosts[1].hostname", "nats.machines[1]", 7),
        ("nats.hosts[1].port", "nats.port", 8),
        ("nats.hosts", "nats.machines", 7),
        ("nats.tls_enabled", "nats.tls_enabled", 6),
        ("endpoint_timeout", "request_timeout_in_seconds", 9),
        ("port", "router.port", 1),
    ],
)
def test_a_problem_of_the_configuration_becomes_one_of_the_property(path: str, shown: str, line: int) -> None:
    """R271: the whole path, as the operator wrote it, and the line of his file."""
    done = converted("""router:
  mtls_domains:
  - authorization:
      config: {orgs: [1]}
  status: {password: 1}
nats:
  machines: [a, b]
  port: 1
request_timeout_in_seconds: 1
""")
    said = "set mtls_domains[0].authorization.mode, or domains[1].name, or my.domains[0]"
    problem = in_properties(Problem("gorouter.yml", 99, path, "v", "e", said), done)
    remedy = "set router.mtls_domains[0].authorization.mode, or router.domains[1].name, or my.domains[0]"
    assert problem == Problem("deployment.yml", line, shown, "v", "e", remedy)


def test_a_path_is_read_back() -> None:
    """What problems print."""
    assert place_of("a.b[3].c") == ("a", "b", 3, "c")
    assert place_of("") == ()
    assert property_path(("a", 1), {}) == "router.a[1]"


@pytest.mark.parametrize(("properties", "port"), [("router: {tls_port: 1}", 1), ("router: {ssl_port: 2}", 2), ("router:", 443)])
def test_the_tls_port_is_found_by_both_names(properties: str, port: int) -> None:
    """For the security group."""
    assert tls_port(node(properties)) == port


NAMES = [
    *("router", "nats", "status", "password", "pass", "machines", "hosts", "port", "tls_port", "ssl_port", "drain_wait"),
    *("metron", "logging", "logging_level", "request_timeout_in_seconds", "max_header_kb", "prot", "mtls_domains"),
]
TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)),
    max_leaves=12,
)


@given(TREES)
def test_no_properties_raise(tree: object) -> None:
    """Whatever stands where something else belongs, it is passed on or told."""
    done = convert(graft(tree, Node(None, "deployment.yml", 1)))
    assert isinstance(plain(done.config), dict)
    assert all(problem.expected and problem.remedy for problem in done.problems)


def test_a_hundred_thousand_unknown_properties_are_two_hundred_problems() -> None:
    """Each is compared with all that are known: half a minute, were there no bound."""
    properties = node("router:\n" + "".join(f"  ssl_prt_{n}: 1\n" for n in range(100_000)))
    with at_most(5):
        converted = convert(properties)
    assert len(converted.problems) == 200
