"""The emitter as a process: registers what is planned and well until a signal comes, then takes it all back.

Promises: an instance with a gate is registered by its first good verdict and never before; only the instance that fails is
taken back; SIGTERM, SIGINT and SIGHUP leave in order; what could not be unregistered is named, with what ends it. Refuses to
know: the command line, the manifest.
"""

import asyncio
import signal
from collections.abc import Iterable
from typing import NamedTuple

from registry.connect_nats import NatsSettings
from registry.emitter_nats import Emitter, Registration
from registry.intake import Log
from registry.options import DEFAULT_LIMIT
from router.emit.health import Check, Thresholds, Verdict, ask
from router.emit.plan import Planned

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Gate(NamedTuple):
    """How an instance is asked whether it is well."""

    check: Check
    thresholds: Thresholds = Thresholds()


async def serve(
    planned: Iterable[Planned], nats: NatsSettings, log: Log, *, gate: Gate | None = None, max_options: int = DEFAULT_LIMIT
) -> bool:
    """Run until a signal. Was everything unregistered?"""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, stop.set)
    emitter = Emitter(nats, log=log, max_options=max_options)
    async with emitter, asyncio.TaskGroup() as tasks:
        guards = [tasks.create_task(_register(emitter, one, gate, log), name="gate") for one in planned]
        await stop.wait()
        for guard in guards:
            guard.cancel()
    for one in emitter.left_behind:
        log.error("left-registered", **left_behind(one))
    return not emitter.left_behind


async def _register(emitter: Emitter, planned: Planned, gate: Gate | None, log: Log) -> None:
    """Start one instance's messages; with a gate, when it is well, and as long as it is."""
    if gate is None:
        for message in planned.messages:
            emitter.start(message)
        return
    verdict, started = Verdict(gate.thresholds), list[Registration]()
    while True:
        wrong = await ask(gate.check, planned.instance, gate.thresholds.timeout)
        if verdict.take(not wrong):
            started = started or [emitter.start(message) for message in planned.messages]
            for one in started:
                (emitter.pause if wrong else emitter.resume)(one)
            _say(log, planned, wrong)
        await asyncio.sleep(gate.thresholds.interval)


def _say(log: Log, planned: Planned, wrong: str) -> None:
    if wrong:
        log.warning("instance-unhealthy", app=planned.app, instance=planned.instance.address, reason=wrong)
    else:
        log.info("instance-healthy", app=planned.app, instance=planned.instance.address)


def left_behind(one: Registration) -> dict[str, object]:
    """What is said of a registration that routers still have, and what ends it."""
    message = one.message
    ends = (
        "stays until a router fails to dial it: TLS endpoints do not expire; to end it, run this again with NATS there"
        if message.get("tls_port")
        else f"ends by itself {message.get('stale_threshold_in_seconds')} s after its last registration"
    )
    return {name: message.get(name) for name in ("app", "host", "port", "uris")} | {"what_follows": ends}
