"""Print the application security group that lets apps reach the routers.

Promises: JSON for `cf create-security-group`, from the static addresses of a deployment's instance group or from
`--address`; exit 1 where there is none. Refuses to talk to a Cloud Controller.
"""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from router.cli.bosh_arguments import add_manifest, read_texts, read_variables
from router.cli.output import cell, tell

if TYPE_CHECKING:
    from registry.problems import Problem
    from router.bosh.document import Node

_NEEDED = ("].networks[", ".properties.router.ssl_port", ".properties.router.tls_port")

EXAMPLE = "vestibule bosh security-group --address 10.0.1.5 --address 10.0.1.6"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_manifest(parser, required=False)
    text = "an address, network or range of routers"
    parser.add_argument("--address", metavar="A", type=_address, action="append", default=[], help=text)
    parser.add_argument("--port", type=_port, help="their TLS port (default: as the deployment says, or 443)")


def _address(text: str) -> str:
    from router.bosh.security_group import FORM, destination_of

    if destination_of(text) is None:
        raise argparse.ArgumentTypeError(f"{cell(text)!r} is none; expected {FORM}")
    return text


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) < 65536:
        raise argparse.ArgumentTypeError(f"{cell(text)!r} is no port; expected 1 to 65535")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    from router.bosh.security_group import security_group

    try:
        addresses, port, problems = _places(arguments)
    except ValueError as error:
        print(f"vestibule bosh security-group: {error}", file=sys.stderr)
        return 1
    rules, wrong = security_group(addresses, arguments.port or port)
    if problems + wrong:
        tell(problems + wrong, "error")
        return 1
    if not rules:
        print("vestibule bosh security-group: no static_ips in the instance group; give --address", file=sys.stderr)
        return 1
    print(json.dumps(rules, indent=2))
    return 0


def _places(arguments: argparse.Namespace) -> "tuple[list[Node], int, tuple[Problem, ...]]":
    """The addresses and the port. Raises ValueError."""
    from router.bosh.deployment import find_job
    from router.bosh.document import Node
    from router.bosh.properties import tls_port
    from router.bosh.render import read_manifest

    named = [Node(address, "--address", 0) for address in arguments.address]
    if not arguments.manifest:
        if not named:
            raise ValueError("no address; give -m FILE or --address")
        return named, 443, ()
    manifest, ops = read_texts(arguments)
    document, problems = read_manifest(manifest, ops)
    if problems:
        return [], 443, problems
    job, problems = find_job(document, read_variables(arguments), arguments.job, arguments.instance_group)
    if job is None:
        return [], 443, problems
    needed = _NEEDED[:1] if arguments.port else _NEEDED  # variables of other properties need no value here
    missing = tuple(one for one in problems if any(part in one.path for part in needed))
    return [*job.addresses, *named], tls_port(job.properties), missing
