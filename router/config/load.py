"""A file -> a valid `Config`, or every problem at once.

Promises: never raises for what a file holds; each problem names file, line, path, value, expectation and
remedy; no secret in any of them; `config` is None exactly when `problems` is not empty. Reads the file, the
PEM and secret files it names, and the given environment; nothing else. Refuses to know TLS contexts
(compile.py).

Source: requirements 267-272; K14, K20, K24, K41.
"""

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from registry.problems import Problem, Where, did_you_mean, path_text, printable, show
from registry.source import MAX_BYTES, Source, read_source
from router.config.advice import advise
from router.config.legacy import NO_EFFECT, Notice, Tree, modernise
from router.config.listener_rules import broken_listeners
from router.config.model import Config
from router.config.rules import MISPLACED, broken_rules
from router.config.scalars import OTHERS, LoadContext

_RENAMED = {"max_request_header_bytes": "max_header_bytes"}
_MAX_PROBLEMS = 1000
_PRIVATE_KEY = b"PRIVATE KEY-----"  # a configuration that holds one is a key file itself


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome: a config, or problems; warnings beside either. `files`: every file that was read, to be
    watched.
    """

    config: Config | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    files: tuple[Path, ...] = ()


def load(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Loaded:
    """Load a configuration file. `environ` (default: the process's) answers `{env: NAME}`."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
            mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file name"
        return Loaded(
            None,
            (Problem(str(file), 0, "", reason, "a file that can be read", "name the right file"),),
            (),
        )
    loaded = load_bytes(data, file, os.environ if environ is None else environ)
    loose = _loose_keys([file] if _PRIVATE_KEY in data and mode & OTHERS else [])
    return Loaded(loaded.config, loaded.problems, (*loaded.warnings, *loose), (file, *loaded.files))


def load_bytes(data: bytes, file: Path, environ: Mapping[str, str], today: dt.datetime | None = None) -> Loaded:
    """Load a configuration from its text; `file` gives the name and the folder that paths start from."""
    source = read_source(data)
    report = _Report(str(file), source)
    flaws = [Problem(report.file, f.line, path_text(f.where), f.value, f.expected, f.remedy) for f in source.flaws]
    if not isinstance(source.tree, dict):
        if not flaws:
            empty = "empty file" if source.tree is None else show(source.tree, ())
            flaws = [Problem(report.file, 1, "", empty, "a mapping of keys", ("start from bosh_like_config/minimal.yml"))]
        return Loaded(None, tuple(flaws), ())
    tree, notices = modernise(source.tree)
    context = LoadContext(file.parent, environ)
    rules = (*broken_rules(tree), *broken_listeners(tree))
    broken = [report.problem(b.where, source.tree, b.expected, b.remedy) for b in rules]
    config, wrong = _validate(tree, context, report)
    if config is not None:
        notices += advise(config, tree, today or dt.datetime.now(dt.UTC))
    problems = (*_unique((*flaws, *broken, *wrong)), *context.problems)
    warnings = [*report.warnings(notices), *_loose_keys(context.open_keys)]
    return Loaded(None if problems else config, problems, tuple(warnings), tuple(dict.fromkeys(context.files)))


def _validate(tree: Tree, context: LoadContext, report: "_Report") -> tuple[Config | None, list[Problem]]:
    try:
        return Config.model_validate(tree, context=context), []
    except ValidationError as error:
        found = (report.translate(detail, tree) for detail in error.errors(include_url=False)[:_MAX_PROBLEMS])
        return None, [problem for problem in found if problem is not None]


def _unique(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.path)))


def _loose_keys(files: Iterable[Path]) -> Iterator[Problem]:
    for path in dict.fromkeys(files):
        yield Problem(
            str(path),
            0,
            "",
            "",
            "a secret that only its owner can read",
            "chmod 600, and give it to the router's user",
        )


