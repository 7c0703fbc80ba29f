"""The completion of all commands for a shell."""

import shutil
import subprocess
from pathlib import Path

import pytest

from router.cli import main
from router.cli.completion import SHELLS, script
from router.cli.main import COMMANDS

ASK = """
source "$1"; shift
cd "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
"$(complete -p vestibule | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(tmp_path: Path, *words: str) -> set[str]:
    """What a real bash offers for the last of `words`."""
    file = tmp_path / "completion"
    file.write_text(script("bash"))
    place = tmp_path / "place"
    place.mkdir(exist_ok=True)
    (place / "router.yml").touch()
    (place / "rendered").mkdir(exist_ok=True)
    command = ["bash", "--norc", "-c", ASK, "bash", str(file), str(place), "vestibule", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(not shutil.which("bash"), reason="asks a real bash")
def test_bash_completes_commands_verbs_options_choices_and_files(tmp_path: Path) -> None:
    """The script is sourced, and asked as the Tab key would ask."""
    assert completed(tmp_path, "") == {name.partition(" ")[0] for name in COMMANDS}
    assert completed(tmp_path, "che") == {"check"}
    assert {"--config", "--output"} <= completed(tmp_path, "check", "--")
    assert completed(tmp_path, "check", "-o", "") == {"table", "json", "yaml"}
    assert completed(tmp_path, "check", "-c", "rou") == {"router.yml"}
    assert completed(tmp_path, "policy", "diff", "rou") == {"router.yml"}
    assert completed(tmp_path, "bosh", "render", "--output", "") == {"rendered"}
    assert completed(tmp_path, "completion", "") == set(SHELLS)


@pytest.mark.skipif(not shutil.which("bash"), reason="asks a real bash")
@pytest.mark.parametrize("noun", sorted({name.partition(" ")[0] for name in COMMANDS if " " in name}))
def test_bash_completes_the_verbs_of_a_noun(noun: str, tmp_path: Path) -> None:
    verbs = {name.partition(" ")[2] for name in COMMANDS if name.startswith(f"{noun} ")}
    assert completed(tmp_path, noun, "") == verbs


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script_that_names_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`vestibule completion SHELL` prints it."""
    assert main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if name.rpartition(" ")[2] not in shown] == []


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_the_script_is_well_formed(shell: str) -> None:
    """Where that shell is there it says so itself; else every quote and brace is closed."""
    text = script(shell)
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True, capture_output=True)
    else:
        assert text.count("{") == text.count("}")
        assert text.count("'") % 2 == 0


def test_zsh_is_told_what_the_script_completes() -> None:
    """Its first line registers it."""
    assert script("zsh").startswith("#compdef vestibule\n")


def test_another_shell_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "cmd.exe"]) == 2
    assert "bash" in capsys.readouterr().err
