"""Names beside GUIDs, for people only: from an operator's file, and from the `*_name` tags of registrations.

    apps:   {5b3f1e7c-...: checkout}
    spaces: {0c6d...: production}
    orgs:   {9a41...: shop}

Promises: a name is 1 to MAX_NAME printable characters (no control character, nothing that turns text around); the number of
names is bounded; the file's name wins over a registration's, and `label` always shows the GUID too, last, so that no name
passes for another GUID. No decision ever asks: a test swaps all names and finds every decision the same. Refuses to know who
shows them.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from identity.caller import parse_guid
from registry.endpoint import Endpoint
from registry.findings import Findings
from registry.problems import Problem, printable
from registry.source import read_source, spelled

MAX_NAME: Final = 255
"""Characters of a name; Cloud Foundry's own bound."""
MAX_NAMES: Final = 50_000
"""Names of a file, and as many again from registrations; about 10 MiB each."""

_SECTIONS: Final = ("apps", "spaces", "orgs")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class HeardNames:
    """What registrations call their owners: the last word on each GUID, the oldest forgotten beyond MAX_NAMES.

    `news`, where it is a mapping, gathers what is not as it was: for those whom somebody else tells.
    """

    __slots__ = ("_names", "news")

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self.news: dict[str, str] | None = None

    def __len__(self) -> int:
        return len(self._names)

    def get(self, guid: str) -> str | None:
        return self._names.get(guid)

    def hear(self, endpoint: Endpoint) -> None:
        """Take the names of one registration; what is no GUID or no name is passed over."""
        tags = endpoint.tags
        for guid, name in (
            (endpoint.app or tags.get("app_id"), tags.get("app_name")),
            (tags.get("space_id"), tags.get("space_name")),
            (tags.get("organization_id"), tags.get("organization_name")),
        ):
            if guid and name and parse_guid(guid) is not None and is_name(name):
                self.put(guid, name)

    def put(self, guid: str, name: str) -> None:
        """Take one name."""
        if self.news is not None and self._names.get(guid) != name:
            _put(self.news, guid, name)
        _put(self._names, guid, name)

    def items(self) -> list[tuple[str, str]]:
        """Every GUID with its name, the oldest first."""
        return list(self._names.items())


def _put(names: dict[str, str], guid: str, name: str) -> None:
    names.pop(guid, None)
    names[guid] = name
    if len(names) > MAX_NAMES:
        del names[next(iter(names))]


class Names:
    """GUID -> name. `mapping` is the file's; `heard` may still grow, so that one lookup serves a running router."""

    __slots__ = ("_mapping", "heard")

    def __init__(self, mapping: Mapping[str, str] = _NOTHING, heard: HeardNames | None = None) -> None:
        self._mapping = mapping
        self.heard = heard

    def get(self, guid: str | None) -> str | None:
        """The name, if there is one."""
        if guid is None:
            return None
        name = self._mapping.get(guid)
        return name if name is not None or self.heard is None else self.heard.get(guid)

    def label(self, guid: str | None) -> str:
        """`name (guid)` in printable ASCII, the bare GUID without a name, `-` for none."""
        if not guid:
            return "-"
        name, shown = self.get(guid), printable(guid, 64)
        return shown if name is None else f"{printable(name, MAX_NAME)} ({shown})"

    def with_tags(self, endpoints: Iterable[Endpoint]) -> "Names":
        """These names and those that the endpoints' tags say, where the file has none."""
        heard = HeardNames()
        for endpoint in endpoints:
            heard.hear(endpoint)
        return self.with_heard(heard)

    def with_heard(self, heard: HeardNames) -> "Names":
        """The file's names over `heard`, which may go on growing."""
        return Names(self._mapping, heard)


NO_NAMES: Final = Names()


def is_name(text: str) -> bool:
    """Whether a text may stand for a name: 1 to MAX_NAME characters, each printable."""
    return 0 < len(text) <= MAX_NAME and text.isprintable()


def read_names(data: bytes, file: str) -> tuple[Names, tuple[Problem, ...]]:
    """Read a names file. With any problem there are no names; `file` is what the problems call it."""
    source = read_source(data)
    findings = Findings(file, source)
    found: dict[str, str] = {}
    if not findings.flaws():
        tree = source.tree
        if isinstance(tree, dict):
            for key, section in tree.items():
                _read_section(key, section, found, findings)
        else:
            findings.wrong((), tree, "a mapping with apps, spaces or orgs", "write apps: {GUID: name}")
    if len(found) > MAX_NAMES:
        findings.wrong((), f"{len(found)} names", f"at most {MAX_NAMES}", "keep the names that people here look for")
    problems = tuple(findings.problems)
    return (NO_NAMES if problems else Names(found)), problems


def _read_section(key: str, section: object, found: dict[str, str], findings: Findings) -> None:
    if key not in _SECTIONS:
        findings.absent((key,), "apps, spaces or orgs", "put its names under one of these keys, or remove it")
        return
    if not isinstance(section, dict):
        findings.wrong((key,), section, "a mapping of GUIDs to names", f"write {key}: {{GUID: name}}, or remove the key")
        return
    for guid, value in section.items():
        if findings.full:
            return
        where = (key, guid)
        name = spelled(value)
        if parse_guid(guid) is None:
            findings.absent(where, "a GUID: 1 to 64 of A-Z a-z 0-9 _ -", "the GUID stands first, the name behind it")
        elif guid in found:
            findings.absent(where, "each GUID once", "keep the one under the key that it belongs to")
        elif not isinstance(name, str) or not is_name(name):
            findings.wrong(where, value, f"1 to {MAX_NAME} printable characters", "write the name as `cf` shows it")
        else:
            found[guid] = name
