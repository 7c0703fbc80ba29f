"""router/cli/naming.py: `--names FILE`, and what the configuration names."""

import argparse
from pathlib import Path

import pytest

from registry.names import NO_NAMES, Names
from router.cli.naming import add_names, load_names


def load(*words: str) -> Names:
    parser = argparse.ArgumentParser()
    parser.add_argument("-c", "--config")
    add_names(parser)
    return load_names(parser.parse_args(words))


def test_without_the_option_there_are_no_names() -> None:
    """GUIDs are shown as they are."""
    assert load() is NO_NAMES


def test_the_names_of_the_file_are_taken(tmp_path: Path) -> None:
    """In the form of the configuration's `logging.names_file`."""
    file = tmp_path / "names.yml"
    file.write_text("orgs: {o: shop}")
    assert load("--names", str(file)).label("o") == "shop (o)"


def test_without_the_option_the_configurations_names_file_counts(tmp_path: Path) -> None:
    """Issue, part 7: one file for logs and commands; the option wins, and a configuration that is wrong is not told twice."""
    (tmp_path / "names.yml").write_text("orgs: {o: shop}")
    (tmp_path / "own.yml").write_text("orgs: {o: own}")
    config = tmp_path / "router.yml"
    config.write_text("logging: {names_file: names.yml}")
    assert load("-c", str(config)).label("o") == "shop (o)"
    assert load("-c", str(config), "--names", str(tmp_path / "own.yml")).label("o") == "own (o)"
    for wrong in ("prot: 1", "{}"):
        config.write_text(wrong)
        assert load("-c", str(config)) is NO_NAMES


def test_every_problem_of_the_file_is_said_with_its_line(tmp_path: Path) -> None:
    """Issue, bad input: all at once."""
    file = tmp_path / "names.yml"
    file.write_text("orgs:\n  o:\nteams: {}\n")
    with pytest.raises(ValueError, match="the names file has problems") as caught:
        load("--names", str(file))
    assert f"{file}:2: error: orgs.o" in str(caught.value)
    assert f"{file}:3: error: teams" in str(caught.value)


@pytest.mark.parametrize("name", ["missing.yml", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    """With what to do."""
    with pytest.raises(ValueError, match="name a file that can be read"):
        load("--names", f"{tmp_path}/{name}")
