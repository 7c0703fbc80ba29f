"""router/cli/files.py: what a file holds, or why nobody can tell."""

from pathlib import Path

import pytest

from registry.source import MAX_BYTES
from router.cli.files import MAX_FILE, content, from_folder, needed, unreadable


def test_files_are_read_with_a_bound(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (MAX_FILE + 10))
    assert len(content(tmp_path / "large")) == MAX_FILE + 1
    (tmp_path / "small").write_bytes(b"y")
    assert from_folder(tmp_path)("small") == b"y"


def test_a_file_that_is_too_large_is_refused_by_the_reader_of_yaml() -> None:
    """A byte more than it takes is read, and no more."""
    assert MAX_FILE == MAX_BYTES


@pytest.mark.parametrize(
    ("name", "reason"), [("none", "No such file or directory"), (".", "Is a directory"), ("a\0b", "not a file name")]
)
def test_what_cannot_be_read_is_told_as_a_sentence_and_as_a_problem(tmp_path: Path, name: str, reason: str) -> None:
    """Each with the option that names the file."""
    path = f"{tmp_path}/{name}"
    shown = path.replace("\0", "\\x00")
    with pytest.raises(ValueError, match=r"^--cert ") as caught:
        needed(path, "--cert")
    assert str(caught.value) == f"--cert {shown}: {reason}; name a file that can be read"
    with pytest.raises((OSError, ValueError)) as raised:
        content(path)
    assert isinstance(raised.value, OSError | ValueError)
    problem = unreadable(path, raised.value, "-m")
    assert (problem.file, problem.value, problem.remedy) == (path, reason, "name the right file with -m")
