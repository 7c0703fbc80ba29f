"""`logging.names_file`: the names that logs and tools show beside GUIDs, read with the configuration.

Promises: each problem of the file is a problem of the loading, with the names file's own line; a reload reads it anew. Refuses to
know what names are for (registry/names.py), and decides nothing by them.
"""

from typing import Annotated, Final, TypeAlias

from pydantic import PlainValidator, ValidationInfo

from registry.names import Names, read_names
from registry.source import MAX_BYTES
from router.config.scalars import context_of, mistake, read_file

_LONGEST: Final = 4096


def _names(value: object, info: ValidationInfo) -> Names | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\n" in value or len(value) > _LONGEST:
        raise mistake("the path of a names file", "write apps, spaces and orgs: {GUID: name} into a file, and its path here")
    context = context_of(info)
    text = read_file(value, context, secret=False, limit=MAX_BYTES)
    names, problems = read_names(text.encode(), str(context.base / value))
    context.problems.extend(problems)
    return names


NamesFile: TypeAlias = Annotated[Names | None, PlainValidator(_names)]
