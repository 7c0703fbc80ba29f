"""Plain values -> YAML text that every reader takes for the same values.

Promises: `registry.source` reads back what was written: texts are always in quotes (PEM as a block), numbers are spelled
as they were. Refuses to know what a value means.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from registry.source import SpelledFloat, SpelledInt


class _Dumper(yaml.SafeDumper):
    """Texts always in quotes (PEM as a block), numbers as they were spelled: no reader can take one for the other."""

    def ignore_aliases(self, data: object) -> bool:
        return True


class _Text(str):
    __slots__ = ()


def _represent_text(dumper: _Dumper, text: _Text) -> yaml.ScalarNode:
    block = "\n" in text and text.isascii() and text.replace("\n", "").isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|" if block else '"')


def _represent_spelled(dumper: _Dumper, number: SpelledInt | SpelledFloat) -> yaml.ScalarNode:
    kind = "int" if isinstance(number, int) else "float"
    return dumper.represent_scalar(f"tag:yaml.org,2002:{kind}", number.spelling)


_Dumper.add_representer(_Text, _represent_text)
_Dumper.add_representer(SpelledInt, _represent_spelled)
_Dumper.add_representer(SpelledFloat, _represent_spelled)


def dump(value: object) -> str:
    """YAML of a plain value (dicts, tuples or lists, scalars), in the order given, no aliases."""
    text: str = yaml.dump(_marked(value), Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=False)
    return text.removesuffix("...\n")


def _marked(value: object) -> Any:
    match value:
        case Mapping():
            return {key: _marked(item) for key, item in value.items()}
        case tuple() | list():
            return [_marked(item) for item in value]
        case str():
            return _Text(value)
        case _:
            return value
