"""All files or none."""

from pathlib import Path

import pytest

from router.bosh.release import File
from router.bosh.write import write_files

FILES = (File("config/gorouter.yml", "a: 1\n", 0o600), File("bin/drain", "#!/bin/bash\n", 0o755), File("monit", "x", 0o644))


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_text(), path.stat().st_mode & 0o777)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


WHOLE = {file.path: (file.content, file.mode) for file in FILES}


def test_files_are_there_with_their_modes(tmp_path: Path) -> None:
    """Keys for their owner alone; nothing else is left in the folder around."""
    write_files(FILES, tmp_path / "deep" / "job")
    assert tree(tmp_path / "deep" / "job") == WHOLE
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["job"]


def test_an_earlier_rendering_is_replaced_whole(tmp_path: Path) -> None:
    """No file of it stays."""
    job = tmp_path / "job"
    write_files(FILES, job)
    write_files((File("monit", "y", 0o644), *FILES[:2]), job)
    assert tree(job)["monit"] == ("y", 0o644)
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """Whatever breaks while writing."""
    job = tmp_path / "job"
    write_files(FILES, job)
    with pytest.raises(OSError, match=r"[Ii]s a directory|exists"):
        write_files((*FILES, File("config", "in the way", 0o644)), job)
    assert tree(job) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def test_a_failed_rename_brings_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one moment in which the folder has no name."""
    job = tmp_path / "job"
    write_files(FILES, job)
    rename, calls = Path.rename, []

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError("disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError, match="disk"):
        write_files(FILES, job)
    assert tree(job) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


@pytest.mark.parametrize("other", ["notes.txt", "config/keep.me", "bin/sub/x"])
def test_a_folder_with_anything_else_is_not_touched(tmp_path: Path, other: str) -> None:
    """`--output .` in the wrong place must not cost a home."""
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).write_text("mine")
    with pytest.raises(ValueError, match="which no rendering makes"):
        write_files(FILES, tmp_path)
    assert (tmp_path / other).read_text() == "mine"


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    """A file, or a link."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(ValueError, match="is no folder"):
            write_files(FILES, tmp_path / name)
