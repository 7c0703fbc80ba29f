"""`html_error_template_file`: the page that clients see instead of plain text, read with the configuration.

Promises: each flaw of the template is a problem of the loading, with the template's own line; a reload reads it anew. A value
that holds `<` is the template itself, as BOSH's `router.html_error_template` is. Refuses to know what the page will say.
"""

from typing import Annotated, Final, TypeAlias

from pydantic import PlainValidator, ValidationInfo

from registry.problems import Problem
from router.config.scalars import context_of, mistake, read_file
from router.config.template import MAX_TEMPLATE, read_template

_LONGEST: Final = 4096
_REMEDY: Final = "correct this line of the template"


def _template(value: object, info: ValidationInfo) -> str:
    if value is None or value == "":
        return ""
    if not isinstance(value, str):
        raise mistake("the path of an HTML template, or the template itself", "write the page into a file, and its path here")
    context = context_of(info)
    inline = "<" in value
    if not inline and ("\n" in value or len(value) > _LONGEST):
        raise mistake("the path of an HTML template, or the template itself", "a template holds HTML; a path has one line")
    text = value if inline else read_file(value, context, secret=False)
    if not text.strip() or len(text.encode("utf-8", "replace")) > MAX_TEMPLATE:
        raise mistake(f"a template of 1 to {MAX_TEMPLATE} bytes", "write the page, without large pictures in it")
    found = read_template(text)
    if not isinstance(found, list):
        return text
    if inline:
        raise mistake(f"{found[0].expected} (its line {found[0].line})", "correct the template")
    file = str(context.base / value)
    context.problems.extend(Problem(file, flaw.line, "template", flaw.value, flaw.expected, _REMEDY) for flaw in found)
    return ""


ErrorTemplate: TypeAlias = Annotated[str, PlainValidator(_template)]
