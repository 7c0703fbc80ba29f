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

    from router.cli.tree import SHELL_FILE, actions, whole_tree

    tree = whole_tree()
    for action in actions(tree):
        if action.metavar == SHELL_FILE:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    text: str = shtab.complete(tree, shell)
    return text.rstrip("\n")
