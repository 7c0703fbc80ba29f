"""Explain what would come of a call, layer by layer, and what would change the answer.

Promises: exit 0 when the request would be forwarded, 1 when it would not or the question cannot be answered, 2 for a wrong call;
the answer is that of the data plane's own functions (router/inspect/explain.py), from files alone or, with `--live`, from a
running router, to which no certificate is sent: only whom it names. Refuses to decide anything, and to make the call.
"""

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from router.cli.files import needed
from router.cli.manifests import add_manifests, load_manifests
from router.cli.naming import add_names, load_names
from router.cli.output import add_output, cell, show
from router.cli.status_client import add_live, fetch, place_of
from router.cli.wrong_call import WrongCall

if TYPE_CHECKING:
    from identity.caller import Caller
    from registry.endpoint import Route
    from registry.names import Names
    from registry.table import RouteTable
    from router.config.model import Config
    from router.inspect.explanation import Question

EXAMPLE = "vestibule explain -c router.yml -m manifest.yml --host api.apps.mtls.internal --cert instance.crt"

_MAX_CERTIFICATES = 1024 * 1024
_SOMEWHERE = "192.0.2.1"  # RFC 5737: nobody answers there


class Chain(NamedTuple):
    """A client's certificate and what it sends along (DER)."""

    leaf: bytes
    intermediates: tuple[bytes, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", required=True, metavar="HOST", help="the host that is asked for")
    add("--path", default="/", metavar="PATH", help="the path that is asked for (default: /)")
    who = parser.add_argument_group(
        "who calls", "A certificate, or the GUIDs that it would name; without either, no certificate."
    )
    who.add_argument("--cert", metavar="FILE", help="the client's certificate (PEM), then the intermediates that it sends")
    for name, of in (("app", "the app"), ("space", "its space"), ("org", "its org")):
        who.add_argument(f"--{name}", metavar="GUID", help=f"the GUID of {of}")
    who.add_argument("--sni", metavar="NAME", help="the server name that the client sends, - for none (default: the host)")
    who.add_argument("--plain", action="store_true", help="without TLS")
    add_live(parser, config="the configuration; with --live: take address, user and password from it")
    add("--options", metavar="JSON", help="the options of a route for the whole host")
    add("--route-space", metavar="GUID", help="the space that the route's instances are in (for route_policy_scope)")
    add("--route-org", metavar="GUID", help="the org that they are in")
    add_manifests(parser)
    add_names(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    from router.cli.explain_table import as_text  # not for --help

    try:
        _check_call(arguments)
        names = load_names(arguments)
        value = _live(arguments, names) if arguments.url is not None else _offline(arguments, names)
        show(arguments.output, value, lambda: as_text(value))
    except ValueError as error:
        print(f"vestibule explain: {error}", file=sys.stderr)
        return 1
    return 0 if value.get("allowed") is True else 1


def _check_call(arguments: argparse.Namespace) -> None:
    if arguments.cert and (arguments.app or arguments.space or arguments.org):
        raise WrongCall("--cert and --app, --space, --org exclude each other: the certificate names them itself")
    if (arguments.space or arguments.org) and not arguments.app:
        raise WrongCall("--space and --org need --app: a caller without an app is nobody")
    if arguments.plain and arguments.sni:
        raise WrongCall("--plain and --sni exclude each other: without TLS no server name is sent")
    given = [
        name for name in ("--live", "--options", "--manifest") if getattr(arguments, "url" if name == "--live" else name[2:])
    ]
    if len(given) != 1:
        told = " and ".join(given) + " exclude each other" if given else "which route? give one of them"
        raise WrongCall(f"{told}: --options JSON, -m MANIFEST or --live URL")
    if arguments.url is None and not arguments.config:
        raise WrongCall("--options and -m need -c FILE, the router's configuration")
    if (arguments.route_space or arguments.route_org) and arguments.url is not None:
        raise WrongCall("--route-space and --route-org are for routes that do not run: a router knows them")


# ---- from files


def _offline(arguments: argparse.Namespace, names: "Names") -> dict[str, Any]:
    from router.config.compile_error import CompileError
    from router.inspect.explain import explain
    from router.inspect.explain_http import why_not
    from router.inspect.scene import scene_of_config
    from router.wire.malformed import Malformed

    config = _config(arguments.config)
    table = _table(arguments, config)
    try:
        scene = scene_of_config(config, table, names.with_tags(each for route in table for each in route.pool.endpoints))
    except CompileError as error:
        raise ValueError(f"the configuration cannot be built: {cell(error)}; `vestibule check` says more") from error
    question = _question(arguments)
    found = explain(question, scene, time.time())
    if isinstance(found, Malformed):
        raise ValueError(why_not(found, question))  # noqa: TRY004
    return found.as_json()


def _config(file: str) -> "Config":
    from registry.problems import render
    from router.config.load import load

    loaded = load(file)
    if loaded.config is None:
        problems = "\n".join(render(problem, "error") for problem in loaded.problems)
        raise ValueError(f"Error loading config\n{problems}")
    return loaded.config


def _table(arguments: argparse.Namespace, config: "Config") -> "RouteTable":
    """The route of `--options`, or those of the manifests, with the owners that `--route-*` say."""
    from registry.manifest import manifest_table
    from registry.problems import render

    if arguments.options is not None:
        return _owned(_one_route(arguments.host, arguments.options, config.max_route_options_size), arguments)
    read = load_manifests(arguments, config.max_route_options_size)
    if read.problems:
        raise ValueError("the manifests have problems\n" + "\n".join(render(problem, "error") for problem in read.problems))
    return _owned(manifest_table(read.routes), arguments)


def _one_route(host: str, options: str, limit: int) -> "RouteTable":
    """As if one instance had registered for the whole host; without a route where the host is none."""
    import json

    from registry.ledger import Ledger, LedgerSettings
    from registry.message import RegistryMessage, parse_message

    try:
        raw = json.loads(options)
    except (ValueError, RecursionError):
        raise WrongCall(f'--options {cell(options)} is no JSON; write \'{{"mtls_allowed_apps": "GUID"}}\'') from None
    data = json.dumps({"host": _SOMEWHERE, "port": 80, "uris": [host], "options": raw}).encode()
    message = parse_message(data, max_bytes=sys.maxsize, max_options=limit)
    ledger = Ledger(LedgerSettings())
    if isinstance(message, RegistryMessage):
        ledger.register(message, data, 0.0)
    return ledger.publish()


def _owned(table: "RouteTable", arguments: argparse.Namespace) -> "RouteTable":
    """The table with every instance in the space and org that are said."""
    from dataclasses import replace

    from registry.endpoint import Tags

    said = {
        "space_id": _guid("--route-space", arguments.route_space),
        "organization_id": _guid("--route-org", arguments.route_org),
    }
    tags = {name: guid for name, guid in said.items() if guid is not None}
    if not tags:
        return table
    frozen = Tags(tuple(tags), tuple(tags.values()))
    routes: dict[tuple[str, str], Route | None] = {}
    for route in table:
        endpoints = tuple(replace(endpoint, tags=frozen) for endpoint in route.pool.endpoints)
        routes[route.host, route.path] = replace(route, pool=replace(route.pool, endpoints=endpoints))
    return table.changed(routes)


# ---- who calls


def _question(arguments: argparse.Namespace) -> "Question":
    from router.inspect.explain_http import NO_SNI
    from router.inspect.explanation import Question

    chain = _chain(arguments.cert) if arguments.cert else None
    return Question(
        host=arguments.host,
        path=arguments.path,
        caller=_caller(arguments),
        sni="" if arguments.sni == NO_SNI else arguments.sni,
        certificate=chain.leaf if chain is not None else None,
        plain=arguments.plain,
        intermediates=chain.intermediates if chain is not None else (),
    )


def _chain(file: str) -> Chain:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    data = needed(file, "--cert", _MAX_CERTIFICATES)
    if len(data) > _MAX_CERTIFICATES:
        raise ValueError(f"--cert {cell(file)} has more than {_MAX_CERTIFICATES} bytes; expected one PEM chain")
    try:
        leaf, *others = (one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(data))
    except (ValueError, TypeError):
        said = f"--cert {cell(file)} holds no PEM certificate; the client's own comes first, its intermediates after it"
        raise ValueError(said) from None
    return Chain(leaf, tuple(others))


def _caller(arguments: argparse.Namespace) -> "Caller | None":
    from identity.caller import Caller

    app = _guid("--app", arguments.app)
    if app is None:
        return None
    return Caller(app, _guid("--space", arguments.space), _guid("--org", arguments.org))


def _guid(option: str, text: str | None) -> Any:
    from identity.caller import parse_guid

    guid = parse_guid(text) if text is not None else None
    if text is not None and guid is None:
        raise WrongCall(f"{option} {cell(text)!r} is no GUID; expected 1 to 64 of [A-Za-z0-9_-]")
    return guid


# ---- from a running router


def _live(arguments: argparse.Namespace, names: "Names") -> dict[str, Any]:
    from identity.certificate import IdentityError, read_caller

    chain = _chain(arguments.cert) if arguments.cert else None
    who: Caller | IdentityError | None = read_caller(chain.leaf) if chain is not None else _caller(arguments)
    if isinstance(who, IdentityError):
        said = f"--cert names nobody a router could be asked about: {cell(who.detail)}; ask without --live"
        raise ValueError(said)  # noqa: TRY004
    query = {"host": arguments.host, "path": arguments.path}
    if who is not None:
        query |= {key: guid for key, guid in (("app", who.app), ("space", who.space), ("org", who.org)) if guid is not None}
    if arguments.sni:
        query["sni"] = arguments.sni
    if arguments.plain:
        query["plain"] = "true"
    answer = fetch(place_of(arguments), "/explain", query)
    if not isinstance(answer, dict) or "trail" not in answer or not isinstance(answer.get("question"), dict):
        raise ValueError("the answer is no explanation; is this a router's status endpoint, and of this version?")
    if chain is not None:
        answer["question"]["caller"] = "certificate"
    return _with_names(answer, names, who)


def _with_names(answer: dict[str, Any], names: "Names", who: "Caller | None") -> dict[str, Any]:
    """The names of `--names` over those that the router knows."""
    known = answer.get("names")
    told = dict(known) if isinstance(known, dict) else {}
    guids = [*told, *(() if who is None else (who.app, who.space, who.org))]
    answer["names"] = told | {guid: name for guid in guids if guid is not None and (name := names.get(guid)) is not None}
    return answer
