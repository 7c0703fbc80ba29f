"""Print the completion of all commands, options and file names for a shell.

Promises: static text, from the same tree as the manual page: completing a word starts no Python.
"""

import argparse

SHELLS = ("bash", "zsh", "tcsh")
EXAMPLE = 'eval "$(vestibule completion bash)"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS), help="the shell that is to complete")


def run(arguments: argparse.Namespace) -> int:
    print(script(arguments.shell))
    return 0


def script(shell: str) -> str:
    """What the shell is to read."""
    import shtab

    from router.cli.tree import FILES, actions, whole_tree

    tree = whole_tree()
    kinds = {**dict.fromkeys(FILES, shtab.FILE), "DIR": shtab.DIRECTORY}
    for action in actions(tree):
        if action.metavar in kinds:
            action.complete = kinds[action.metavar]  # type: ignore[attr-defined]
    text: str = shtab.complete(tree, shell)
    return text.rstrip("\n")
