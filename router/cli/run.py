"""Start the router, and keep it running until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

EXAMPLE = "vestibule run -c router.yml"

GC_ALLOCATIONS: Final = 50_000
"""Net allocations between two collections: a request leaves no cycles behind, so looking often finds nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, required=True, help="the configuration (YAML)")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _raise_descriptor_limit() -> None:
    """As many descriptors as the system allows: the soft limit is often 1,024, for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(arguments: argparse.Namespace) -> int:
    """The exit status: 0 after a drain or a stop, 1 for a configuration that does not load or a drain that took too long."""
    from registry.problems import render
    from router.config.load import load

    loaded = load(arguments.config)
    if loaded.config is None:
        findings = (render(problem, "error") for problem in loaded.problems)
        print("Error loading config", *findings, sep="\n", file=sys.stderr)
        return 1
    from router.app import App
    from router.config.compile_error import CompileError

    config, warnings = loaded.config, loaded.warnings
    _raise_descriptor_limit()

    async def main() -> int:
        app = App(arguments.config, config, warnings, asyncio.get_running_loop())
        # What lives as long as the process need not be looked at again; short-lived values die by their count.
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS, 20, 50)
        return await app.run()

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(main())
    except CompileError as error:
        print(f"Error loading config\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"vestibule: cannot start: {error}", file=sys.stderr)
        return 1
