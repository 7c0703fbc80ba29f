"""The properties of the BOSH job: which key of the configuration each one sets, and the job's `spec`, made from the model.

Promises: one rule, `router.` and the path of the key in gorouter.yml (for `nats` the path alone), and beside it only what
GoRouter's job calls by other names; a number at a duration is seconds, as there. Every property of the spec has its
description, its default where it has one, and an example where the default shows none. Refuses to know how properties
become a file (router.bosh).

Source: contract g and g.1; the names of the gorouter job of routing-release.
"""

import textwrap
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from registry.problems import Where
from router.config.load import keys_of, section_of
from router.config.model import Config
from router.config.scalars import is_duration
from router.config.spelling import spelled_default

SAME_AS: Final[dict[str, Where]] = {
    "router.tls_port": ("ssl_port",),
    "router.ssl_skip_validation": ("skip_ssl_validation",),
    "router.status.password": ("status", "pass"),
    "router.logging_level": ("logging", "level"),
    "router.disable_log_forwarded_for": ("logging", "disable_log_forwarded_for"),
    "router.disable_log_source_ip": ("logging", "disable_log_source_ip"),
    "router.redact_query_parameters": ("logging", "redact_query_params"),
    "router.enable_log_attempts_details": ("logging", "enable_attempts_details"),
    "router.enable_access_log_streaming": ("access_log", "enable_streaming"),
    "router.max_idle_connections": ("max_idle_conns",),
    "router.max_header_kb": ("max_request_header_bytes",),
    "router.keep_alive_probe_interval": ("endpoint_keep_alive_probe_interval",),
    "router.endpoint_dial_timeout_in_seconds": ("endpoint_dial_timeout",),
    "router.websocket_dial_timeout_in_seconds": ("websocket_dial_timeout",),
    "router.tls_handshake_timeout_in_seconds": ("tls_handshake_timeout",),
    "router.requested_route_registration_interval_in_seconds": ("start_response_delay_interval",),
    "router.offset": ("index",),
    "router.prometheus.cert": ("prometheus", "cert_path"),
    "router.prometheus.key": ("prometheus", "key_path"),
    "router.prometheus.ca_cert": ("prometheus", "ca_path"),
    "router.html_error_template": ("html_error_template_file",),
    "router.route_services_internal_lookup": ("route_services_hairpinning",),
    "router.route_services_internal_lookup_allowlist": ("route_services_hairpinning_allowlist",),
    "router.route_services_strict_signature_validation": ("route_services", "strict_signature_validation"),
    "request_timeout_in_seconds": ("endpoint_timeout",),
    "for_backwards_compatibility_only.empty_pool_response_code_503": ("empty_pool_response_code_503",),
    "for_backwards_compatibility_only.empty_pool_timeout": ("empty_pool_timeout",),
    "nats.password": ("nats", "pass"),
}
"""What GoRouter's job calls by another name than gorouter.yml does."""

KIB: Final = frozenset({"router.max_header_kb"})
"""Properties that count KiB where the key counts bytes."""

WITHOUT_EFFECT: Final[dict[str, str]] = {
    "router.number_of_cpus": "no effect: there is no Go runtime; router.workers says how many processes serve",
    "router.debug_address": "no effect: there is no debug server; the log level is in router.logging.level",
    "router.dns_health_check_host": "no effect: routes come from NATS, never from the routing API",
    "router.set_kernel_parameters": "no effect: the operating system's own configuration sets these",
    "router.write_access_logs_locally": "no effect: access_log.file and access_log.enable_streaming say where it goes",
    "router.backends.enable_tls": "no effect: backends that register a TLS port are always reached by it",
    "router.prometheus.server_name": "no effect: it is for the scraper",
    "metron": "no effect: metrics are served to Prometheus",
    "uaa": "no effect: routes come from NATS, never from the routing API",
    "routing_api": "no effect: routes come from NATS, never from the routing API",
    "healthchecker": "no effect: it belongs to gorouter-healthchecker",
}
"""Properties of GoRouter's job that are accepted with a warning. Keys of gorouter.yml without effect are accepted too."""

_CERTIFICATE = "-----BEGIN CERTIFICATE-----\n(base64)\n-----END CERTIFICATE-----\n"
_KEY = "-----BEGIN PRIVATE KEY-----\n(base64)\n-----END PRIVATE KEY-----\n"
_DOMAIN = {"domain": "*.apps.mtls.internal", "ca_certs": "((diego_instance_identity_ca.certificate))"}

