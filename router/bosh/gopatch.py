"""Operations on a YAML document: `replace`, `remove` and `test` at a path, as ops-files for the BOSH CLI spell them.

Promises: pure; a document is never changed, a new one is returned; what does not fit is a value (`PathError`,
`Misfit`) that says where on the path it failed and what was there instead. Refuses to know files (ops.py).

Source: go-patch's pointer syntax and its tests (cppforlife/go-patch, docs/examples.md). One difference: there `0:prev`
wraps around to the last item; here a move past either end is an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from registry.problems import SECRET_KEYS, printable
from router.bosh.document import Node, kind_of, plain
from router.config.dump import dump

MAX_STEPS = 64
_UNESCAPE = {"~0": "~", "~1": "/", "~2": "?", "~3": "=", "~7": ":"}
_ESCAPE = {char: code for code, char in _UNESCAPE.items()}
_CODE = re.compile(r"~[01237]")
_SPECIAL = re.compile(r"[~/?=:]")
_INDEX = re.compile(r"[-+]?[0-9]{1,9}", re.ASCII)

Insert: TypeAlias = Literal["before", "after"]


class Key(NamedTuple):
    """`/name`: a key of a mapping. `optional`: it, or something left of it, ends with `?`."""

    name: str
    optional: bool = False


class Index(NamedTuple):
    """`/0`, `/-1`, `/1:prev`, `/0:before`: an item of a list. `moves`: steps from it, +1 for `:next`, -1 for `:prev`."""

    number: int
    moves: int = 0
    insert: Insert | None = None


class Item(NamedTuple):
    """`/name=value`: the one item of a list that has this text under this key."""

    key: str
    value: str
    optional: bool = False
    moves: int = 0
    insert: Insert | None = None


class End(NamedTuple):
    """`/-` at the end of a path: behind the last item of a list."""


Step: TypeAlias = Key | Index | Item | End
Path: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class PathError:
    """A text that is no path, and what was expected."""

    expected: str


@dataclass(frozen=True, slots=True)
class Misfit:
    """A path that does not fit the document: `path` as far as it was followed, what it needs there, and what there is."""

    path: str
    expected: str
    found: str


def parse_path(text: str) -> Path | PathError:
    """The steps of a path; the empty text is the whole document."""
    if text == "":
        return ()
    if not text.startswith("/"):
        return PathError("a path that starts with /")
    tokens = text.split("/")[1:]
    if len(tokens) > MAX_STEPS:
        return PathError(f"at most {MAX_STEPS} steps")
    steps: list[Step] = []
    optional = False
    for number, token in enumerate(tokens):
        optional = optional or token.partition(":")[0].endswith("?")
        step = _step(token, optional, last=number == len(tokens) - 1)
        if isinstance(step, PathError):
            return step
        steps.append(step)
    return tuple(steps)


def _step(token: str, optional: bool, *, last: bool) -> Step | PathError:
    name, *modifiers = token.split(":")
    modified = _modifiers(modifiers, last=last)
    if isinstance(modified, PathError):
        return modified
    moves, insert = modified
    if name == "-" and last:
        return PathError("no `:` behind `-`") if modifiers else End()
    if _INDEX.fullmatch(name):
        return Index(int(name), moves, insert)
    name = name.removesuffix("?")
    key, equals, value = name.partition("=")
    if equals:
        return Item(_unescape(key), _unescape(value), optional, moves, insert)
    if modifiers:
        return PathError("`:` only behind an index or `key=value`; a `:` in a name is written ~7")
    return Key(_unescape(name), optional)


def _modifiers(names: list[str], *, last: bool) -> tuple[int, Insert | None] | PathError:
    moves, insert = 0, None
    for position, name in enumerate(names):
        match name:
            case "prev":
                moves -= 1
            case "next":
                moves += 1
            case "before" | "after":
                insert = name
                if not last or position != len(names) - 1:
                    return PathError(f"`:{name}` only at the end of the path")
            case _:
                return PathError("`:prev`, `:next`, `:before` or `:after`; a `:` in a name is written ~7")
    return moves, insert


def _unescape(text: str) -> str:
    return _CODE.sub(lambda found: _UNESCAPE[found[0]], text)


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda found: _ESCAPE[found[0]], text)


def path_to_text(path: Path) -> str:
    """The path as it is written; `parse_path` reads it back."""
    parts, carried = [], False
    for step in path:
        mark = "?" if isinstance(step, Key | Item) and step.optional and not carried else ""
        carried = carried or bool(mark)
        match step:
            case Key(name):
                parts.append(_escape(name) + mark)
            case Item(key, value, _, moves, insert):
                parts.append(f"{_escape(key)}={_escape(value)}{mark}{_suffix(moves, insert)}")
            case Index(number, moves, insert):
                parts.append(f"{number}{_suffix(moves, insert)}")
            case End():
                parts.append("-")
    return "".join(f"/{part}" for part in parts)


def _suffix(moves: int, insert: Insert | None) -> str:
    return (":next" if moves > 0 else ":prev") * abs(moves) + (f":{insert}" if insert else "")


def replace(document: Node, path: Path, value: Node) -> Node | Misfit:
    """The document with `value` at `path`: in place of what is there, or inserted where the path says so."""
    return _replace(document, path, 0, value)


def _replace(node: Node, path: Path, depth: int, value: Node) -> Node | Misfit:
    if depth == len(path):
        return value
    match path[depth]:
        case Key() as step:
            return _replace_key(node, step, path, depth, value)
        case End():
            items = node.items
            return _mismatch(node, path, depth, "a list") if items is None else node.at((*items, value))
        case Index() | Item() as step:
            return _replace_item(node, step, path, depth, value)


def _replace_key(node: Node, step: Key, path: Path, depth: int, value: Node) -> Node | Misfit:
    mapping = node.mapping
    if mapping is None:
        return _mismatch(node, path, depth, "a mapping")
    inner: Node | Misfit | None = mapping.get(step.name)
    if inner is None:
        if not step.optional:
            return _no_key(mapping, path, depth)
        inner = _made_for(path, depth + 1, value)
    if isinstance(inner, Misfit):
        return inner
    new = _replace(inner, path, depth + 1, value)
    return new if isinstance(new, Misfit) else node.at({**mapping, step.name: new})


def _made_for(path: Path, depth: int, value: Node) -> Node | Misfit:
    """What a missing key holds before the rest of the path is followed into it."""
    if depth == len(path) or isinstance(path[depth], Key):
        return value.at({})
    if isinstance(path[depth], Index):
        return Misfit(path_to_text(path[: depth + 1]), "a key, `key=value` or `-` behind a key that is missing", "an index")
    return value.at(())


def _replace_item(node: Node, step: Index | Item, path: Path, depth: int, value: Node) -> Node | Misfit:
    items, last = node.items, depth == len(path) - 1
    if items is None:
        return _mismatch(node, path, depth, "a list")
    place = _find(items, step, path, depth)
    if isinstance(place, Misfit):
        return place
    if place is None:
        assert isinstance(step, Item)
        fresh = value if last else _replace(value.at({step.key: value.at(step.value)}), path, depth + 1, value)
        return fresh if isinstance(fresh, Misfit) else node.at((*items, fresh))
    if step.insert is not None:
        place += step.insert == "after"
        return node.at((*items[:place], value, *items[place:]))
    new = _replace(items[place], path, depth + 1, value)
    return new if isinstance(new, Misfit) else node.at((*items[:place], new, *items[place + 1 :]))


def remove(document: Node, path: Path) -> Node | Misfit:
    """The document without what is at `path`; as it is where that is optional and missing."""
    if not path:
        return Misfit("", "a path", "the whole document, which cannot be removed")
    step = path[-1]
    if isinstance(step, End) or (isinstance(step, Index | Item) and step.insert is not None):
        return Misfit(path_to_text(path), "a key or an item that exists", "a place between items")
    done = _remove(document, path, 0)
    return document if done is None else done


def _remove(node: Node, path: Path, depth: int) -> Node | Misfit | None:
    """The node without it; None: it is missing, and may be."""
    step, last = path[depth], depth == len(path) - 1
    if isinstance(step, Key):
        mapping = node.mapping
        if mapping is None:
            return _mismatch(node, path, depth, "a mapping")
        if step.name not in mapping:
            return None if step.optional else _no_key(mapping, path, depth)
        if last:
            return node.at({key: item for key, item in mapping.items() if key != step.name})
        new = _remove(mapping[step.name], path, depth + 1)
        return node.at({**mapping, step.name: new}) if isinstance(new, Node) else new
    items = node.items
    if items is None:
        return _mismatch(node, path, depth, "a list")
    assert not isinstance(step, End)
    place = _find(items, step, path, depth)
    if not isinstance(place, int):
        return place
    if last:
        return node.at((*items[:place], *items[place + 1 :]))
    new = _remove(items[place], path, depth + 1)
    return node.at((*items[:place], new, *items[place + 1 :])) if isinstance(new, Node) else new


def find(document: Node, path: Path) -> Node | Misfit | None:
    """What is at `path`; None where that is optional and missing."""
    node = document
    for depth, step in enumerate(path):
        inner = _inner(node, step, path, depth)
        if not isinstance(inner, Node):
            return inner
        node = inner
    return node


def _inner(node: Node, step: Step, path: Path, depth: int) -> Node | Misfit | None:
    if isinstance(step, Key):
        if node.mapping is None:
            return _mismatch(node, path, depth, "a mapping")
        return (
            node.mapping[step.name]
            if step.name in node.mapping
            else (None if step.optional else _no_key(node.mapping, path, depth))
        )
    if isinstance(step, End) or step.insert is not None:
        return Misfit(path_to_text(path[: depth + 1]), "a key or an item that exists", "a place between items")
    if node.items is None:
        return _mismatch(node, path, depth, "a list")
    place = _find(node.items, step, path, depth)
    return node.items[place] if isinstance(place, int) else place


def _find(items: tuple[Node, ...], step: Index | Item, path: Path, depth: int) -> int | Misfit | None:
    """The item's position; None: there is none, and need not be."""
    if isinstance(step, Item):
        found = [number for number, item in enumerate(items) if _holds(item, step)]
        if not found and step.optional:
            return None
        if len(found) != 1:
            there = f"{len(found)} of {len(items)} items" if found else _others(items, step.key)
            return Misfit(path_to_text(path[: depth + 1]), "exactly one item that fits", there)
        start = found[0]
    else:
        start = step.number + len(items) if step.number < 0 else step.number
    place = start + step.moves
    if not 0 <= start < len(items) or not 0 <= place < len(items):
        return Misfit(path_to_text(path[: depth + 1]), "an item of the list", f"a list of {len(items)}")
    return place


