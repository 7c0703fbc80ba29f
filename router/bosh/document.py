"""YAML as a tree that remembers for every value in which file and on which line it stands.

Promises: immutable, so that a change shares what it leaves alone; whatever operations and variables did to a tree,
each value still knows its place. Refuses to know what any value means.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from registry.problems import Problem, Where
from registry.source import Source

Content: TypeAlias = "Mapping[str, Node] | tuple[Node, ...] | str | int | float | None"


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its place. `content`: a mapping or tuple of nodes, or a scalar. `line` counts from 1; 0: none."""

    content: Content
    file: str
    line: int

    @property
    def mapping(self) -> Mapping[str, "Node"] | None:
        """The keys and their values; None where this is no mapping."""
        return self.content if isinstance(self.content, Mapping) else None

    @property
    def items(self) -> tuple["Node", ...] | None:
        """The items; None where this is no list."""
        return self.content if isinstance(self.content, tuple) else None

    def get(self, *keys: str) -> "Node | None":
        """The value below these keys, None where there is none."""
        node: Node | None = self
        for key in keys:
            node = node.mapping.get(key) if node is not None and node.mapping is not None else None
        return node

    def problem(self, path: str, value: str, expected: str, remedy: str) -> Problem:
        """A problem at this place; `path` is the value's own."""
        return Problem(self.file, self.line, path, value, expected, remedy)

    def at(self, content: Content) -> "Node":
        """Another content at the same place."""
        return Node(content, self.file, self.line)

    def nearest(self, where: Where) -> "Node":
        """The node at `where`, or the last one on the way to it."""
        node = self
        for step in where:
            inner = _step(node, step)
            if inner is None:
                break
            node = inner
        return node


def _step(node: Node, step: str | int) -> Node | None:
    if isinstance(step, str):
        return node.mapping.get(step) if node.mapping is not None else None
    return node.items[step] if node.items is not None and 0 <= step < len(node.items) else None


def annotate(source: Source, file: str) -> Node:
    """The tree of a source, with its lines."""
    return _annotate(source.tree, (), source, file)


def _annotate(value: object, where: Where, source: Source, file: str) -> Node:
    line = source.line_of(where)
    match value:
        case dict():
            return Node({key: _annotate(item, (*where, key), source, file) for key, item in value.items()}, file, line)
        case tuple():
            return Node(tuple(_annotate(item, (*where, i), source, file) for i, item in enumerate(value)), file, line)
        case str() | int() | float() | None:
            return Node(value, file, line)
        case _:
            raise TypeError(type(value).__name__)  # read_source makes nothing else


def graft(value: object, place: Node) -> Node:
    """A plain value as nodes that all stand where `place` does."""
    match value:
        case Mapping():
            return place.at({str(key): graft(item, place) for key, item in value.items()})
        case tuple() | list():
            return place.at(tuple(graft(item, place) for item in value))
        case str() | int() | float() | None:
            return place.at(value)
        case _:
            raise TypeError(type(value).__name__)


def plain(node: Node) -> object:
    """The value without its places: dicts, tuples and scalars."""
    if node.mapping is not None:
        return {key: plain(item) for key, item in node.mapping.items()}
    return tuple(plain(item) for item in node.items) if node.items is not None else node.content


def scalars(node: Node, where: Where = ()) -> Iterator[tuple[Where, Node]]:
    """Every scalar below `node`, with its path from there."""
    if node.mapping is not None:
        for key, item in node.mapping.items():
            yield from scalars(item, (*where, key))
    elif node.items is not None:
        for index, item in enumerate(node.items):
            yield from scalars(item, (*where, index))
    else:
        yield where, node


def kind_of(node: Node) -> str:
    """What stands there, without its value."""
    match node.content:
        case Mapping():
            return "a mapping"
        case tuple():
            return "a list"
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case str():
            return "a text"
        case _:
            return "a number"
