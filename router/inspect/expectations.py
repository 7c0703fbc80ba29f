"""A developer's expectations of the two doors, as a file for a CI: who calls what, and what must come of it.

    config: router.yml              # optional, as are manifests; paths start from the file's folder
    manifests: [manifest.yml]
    callers: ...                    # callers.py
    cases:
      - name: the front end may read
        caller: frontend            # one of callers, or such a mapping itself
        host: api.apps.example
        path: /v1                   # default /
        expect: allow               # or deny
        rule: route:mtls_allowed_apps   # optional, as are status, sni and plain
        status: 403                 # or alert, where the handshake fails

Promises: either all expectations, or every problem with its line; nothing here raises. A file without cases is a problem: a
test that cannot fail proves nothing. Refuses to know: how a case is judged, and how a file is opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from registry.hostname import Host, canonical
from registry.problems import Problem, Where
from router.inspect.callers import KnownCaller, Load, caller_of, callers_of
from router.inspect.reading import Reading

Expect = Literal["allow", "deny"]
Status = int | Literal["alert"]
"""Of a response, or `alert` where the handshake fails."""

MAX_CASES: Final = 10_000
_MAX_PATH: Final = 1024
_KEYS: Final = ("config", "manifests", "callers", "cases")
_CASE_KEYS: Final = ("name", "caller", "host", "path", "expect", "rule", "status", "sni", "plain")
_NEEDED: Final = ("caller", "host", "expect")


class Case(NamedTuple):
    """One expectation. `rule` and `status` None: any will do. `sni` None: the host itself. `plain`: without TLS."""

    name: str
    line: int
    caller: KnownCaller
    host: Host
    path: str
    expect: Expect
    rule: str | None = None
    status: Status | None = None
    sni: Host | None = None
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Expectations:
    """What a file says; `config` and `manifests` as it spells them."""

    cases: tuple[Case, ...] = ()
    callers: Mapping[str, KnownCaller] = field(default_factory=dict)
    config: str | None = None
    manifests: tuple[str, ...] = ()


class ExpectationsRead(NamedTuple):
    """What was read; without cases when there are problems."""

    expectations: Expectations
    problems: tuple[Problem, ...]


def read_expectations(data: bytes, file: str, load: Load) -> ExpectationsRead:
    """Read a file of expectations; `load` gives the certificates that it names."""
    reading = Reading(data, file)
    found = Expectations()
    if reading.tree is not None or not reading.problems:
        found = _whole(reading, load)
    problems = reading.problems
    return ExpectationsRead(Expectations() if problems else found, problems)


def _whole(reading: Reading, load: Load) -> Expectations:
    pairs = reading.mapping((), reading.tree, _KEYS)
    if pairs is None:
        return Expectations()
    callers = callers_of(reading, pairs["callers"], load) if "callers" in pairs else {}
    config = reading.text(("config",), pairs["config"], "the name of a file", 4096) if "config" in pairs else None
    cases = _Cases(reading, callers, load, pairs.get("callers")).read(pairs.get("cases", ()))
    return Expectations(cases, callers, config, _manifests(reading, pairs.get("manifests", ())))


def _manifests(reading: Reading, value: object) -> tuple[str, ...]:
    listed = reading.items(("manifests",), value, "names of files")
    texts = [reading.text(where, item, "the name of a file", 4096) for where, item in listed]
    return tuple(text for text in texts if text is not None)


class _Cases:
    """Reads the list of cases, one by one; `declared` is the section callers as it stands."""

    def __init__(self, reading: Reading, callers: Mapping[str, KnownCaller], load: Load, declared: object) -> None:
        self._reading = reading
        self._callers = callers
        self._load = load
        self._declared = declared if isinstance(declared, dict) else {}
        self._places: dict[str, Where] = {}

    def read(self, value: object) -> tuple[Case, ...]:
        reading = self._reading
        if value in ((), None):
            reading.absent(("cases",), "at least one case", "a test without cases cannot fail; add `cases:` with a list")
            return ()
        cases: list[Case] = []
        for where, item in reading.items(("cases",), value, "cases"):
            if where[-1] == MAX_CASES:
                reading.absent(where, f"at most {MAX_CASES} cases", "split the file")
                break
            case = self._case(where, item)
            if case is not None:
                cases.append(case)
        return tuple(cases)

    def _case(self, where: Where, item: object) -> Case | None:
        reading = self._reading
        pairs = reading.mapping(where, item, _CASE_KEYS)
        if pairs is None:
            return None
        for key in _NEEDED:
            if key not in pairs:
                reading.absent(where, f"the key {key}", f"add `{key}:` to this case")
        known = {key: self._value((*where, key), key, value) for key, value in pairs.items()}
        if any(known.get(key) is None for key in (*_NEEDED, *pairs)):
            return None
        return self._whole(where, known)

    def _whole(self, where: Where, known: dict[str, object]) -> Case | None:
        caller = known["caller"]
        assert isinstance(caller, KnownCaller)
        path = known.pop("path", "/")
        name = str(known.pop("name", None) or f"{caller.name} -> {known['host']}{path}{_door(known)}")
        line = self._reading.line(where)
        first = self._places.setdefault(name, where)
        if first != where:
            remedy = f"give it another name; the first is on line {self._reading.line(first)}"
            self._reading.wrong((*where, "name"), name, "each name once", remedy)
            return None
        if known.get("plain") and "sni" in known:
            self._reading.absent(where, "either sni or plain", "without TLS no server name is sent")
            return None
        if known["expect"] == "allow" and "status" in known:
            remedy = "remove it: the status of what is forwarded is the application's"
            self._reading.wrong((*where, "status"), known["status"], "no status where access is expected", remedy)
            return None
        return Case(name=name, line=line, path=path, **known)  # type: ignore[arg-type]

    def _value(self, where: Where, key: str, value: object) -> object:
        """One checked value; None for a wrong one."""
        reading = self._reading
        match key:
            case "caller":
                return self._caller(where, value)
            case "host" | "sni":
                return _host(reading, where, value)
            case "path":
                return _path(reading, where, value)
            case "expect":
                return reading.word(where, value, ("allow", "deny"))
            case "status":
                return _status(reading, where, value)
            case "plain":
                return reading.flag(where, value)
            case _:
                return reading.text(where, value, "text", 200)

    def _caller(self, where: Where, value: object) -> KnownCaller | None:
        if isinstance(value, dict):
            return caller_of(self._reading, where, _described(value), value, self._load)
        name = self._reading.text(where, value, "a name of callers, or a mapping", 200)
        if name is None or name in self._callers:
            return self._callers[name] if name is not None else None
        if name not in self._declared:  # a caller that is wrong is already a problem, at its own line
            known = ", ".join(sorted(self._declared)[:10]) or "nobody yet"
            self._reading.wrong(where, value, f"one of callers ({known})", "add it to `callers:`")
        return None


def _door(known: Mapping[str, object]) -> str:
    """What a case without a name says of its connection, where that is unusual."""
    return " over plain HTTP" if known.get("plain") else f" on a connection for {known['sni']}" if "sni" in known else ""


def _described(form: Mapping[str, object]) -> str:
    """The name of a caller that has none."""
    told = [f"{key} {form[key]}" for key in ("app", "certificate") if isinstance(form.get(key), str)]
    return told[0][:200] if told else "no certificate" if not form else "caller"


def _host(reading: Reading, where: Where, value: object) -> Host | None:
    text = reading.text(where, value, "a host", 300)
    host = canonical(text) if text is not None else None
    if text is not None and host is None:
        reading.wrong(where, value, "one host name, without scheme, port, path or *", "write the host as a client asks for it")
    return host


def _path(reading: Reading, where: Where, value: object) -> str | None:
    text = reading.text(where, value, "a path", _MAX_PATH)
    if text is None:
        return None
    if text.startswith("/") and not any(char in "?#" or not "!" <= char <= "~" for char in text):
        return text
    reading.wrong(where, value, "a path as it is sent: / first, ASCII, no query", "escape what is not ASCII, leave out the query")
    return None


def _status(reading: Reading, where: Where, value: object) -> Status | None:
    if value == "alert":
        return "alert"
    if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
        return int(value)
    reading.wrong(where, value, "a status, 400 to 599, or alert", "403: not allowed; 404: no route; alert: the handshake fails")
    return None
