"""router/inspect/callers.py: the people of an expectation file."""

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from identity.caller import Caller, Guid
from router.inspect.callers import CallersRead, KnownCaller, read_callers
from tests.support.certs import CA, authority

BELOW = CA("partners below", authority("partners"))
LEAF = BELOW.issue_instance("app-p", "space-p", "org-p")


def load(name: str) -> bytes:
    files = {"partner.pem": LEAF.chain_pem.encode(), "key.pem": LEAF.key_pem.encode()}
    if name not in files:
        raise FileNotFoundError(2, "No such file or directory")
    return files[name]


def read(text: str) -> CallersRead:
    return read_callers(text.encode(), "callers.yml", load)


def test_callers_are_guids_a_certificate_or_nobody() -> None:
    text = "callers:\n  front: {app: a-1, space: s-1, org: o-1}\n  lone: {app: 7}\n"
    text += "  partner: {certificate: partner.pem}\n  nobody: {}\n"
    assert read(text) == CallersRead(
        {
            "front": KnownCaller("front", Caller(Guid("a-1"), Guid("s-1"), Guid("o-1"))),
            "lone": KnownCaller("lone", Caller(Guid("7"))),
            "partner": KnownCaller("partner", None, LEAF.der, (BELOW.certificate.public_bytes(Encoding.DER),)),
            "nobody": KnownCaller("nobody"),
        },
        (),
    )


def test_the_callers_of_an_expectation_file_can_be_read_alone() -> None:
    """One file of callers serves `policy test` and `policy diff`."""
    read_one = read("cases: [{}]\ncallers: {nobody: {}}\n")
    assert read_one == CallersRead({"nobody": KnownCaller("nobody")}, ())


@pytest.mark.parametrize(
    ("form", "line", "said"),
    [
        ("{space: s}", 2, "app: a certificate without an app names nobody"),
        ("{app: a b}", 2, "a GUID: 1 to 64 of [A-Za-z0-9_-]"),
        ("{app: null}", 2, "a GUID (1 to 64 characters)"),
        ("{app: a, spcae: s}", 2, "one of app, space, org, certificate"),
        ("{app: a, certificate: partner.pem}", 2, "either certificate, or app with space and org"),
        ("{certificate: none.pem}", 2, "a file that can be read"),
        ("{certificate: key.pem}", 2, "a PEM certificate, the caller's own first"),
        ("[a]", 2, "a mapping of app, space, org, certificate"),
        ("~", 2, "a mapping of app, space, org, certificate"),
    ],
)
def test_a_wrong_caller_is_a_problem_with_its_line(form: str, line: int, said: str) -> None:
    found = read(f"callers:\n  wrong: {form}\n  right: {{}}\n")
    assert found.callers == {}
    assert [(problem.line, problem.expected) for problem in found.problems] == [(line, said)]


@pytest.mark.parametrize("text", ["", "[]", "cases: []", "callers: []", "callers: {'': {}}"])
def test_a_file_without_callers_is_a_problem(text: str) -> None:
    assert [problem.file for problem in read(text).problems] == ["callers.yml"]


@given(st.text(max_size=100), st.text(max_size=30))
def test_whatever_the_text_is_nothing_is_raised(text: str, name: str) -> None:
    for data in (text, f"callers: {text}", f"callers:\n  a: {{certificate: {name}}}", f"callers:\n  a: {{app: {name}}}"):
        found = read_callers(data.encode("utf-8", "surrogatepass"), "f", load)
        assert not (found.callers and found.problems)
