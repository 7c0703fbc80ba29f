"""A command as it is typed, run within the test: what it prints and its exit status, without a process's half second of start.

Each file of tests that runs its commands so types at least one in a process of its own, too.
"""

import contextlib
import io
from pathlib import Path
from subprocess import CompletedProcess

from router.cli import main


def typed(*words: str | Path, folder: Path | None = None) -> CompletedProcess[str]:
    """`vestibule WORDS`, in a folder; its output goes to no terminal."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        command = list(map(str, words))
        status = main(command)
    return CompletedProcess(command, status, out.getvalue(), errors.getvalue())
