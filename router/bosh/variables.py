"""`((variables))` of a deployment manifest: what they are called, and what stands in their place.

Promises: pure; a value that is nothing but `((name))` takes the variable's value whatever its kind, within a longer
text only texts, numbers and booleans fit; every variable without a value is a Problem with file and line; no value of
a variable is part of a problem. What comes from a variable is not looked at for variables again. Refuses to make up
values: `type: certificate` and the like are the director's.

Source: the BOSH CLI: `((name))`, `((!name))`, `((name.key))` for what is below a variable.
"""

import re
from collections.abc import Mapping

from registry.problems import Problem, Where, path_text, printable, show
from router.bosh.document import Node, graft, kind_of

_VARIABLE = re.compile(r"\(\(!?([-/.\w]{1,200})\)\)")
_REMEDY = "give it with -v NAME=VALUE, --var-file NAME=PATH or --vars-file FILE"


def interpolate(node: Node, variables: Mapping[str, object], where: Where = ()) -> tuple[Node, tuple[Problem, ...]]:
    """The node with its variables replaced; they stand where their name stood. `where`: the path for problems."""
    problems: list[Problem] = []
    return _interpolated(node, variables, where, problems), tuple(problems)


def _interpolated(node: Node, variables: Mapping[str, object], where: Where, problems: list[Problem]) -> Node:
    if node.mapping is not None:
        return node.at({key: _interpolated(item, variables, (*where, key), problems) for key, item in node.mapping.items()})
    if node.items is not None:
        return node.at(tuple(_interpolated(item, variables, (*where, i), problems) for i, item in enumerate(node.items)))
    if not isinstance(node.content, str) or "((" not in node.content:
        return node
    whole = _VARIABLE.fullmatch(node.content)
    if whole is not None:
        value = _look_up(whole[1], variables)
        if isinstance(value, _Missing):
            problems.append(_missing(node, where, whole[1], value))
            return node
        return graft(value, node)
    return node.at(_filled(node, node.content, variables, where, problems))


def _filled(node: Node, text: str, variables: Mapping[str, object], where: Where, problems: list[Problem]) -> str:
    def fill(found: re.Match[str]) -> str:
        value = _look_up(found[1], variables)
        if isinstance(value, _Missing):
            problems.append(_missing(node, where, found[1], value))
        elif isinstance(value, str | int | float):
            return show(value, ()) if isinstance(value, bool) else str(getattr(value, "spelling", value))
        else:
            name = f"(({printable(found[1], 80)})): {kind_of(graft(value, node))}"
            expected = "a text, number or boolean within a longer text"
            problems.append(node.problem(path_text(where), name, expected, "let the variable stand alone"))
        return ""

    return _VARIABLE.sub(fill, text)


class _Missing:
    """No value; `near`: what there is instead."""

    def __init__(self, near: str) -> None:
        self.near = near


def _look_up(name: str, variables: Mapping[str, object]) -> object:
    """The longest variable that is a beginning of the name, and what is below it."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        head = ".".join(parts[:length])
        if head in variables:
            return _below(variables[head], head, parts[length:])
    return _Missing("")


def _below(value: object, head: str, keys: list[str]) -> object:
    for key in keys:
        if not isinstance(value, Mapping):
            return _Missing(f"(({printable(head, 80)})) holds no keys")
        if key not in value:
            shown = ", ".join(printable(str(one), 40) for one in sorted(value)[:12])
            return _Missing(f"(({printable(head, 80)})) has {shown or 'no keys'}")
        value, head = value[key], f"{head}.{key}"
    return value


def _missing(node: Node, where: Where, name: str, missing: _Missing) -> Problem:
    said = f"(({printable(name, 80)}))" + (f"; {missing.near}" if missing.near else "")
    return node.problem(path_text(where), said, "a variable with a value", _REMEDY)
