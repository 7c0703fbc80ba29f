"""What the `bosh` commands take."""

import argparse
from pathlib import Path

import pytest

from router.cli.bosh_arguments import add_manifest, read_texts, read_variables


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_manifest(parser, required=True)
    return parser.parse_args(["-m", "deployment.yml", *words])


def test_a_later_source_of_a_variable_wins(tmp_path: Path) -> None:
    """Files in their order, then texts of files, then single ones, read as YAML."""
    for name, text in (("a.yml", "x: 1\ny: 1\nz: 1"), ("b.yml", "y: 2\nz: 2"), ("pem", "-----BEGIN\n")):
        (tmp_path / name).write_text(text)
    files = [word for name in ("a.yml", "b.yml") for word in ("--vars-file", str(tmp_path / name))]
    arguments = parsed(*files, "-v", "z=[3, true]", "--var-file", f"ca={tmp_path / 'pem'}", "-v", "t='4'", "-v", "e=")
    expected = {"x": 1, "y": 2, "z": (3, True), "ca": "-----BEGIN\n", "t": "4", "e": None}
    assert read_variables(arguments) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--vars-file", "/no/such"], "No such file or directory; name a file that can be read"),
        (["--vars-file", "{list}"], "a mapping of names to values"),
        (["--var-file", "x={binary}"], "UTF-8 text is expected"),
        (["--var-file", "x=\0"], "not a file name"),
        (["-v", "x=[1"], "-v x: valid YAML"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(tmp_path: Path, words: list[str], said: str) -> None:
    """With the file or the variable."""
    (tmp_path / "list").write_text("- 1")
    (tmp_path / "binary").write_bytes(b"\xff")
    filled = [word.replace("{list}", f"{tmp_path}/list").replace("{binary}", f"{tmp_path}/binary") for word in words]
    with pytest.raises(ValueError, match=said):
        read_variables(parsed(*filled))


@pytest.mark.parametrize("words", [["-v", "x"], ["-v", "=1"], ["--job", "a b"], ["--var-file", "x"]])
def test_a_wrong_form_is_a_wrong_call(words: list[str]) -> None:
    """Before any file is read."""
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parsed(*words)


def test_ops_files_keep_their_order(tmp_path: Path) -> None:
    """They build on each other."""
    for name in ("m", "1", "2"):
        (tmp_path / name).write_text(name)
    arguments = parsed("-o", str(tmp_path / "1"), "-o", str(tmp_path / "2"))
    arguments.manifest = str(tmp_path / "m")
    manifest, ops = read_texts(arguments)
    assert (manifest.data, [one.data for one in ops]) == (b"m", [b"1", b"2"])
