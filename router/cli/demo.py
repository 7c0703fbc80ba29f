"""`vestibule demo [--once]`: a whole small world, and what its router lets in.

Starts a NATS server, two foundations' authorities, three apps and a router on the loopback address, makes real calls and
shows for each what was expected and what happened. Exits 0 when all went as expected, 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from router.cli.main import add_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="end after the table instead of staying up")
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """The exit status: 0 when every call ended as expected. JSON output ends after the table."""
    from router.demo.world import DemoError

    try:
        return asyncio.run(_demo(once=arguments.once, as_json=arguments.output == "json"))
    except (DemoError, FileNotFoundError, RuntimeError) as error:
        print(f"vestibule demo: {error}", file=sys.stderr)
        return 1


async def _demo(*, once: bool, as_json: bool) -> int:
    """Run until done or told to stop; a signal at any moment leaves by the same door, which takes everything down."""
    loop = asyncio.get_running_loop()
    show = loop.create_task(_show(once=once or as_json, as_json=as_json))

    def leave() -> None:
        # What a library complains of while its server is taken away concerns nobody.
        loop.set_exception_handler(lambda _loop, _context: None)
        show.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, leave)
    try:
        return await show
    except asyncio.CancelledError:
        return 1


async def _show(*, once: bool, as_json: bool) -> int:
    from router.demo.calls import CALLS, make
    from router.demo.show import Painter
    from router.demo.show import as_json as to_json
    from router.demo.world import world

    painter = Painter(sys.stdout)
    async with world() as here:
        outcomes = []
        if not as_json:
            painter.heading()
        for call in CALLS:
            outcomes.append(await asyncio.to_thread(make, call, here))
            if not as_json:
                painter.outcome(outcomes[-1])
        if as_json:
            print(to_json(outcomes))
        else:
            painter.summary(outcomes)
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
