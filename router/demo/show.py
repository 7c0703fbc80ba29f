"""How the demo looks: a table of at most 100 columns, then lines to copy.

Promises: plain text; colour only where a terminal asks for none of the usual exceptions. Refuses to know: how calls are made.
"""

import textwrap
from collections.abc import Sequence
from typing import TextIO

from router.cli.output import Colour, paint
from router.demo.calls import Call, Outcome
from router.demo.world import DRAFT, HELLO, ORDERS, STOCK, World

WIDTH = 100
_COLUMNS = (("caller", 10), ("calls", 7), ("what is tried", 28), ("expected", 27), ("seen", 26))
_INDENT = 10

INTRODUCTION = f"""\
One router. Three apps, registered over NATS. Two foundations, each with an authority of its own.

  orders   {ORDERS}   mutual TLS (east); the route's list: billing
  draft    {DRAFT}    mutual TLS (east); another route of it, without a list
  stock    {STOCK}    mutual TLS (west); the route's list: space logistics
  hello    {HELLO}               an open domain

  billing and reports hold instance certificates of east, warehouse one of west; nobody holds none."""

AFTERWARDS = (
    ("allowed", "billing", ORDERS, ()),
    ("not on the list: 403", "reports", ORDERS, ()),
    ("route without options: 403", "billing", DRAFT, ()),
    ("no certificate: TLS alert", None, ORDERS, ()),
    ("a certificate of west: TLS alert", "warehouse", ORDERS, ()),
    ("SNI hello, Host orders: 421", "billing", HELLO, ("-H", f"'Host: {ORDERS}'")),
    ("at home in west", "warehouse", STOCK, ()),
    ("open domain, no certificate", None, HELLO, ()),
)
"""What the curl lines show: about, caller, host of the URL, more arguments."""


class Painter:
    """Writes lines, in colour or not."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def line(self, text: str = "", colour: Colour | None = None) -> None:
        """One line, flushed: the reader sees each call as it ends."""
        print(paint(text, colour, self._out) if colour else text, file=self._out, flush=True)

    def heading(self) -> None:
        """The introduction and the table's head."""
        self.line("Vestibule demo", "bold")
        self.line(INTRODUCTION)
        self.line()
        self.line("".join(name.ljust(width) for name, width in _COLUMNS).rstrip(), "bold")
        self.line("-" * WIDTH, "dim")

    def outcome(self, outcome: Outcome) -> None:
        """One call of the table with what the app saw, or why the router refused."""
        call = outcome.call
        seen = outcome.seen if outcome.as_expected else f"WRONG: {outcome.seen}"
        cells = (call.caller or "nobody", call.host.partition(".")[0], call.about, call.expected, seen)
        row = "".join(cell.ljust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
        self.line(row.rstrip(), "green" if outcome.as_expected else "red")
        for detail in outcome.details:
            for part in textwrap.wrap(detail, WIDTH - _INDENT, break_on_hyphens=False):
                self.line(" " * _INDENT + part, "dim")

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        """How many calls ended as they must."""
        good = sum(outcome.as_expected for outcome in outcomes)
        self.line("-" * WIDTH, "dim")
        self.line(f"{good} of {len(outcomes)} calls ended as expected.", "green" if good == len(outcomes) else "red")

    def curl_lines(self, world: World) -> None:
        """What to type oneself. `curl.conf` keeps the lines short; it is written here."""
        config = world.directory / "curl.conf"
        config.write_text(f'silent\nshow-error\ninclude\ncacert = "router-ca.pem"\nconnect-to = "::127.0.0.1:{world.port}"\n')
        self.line()
        self.line("Everything stays up until Ctrl-C. Try it yourself, in another terminal:", "bold")
        self.line()
        self.line(f"  cd {world.directory}")
        for about, caller, host, more in AFTERWARDS:
            words = ["curl", "-K", "curl.conf", *(("-E", f"{caller}.pem") if caller else ()), *more, f"https://{host}/"]
            self.line(f"  # {about}", "dim")
            self.line("  " + " ".join(words))
        self.line()
        self.line("The router's log is router.log there, its access log access.log, its configuration router.yml.")


def as_json(outcome: Outcome) -> dict[str, object]:
    """A row of the table for programs."""
    call: Call = outcome.call
    return {**call._asdict(), "seen": outcome.seen, "as_expected": outcome.as_expected, "details": list(outcome.details)}
