"""The release that comes with the code: the job's templates, and what they become.

Promises: templates run in a sandbox, and a name they do not know is an error; texts that go into a shell script are
quoted. Knows its own folder: bosh_like_config lies beside the packages, in a checkout and where it is installed.
Refuses to write (write.py).

Source: Jinja's sandbox; BOSH's job layout.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from registry.problems import printable
from router.config.dump import dump
from router.config.job import TEMPLATES

FOLDER: Final = Path(__file__).parents[2] / "bosh_like_config" / "jobs" / "vestibule"
CONFIG: Final = "config/gorouter.yml"
SECRET_MODE: Final = 0o600
SCRIPT_MODE: Final = 0o755
PLAIN_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class File:
    """A file of the rendered job: its path below the job's folder, its content and its mode."""

    path: str
    content: str
    mode: int


def render_job(
    config: object, deployment: str, group: str, job: str, folder: Path, templates: Path = FOLDER / "templates"
) -> tuple[File, ...]:
    """Every file of the job. `config`: a plain value; `folder`: where the job will stand. Raises jinja2.TemplateError,
    which names template and line.
    """
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(templates), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    environment.filters["yaml"] = dump
    environment.filters["shell"] = shlex.quote
    environment.filters["comment"] = lambda text: printable(str(text), 100)
    values: Mapping[str, object] = {
        "config": config, "deployment": deployment, "group": group, "job": job, "folder": str(folder),
    }  # fmt: skip
    return tuple(
        File(target, environment.get_template(name).render(values), _mode_of(target)) for name, target in TEMPLATES.items()
    )


def _mode_of(path: str) -> int:
    """The configuration holds keys; scripts run; the rest is read."""
    if path == CONFIG:
        return SECRET_MODE
    return SCRIPT_MODE if path.startswith("bin/") else PLAIN_MODE
