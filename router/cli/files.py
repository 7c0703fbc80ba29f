"""The files that a command is given: read with a bound, and one way to say which of them cannot be read.

Promises: at most one byte more than the limit is read, so that whoever takes the content can refuse a file that is too large; a
name that is none is told as a file that is not there. Refuses to know what a file holds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from registry.problems import Problem

MAX_FILE: Final = 4 * 1024 * 1024
"""Bytes; no reader of YAML takes more (registry/source.py)."""


def content(path: str | Path, limit: int = MAX_FILE) -> bytes:
    """What a file holds, up to a little more than `limit` bytes. Raises OSError or ValueError."""
    with Path(path).open("rb") as stream:
        return stream.read(limit + 1)


def from_folder(folder: Path) -> Callable[[str], bytes]:
    """Reads files whose names start from a folder. Raises OSError or ValueError."""
    return lambda name: content(folder / name)


def needed(path: str, option: str = "", limit: int = MAX_FILE) -> bytes:
    """As `content`. Raises ValueError, a sentence for a person that begins with the option that names the file."""
    from registry.problems import printable  # not for --help

    try:
        return content(path, limit)
    except (OSError, ValueError) as error:
        named = f"{option} {printable(path, 200)}".lstrip()
        raise ValueError(f"{named}: {reason_of(error)}; name a file that can be read") from None


def unreadable(path: str, error: OSError | ValueError, option: str = "") -> "Problem":
    """What `content` raised, as the problem of a file that `option` names."""
    from registry.problems import Problem

    remedy = f"name the right file with {option}" if option else "name the right file"
    return Problem(path, 0, "", reason_of(error), "a file that can be read", remedy)


def reason_of(error: OSError | ValueError) -> str:
    """Why a file cannot be opened, in a few words; a ValueError is a name that no file can have."""
    return (error.strerror if isinstance(error, OSError) else None) or "not a file name"
