"""Ops-files: lists of operations, applied to a deployment manifest in the order given.

Promises: pure; an operation that cannot be read, or that does not fit, is a Problem with file, line and path; after
the first that does not fit nothing more is applied, for the rest may build on it. Values of the manifest are never
part of a problem. Refuses to know what a manifest holds.

Source: go-patch's operation definitions: `type`, `path`, `value`, `error`; `absent` for `test`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from registry.problems import Problem, printable
from router.bosh.document import Node, kind_of
from router.bosh.gopatch import Misfit, Path, PathError, equal, find, parse_path, remove, replace

_KINDS: dict[str, frozenset[str]] = {
    "replace": frozenset({"type", "path", "value", "error"}),
    "remove": frozenset({"type", "path", "error"}),
    "test": frozenset({"type", "path", "value", "absent", "error"}),
}
_KIND_NAMES = "`replace`, `remove` or `test`"
_SEE = "docs/bosh.md shows the forms"

Kind: TypeAlias = Literal["replace", "remove", "test"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of an ops-file. `value` is None for `remove` and for `test` with `absent: true`."""

    kind: Kind
    path: Path
    value: Node | None
    said: str
    file: str
    line: int
    path_text: str


def read_ops(document: Node) -> tuple[tuple[Operation, ...], tuple[Problem, ...]]:
    """The operations of one ops-file, or everything that is wrong with it."""
    if document.items is None:
        return (), (document.problem("", kind_of(document), "a list of operations", _SEE),)
    operations: list[Operation] = []
    problems: list[Problem] = []
    for number, entry in enumerate(document.items):
        flaws = tuple(_flaws(entry, f"[{number}]"))
        problems += flaws
        if not flaws:
            operations.append(_operation(entry))
    return tuple(operations), tuple(problems)


def _flaws(entry: Node, at: str) -> Iterator[Problem]:
    if entry.mapping is None:
        yield entry.problem(at, kind_of(entry), "a mapping with `type` and `path`", _SEE)
        return
    kind = _text(entry, "type")
    if kind not in _KINDS:
        yield entry.problem(f"{at}.type", f"'{printable(kind, 40)}'" if kind else "", _KIND_NAMES, _SEE)
        return
    for key in entry.mapping:
        if key not in _KINDS[kind]:
            known = ", ".join(sorted(_KINDS[kind]))
            yield entry.mapping[key].problem(f"{at}.{printable(key, 60)}", "", f"a key of `{kind}`", f"known: {known}")
    path = entry.get("path")
    if path is None or not isinstance(path.content, str):
        yield (path or entry).problem(f"{at}.path", kind_of(path) if path else "", "a path such as /a/b", "add it")
    elif isinstance(parsed := parse_path(path.content), PathError):
        yield path.problem(f"{at}.path", f"'{printable(path.content, 200)}'", parsed.expected, _SEE)
    if kind != "remove" and "value" not in entry.mapping and "absent" not in entry.mapping:
        yield entry.problem(f"{at}.value", "", "a value", "add it; `value: null` is one")


def _text(entry: Node, key: str) -> str:
    node = entry.get(key)
    return node.content if node is not None and isinstance(node.content, str) else ""


def _operation(entry: Node) -> Operation:
    kind, text = _text(entry, "type"), _text(entry, "path")
    path = parse_path(text)
    assert not isinstance(path, PathError)  # _flaws has looked
    return Operation(cast("Kind", kind), path, entry.get("value"), _text(entry, "error"), entry.file, entry.line, text)


def apply_ops(document: Node, operations: Iterable[Operation]) -> tuple[Node, tuple[Problem, ...]]:
    """The document with every operation applied, or what kept the first unfit one from it."""
    for operation in operations:
        done = _apply(document, operation)
        if isinstance(done, Misfit):
            return document, (_unfit(operation, done),)
        document = done
    return document, ()


def _apply(document: Node, operation: Operation) -> Node | Misfit:
    match operation.kind:
        case "replace":
            assert operation.value is not None
            return replace(document, operation.path, operation.value)
        case "remove":
            return remove(document, operation.path)
        case "test":
            return _test(document, operation)


def _test(document: Node, operation: Operation) -> Node | Misfit:
    found = find(document, operation.path)
    if operation.value is None:
        return Misfit(operation.path_text, "nothing at this path", kind_of(found)) if isinstance(found, Node) else document
    if isinstance(found, Misfit):
        return found
    if found is None:
        return Misfit(operation.path_text, "the value of the operation", "nothing")
    same = equal(found, operation.value)
    return document if same else Misfit(operation.path_text, "the value of the operation", f"{kind_of(found)} with another value")


def _unfit(operation: Operation, misfit: Misfit) -> Problem:
    where = printable(operation.path_text, 200)
    place = f" at {printable(misfit.path, 200)}" if misfit.path != operation.path_text else ""
    remedy = printable(operation.said, 200) or "correct the path, or apply an ops-file before this one that makes it fit"
    return Problem(operation.file, operation.line, where, misfit.found, misfit.expected + place, remedy)
