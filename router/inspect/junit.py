"""Verdicts as JUnit XML, the form in which CI systems take in what passed and what failed.

Promises: well-formed XML 1.0 whatever the names of the cases are: a character that XML cannot carry (its section 2.2) stands as
`\\xNN`; nothing in it varies between two runs. Refuses to know how a verdict came about.

Source: the schema of Jenkins' xUnit plugin; GitLab and others read `file` and `line` as well.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Final

from router.inspect.judgement import Verdict

_UNFIT: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(file: str, verdicts: Sequence[Verdict]) -> bytes:
    """The document: one suite named after the file of expectations, one test case a verdict."""
    counts = {"tests": str(len(verdicts)), "failures": str(sum(not verdict.holds for verdict in verdicts)), "errors": "0"}
    root = ET.Element("testsuites", {"name": "vestibule policy test", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": fit(file), **counts, "skipped": "0", "time": "0"})
    for verdict in verdicts:
        _add(suite, file, verdict)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()


def fit(text: str) -> str:
    """`text` with each character that XML cannot carry as its escape."""
    return _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _add(suite: ET.Element, file: str, verdict: Verdict) -> None:
    case, seen = verdict.case, verdict.seen
    place = {"classname": fit(case.host), "name": fit(case.name), "file": fit(file), "line": str(case.line), "time": "0"}
    element = ET.SubElement(suite, "testcase", place)
    if verdict.holds:
        return
    message = "; ".join(verdict.differences)
    failure = ET.SubElement(element, "failure", {"message": fit(message), "type": "expectation"})
    told = [f"{case.caller.name} -> {case.host}{case.path}", *verdict.differences]
    told += [f"reason: {seen.reason}"] if seen.reason else []
    told += [f"remedy: {seen.remedy}"] if seen.remedy else []
    failure.text = fit("\n".join(told))
