"""Keep an app's routes registered over NATS while it is healthy, and unregister them at the end.

Promises: every problem of the manifest and of the options is said before anything is sent; standard output has what is
registered and what it costs, standard error one JSON line an event; no secret stands in either. Exit 0 when everything was
unregistered at the end, 1 when not or when nothing could be started. Refuses to know how (router/emit).
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from router.cli.manifests import add_manifests, load_manifests
from router.cli.output import add_output, show, tell
from router.cli.wrong_call import WrongCall
from router.emit.credentials import add_nats, nats_of

if TYPE_CHECKING:
    from registry.connect_nats import NatsSettings
    from registry.manifest import ManifestRead
    from router.emit.plan import Plan
    from router.emit.service import Gate

EXAMPLE = "vestibule emit -m manifest.yml --nats nats://127.0.0.1:4222 --instance 10.0.1.7:8080"

_INTERVAL = 20.0
_SINK_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_manifests(parser, required=True)
    _add_instances(parser)
    add_nats(parser)
    _add_health(parser)
    parser.add_argument(
        "--routers", type=_whole(1, 10_000), default=1, metavar="N", help="routers that listen, for the cost shown"
    )
    about = f"the interval that routers ask for, for the cost shown (default: {_INTERVAL:g}); what they do ask for is logged"
    parser.add_argument("--interval", type=_seconds, default=_INTERVAL, metavar="SECONDS", help=about)
    parser.add_argument("--dry-run", action="store_true", help="print the messages and what they cost, and send nothing")
    add_output(parser)


def _add_instances(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    place, each = "[APP=]HOST:PORT[,HOST:PORT...]", "; one for all, or one for each"
    add("--instance", action="append", required=True, metavar=place, help="where the app listens")
    add("--tls-port", type=_list_of_ports, default=[], metavar="PORT[,...]", help=f"routers dial this port, by TLS{each}")
    add("--san", type=_list, default=[], metavar="NAME[,...]", help=f"the name in the certificate behind --tls-port{each}")
    add("--instance-id", type=_list, default=[], metavar="ID[,...]", help="ids of the instances (default: from app and address)")
    add("--first-index", type=_whole(0, 1_000_000), default=0, metavar="N", help="number of the first instance (default: 0)")
    add("--app", action="append", default=[], metavar="NAME=GUID", help="an application's GUID (default: its name)")
    add("--tag", action="append", default=[], metavar="KEY=VALUE", help="a tag of every registration")
    add("--stale-threshold", type=_whole(1, 86_400), default=120, metavar="SECONDS", help="time to live (default: 120, the most)")
    limit = "the routers' max_route_options_size (default: 1024)"
    add("--max-route-options-size", type=_whole(1, 1 << 20), default=1024, metavar="BYTES", help=limit)


def _add_health(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("health", "An instance is registered while its check succeeds; without one, always.")
    check = group.add_mutually_exclusive_group()
    filled = "{host} and {port} are filled in"
    check.add_argument("--health-command", metavar="COMMAND", help=f"exit status 0 is healthy; no shell reads it; {filled}")
    check.add_argument("--health-url", metavar="URL", help=f"2xx is healthy; {filled}")
    group.add_argument("--health-ca", metavar="FILE", help="the authorities of an https URL (default: the system's)")
    for name, default, about in (("interval", 5.0, "between checks"), ("timeout", 2.0, "for one check")):
        help_text = f"seconds {about} (default: {default:g})"
        group.add_argument(f"--health-{name}", type=_seconds, default=default, metavar="SECONDS", help=help_text)
    for name, number, about in (("unhealthy", 2, "failures"), ("healthy", 1, "successes")):
        help_text = f"{about} in a row that it takes (default: {number})"
        group.add_argument(f"--{name}-after", type=_whole(1, 100), default=number, metavar="N", help=help_text)


def run(arguments: argparse.Namespace) -> int:
    if not arguments.nats and not arguments.dry_run:
        raise WrongCall("where is NATS? give --nats URL, or --dry-run to send nothing")
    read = load_manifests(arguments, arguments.max_route_options_size)
    tell(read.problems, "error")
    tell(read.warnings, "warning")
    if read.problems:
        return _fail("nothing is sent: mend the manifest")
    try:
        plan = _plan(arguments, read)
        gate = _gate(arguments)
        nats = None if arguments.dry_run else nats_of(arguments, os.environ)
    except ValueError as error:
        raise WrongCall(str(error)) from None
    for note in plan.notes:
        print(f"vestibule emit: {note}", file=sys.stderr)
    for text in plan.problems:
        _fail(text)
    if plan.problems:
        return 1
    _show(arguments, plan)
    return 0 if arguments.dry_run or nats is None else _serve(arguments, plan, nats, gate)


def _plan(arguments: argparse.Namespace, read: "ManifestRead") -> "Plan":
    from router.emit.plan import Wishes, plan, read_instances

    instances = read_instances(arguments.instance, tls_ports=arguments.tls_port, sans=arguments.san, ids=arguments.instance_id)
    wishes = Wishes(
        guids=_pairs("--app", arguments.app),
        tags=_pairs("--tag", arguments.tag),
        ttl=arguments.stale_threshold,
        first_index=arguments.first_index,
        max_options=arguments.max_route_options_size,
    )
    return plan(read.routes, instances, wishes)


def _gate(arguments: argparse.Namespace) -> "Gate | None":
    from router.emit.health import Thresholds, command_check, http_check
    from router.emit.service import Gate

    thresholds = Thresholds(
        arguments.health_interval, arguments.health_timeout, arguments.unhealthy_after, arguments.healthy_after
    )
    if arguments.health_ca and not arguments.health_url:
        raise ValueError("--health-ca is for --health-url with https")
    if arguments.health_command:
        return Gate(command_check(arguments.health_command, os.environ), thresholds)
    return Gate(http_check(arguments.health_url, arguments.health_ca), thresholds) if arguments.health_url else None


def _show(arguments: argparse.Namespace, plan: "Plan") -> None:
    """What is registered and what it costs; the messages only where they were asked for."""
    cost = plan.cost(arguments.routers, arguments.interval)

    def as_text() -> str:
        lines = [json.dumps(message) for message in plan.messages] if arguments.dry_run else []
        return "\n".join([*lines, cost.sentence()])

    show(arguments.output, {"messages": plan.messages, "cost": cost.as_json()}, as_text)
    sys.stdout.flush()  # whoever reads it shall not wait for the end


def _serve(arguments: argparse.Namespace, plan: "Plan", nats: "NatsSettings", gate: "Gate | None") -> int:
    from router.emit.service import serve
    from router.observe.log import LibraryHandler, Logger, Output
    from router.observe.sink import DescriptorTarget, Sink

    sink = Sink(DescriptorTarget(sys.stderr.fileno()))
    log = Logger(Output(sink), "vestibule.emit")
    logging.getLogger().handlers[:] = [LibraryHandler(log)]
    try:
        clean = asyncio.run(serve(plan.planned, nats, log, gate=gate, max_options=arguments.max_route_options_size))
    finally:
        sink.close(_SINK_SECONDS)
    return 0 if clean else 1


def _fail(text: str) -> int:
    print(f"vestibule emit: {text}", file=sys.stderr)
    return 1


def _pairs(option: str, texts: list[str]) -> dict[str, str]:
    """`NAME=VALUE` each, the value behind the last `=` of an --app and the first of a --tag. Raises ValueError."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.rpartition("=") if option == "--app" else text.partition("=")
        if not name or not equals or name in pairs:
            raise ValueError(f"{option} {text[:80]!r}: expected NAME=VALUE, each name once")
        pairs[name] = value
    return pairs


def _list(text: str) -> list[str]:
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError("expected values with commas between them, none of them empty")
    return found


def _list_of_ports(text: str) -> list[int]:
    return [_whole(1, 65535)(part) for part in _list(text)]


def _whole(least: int, most: int) -> Callable[[str], int]:
    """A reader of whole numbers within bounds."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text[:12]) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}")
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.05 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("expected seconds from 0.05 to 3600")
    return seconds
