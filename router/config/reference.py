"""The reference of the configuration, written from the model: docs/reference/config.md, bosh_like_config/router.yml
and the BOSH job's spec (job.py).

Promises: every key with an effect, its default and its reason, and every key without; a test compares the
files with this. `python -m router.config.reference` writes all below the current folder. Refuses to
say anything the model does not.
"""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from router.config.job import job_spec
from router.config.legacy import AGREED, NO_EFFECT, ZERO_MEANS_DEFAULT
from router.config.load import keys_of, section_of
from router.config.model import Config
from router.config.spelling import spelled_default

_INTRO = """# Configuration

Made by `python -m router.config.reference`; a test checks that it is current.

Names are GoRouter's wherever GoRouter has one; an existing `gorouter.yml` starts unchanged. Durations
are Go's (`20s`, `1m30s`, `100ms`); a bare number is nanoseconds. A certificate or key is PEM text, or
the path of a file (relative to the configuration file). Any secret and any PEM may also be `{file:
PATH}` or `{env: NAME}`; where both are given the file wins. Secrets are never printed. Lists in brackets
hold the keys below them once per item.

"""


def reference() -> str:
    """docs/reference/config.md."""
    rows = "\n".join(f"| `{path}` | {default} | {about} |" for path, default, about in _rows(Config, ""))
    zeros = ", ".join(f"`{key}`" for key in ZERO_MEANS_DEFAULT)
    silent = "\n".join(f"| `{path}` | {said} |" for path, said in NO_EFFECT.items())
    agreed = ", ".join(f"`{path}: {str(value).lower()}`" for path, value in AGREED.items())
    return (
        f"{_INTRO}| key | default | meaning and reason |\n|---|---|---|\n{rows}\n\n"
        f"## Zero\n\nFor {zeros} 0 means the default above, with a warning; `unlimited` means no bound.\n\n"
        "## Older and newer spellings\n\n`nats` as a list of `{host, port, user, pass}` with one "
        "user; `ca_certs` as one text; "
        "`max_header_bytes` for `max_request_header_bytes`; `name` for "
        "`domain`; `organisation` and `organisation_unit` in certificate subjects.\n\n"
        f"## Accepted without effect, each with one warning\n\n"
        f"None where the value asks for what is so anyway: {agreed}.\n\n| key | why |\n|---|---|\n{silent}\n"
    )


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for key, field in keys_of(model):
        section, path = section_of(field.annotation), prefix + key
        many = section is not None and field.annotation is not section
        about = (field.description or "").replace("|", "\\|")
        yield path + ("[]" if many else ""), "" if section and not many else f"`{spelled_default(field)}`", about
        if section is not None:
            yield from _rows(section, path + ("[]." if many else "."))


SHIPPED: Final[dict[str, tuple[str, str]]] = {
    "workers": (
        "auto",
        "`auto` here, for one process uses one core; absent is 0: an older file starts what it always did",
    ),
}
"""Keys of router.yml that are not at their default, each with the reason."""


def router_yml() -> str:
    """bosh_like_config/router.yml: every key at its default but for SHIPPED, so the file says what an empty one means."""
    head = (
        "# Every property of Vestibule, its default and the reason for it. Made by `python -m "
        "router.config.reference`.\n"
        "# A key in a comment has no default, or its default is `absent`. Lists of sections show one item.\n"
    )
    lines = [line for key, field in keys_of(Config) for line in ("", *_key(key, field))]
    return head + "\n".join(line.rstrip() for line in lines) + "\n"


def _yaml(model: type[BaseModel], indent: str) -> Iterator[str]:
    return (indent + line for key, field in keys_of(model) for line in _key(key, field))


def _key(key: str, field: FieldInfo) -> Iterator[str]:
    """One key with its reason above it; commented out where it has no default, or where saying it would
    warn.
    """
    section, default = section_of(field.annotation), spelled_default(field)
    about = str(field.description)
    if key in SHIPPED:
        default, why = SHIPPED[key]
        about = f"{about}. {why}"
    yield from textwrap.wrap(about, 100, initial_indent="# ", subsequent_indent="# ")
    if section is not None and default == "section":
        yield f"{key}:"
        yield from _yaml(section, "  ")
        return
    off = default in ("absent", "required")
    yield ((f"# {key}:{'' if default in ('absent', 'required') else ' ' + default}") if off else f"{key}: {default}")
    if section is not None:
        yield from (f"# {line}" for line in (f"{key}:", "  -", *_yaml(section, "    ")))


def main(root: Path) -> int:
    """Write all of them below `root`."""
    for name, text in (
        ("docs/reference/config.md", reference()),
        ("bosh_like_config/router.yml", router_yml()),
        ("bosh_like_config/jobs/vestibule/spec", job_spec()),
    ):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
