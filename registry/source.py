"""YAML text -> plain values, and the line on which each of them stands.

Promises: never raises for any text; reports every duplicate key; takes bounded time and memory (bytes,
nesting, documents, values after alias expansion). Lists become tuples, numbers remember their spelling (a
password `0123` stays `0123`). Refuses to know what any key means.

Source: YAML 1.2 core schema as go-yaml v3 (GoRouter's reader) applies it: no dates, no base-60 numbers.
Explicit tags and keys that are no scalars are refused. Merge keys (`<<: *defaults`) and several documents are
what manifests have and no gorouter.yml: `read_documents` takes them, `read_source` does not.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from registry.problems import Where, printable

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32  # aliases expanded: whoever walks a tree may recurse
MAX_VALUES = 200_000  # after alias expansion; a large BOSH deployment has a few hundred
MAX_DOCUMENTS = 100
MAX_DIRECTIVES = 100  # libyaml compares each %TAG with all before it; no tag is taken anyway

_MERGE = "<<"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DIRECTIVE = re.compile(r"^%TAG", re.MULTILINE)
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,2})?", re.ASCII)
_WORDS: dict[str, object] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


class SpelledInt(int):
    """An integer that knows how the file spells it."""

    spelling: str


class SpelledFloat(float):
    """A decimal number that knows how the file spells it."""

    spelling: str


def spelled(value: object) -> object:
    """A number as the file spells it; every other value as it is."""
    return value.spelling if isinstance(value, SpelledInt | SpelledFloat) else value


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something the YAML itself gets wrong: where, what was expected, and the way out."""

    where: Where
    line: int
    value: str
    expected: str
    remedy: str


@dataclass(slots=True)
class Source:
    """What one document holds: `tree` (None where it could not be read), `lines` by place, and its flaws.

    `links` leads from the place of an alias, or of a merged key, to the place that spells its value out.
    """

    tree: object = None
    lines: dict[Where, int] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)
    links: dict[Where, Where] = field(default_factory=dict)

    def line_of(self, where: Where) -> int:
        """The line of `where`, or of the nearest place around it that the file spells out; 0 for none."""
        for _ in range(MAX_DEPTH):  # each link leads to an earlier place: a chain of them ends
            spelt = self._spelt(where)
            if spelt is None:
                break
            where = spelt
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 0)

    def _spelt(self, where: Where) -> Where | None:
        """The place one link further, for a place that stands inside an alias or came by a merge."""
        for end in range(len(where), 0, -1):
            if where[:end] in self.lines and (end == len(where) or where[:end] not in self.links):
                return None
            if where[:end] in self.links:
                return (*self.links[where[:end]], *where[end:])
        return None


class _Refused(Exception):
    def __init__(self, line: int, value: str, expected: str, remedy: str) -> None:
        self.flaw = (line, value, expected, remedy)


def read_source(data: bytes) -> Source:
    """Read one YAML document without merge keys. Whatever is wrong stands in `flaws`; then `tree` may be None."""
    return _read(data, _Builder(plain=True))[0]


def read_documents(data: bytes) -> list[Source]:
    """Read every document (at least one, at most MAX_DOCUMENTS) with merge keys resolved.

    A document that cannot be read to its end is the last of the list; its `flaws` say why and its `tree` is None.
    """
    return _read(data, _Builder(plain=False))


def _read(data: bytes, builder: "_Builder") -> list[Source]:
    if len(data) > MAX_BYTES:
        expected, remedy = f"at most {MAX_BYTES} bytes", "remove what the router does not need"
        builder.give_up(Flaw((), 0, f"{len(data)} bytes", expected, remedy))
        return builder.sources
    try:
        text = data.decode("utf-8-sig")
        if len(_DIRECTIVE.findall(text)) > MAX_DIRECTIVES:
            raise _Refused(0, "", f"at most {MAX_DIRECTIVES} %TAG directives", "remove them: tags are not taken")
        builder.build(yaml.parse(text, Loader=_LOADER))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        builder.give_up(Flaw((), line, "", "UTF-8 text", "save the file as UTF-8"))
    except _Refused as refused:
        builder.give_up(Flaw((), *refused.flaw))
    except yaml.YAMLError as error:
        builder.give_up(_syntax(error))
    return builder.sources


