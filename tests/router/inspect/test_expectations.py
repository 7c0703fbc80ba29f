"""router/inspect/expectations.py: a file of expectations, whole or with every problem."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.caller import Caller, Guid
from registry.hostname import Host
from router.inspect.callers import KnownCaller
from router.inspect.expectations import MAX_CASES, Case, Expectations, ExpectationsRead, read_expectations

WHOLE = """\
config: router.yml
manifests: [manifest.yml, more.yml]
callers:
  front: {app: a-1, space: s-1, org: o-1}
  nobody: {}
cases:
  - name: the front end may read
    caller: front
    host: API.apps.example.
    path: /v1
    expect: allow
    rule: route:mtls_allowed_apps
  - {caller: nobody, host: api.apps.example, expect: deny, status: alert, sni: other.example}
  - {caller: {app: a-2}, host: api.apps.example, expect: deny, plain: true}
"""


def load(name: str) -> bytes:
    raise FileNotFoundError(2, name)


def read(text: str) -> ExpectationsRead:
    return read_expectations(text.encode(), "expected.yml", load)


def test_a_whole_file_is_cases_callers_config_and_manifests() -> None:
    front, nobody = KnownCaller("front", Caller(Guid("a-1"), Guid("s-1"), Guid("o-1"))), KnownCaller("nobody")
    other = KnownCaller("app a-2", Caller(Guid("a-2")))
    host = Host("api.apps.example")
    first = Case("the front end may read", 7, front, host, "/v1", "allow", "route:mtls_allowed_apps")
    name = "nobody -> api.apps.example/ on a connection for other.example"
    second = Case(name, 13, nobody, host, "/", "deny", None, "alert", Host("other.example"))
    third = Case("app a-2 -> api.apps.example/ over plain HTTP", 14, other, host, "/", "deny", plain=True)
    callers = {"front": front, "nobody": nobody}
    assert read(WHOLE) == ExpectationsRead(
        Expectations((first, second, third), callers, "router.yml", ("manifest.yml", "more.yml")), ()
    )


@pytest.mark.parametrize("text", ["cases: []\n", "cases:\n", "callers: {}\n", "config: router.yml\n"])
def test_a_file_without_cases_is_a_problem(text: str) -> None:
    """A test that cannot fail proves nothing."""
    assert [problem.expected for problem in read(text).problems] == ["at least one case"]


GOOD = "caller: nobody, host: a.example, expect: deny"


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("caller: nobody, host: a.example", ["the key expect"]),
        ("{}", ["a mapping of name, caller, host, path, expect, rule, status, sni, plain"]),
        ("", ["the key caller", "the key expect", "the key host"]),
        (f"{GOOD}, pth: /", ["one of name, caller, host, path, expect, rule, status, sni, plain"]),
        ("caller: somebody, host: a.example, expect: deny", ["one of callers (nobody)"]),
        ("caller: {spcae: s}, host: a.example, expect: deny", ["one of app, space, org, certificate"]),
        ("caller: nobody, host: 'https://a.example/', expect: deny", ["one host name, without scheme, port, path or *"]),
        ("caller: nobody, host: '*.example', expect: deny", ["one host name, without scheme, port, path or *"]),
        ("caller: nobody, host: a.example, expect: denied", ["allow or deny"]),
        (f"{GOOD}, path: v1", ["a path as it is sent: / first, ASCII, no query"]),
        (f"{GOOD}, path: /v1?x=1", ["a path as it is sent: / first, ASCII, no query"]),
        (f"{GOOD}, path: '/a b'", ["a path as it is sent: / first, ASCII, no query"]),
        (f"{GOOD}, status: forbidden", ["a status, 400 to 599, or alert"]),
        (f"{GOOD}, status: true", ["a status, 400 to 599, or alert"]),
        (f"{GOOD}, plain: 1", ["true or false"]),
        (f"{GOOD}, rule: []", ["text (1 to 200 characters)"]),
        (f"{GOOD}, plain: true, sni: b.example", ["either sni or plain"]),
        ("caller: nobody, host: a.example, expect: allow, status: 403", ["no status where access is expected"]),
    ],
)
def test_a_wrong_case_is_a_problem_with_its_line(case: str, said: list[str]) -> None:
    item = f"[{case}]" if case == "{}" else f"{{{case}}}"
    found = read(f"callers: {{nobody: {{}}}}\ncases:\n  - {{{GOOD}, name: first}}\n  - {item}\n")
    assert found.expectations == Expectations()
    assert sorted((problem.line, problem.expected) for problem in found.problems) == [(4, one) for one in said]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    text = "confg: x\nmanifests: 7\ncallers:\n  a: {space: s}\ncases:\n  - {caller: a, host: '', expect: no}\n"
    assert [problem.line for problem in read(text).problems] == [1, 2, 4, 6, 6]


def test_a_caller_that_is_wrong_is_one_problem_however_often_it_calls() -> None:
    text = f"callers: {{nobody: {{space: s}}}}\ncases: [{{{GOOD}}}, {{{GOOD}, path: /b}}]\n"
    assert [problem.path for problem in read(text).problems] == ["callers.nobody"]


def test_two_cases_have_two_names() -> None:
    """A report of a failure must say which one failed, also where both stand on one line."""
    (problem,) = read(f"callers: {{nobody: {{}}}}\ncases: [{{{GOOD}}}, {{{GOOD}}}]\n").problems
    assert (problem.path, problem.expected) == ("cases[1].name", "each name once")


def test_the_number_of_cases_is_bounded() -> None:
    text = "cases:\n" + "".join(
        f"- {{caller: {{}}, host: a.example, path: /{number}, expect: deny}}\n" for number in range(MAX_CASES + 1)
    )
    assert [problem.expected for problem in read(text).problems] == [f"at most {MAX_CASES} cases"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["nobody", "a.example", "allow", "deny"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "caller", "host", "path", "expect", "status", "app", "certificate"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["config", "manifests", "callers", "cases", "x"]), VALUES, max_size=5), st.text(max_size=60)
)
def test_whatever_the_file_holds_nothing_is_raised(tree: dict[str, object], text: str) -> None:
    for data in (json.dumps(tree).encode(), text.encode("utf-8", "surrogatepass")):
        found = read_expectations(data, "f.yml", load)
        assert bool(found.problems) != bool(found.expectations.cases)