EXAMPLES: Final[dict[Where, object]] = {
    ("tls_pem",): [{"cert_chain": "((router_ssl.certificate))", "private_key": "((router_ssl.private_key))"}],
    ("client_ca_certs",): _CERTIFICATE,
    ("verify_client_certificate_metadata",): [
        {"issuer_in_chain": {"common_name": "balancers"}, "valid_cert_subjects": [{"common_name": "balancer.example"}]}
    ],
    ("mtls_domains",): [
        {
            **_DOMAIN,
            "xfcc": {"format": "envoy", "identity_extractor": "cf_ou"},
            "authorization": {"mode": "cf_identity", "config": {"orgs": ["5d1a3f5c-4a6b-4e26-8d3e-0b6b2a9c1f10"]}},
        }
    ],
    ("domains",): [{**_DOMAIN, "domain": "*.apps.identity", "xfcc_format": "envoy"}],
    ("trusted_proxies",): ["10.0.0.0/16"],
    ("html_error_template_file",): "<h1>{{.Status}} {{.StatusText}}</h1><p>{{.Message}}</p>",
    ("http_rewrite", "responses", "add_headers_if_not_present"): [
        {"name": "Strict-Transport-Security", "value": "max-age=31536000"}
    ],
    ("http_rewrite", "responses", "remove_headers"): [{"name": "X-Powered-By"}],
    ("backends", "cert_chain"): "((gorouter_backend_tls.certificate))",
    ("backends", "private_key"): "((gorouter_backend_tls.private_key))",
    ("route_services_secret",): "((router_route_services_secret))",
    ("route_services_secret_decrypt_only",): "((router_route_services_secret_next))",
    ("route_services_hairpinning_allowlist",): ["*.services.example.com"],
    ("route_services", "cert_chain"): "((gorouter_route_services_tls.certificate))",
    ("route_services", "private_key"): "((gorouter_route_services_tls.private_key))",
    ("backend_health_check", "path"): "/healthz",
    ("backend_health_check", "hosts"): ["*.apps.mtls.internal"],
    ("ca_certs",): [_CERTIFICATE],
    ("nats", "cert_chain"): "((nats_client_cert.certificate))",
    ("nats", "private_key"): "((nats_client_cert.private_key))",
    ("nats", "user"): "nats",
    ("nats", "pass"): "((nats_password))",
    ("nats", "token"): "((nats_token))",
    ("nats", "nkey_seed"): "((nats_nkey_seed))",
    ("nats", "credentials"): "((nats_credentials))",
    ("nats", "ca_certs"): "((nats_ca.certificate))",
    ("zone",): "z1",
    ("workers",): "auto",
    ("isolation_segments",): ["segment-1"],
    ("status", "pass"): "((router_status_password))",
    ("status", "tls", "certificate"): _CERTIFICATE,
    ("status", "tls", "key"): _KEY,
    ("trace_key",): "((router_trace_key))",
    ("tracing", "w3c_tenant_id"): "tenant",
    ("logging", "extra_access_log_fields"): ["backend_time"],
    ("logging", "syslog"): "vestibule",
    ("logging", "syslog_addr"): "127.0.0.1:514",
    ("access_log", "file"): "/var/vcap/sys/log/vestibule/access.log",
    ("extra_headers_to_log",): ["X-Correlation-Id"],
    ("prometheus", "enabled"): True,
    ("prometheus", "meters", "route_lookup_time_histogram_buckets"): [10_000, 100_000, 1_000_000],
    ("prometheus", "meters", "route_registration_latency_histogram_buckets"): [1, 10, 100],
    ("prometheus", "meters", "routing_response_latency_histogram_buckets"): [1, 10, 100],
    ("prometheus", "meters", "http_latency_histogram_buckets"): [0.1, 1, 10],
    ("prometheus", "meters", "gorouter_time_histogram_buckets"): [0.001, 0.01, 0.1],
    ("prometheus", "cert_path"): "((router_metrics_tls.certificate))",
    ("prometheus", "key_path"): "((router_metrics_tls.private_key))",
    ("prometheus", "ca_path"): "((metrics_scraper_ca.certificate))",
    ("metrics", "addr"): "127.0.0.1:9100",
    ("proxy_protocol_trusted",): ["10.0.0.0/16"],
    ("listeners",): [
        {
            "port": 8443,
            "kind": "tls",
            "routes": [{"hostname": "db.example.com", "backends": ["10.0.4.7:5432"], "send_proxy_protocol": True}],
        }
    ],
    ("firewall", "blocked_ips"): ["192.0.2.7"],
    ("firewall", "blocked_cidrs"): ["198.51.100.0/24", "2001:db8::/32"],
    ("firewall", "blocked_countries"): ["KP"],
    ("firewall", "geoip_db"): "/var/vcap/data/vestibule/GeoLite2-Country.mmdb",
    ("deny", "apps"): ["5d1a3f5c-4a6b-4e26-8d3e-0b6b2a9c1f10"],
    ("deny", "spaces"): ["0a1b2c3d-4a6b-4e26-8d3e-0b6b2a9c1f10"],
    ("deny", "orgs"): ["7e8f9a0b-4a6b-4e26-8d3e-0b6b2a9c1f10"],
    ("deny", "hosts"): ["leaked.apps.mtls.internal"],
    ("deny", "backend_networks"): ["10.0.9.0/24"],
    ("l7_policies",): [{"route": "shop.example.com/admin", "type": "required_header", "value": "X-Api-Key"}],
    ("logging", "names_file"): "/var/vcap/jobs/vestibule/config/names.yml",
}  # fmt: skip
"""What a value looks like, for keys whose default does not show it."""

