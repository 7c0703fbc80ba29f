"""Start a whole small world, and show what its router lets in and what it does not.

Starts a NATS server, two foundations' authorities, three apps and a router on the loopback address, makes real calls and
shows for each what was expected and what happened. Exits 0 when all went as expected, 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from router.cli.output import Form, add_output, show

EXAMPLE = "vestibule demo --once"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="end after the table instead of staying up")
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """The exit status: 0 when every call ended as expected. JSON and YAML end after the table."""
    from router.demo.world import DemoError

    try:
        return asyncio.run(_demo(arguments.output, once=arguments.once))
    except (DemoError, FileNotFoundError, RuntimeError) as error:
        print(f"vestibule demo: {error}", file=sys.stderr)
        return 1


async def _demo(form: Form, *, once: bool) -> int:
    """Run until done or told to stop; a signal at any moment leaves by the same door, which takes everything down."""
    loop = asyncio.get_running_loop()
    work = loop.create_task(_show(form, once=once or form != "table"))

    def leave() -> None:
        # What a library complains of while its server is taken away concerns nobody.
        loop.set_exception_handler(lambda _loop, _context: None)
        logging.disable()
        work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, leave)
    try:
        return await work
    except asyncio.CancelledError:
        return 1


async def _show(form: Form, *, once: bool) -> int:
    from router.demo.calls import CALLS, make
    from router.demo.show import Painter, as_json
    from router.demo.world import world

    painter = Painter(sys.stdout)
    async with world() as here:
        outcomes = []
        if form == "table":
            painter.heading()
        for call in CALLS:
            outcomes.append(await asyncio.to_thread(make, call, here))
            if form == "table":
                painter.outcome(outcomes[-1])
        if form == "table":
            painter.summary(outcomes)
        else:
            show(form, [as_json(outcome) for outcome in outcomes], str)
        status = 0 if all(outcome.as_expected for outcome in outcomes) else 1
        if not once:
            painter.curl_lines(here)
            await _until_told_to_stop()
    return status


async def _until_told_to_stop() -> None:
    """Wait for Ctrl-C, which is how this command is meant to end."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
