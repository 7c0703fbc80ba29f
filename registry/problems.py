"""What is wrong with a configuration, said so that its reader can mend it.

Promises: a `Problem` names the file, the line, the path inside the file, the value (bounded, escaped), what
was expected and where to change it; a secret, a PEM text or a URL with a password is never part of one.
Refuses to know how a problem is found, and whether it is an error or a warning: that is which list it stands
in.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

Where: TypeAlias = tuple[str | int, ...]
"""A place in the file: mapping keys and list indices from the top."""

SECRET_KEYS = frozenset(
    {
        "pass", "password", "token", "nkey_seed", "credentials", "client_secret", "private_key", "key", "tls_key",
        "route_services_secret", "route_services_secret_decrypt_only",
    }
)  # fmt: skip
_MAX_VALUE = 80
_HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `line` counts from 1; 0 means that no line can be named. `value` is safe to print."""

    file: str
    line: int
    path: str
    value: str
    expected: str
    remedy: str

    def as_json(self) -> dict[str, str | int]:
        """The finding as a JSON object with these six keys."""
        return {name: getattr(self, name) for name in self.__slots__}


def path_text(where: Where) -> str:
    """`("mtls_domains", 1, "domain")` as `mtls_domains[1].domain`; at most 200 characters, printable
    ASCII.
    """
    text = ""
    for step in where:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + printable(step, 60)
    return text[:200]


def show(value: object, where: Where) -> str:
    """The value for a person: escaped, at most 80 characters; secrets, PEM texts and containers only by
    their kind.
    """
    if value is None:
        return "(nothing)"
    if any(step in SECRET_KEYS for step in where):
        return _HIDDEN
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "(a mapping)"
        case tuple() | list():
            return f"(a list of {len(value)})"
        case str() if "-----BEGIN" in value:
            return "(PEM text)"
        case str() if "://" in value and "@" in value:
            return _HIDDEN
        case str():
            return f"'{printable(value, _MAX_VALUE)}'"
        case _:
            return printable(str(value), _MAX_VALUE)


def printable(text: str, limit: int) -> str:
    """`text` in printable ASCII (the rest as escapes), cut to about `limit` characters with `...` at the
    end.
    """
    cut = text[: limit + 1]
    safe = cut.encode("unicode_escape").decode("ascii")
    return safe if len(safe) <= limit else safe[:limit] + "..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The question for the known name that is nearest to `word`; nothing where none is near. Every name costs a comparison."""
    near = difflib.get_close_matches(word[:80], known, 1)
    return f"did you mean `{printable(near[0], 80)}`?" if near else ""


def render(problem: Problem, kind: str) -> str:
    """The finding as a few lines of text; `kind` is `error` or `warning`."""
    place = f"{printable(problem.file, 200)}:{problem.line}" if problem.line else printable(problem.file, 200)
    lines = [f"{place}: {kind}: {problem.path or '(whole file)'}"]
    parts = (("value", problem.value), ("expected", problem.expected), ("remedy", problem.remedy))
    lines += [f"    {name + ':':<10}{text}" for name, text in parts if text]
    return "\n".join(lines)
