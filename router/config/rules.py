"""What contradicts what: errors that need two keys, or a key that must not be there.

Promises: reads the tree as the file has it, whatever its types, so that these errors are reported beside
those of single values; never raises. A combination that would break or open traffic is an error, never a
warning. Refuses to know single values (model.py).

Source: requirements 262, 267, 269, 271, 315; K1, K2; contract a.2, a.7; decisions 8 and 13.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from registry.hostname import canonical_pattern
from registry.problems import Where, path_text
from router.config.legacy import Tree
from router.config.scalars import boolean


class Broken(NamedTuple):
    """A rule that does not hold: where, what was expected, the way out."""

    where: Where
    expected: str
    remedy: str


_SCOPE = (
    "no `scope`: the router cannot know the org or space of a target from `mtls_*` options",
    (
        "list the callers' GUIDs under `authorization.config.orgs` or `.spaces`, or one domain per org "
        "(*.apps.mtls.org1.internal with orgs: [org1])"
    ),
)
_NESTED = (
    "no nested sources: route options are flat (RFC-0027) and belong to the route, not to the domain",
    ('set mtls_allowed_apps: "guid1,guid2", mtls_allowed_spaces, mtls_allowed_orgs or mtls_allow_any: true on the route'),
)
_FLAT = (
    "no route options here: they belong to the route, and the route can only narrow what its domain admits",
    "set the option on the route (manifest, or registration)",
)
MISPLACED: dict[str, tuple[str, str]] = {
    "scope": _SCOPE,
    "allowed_sources": _NESTED,
    "mtls_allowed_sources": _NESTED,
    "mtls_allowed_apps": _FLAT,
    "mtls_allowed_spaces": _FLAT,
    "mtls_allowed_orgs": _FLAT,
    "mtls_allow_any": _FLAT,
    "route_policy_scope": _FLAT,
    "route_policy_sources": _FLAT,
    "<<": ("no merge key", "write the keys out, or use an alias as a value"),
}
_VERSIONS = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")


def broken_rules(tree: Tree) -> list[Broken]:
    """Every rule that the tree breaks."""
    return [broken for rule in _RULES for broken in rule(tree)]


def as_mapping(value: object) -> Tree:
    return value if isinstance(value, dict) else {}


def domain_entries(tree: Tree) -> Iterator[tuple[Where, Tree]]:
    for key in ("mtls_domains", "domains"):
        items = tree.get(key)
        for index, item in enumerate(items if isinstance(items, tuple) else ()):
            if isinstance(item, dict):
                yield (key, index), item


def _one_nats_user(tree: Tree) -> Iterator[Broken]:
    if not isinstance(tree.get("nats", {}), dict):
        remedy = "write nats: {hosts: [{hostname, port}], user, pass}"
        yield Broken(("nats",), ("a list of {host, port, user, pass} with one user for all, or a mapping"), remedy)


def _nats_servers(tree: Tree) -> Iterator[Broken]:
    if as_mapping(tree.get("nats")).get("hosts") == ():
        yield Broken(("nats", "hosts"), "at least one server", ("list the servers, or remove the key for localhost"))


def _null_is_not_open(tree: Tree) -> Iterator[Broken]:
    """An empty list or a key without a value reads like a lock but would be none."""
    for key in ("mtls_domains", "domains"):
        if key in tree and tree[key] is None:
            yield Broken((key,), "a list of domains", "remove the key, or list the domains")
    for where, item in domain_entries(tree):
        authorization = item.get("authorization")
        config = as_mapping(authorization).get("config")
        suspects: list[tuple[Where, Tree]] = [(where, item)]
        if isinstance(authorization, dict):
            suspects.append(((*where, "authorization"), authorization))
        if isinstance(config, dict):
            suspects.append(((*where, "authorization", "config"), config))
        for place, mapping in suspects:
            for key in ("authorization", "mode", "config", "orgs", "spaces", "crls"):
                if key in mapping and mapping[key] in (None, ()):
                    yield Broken(
                        (*place, key),
                        "a value",
                        "remove the key, or say what it shall hold: empty, it locks nothing",
                    )


def _authorization(tree: Tree) -> Iterator[Broken]:
    for where, item in domain_entries(tree):
        authorization = as_mapping(item.get("authorization"))
        config = as_mapping(authorization.get("config"))
        at: Where = (*where, "authorization")
        if "orgs" in config and "spaces" in config:
            remedy = "keep one of the two; they are mutually exclusive"
            yield Broken((*at, "config"), (f"`{path_text(at)}.config.orgs` or `{path_text(at)}.config.spaces`"), remedy)
        enforcing = authorization.get("mode") == "cf_identity"
        if enforcing and as_mapping(item.get("xfcc")).get("identity_extractor") != "cf_ou":
            remedy = f"set {path_text(where)}.xfcc.identity_extractor: cf_ou; without an identity nobody could be admitted"
            yield Broken((*at, "mode"), "`cf_identity` only beside `xfcc.identity_extractor: cf_ou`", remedy)
        if not enforcing and {"orgs", "spaces"} & config.keys():
            remedy = f"set {path_text(at)}.mode: cf_identity, or remove the lists: without it they restrict nobody"
            yield Broken((*at, "config"), "lists only beside `mode: cf_identity`", remedy)
        if not enforcing and boolean(authorization.get("report_only")) is True:
            remedy = f"set {path_text(at)}.mode: cf_identity, or remove report_only: there is nothing to report"
            yield Broken((*at, "report_only"), "`true` only beside `mode: cf_identity`", remedy)


def _xfcc(tree: Tree) -> Iterator[Broken]:
    for where, item in domain_entries(tree):
        form = item.get("xfcc_format") or as_mapping(item.get("xfcc")).get("format")
        if form == "envoy" and item.get("forwarded_client_cert") == "always_forward":
            remedy = "with always_forward the router writes no header, so there is nothing to format: remove one of the two"
            yield Broken(
                (*where, "forwarded_client_cert"),
                "another mode than `always_forward` beside the envoy format",
                remedy,
            )


def _twice(tree: Tree) -> Iterator[Broken]:
    seen: dict[str, Where] = {}
    for where, item in domain_entries(tree):
        key = "domain" if "domain" in item else "name"
        text = item.get(key)
        pattern = canonical_pattern(text) if isinstance(text, str) else None
        if pattern is None:
            continue
        if pattern in seen:
            yield Broken((*where, key), "each domain once", (f"remove one; it is also {path_text(seen[pattern])}"))
        seen.setdefault(pattern, where)


def _misplaced(tree: Tree) -> Iterator[Broken]:
    for where, mapping in _mappings((), tree):
        for key in mapping.keys() & MISPLACED.keys():
            yield Broken((*where, key), *MISPLACED[key])


def _mappings(where: Where, value: object, depth: int = 6) -> Iterator[tuple[Where, Tree]]:
    if depth == 0:
        return
    if isinstance(value, dict):
        yield where, value
        for key, item in value.items():
            yield from _mappings((*where, key), item, depth - 1)
    elif isinstance(value, tuple):
        for index, item in enumerate(value[:1000]):
            yield from _mappings((*where, index), item, depth - 1)


def _tls(tree: Tree) -> Iterator[Broken]:
    if boolean(tree.get("enable_ssl")) is True and not tree.get("tls_pem"):
        yield Broken(
            ("enable_ssl",),
            "`tls_pem` with at least one certificate",
            "add tls_pem, or set enable_ssl: false",
        )
    if boolean(tree.get("disable_http")) is True and boolean(tree.get("enable_ssl")) is not True and not tree.get("listeners"):
        yield Broken(("disable_http",), "a listener", "set enable_ssl: true, remove disable_http, or add one to `listeners`")
    low, high = tree.get("min_tls_version", "TLSv1.2"), tree.get("max_tls_version", "TLSv1.3")
    if low in _VERSIONS and high in _VERSIONS and _VERSIONS.index(str(low)) > _VERSIONS.index(str(high)):
        yield Broken(("min_tls_version",), "at most max_tls_version", ("raise max_tls_version, or lower min_tls_version"))
    asks = tree.get("client_cert_validation") in ("request", "require")
    if asks and boolean(tree.get("only_trust_client_ca_certs")) is True and not tree.get("client_ca_certs"):
        remedy = "give client_ca_certs, or set client_cert_validation: none: as it stands no certificate is good"
        yield Broken(("client_ca_certs",), ("at least one certificate beside only_trust_client_ca_certs"), remedy)


def _health(tree: Tree) -> Iterator[Broken]:
    status = as_mapping(tree.get("status"))
    tls = as_mapping(status.get("tls"))
    plain = boolean(status.get("enable_nontls_health_checks")) is not False and status.get("port") != 0
    if not plain and (not tls.get("certificate") or tls.get("port") == 0):
        remedy = "set status.enable_nontls_health_checks: true, or give status.tls.certificate and key"
        yield Broken(("status",), "at least one health listener", remedy)


def _sharding(tree: Tree) -> Iterator[Broken]:
    if tree.get("routing_table_sharding_mode") == "segments" and not tree.get("isolation_segments"):
        remedy = "list isolation_segments, or use `all`: as it stands no route would be served"
        yield Broken(("routing_table_sharding_mode",), "`segments` only beside isolation_segments", remedy)


def _metrics_once(tree: Tree) -> Iterator[Broken]:
    if as_mapping(tree.get("metrics")).get("addr") and as_mapping(tree.get("prometheus")).get("port"):
        yield Broken(
            ("metrics", "addr"),
            "`metrics.addr` or `prometheus.port`",
            "they are one endpoint: keep one of the two",
        )


_RULES: tuple[Callable[[Tree], Iterator[Broken]], ...] = (
    _one_nats_user,
    _nats_servers,
    _null_is_not_open,
    _authorization,
    _xfcc,
    _twice,
    _misplaced,
    _tls,
    _health,
    _sharding,
    _metrics_once,
)
