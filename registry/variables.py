"""`((name))` in a manifest: the value of a variable in its place.

Promises: a value that is nothing but `((name))` becomes the variable's value with its type; inside a longer text
only texts and whole numbers fit, as with the cf CLI. What a variable holds is not searched again, so nothing
expands without end. A variable's value is never part of a problem: variables files hold secrets. Refuses to know
what a manifest is, and which of two files wins.

Source: the template rules of the bosh CLI, which `cf push --vars-file` uses: dots walk into mappings, a `!` before
the name means nothing.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from registry.findings import Findings
from registry.problems import Problem, did_you_mean, printable
from registry.source import SpelledInt, read_documents

MAX_TEXT = 64 * 1024  # characters of a text with its variables filled in
NO_VARIABLES: Mapping[str, object] = MappingProxyType({})

_VARIABLE = re.compile(r"\(\(!?([^\s()!]{1,128})\)\)", re.ASCII)
_MISSING = object()
_COMPARED, _COMPARED_LENGTH = 100, 64
"""Known names, and characters of one, that are compared with a name that is not: each comparison takes time."""


class Unfilled(NamedTuple):
    """Why a text cannot be filled in: what was expected, and the way out."""

    expected: str
    remedy: str


def fill(text: str, variables: Mapping[str, object]) -> object | Unfilled:
    """`text` with every `((name))` replaced; the text itself where it names none."""
    whole = _VARIABLE.fullmatch(text)
    if whole is not None:
        value = _look_up(whole[1], variables)
        return _unknown(whole[1], variables) if value is _MISSING else value
    parts = [text]
    if "((" in text:
        parts = []
        end = 0
        for named in _VARIABLE.finditer(text):
            value = _look_up(named[1], variables)
            if value is _MISSING:
                return _unknown(named[1], variables)
            if not isinstance(value, str | int) or isinstance(value, bool):
                expected = f"a text or a whole number in `{printable(named[0], 140)}`"
                return Unfilled(expected, "use such a variable for a whole value only, or quote what it holds")
            parts += [text[end : named.start()], value.spelling if isinstance(value, SpelledInt) else str(value)]
            end = named.end()
        parts.append(text[end:])
    if sum(map(len, parts)) > MAX_TEXT:
        return Unfilled(f"at most {MAX_TEXT} characters, variables filled in", "use shorter variables")
    return "".join(parts)


def read_variables(data: bytes, file: str) -> tuple[Mapping[str, object], tuple[Problem, ...]]:
    """The variables of a file: one mapping, whose values may be anything. Nothing where there are problems."""
    documents = read_documents(data)
    found = Findings(file, documents[0])
    for source in documents:
        found.source = source
        found.flaws()
    tree = documents[0].tree
    if not found.problems and len(documents) > 1:
        found.source = documents[1]
        found.absent((), "one YAML document", "give a second file with --vars-file")
    elif not found.problems and not isinstance(tree, dict | None):
        found.absent((), "a mapping of names to values", "write `name: value`, one a line")
    return (tree if isinstance(tree, dict) and not found.problems else NO_VARIABLES), tuple(found.problems)


def _look_up(name: str, variables: Mapping[str, object]) -> object:
    """The value of `name`, or of what lies under its dots; _MISSING for none."""
    if name in variables:
        return variables[name]
    value: object = variables
    for step in name.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return _MISSING
        value = value[step]
    return value


def _unknown(name: str, variables: Mapping[str, object]) -> Unfilled:
    known = [one for one in list(variables)[:_COMPARED] if len(one) <= _COMPARED_LENGTH]
    hint = did_you_mean(name, known) if len(name) <= _COMPARED_LENGTH else ""
    expected = f"a value for the variable `{printable(name, 80)}`"
    return Unfilled(expected, f"{hint} give it with --vars-file FILE or --var {printable(name, 80)}=VALUE".lstrip())
