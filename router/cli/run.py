"""Start the router, and keep it running until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import resource
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.app import MakePlane
    from router.config.model import Config

EXAMPLE = "vestibule run -c router.yml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, required=True, help="the configuration (YAML)")


def _raise_descriptor_limit() -> None:
    """As many descriptors as the system allows: the soft limit is often 1,024, for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _plane(path: Path, config: Config) -> MakePlane:
    """Who serves: this process, or workers, and then nothing of them is loaded before."""
    if not config.worker_count:
        from router.app import OneProcess

        return OneProcess
    from router.workers.supervisor import Supervisor

    return partial(Supervisor, path)


def run(arguments: argparse.Namespace) -> int:
    """The exit status: 0 after a drain or a stop, 1 for a configuration that does not load or a drain that took too long."""
    gc.disable()  # until `tune_collector`
    try:
        return _run(arguments.config)
    finally:
        gc.enable()


def _run(path: Path) -> int:
    from registry.problems import render
    from router.config.load import load

    loaded = load(path)
    if loaded.config is None:
        findings = (render(problem, "error") for problem in loaded.problems)
        print("Error loading config", *findings, sep="\n", file=sys.stderr)
        return 1
    from router.app import App
    from router.config.compile_error import CompileError
    from router.process import loop_factory, tune_collector

    config, warnings = loaded.config, loaded.warnings
    _raise_descriptor_limit()

    async def main() -> int:
        app = App(path, config, warnings, asyncio.get_running_loop(), _plane(path, config))
        tune_collector()
        return await app.run()

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(main())
    except CompileError as error:
        print(f"Error loading config\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"vestibule: cannot start: {error}", file=sys.stderr)
        return 1
