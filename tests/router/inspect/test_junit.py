"""router/inspect/junit.py: verdicts as CI systems read them."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from registry.hostname import Host
from router.inspect.callers import KnownCaller
from router.inspect.expectations import Case
from router.inspect.judgement import Seen, Verdict
from router.inspect.junit import fit, junit

CASE = Case("one", 3, KnownCaller("front"), Host("a.example"), "/v1", "allow")


def test_a_case_that_holds_is_a_test_case_without_more() -> None:
    root = ET.fromstring(junit("expected.yml", [Verdict(CASE, Seen(True, "forwarded"), ())]))
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "1", "0")
    (suite,) = root
    assert (suite.tag, suite.get("name"), suite.get("tests"), suite.get("errors")) == ("testsuite", "expected.yml", "1", "0")
    (element,) = suite
    expected = {"classname": "a.example", "name": "one", "file": "expected.yml", "line": "3", "time": "0"}
    assert (element.attrib, len(element)) == (expected, 0)


def test_a_failure_says_what_differs_why_and_what_would_help() -> None:
    seen = Seen(False, "403", 403, "route:mtls_allowed_apps", "not listed", "add it")
    root = ET.fromstring(junit("f", [Verdict(CASE, seen, ("expected allow, seen deny (403)",))]))
    assert root.get("failures") == "1"
    (failure,) = root.iter("failure")
    assert failure.attrib == {"message": "expected allow, seen deny (403)", "type": "expectation"}
    assert failure.text == "front -> a.example/v1\nexpected allow, seen deny (403)\nreason: not listed\nremedy: add it"


def test_what_xml_cannot_carry_stands_escaped() -> None:
    assert fit("a\x00\x1b[31m\ud800\ufffe\x7f<&>é😀\n") == "a\\x00\\x1b[31m\\ud800\\ufffe\x7f<&>é😀\n"


@given(st.text(alphabet=st.characters(codec=None)), st.text(alphabet=st.characters(codec=None)))
def test_the_document_is_well_formed_whatever_the_names_are(name: str, reason: str) -> None:
    verdict = Verdict(CASE._replace(name=name), Seen(False, reason, 403, reason, reason, reason), (reason,))
    root = ET.fromstring(junit(name, [verdict]))
    assert [element.get("classname") for element in root.iter("testcase")] == ["a.example"]