def _syntax(error: yaml.YAMLError) -> Flaw:
    """The parser's complaint, without any text of the file: that text may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    line = mark.line + 1 if mark is not None else 0
    return Flaw(
        (),
        line,
        "",
        "valid YAML: " + printable(str(said), 120),
        "mend the file at this line or the one before",
    )


@dataclass(slots=True)
class _Open:
    """A container that is being read: its place, its items, and the key that waits for its value."""

    where: Where
    anchor: str | None
    items: dict[str, object] | list[object]
    key: str | None = None
    size: int = 1
    height: int = 1  # levels of containers, this one included, aliases expanded
    merges: list[tuple[Where, Mapping[str, object]]] | None = None
    merging: bool = False


class _Builder:
    """Turns parser events into values without recursion, so that depth is ours to bound."""

    def __init__(self, *, plain: bool) -> None:
        self.sources = [Source()]
        self._plain = plain
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[object, int, int, Where]] = {}
        self._values = 0  # of the documents that are complete
        self._documents = 0

    @property
    def _source(self) -> Source:
        return self.sources[-1]

    def build(self, events: Iterator[yaml.Event]) -> None:
        for event in events:
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)

    def give_up(self, flaw: Flaw) -> None:
        """The document that was being read has no value: it cannot be read to its end."""
        self._source.tree = None
        self._source.flaws.append(flaw)

    def document(self, event: yaml.Event) -> None:
        self._documents += 1
        if self._documents == 1:
            return
        if self._plain:
            raise _Refused(_line(event), "", "one YAML document", ("remove everything from the second `---` on"))
        self.sources.append(Source())
        self._anchors = {}
        if self._documents > MAX_DOCUMENTS:
            raise _Refused(_line(event), "", f"at most {MAX_DOCUMENTS} documents", "split the file")

    def scalar(self, event: yaml.ScalarEvent) -> None:
        plain, _ = event.implicit
        self._no_tag(event)
        if self._awaits_key():
            self._take_key(str(event.value), _line(event), merging=bool(plain) and not self._plain and event.value == _MERGE)
        else:
            self._put(_resolve(event.value) if plain else event.value, 1, 0, event.anchor, _line(event))

    def alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            raise _Refused(_line(event), "", "an alias of an anchor that is complete", "write the value out")
        if self._awaits_key():
            raise _Refused(_line(event), "", "a plain key", "write the key out instead of an alias")
        value, size, height, spelt = self._anchors[event.anchor]
        if len(self._stack) + height > MAX_DEPTH:
            raise _Refused(_line(event), "", f"at most {MAX_DEPTH} levels of nesting, aliases expanded", "flatten the file")
        if self._stack:
            self._source.links[self._here()] = spelt
        self._put(value, size, height, None, _line(event))

    def open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        self._no_tag(event)
        if self._awaits_key():
            raise _Refused(_line(event), "", "a plain key", "a list or mapping cannot be a key")
        if len(self._stack) >= MAX_DEPTH:
            raise _Refused(_line(event), "", f"at most {MAX_DEPTH} levels of nesting", "flatten the file")
        where = self._here()
        self._source.lines.setdefault(where, _line(event))
        items: dict[str, object] | list[object] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Open(where, event.anchor, items))

    def close(self, _event: yaml.Event) -> None:
        done = self._stack.pop()
        if done.merges is not None and isinstance(done.items, dict):
            self._merge(done.where, done.items, done.merges)
        value = done.items if isinstance(done.items, dict) else tuple(done.items)
        self._put(value, done.size, done.height, done.anchor, self._source.lines[done.where])

    def _here(self) -> Where:
        if not self._stack:
            return ()
        top = self._stack[-1]
        return (*top.where, len(top.items) if top.key is None else top.key)

    def _awaits_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].items, dict) and self._stack[-1].key is None

    def _take_key(self, key: str, line: int, *, merging: bool) -> None:
        top = self._stack[-1]
        if key in top.items or (merging and top.merges is not None):
            first = self._source.lines.get((*top.where, key), 0)
            remedy = f"keep one of the two; the first is on line {first}"
            self._source.flaws.append(Flaw((*top.where, key), line, "", "each key once", remedy))
        else:
            self._source.lines[(*top.where, key)] = line
        top.key, top.merging = key, merging

    def _put(self, value: object, size: int, height: int, anchor: str | None, line: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, size, height, self._here())
        if not self._stack:
            self._source.tree = value
            self._values += size
            self._bound(self._values, line)
            return
        top = self._stack[-1]
        top.size += size
        top.height = max(top.height, height + 1)
        self._bound(top.size, line)
        self._source.lines.setdefault(self._here(), line)
        if isinstance(top.items, list):
            top.items.append(value)
        elif top.merging:
            top.merges = top.merges if top.merges is not None else []
            top.merges += _to_merge(value, self._here(), line)
        else:
            top.items[str(top.key)] = value
        top.key = None

    @staticmethod
    def _bound(values: int, line: int) -> None:
        if values > MAX_VALUES:
            raise _Refused(line, "", f"at most {MAX_VALUES} values, aliases expanded", "use fewer aliases")

    def _merge(self, where: Where, items: dict[str, object], merges: list[tuple[Where, Mapping[str, object]]]) -> None:
        """Own keys win, then the mapping that is named first."""
        for place, mapping in merges:
            for key, value in mapping.items():
                if key not in items:  # no set of all keys for each mapping: there may be many
                    self._source.links[(*where, key)] = (*place, key)
                    items[key] = value

    @staticmethod
    def _no_tag(event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is not None and event.tag != "!":
            remedy = "remove the tag and write the value plainly"
            raise _Refused(_line(event), "", f"no tag (`{printable(event.tag, 40)}`)", remedy)


_HANDLERS: dict[type[yaml.Event], Callable[..., None]] = {
    yaml.DocumentStartEvent: _Builder.document,
    yaml.ScalarEvent: _Builder.scalar,
    yaml.AliasEvent: _Builder.alias,
    yaml.MappingStartEvent: _Builder.open,
    yaml.SequenceStartEvent: _Builder.open,
    yaml.MappingEndEvent: _Builder.close,
    yaml.SequenceEndEvent: _Builder.close,
}


def _to_merge(value: object, where: Where, line: int) -> list[tuple[Where, Mapping[str, object]]]:
    """The mappings that a merge key names, each with its place."""
    named = [((*where, n), one) for n, one in enumerate(value)] if isinstance(value, tuple) else [(where, value)]
    found: list[tuple[Where, Mapping[str, object]]] = [(place, one) for place, one in named if isinstance(one, dict)]
    if len(found) < len(named):
        raise _Refused(line, "", "a mapping, or a list of mappings, to merge", "name the anchor of a mapping after `<<:`")
    return found


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return int(mark.line) + 1 if mark is not None else 0


def _resolve(text: str) -> object:
    """A plain scalar's value by the core schema; whatever is no number, boolean or null is text."""
    if text in _WORDS:
        return _WORDS[text]
    number: SpelledInt | SpelledFloat
    if _INT.fullmatch(text):
        number = SpelledInt(text)
    elif _FLOAT.fullmatch(text):
        number = SpelledFloat(text)
    else:
        return text
    number.spelling = text
    return number
