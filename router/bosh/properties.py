"""The properties of a job -> the configuration they mean, and back: which property a place of the configuration is.

Promises: pure; every value keeps its place in the operator's files; what no key and no name of GoRouter's job fits is a
Problem with the nearest name; two names of one key are one too many. Refuses to judge values: router.config does.

Source: the rule and the tables of router/config/job.py.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from registry.findings import MAX_FINDINGS
from registry.problems import Problem, Where, path_text
from router.bosh.document import Node, kind_of
from router.config.job import KIB, SAME_AS, WITHOUT_EFFECT, durations
from router.config.load import known_keys

_NATS_PORT = 4222
_STEP = re.compile(r"([^.\[\]]+)|\[(\d{1,9})\]")
_DOMAIN_PATH = re.compile(r"(?<![\w.])(?=(?:mtls_domains|domains)\[\d)")
_TOP = ("router", "nats")


@dataclass(frozen=True, slots=True)
class Converted:
    """The configuration as nodes; `origins`: places that come from a property of another name, by place."""

    config: Node
    origins: Mapping[Where, Where]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def convert(properties: Node) -> Converted:
    """The configuration that the properties of a job mean."""
    conversion = _Conversion(properties)
    config = conversion.config()
    return Converted(config, conversion.origins, tuple(conversion.problems), tuple(conversion.warnings))


class _Conversion:
    def __init__(self, properties: Node) -> None:
        self._properties = properties
        self.origins: dict[Where, Where] = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def config(self) -> Node:
        if self._properties.mapping is None:
            self._report(self._properties, (), kind_of(self._properties), "a mapping of properties", "write router: {...}")
            return self._properties.at({})
        others = {name: node for name in SAME_AS if (node := self._taken(name)) is not None}
        for name, said in WITHOUT_EFFECT.items():
            if (node := self._taken(name)) is not None:
                self.warnings.append(node.problem(name, "", said, "remove the property"))
        self._only(self._properties, (), _TOP)
        router = self._section("router")
        known = known_keys(()) - {"nats"}
        self._only(router, ("router",), known, (name.removeprefix("router.") for name in SAME_AS))
        config = {key: node for key, node in (router.mapping or {}).items() if key in known}
        nats = self._nats()
        if nats.mapping:
            config["nats"] = nats
        tree = router.at(config)
        for name, node in others.items():
            tree = self._renamed(tree, name, node)
        return _seconds(tree, (), durations())

    def _taken(self, name: str) -> Node | None:
        """The property of this name, which is taken away."""
        keys = name.split(".")
        node = self._properties.get(*keys)
        if node is None:
            return None
        self._properties = _without(self._properties, keys)
        return None if node.content is None else node

    def _section(self, name: str) -> Node:
        node = self._properties.get(name)
        if node is None or node.content is None:
            return self._properties.at({})
        if node.mapping is None:
            self._report(node, (name,), kind_of(node), "a mapping of properties", f"write {name}: {{...}}")
            return node.at({})
        return node

    def _only(self, node: Node, at: Where, known: Collection[str], others: Iterable[str] = ()) -> None:
        every = sorted({*known, *others})
        for key, item in (node.mapping or {}).items():
            if key not in known and len(self.problems) < MAX_FINDINGS:
                near = difflib.get_close_matches(key[:80], every, 1, cutoff=0.6)
                remedy = f"did you mean `{path_text((*at, near[0]))}`?" if near else "remove it; the job's spec lists all"
                if at and key == "nats":
                    remedy = "`nats` stands beside `router`, not below it"
                self._report(item, (*at, key), "", "a known property", remedy)

    def _nats(self) -> Node:
        """`nats` as the file has it: `machines` and `port` as `hosts`."""
        nats = self._section("nats")
        inner = dict(nats.mapping or {})
        machines, port = (
            node if (node := inner.pop(key, None)) and node.content is not None else None for key in ("machines", "port")
        )
        if "hosts" in inner and (machines or port):
            odd = machines or port
            assert odd is not None
            self._report(odd, ("nats",), "", "`nats.hosts`, or `nats.machines` and `nats.port`", "keep one of the two forms")
        elif machines is not None:
            inner["hosts"] = self._hosts(machines, port)
        return nats.at(inner)

    def _hosts(self, machines: Node, port: Node | None) -> Node:
        if machines.items is None:
            self._report(machines, ("nats", "machines"), kind_of(machines), "a list of addresses", "write [10.0.0.4]")
            return machines.at(())
        hosts = []
        self.origins[("nats", "hosts")] = ("nats", "machines")
        for number, machine in enumerate(machines.items):
            self.origins[("nats", "hosts", number, "hostname")] = ("nats", "machines", number)
            self.origins[("nats", "hosts", number, "port")] = ("nats", "port")
            hosts.append(machine.at({"hostname": machine, "port": port or machine.at(_NATS_PORT)}))
        return machines.at(tuple(hosts))

    def _renamed(self, tree: Node, name: str, node: Node) -> Node:
        where = SAME_AS[name]
        self.origins[where] = tuple(name.split("."))
        there = tree.get(*(str(step) for step in where))
        if there is not None:
            other = property_path(where, {})
            self._report(
                node, self.origins[where], "", f"one property for one setting; `{other}` is the same", "keep one of the two"
            )
            return tree
        if name in KIB and isinstance(node.content, int) and not isinstance(node.content, bool):
            node = node.at(int(node.content) * 1024)
        return _with(tree, tuple(str(step) for step in where), node)

    def _report(self, node: Node, where: Where, value: str, expected: str, remedy: str) -> None:
        self.problems.append(node.problem(path_text(where), value, expected, remedy))


def _without(node: Node, keys: list[str]) -> Node:
    """The node without what stands below these keys, and without sections that are empty then."""
    head, *rest = keys
    mapping = dict(node.mapping or {})
    inner = _without(mapping.pop(head), rest) if rest else None
    if not rest:
        del mapping[head]
    elif inner is not None and inner.mapping:
        mapping[head] = inner
    return node.at(mapping)


def _with(node: Node, keys: tuple[str, ...], value: Node) -> Node:
    """The node with the value below these keys; as it is where something else than a section is in the way."""
    if not keys:
        return value
    if node.mapping is None and node.content is not None:
        return node
    mapping = node.mapping or {}
    return node.at({**mapping, keys[0]: _with(mapping.get(keys[0], value.at({})), keys[1:], value)})


def _seconds(node: Node, where: Where, places: frozenset[Where]) -> Node:
    """Numbers at durations as seconds."""
    if node.mapping is not None:
        return node.at({key: _seconds(item, (*where, key), places) for key, item in node.mapping.items()})
    number = isinstance(node.content, int | float) and not isinstance(node.content, bool)
    return node.at(f"{getattr(node.content, 'spelling', node.content)}s") if number and where in places else node


def property_path(where: Where, origins: Mapping[Where, Where]) -> str:
    """The name of the property that a place of the configuration comes from."""
    for length in range(len(where), 0, -1):
        if where[:length] in origins:
            return path_text((*origins[where[:length]], *where[length:]))
    return path_text(where if where[:1] == ("nats",) else ("router", *where))


def place_of(path: str) -> Where:
    """The place that `registry.problems.path_text` wrote."""
    return tuple(found[1] if found[1] is not None else int(found[2]) for found in _STEP.finditer(path))


def in_properties(problem: Problem, converted: Converted) -> Problem:
    """A problem of the configuration as one of the properties: their names, and the operator's file and line."""
    where = place_of(problem.path)
    node = converted.config.nearest(where)
    path = property_path(where, converted.origins) if where else ""
    expected, remedy = (_DOMAIN_PATH.sub("router.", text) for text in (problem.expected, problem.remedy))
    return replace(problem, file=node.file, line=node.line, path=path, expected=expected, remedy=remedy)


def tls_port(properties: Node) -> int:
    """The TLS port of the properties, by whichever name; 443 where none is given."""
    for name in ("ssl_port", "tls_port"):
        port = properties.get("router", name)
        if port is not None and isinstance(port.content, int):
            return int(port.content)
    return 443