def _holds(item: Node, step: Item) -> bool:
    """Texts only, as in go-patch: `/port=80` does not find a number."""
    value = item.get(step.key)
    return value is not None and isinstance(value.content, str) and value.content == step.value


def _others(items: tuple[Node, ...], key: str) -> str:
    if key in SECRET_KEYS:
        return f"a list of {len(items)}"
    names = [str(value.content) for item in items if (value := item.get(key)) is not None and isinstance(value.content, str)]
    return _listing(f"items with `{printable(key, 60)}`", names)


def _mismatch(node: Node, path: Path, depth: int, expected: str) -> Misfit:
    """`path` names the container, for it is what is wrong."""
    return Misfit(path_to_text(path[:depth]) or "/", expected, kind_of(node))


def _no_key(mapping: Mapping[str, Node], path: Path, depth: int) -> Misfit:
    return Misfit(
        path_to_text(path[: depth + 1]), "this key; a key that may be missing ends with ?", _listing("keys", list(mapping))
    )


def _listing(what: str, names: list[str]) -> str:
    shown = ", ".join(printable(name, 60) for name in sorted(names)[:12])
    more = ", ..." if len(names) > 12 else ""
    return f"{what}: {shown}{more}" if names else f"no {what}"


def equal(one: Node, other: Node) -> bool:
    """The same value of the same kind, wherever both stand."""
    return dump(plain(one)) == dump(plain(other))