@dataclass(frozen=True, slots=True)
class _Report:
    """Turns findings of one file into problems."""

    file: str
    source: Source

    def problem(self, where: Where, tree: object, expected: str, remedy: str) -> Problem:
        value = show(_value_at(tree, where), where) if where and where[-1] not in MISPLACED else ""
        return Problem(self.file, self._line(where), path_text(where), value, expected, remedy)

    def warnings(self, notices: Iterable[Notice]) -> Iterator[Problem]:
        for where, said, remedy in notices:
            yield Problem(self.file, self._line(where), path_text(where), "", said, remedy)

    def translate(self, detail: ErrorDetails, tree: Tree) -> Problem | None:
        """One error of the model; None where rules.py has a better sentence for the same place."""
        where: Where = tuple(detail["loc"])
        kind, given = detail["type"], detail.get("ctx", {})
        if where and where[-1] in MISPLACED and kind == "extra_forbidden":
            return None
        if where == ("nats",):
            return None
        if kind == "extra_forbidden":
            expected, remedy = "a known key", _nearest(where)
            return Problem(self.file, self._line(where), path_text(where), "", expected, remedy)
        if kind == "missing":
            return Problem(self.file, self._line(where), path_text(where), "", "this key", "add it; it has no default")
        if kind == "vestibule":
            expected, remedy = str(given["expected"]), str(given["remedy"])
        else:
            expected, remedy = _plain(detail["msg"]), "see docs/reference/config.md"
        value = show(_value_at(tree, where), where)
        if kind == "model_type" and value.startswith("'"):
            value = "(a text)"  # where a section belongs, a text may be anything, a secret too
        return Problem(self.file, self._line(where), path_text(where), value, expected, remedy)

    def _line(self, where: Where) -> int:
        if where and where[:1] not in self.source.lines and where[0] in _RENAMED:
            where = (_RENAMED[str(where[0])], *where[1:])
        return self.source.line_of(where)


def _plain(message: str) -> str:
    """Pydantic's sentence, a little less of a program's: `Input should be 'a' or 'b'` -> `'a' or 'b'`."""
    return printable(
        message.removeprefix("Input should be ").replace("tuple", "list").replace("dictionary", "mapping"),
        200,
    )


def _value_at(tree: object, where: Where) -> object:
    for step in where:
        if isinstance(tree, dict) and step in tree:
            tree = tree[str(step)]
        elif isinstance(tree, tuple) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
        elif not (isinstance(tree, str) and step == 0):  # one text where a list may stand
            return None
    return tree


def _nearest(where: Where) -> str:
    """The way out of an unknown key: the nearest known name at its place."""
    names = sorted(known_keys(where[:-1]))
    listed = f"known here: {', '.join(names)}" if len(names) <= 12 else "docs/reference/config.md lists all keys"
    return did_you_mean(str(where[-1]), names) or f"remove it; {listed}"


def known_keys(where: Where) -> set[str]:
    """Every key that may stand in the mapping at `where`, keys without effect included."""
    model: type[BaseModel] | None = Config
    for step in where:
        if isinstance(step, str) and model is not None:
            model = _section(model, step)
    prefix = ".".join(str(step) for step in where)
    silent = {path.rpartition(".")[2] for path in NO_EFFECT if path.rpartition(".")[0] == prefix}
    extra = set(_RENAMED.values()) if not where else set()
    return silent | extra | ({name for name, _ in keys_of(model)} if model is not None else set())


def keys_of(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """(key as the file spells it, field) of a section, in order; of several spellings the first."""
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        key = (
            alias
            if isinstance(alias, str)
            else (str(alias.choices[0]) if alias is not None and hasattr(alias, "choices") else name)
        )
        yield key, field


def _section(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    return next((section_of(field.annotation) for name, field in keys_of(model) if name == key), None)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, alone or in a list; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [section_of(part) for part in getattr(annotation, "__args__", ())]
    return next((part for part in inner if part is not None), None)
