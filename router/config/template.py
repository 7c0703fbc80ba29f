"""An HTML template of GoRouter's form: literal text, and between it values to fill in.

Promises: `read_template` finds every flaw with its line, and refuses a value where escaping for HTML does not protect (a script,
a style, an unquoted attribute, an address, a handler). Refuses to know what the values are, and where the template comes from.
Source: of Go's html/template the fields Status, StatusText, Message, Header with Get, comments and trim markers.
"""

import re
from html.parser import HTMLParser
from operator import attrgetter
from typing import Final, NamedTuple

MAX_TEMPLATE: Final = 64 * 1024
MAX_ACTIONS: Final = 100
_MAX_SHOWN: Final = 40

_ACTION: Final = re.compile(r"\{\{(?P<open>- )?\s*(?P<said>/\*.*?\*/|.*?)\s*(?P<close> -)?\}\}", re.DOTALL)
_HEADER: Final = re.compile(r"\.Header\.Get\s+(?:\"([A-Za-z0-9-]{1,64})\"|`([A-Za-z0-9-]{1,64})`)")
_FIELDS: Final = frozenset({".Status", ".StatusText", ".Message", ".Header"})
_PLACE: Final = "\ue000"  # stands for an action while the HTML around it is looked at
_QUOTED: Final = re.compile(r"\"[^\"]*\"|'[^']*'")
_SAFE_ATTRIBUTES: Final = re.compile(r"alt|class|id|lang|name|title|value|(?:data|aria)-[a-z0-9-]+")
_RAW: Final = frozenset({"script", "style"})


class Flaw(NamedTuple):
    """What is wrong with a template: the line (from 1), what stands there (bounded), what was expected."""

    line: int
    value: str
    expected: str


class Template(NamedTuple):
    """Literal pieces, and between each two what is filled in: a field as written, or `header:` and a name as Go spells it."""

    pieces: tuple[str, ...]
    actions: tuple[str, ...]


def read_template(text: str) -> Template | list[Flaw]:
    """The template of a text, or everything that is wrong with it."""
    pieces, actions, lines, flaws = [""], list[str](), list[int](), list[Flaw]()
    position, trim = 0, False
    for match in _ACTION.finditer(text):
        literal = text[position : match.start()]
        literal = literal.lstrip() if trim else literal
        pieces[-1] += literal.rstrip() if match["open"] else literal
        position, trim = match.end(), match["close"] is not None
        said = match["said"]
        if said.startswith("/*") and said.endswith("*/"):
            continue
        line = text.count("\n", 0, match.start()) + 1
        action = _action(said)
        if action is None:
            flaws.append(Flaw(line, _shown(match[0]), _EXPECTED))
            continue
        actions.append(action)
        lines.append(line)
        pieces.append("")
    rest = text[position:]
    pieces[-1] += rest.lstrip() if trim else rest
    if "{{" in rest:
        line = text.count("\n", 0, position + rest.index("{{")) + 1
        flaws.append(Flaw(line, _shown(rest[rest.index("{{") :]), "`}}` after `{{`"))
    if len(actions) > MAX_ACTIONS:
        flaws.append(Flaw(lines[MAX_ACTIONS], f"{len(actions)} values", f"at most {MAX_ACTIONS} values on a page"))
    flaws += [Flaw(lines[index], _shown(actions[index]), _UNSAFE) for index in _unsafe(pieces)]
    return sorted(flaws, key=attrgetter("line")) or Template(tuple(pieces), tuple(actions))


_EXPECTED: Final = '{{.Status}}, {{.StatusText}}, {{.Message}}, {{.Header}} or {{.Header.Get "Name"}}, or a {{/* comment */}}'
_UNSAFE: Final = "a value in text, or in quotes in an attribute such as title, alt, class, value or data-*"


def _action(said: str) -> str | None:
    if said in _FIELDS:
        return said
    asked = _HEADER.fullmatch(said)
    return f"header:{canonical_name(asked[1] or asked[2])}" if asked is not None else None


def canonical_name(name: str) -> str:
    """A field's name as Go spells it."""
    return "-".join(part.capitalize() for part in name.split("-"))


def _shown(text: str) -> str:
    return text.split("\n", 1)[0][:_MAX_SHOWN]


def _unsafe(pieces: list[str]) -> list[int]:
    """Which actions stand where escaping for HTML does not protect."""
    reader = _Reader()
    reader.feed(_PLACE.join(piece.replace(_PLACE, "?") for piece in pieces))
    reader.close()
    return [index for index in range(len(pieces) - 1) if index not in reader.safe]


class _Reader(HTMLParser):
    """Numbers the actions that it meets, and keeps the numbers of those in safe places."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.safe: set[int] = set()
        self._met = 0
        self._raw = False

    def _meet(self, text: str, *, safe: bool) -> None:
        for _ in range(text.count(_PLACE)):
            if safe:
                self.safe.add(self._met)
            self._met += 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._raw = tag in _RAW
        whole = self.get_starttag_text() or ""
        bare = _PLACE in _QUOTED.sub("", whole)
        named = [name for name, value in attrs if _PLACE in (value or "")]
        safe = not bare and all(_SAFE_ATTRIBUTES.fullmatch(name) for name in named)
        self._meet(whole, safe=safe)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        self._meet(data, safe=not self._raw and "<" not in data)

    def handle_comment(self, data: str) -> None:
        self._meet(data, safe=True)

    def handle_decl(self, decl: str) -> None:
        self._meet(decl, safe=False)

    def unknown_decl(self, data: str) -> None:
        self._meet(data, safe=False)

    def handle_pi(self, data: str) -> None:
        self._meet(data, safe=False)
