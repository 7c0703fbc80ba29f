"""Print the manual page, for `man -l -` or to be installed as vestibule.1.

Promises: the same text whatever the terminal is; nothing that a help text holds is taken for a request of roff.

Source: man(7), groff_char(7).
"""

import argparse

from router.cli.main import ABOUT, version

EXAMPLE = "vestibule man | man -l -"

_ESCAPES = str.maketrans({"\\": r"\(rs", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"})

EXIT = (("0", "all is well"), ("1", "the command failed, or found what it looks for"), ("2", "it was called wrongly"))
ENVIRONMENT = (
    ("VESTIBULE_STATUS_PASS", "the password of the status endpoint, where no configuration is given; it is never an argument"),
    (
        "VESTIBULE_NATS_PASSWORD, VESTIBULE_NATS_TOKEN, VESTIBULE_NATS_NKEY, VESTIBULE_NATS_CREDS",
        "who vestibule emit is to NATS, where no file is named; never an argument either",
    ),
    ("NO_COLOR", "set to anything: no colour, on a terminal too"),
)
SIGNALS = (
    ("SIGHUP", "the router reads its configuration again"),
    ("SIGUSR1", "the router drains, then ends"),
    ("SIGTERM, SIGINT", "the router ends at once"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # it takes none


def run(arguments: argparse.Namespace) -> int:
    del arguments
    print(render(), end="")
    return 0


def render() -> str:
    """The page as roff."""
    from router.cli.tree import pages

    lines = [
        f'.TH VESTIBULE 1 "" "{plain(f"vestibule {version()}")}" "User Commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        plain("vestibule - a router that asks at two doors"),
        ".SH SYNOPSIS",
        r"\fBvestibule\fR \fICOMMAND\fR ...",
        ".SH DESCRIPTION",
        plain(ABOUT),
        ".SH COMMANDS",
    ]
    for page in pages():
        lines += [f".SS {plain(page.name)}", plain(f"{page.about[:1].upper()}{page.about[1:]}."), ".PP", bold(page.synopsis)]
        for one in page.arguments:
            spelled = ", ".join(map(one.spelled, one.flags)) or one.value
            lines += [".TP", bold(spelled), plain(one.about)]
        lines += [".PP", "Example:", ".PP", ".nf", bold(page.example), ".fi"]
    for heading, rows in (("EXIT STATUS", EXIT), ("SIGNALS", SIGNALS), ("ENVIRONMENT", ENVIRONMENT)):
        lines += [f".SH {heading}", *(line for name, about in rows for line in (".TP", bold(name), plain(about)))]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    r"""`text` as one line that roff shows as it is: `\`, quotes and hyphens escaped, none of its dots a request.

    >>> plain("-o table")
    '\\-o table'
    """
    shown = " ".join(text.split()).translate(_ESCAPES)
    safe = "".join(char if char.isascii() else rf"\[u{ord(char):04X}]" for char in shown)
    return rf"\&{safe}" if safe.startswith(".") else safe


def bold(text: str) -> str:
    return rf"\fB{plain(text)}\fR"
