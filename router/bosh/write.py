"""Rendered files into a folder: all of them, or none.

Promises: the folder changes from one whole rendering to the next by renames: a reader finds the old one, for an instant
none, or the new one, never a mixture; a failure leaves what was there. Files have their mode before they have content. A
folder that holds anything but a rendering is not touched. Refuses to know what it writes.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from router.bosh.release import File


def write_files(files: Iterable[File], folder: Path) -> None:
    """Put the files into `folder` and away with what was rendered there before. Raises OSError, or ValueError where the
    folder holds something else.
    """
    every = tuple(files)
    _refuse_others(every, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for file in every:
            _write(fresh / file.path, file)
        fresh.chmod(0o755)
        _exchange(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _refuse_others(files: tuple[File, ...], folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ValueError(f"{folder} is no folder; name another one with --output")
    if not folder.exists():
        return
    ours = {file.path for file in files}
    for path in folder.rglob("*"):
        inner = path.relative_to(folder).as_posix()
        if inner not in ours and not any(one.startswith(f"{inner}/") for one in ours):
            raise ValueError(f"{folder} holds {inner!r}, which no rendering makes; name an empty folder with --output")


def _write(path: Path, file: File) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), file.mode)
        stream.write(file.content)
        stream.flush()
        os.fsync(stream.fileno())


def _exchange(fresh: Path, folder: Path) -> None:
    """The fresh folder under the name of the old one; the old one under the fresh one's name, to be removed."""
    if not folder.exists():
        fresh.rename(folder)
        return
    aside = folder.parent / f"{fresh.name}.old"
    folder.rename(aside)
    try:
        fresh.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