_HEAD = """\
# The BOSH job: every property with its default, what it does, and an example. Made by `python -m router.config.reference`.
# A property is `router.` and the path of its key in gorouter.yml; those of `nats` stand at the top. A number at a duration
# is seconds. Names of GoRouter's job that differ stand at the end.
"""

TEMPLATES: Final[dict[str, str]] = {
    "gorouter.yml.j2": "config/gorouter.yml",
    "pre-start.j2": "bin/pre-start",
    "ctl.j2": "bin/ctl",
    "drain.j2": "bin/drain",
    "monit.j2": "monit",
}
"""Template -> the file it becomes, below the job's folder."""


class Property(NamedTuple):
    """One property of the job: its name, the place of the key it sets, and that key's field of the model."""

    name: str
    where: Where
    field: FieldInfo


def properties() -> Iterator[Property]:
    """Every property that has a key of its own, in the order of the model. Lists of sections are one property."""
    return _properties(Config, ())


def _properties(model: type[BaseModel], where: Where) -> Iterator[Property]:
    for key, field in keys_of(model):
        section, place = section_of(field.annotation), (*where, key)
        if section is not None and field.annotation is section:
            yield from _properties(section, place)
        else:
            yield Property(name_of(place), place, field)


def name_of(where: Where) -> str:
    """The property of a place of the configuration by the rule: `router.` before all but `nats`."""
    path = ".".join(str(step) for step in where)
    return path if where[:1] == ("nats",) else f"router.{path}"


def durations() -> frozenset[Where]:
    """The places where a number is seconds."""
    return frozenset(one.where for one in properties() if is_duration(one.field.metadata))


def job_spec() -> str:
    """bosh_like_config/jobs/vestibule/spec."""
    spec = {
        "name": "vestibule",
        "description": "A router that asks at two doors: the operator's domain and the developer's route.",
        "templates": {name: target for name, target in TEMPLATES.items() if target != "monit"},
        "packages": ["vestibule"],
    }
    silent = "".join(f"#   {name}: {said}\n" for name, said in WITHOUT_EFFECT.items())
    return (
        f"---\n{_HEAD}{_dump(spec)}\nproperties:\n"
        + textwrap.indent("\n".join(_dump({name: entry}) for name, entry in _entries()), "  ")
        + f"\n# Accepted without effect, each with one warning, beside the keys of gorouter.yml without effect:\n{silent}"
    )


def _entries() -> Iterator[tuple[str, dict[str, object]]]:
    for one in properties():
        if one.where != ("nats", "hosts"):
            yield one.name, _entry(one)
            continue
        yield "nats.machines", {"description": "addresses of the NATS servers; absent: localhost", "example": ["10.0.0.4"]}
        yield "nats.port", {"description": "their port", "default": 4222, "example": 4222}
        servers = [{"hostname": "10.0.0.4", "port": 4222}]
        yield one.name, {"description": "instead of both: servers, each with its port", "example": servers}
    own = {one.where: one for one in properties()}
    for name, where in SAME_AS.items():
        about = f"GoRouter's name for {name_of(where)}" + (", in KiB" if name in KIB else "")
        yield name, {"description": about, "example": 64 if name in KIB else _number(name, _entry(own[where])["example"])}


def _number(name: str, example: object) -> object:
    """A property that ends in `_in_seconds` is shown with the number alone."""
    return int(str(example).removesuffix("s")) if name.endswith("_in_seconds") else example


def _entry(one: Property) -> dict[str, object]:
    default = _default(one.field)
    entry: dict[str, object] = {"description": one.field.description or ""}
    if default is not None and default != "":
        entry["default"] = default
    entry["example"] = EXAMPLES.get(one.where, default)
    return entry


def _default(field: FieldInfo) -> Any:
    """The default as the file spells it; None: absent."""
    text = spelled_default(field)
    return None if text == "absent" else yaml.safe_load(text)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _dump(value: object) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120)
    return text
