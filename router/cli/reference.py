"""docs/reference/cli.md, from the commands themselves: `python -m router.cli.reference > docs/reference/cli.md`.

Promises: the same page on every version of Python, so that a test can say whether it is up to date.
"""

from router.cli.tree import Argument, Page, ordered, pages

HEADING = """\
# Commands

Written from the commands themselves by `python -m router.cli.reference`; `vestibule man` prints the same as a manual page.

Exit status: 0 all is well, 1 the command failed or found what it looks for, 2 it was called wrongly.
Errors go to standard error, and say what to do.
`vestibule --help` lists the commands, `vestibule COMMAND --help` tells of one, `vestibule --version` names what is installed.

Colour is used on a terminal only, and never where `NO_COLOR` is set or `TERM` is `dumb`.
A password is never an argument: it comes from the configuration, from a file, or from the environment:
`VESTIBULE_STATUS_PASS` is the status endpoint's; `VESTIBULE_NATS_PASSWORD`, `_TOKEN`, `_NKEY` and `_CREDS` are for `emit`.

Completion of commands, options and files:

    eval "$(vestibule completion bash)"                         # bash: in ~/.bashrc
    vestibule completion zsh > "${fpath[1]}/_vestibule"         # zsh: once, then start a new shell
    vestibule completion tcsh > ~/.vestibule.tcsh               # tcsh: once; source it in ~/.tcshrc

The manual page:

    vestibule man | man -l -
"""


def render() -> str:
    """The whole page."""
    return "\n".join([HEADING, *map(_section, pages())])


def _section(page: Page) -> str:
    lines = [f"## vestibule {page.name}", "", _sentence(page.about), "", f"    {page.synopsis}", ""]
    listed = [_line(one) for one in ordered(page.arguments)]
    lines += [*listed, ""] if listed else []
    return "\n".join([*lines, "For example:", "", f"    {page.example}", ""])


def _line(one: Argument) -> str:
    names = ", ".join(f"`{one.spelled(flag)}`" for flag in one.flags) or f"`{one.value}`"
    notes = [note for note, holds in (("required", one.required and one.flags), ("may be repeated", one.repeats)) if holds]
    return f"- {names}: {one.about}" + "".join(f"; {note}" for note in notes if note not in one.about)


def _sentence(about: str) -> str:
    return f"{about[:1].upper()}{about[1:]}."


if __name__ == "__main__":
    print(render(), end="")
