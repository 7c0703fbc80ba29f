"""The nested sections of the configuration: status, nats, logging, backends and the like.

Promises: attributes are the YAML keys (`password` for the key `pass`); every key says in its description what
it does and why its default is what it is. Refuses to know how sections relate to each other (rules.py) and
older shapes (legacy.py).

Source: contract g.1 for the keys, g for the two defaults; decision 13 for which of them wins.
"""

from ipaddress import ip_network
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, SecretStr, model_validator

from registry.hostname import covers
from router.config.domains import STRICT, entry
from router.config.names_file import NamesFile
from router.config.pem import (
    Certificates,
    Credentials,
    PrivateKey,
    RequiredCertificates,
    check_pair,
    parse_certificates,
    san_names,
)
from router.config.scalars import (
    Bool,
    Buckets,
    Count,
    Duration,
    EndlessAtZero,
    FieldName,
    FieldValue,
    ListenAddress,
    Network,
    Pattern,
    Port,
    Secret,
    ServerName,
    Share,
    Text,
    mistake,
)

NO_SECRET = SecretStr("")
_SHORTEST = 0.05


class TlsPair(BaseModel):
    """A server certificate: chain (leaf first) and key that belong together. `names`: what the leaf is
    for.
    """

    model_config = STRICT
    cert_chain: RequiredCertificates = Field(
        description=("PEM or path: the certificate with its intermediates; it must have a subject alternative name"),
        repr=False,
    )
    private_key: PrivateKey = Field(description="PEM or path: the certificate's unencrypted key")

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        check_pair(self.cert_chain, self.private_key)
        if not self.names:
            raise mistake(("a certificate with a subject alternative name"), "issue it anew with its DNS names as SANs")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return san_names(parse_certificates(self.cert_chain)[0])


class _ClientPair(BaseModel):
    """The router's own client certificate: both or neither."""

    model_config = STRICT
    cert_chain: Certificates = entry("", ("PEM or path: the certificate the router shows; needs `private_key`"), repr=False)
    private_key: PrivateKey = entry(NO_SECRET, "PEM or path: its key")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.cert_chain) != bool(self.private_key.get_secret_value()):
            raise mistake("cert_chain and private_key together, or neither", "give the missing one")
        if self.cert_chain:
            check_pair(self.cert_chain, self.private_key)
        return self


class StatusTls(BaseModel):
    model_config = STRICT
    port: Port = entry(8443, "health over TLS; listens where a certificate is given. GoRouter's port")
    certificate: Certificates = entry("", "PEM or path of the health listener's certificate", repr=False)
    key: PrivateKey = entry(NO_SECRET, "PEM or path of its key")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.certificate) != bool(self.key.get_secret_value()):
            raise mistake("certificate and key together, or neither", "give the missing one")
        if self.certificate:
            check_pair(self.certificate, self.key)
        return self


class StatusRoutes(BaseModel):
    model_config = STRICT
    port: Port = entry(8082, "the route table, on loopback only; 0 turns it off. GoRouter's port")


class Status(BaseModel):
    model_config = STRICT
    host: Text = entry("0.0.0.0", "where health listens; load balancers must reach it")  # noqa: S104
    port: Port = entry(8080, "health without TLS. GoRouter's port")
    user: Text = entry("router-status", "basic auth of /routes. BOSH's name")
    password: Secret = entry(NO_SECRET, ("basic auth of /routes; absent: /routes refuses everyone"), validation_alias="pass")
    enable_nontls_health_checks: Bool = entry(True, "false leaves only the TLS health listener")
    enable_deprecated_varz_healthz_endpoints: Bool = entry(
        False, "also /healthz, and /varz for the user of /routes, where health listens without or with TLS"
    )
    tls: StatusTls = entry(StatusTls, "health over TLS")
    routes: StatusRoutes = entry(StatusRoutes, "the route table")


class NatsHost(BaseModel):
    model_config = STRICT
    hostname: ServerName = Field(validation_alias=AliasChoices("hostname", "host"), description="name or address")
    port: Port = entry(4222, "NATS's own port")


class Nats(_ClientPair):
    hosts: tuple[NatsHost, ...] = entry(
        (NatsHost(hostname="localhost", port=4222),), "the cluster's servers, tried in turn, for ever"
    )
    user: Text = entry("", "user name")
    password: Secret = entry(NO_SECRET, "the user's password", validation_alias="pass")
    token: Secret = entry(NO_SECRET, "token, instead of user and password")
    nkey_seed: Secret = entry(NO_SECRET, "NKey seed, instead of user and password")
    credentials: Credentials = entry(NO_SECRET, "a credentials file (JWT and seed): its text or its path")
    tls_enabled: Bool = entry(False, ("TLS to the servers; off as in GoRouter, on wherever the network is shared"))
    ca_certs: Certificates = entry("", ("PEM or path: authorities of the servers; absent: the system's"), repr=False)


class LogFormat(BaseModel):
    model_config = STRICT
    timestamp: Literal["rfc3339", "unix-epoch"] = entry("rfc3339", ("form of times in the component log. BOSH's default"))


class Logging(BaseModel):
    model_config = STRICT
    level: Literal["debug", "info", "warn", "error", "fatal"] = entry("info", ("least level logged. BOSH's default"))
    format: LogFormat = entry(LogFormat, "form of the component log")
    disable_log_forwarded_for: Bool = entry(False, "true writes `-` for x_forwarded_for in the access log")
    disable_log_source_ip: Bool = entry(False, "true writes `-` for the client's address in the access log")
    redact_query_params: Literal["none", "all", "hash"] = entry(
        "all",
        ("queries carry tokens: GoRouter logs them whole (`none`), Vestibule removes them; `hash` writes a SHA-1"),
    )
    enable_attempts_details: Bool = entry(False, ("adds the times of dialling and of failed attempts to the access log"))
    extra_access_log_fields: tuple[Text, ...] = entry((), "more fields of the access log, by name, in this order")
    names_file: NamesFile = entry(None, "file of names to show beside GUIDs (apps, spaces, orgs: {GUID: name}); decides nothing")
    syslog: Text = entry("", "name of the router in its syslog messages; absent: `gorouter`")
    syslog_addr: ListenAddress | None = entry(None, "host:port of the syslog server, for `access_log.enable_streaming`")
    syslog_network: Literal["", "udp", "tcp"] = entry("udp", "how to reach it. GoRouter's default")
    syslog_truncate: Count = entry(0, "bytes of a message at most, 0: what a datagram can carry")


class AccessLogConfig(BaseModel):
    model_config = STRICT
    file: Text = entry("", "file to append to; neither this nor streaming: standard output")
    enable_streaming: Bool = entry(False, "true: also to syslog, at `logging.syslog_addr`")
    format: Literal["gorouter", "json"] = entry("gorouter", "GoRouter's line, or one JSON object a request")
    sampling: Share = entry(1.0, "share of the requests that are logged")


class Backends(_ClientPair):
    max_attempts: Count = entry(3, "endpoints tried for one request, 0 is 1. BOSH's default")
    retry_timeout: EndlessAtZero = entry(
        15.0, "no attempt begins so long after its request came, 0: no limit. Room for three dials that time out"
    )
    max_conns: Count = entry(500, ("requests in flight an endpoint, 0: any number. BOSH's default protects slow apps"))


PRIVATE: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
        "::/127", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
"""This machine, its link (where clouds tell secrets) and its private networks."""


class RouteServices(_ClientPair):
    max_attempts: Count = entry(3, "connections tried for one request to a route service, 0 is 1. BOSH's default")
    strict_signature_validation: Bool = entry(
        False, "true: 400 (504 where it is too old) for a signature that is not ours on a route without route service"
    )
    egress_blocklist: tuple[Network, ...] = entry(
        PRIVATE,
        "networks in which no route service is asked, by whatever name (502): developers choose the URLs; [] for none",
    )


class BackendHealthCheck(BaseModel):
    """Asks the registered endpoints whether they are well; takes out of the choice those that are not, and does no more."""

    model_config = STRICT
    path: Text = entry("", "asked for at each endpoint by GET; 2xx, 3xx pass; absent: no checks", pattern=r"^(/[!$-~]{0,200})?$")
    hosts: tuple[Pattern, ...] = entry((), "hosts, or `*.suffix`, whose endpoints are checked; absent: those of every route")
    interval: Duration = entry(10.0, "between two checks of an endpoint, a tenth more or less; each router asks for itself")
    timeout: Duration = entry(2.0, "one check, from dialling to the answer's head")
    unhealthy_threshold: Count = entry(3, "failed checks in a row that take an endpoint out: one lost packet must not")
    healthy_threshold: Count = entry(2, "passed checks in a row that let it back in")

    @model_validator(mode="after")
    def _in_bounds(self) -> Self:
        if self.interval < _SHORTEST or self.timeout < _SHORTEST:
            raise mistake("interval and timeout of at least 50ms", "shorter checks find no more and cost a core")
        if not (self.unhealthy_threshold and self.healthy_threshold):
            raise mistake("thresholds of at least 1", "1 acts on the first result")
        return self

    @property
    def on(self) -> bool:
        return bool(self.path)

    def wants(self, host: str) -> bool:
        """Are the endpoints of this route's host checked?"""
        return self.on and (not self.hosts or any(covers(pattern, host) for pattern in self.hosts))


class HeaderToAdd(BaseModel):
    model_config = STRICT
    name: FieldName = Field(description="field name")
    value: FieldValue = Field(description="field value")


class HeaderToRemove(BaseModel):
    model_config = STRICT
    name: FieldName = Field(description="field name")


class HttpRewriteResponses(BaseModel):
    model_config = STRICT
    add_headers_if_not_present: tuple[HeaderToAdd, ...] = entry((), ("fields to add where the response has none of the name"))
    remove_headers: tuple[HeaderToRemove, ...] = entry((), ("fields to remove; removed before others are added"))


class HttpRewrite(BaseModel):
    model_config = STRICT
    responses: HttpRewriteResponses = entry(HttpRewriteResponses, ("changes to every response, router-made ones included"))


class Tracing(BaseModel):
    model_config = STRICT
    enable_zipkin: Bool = entry(False, "B3 fields; off as in GoRouter")
    enable_w3c: Bool = entry(True, ("traceparent is made where absent, so that a refusal can be traced; false passes it through"))
    w3c_tenant_id: Text = entry("", "prefix of our tracestate entry", pattern=r"^[a-z0-9_*/-]{0,200}$")


class Meters(BaseModel):
    """Upper bounds of the histograms' buckets, by GoRouter's names."""

    model_config = STRICT
    route_lookup_time_histogram_buckets: Buckets | None = entry(None, "nanoseconds; absent: GoRouter's buckets")
    route_registration_latency_histogram_buckets: Buckets | None = entry(None, "milliseconds; absent: GoRouter's buckets")
    routing_response_latency_histogram_buckets: Buckets | None = entry(None, "milliseconds; absent: GoRouter's buckets")
    http_latency_histogram_buckets: Buckets | None = entry(None, "seconds; absent: GoRouter's buckets")
    gorouter_time_histogram_buckets: Buckets | None = entry(None, "seconds; absent: GoRouter's buckets")

    def bounds(self) -> dict[str, tuple[float, ...]]:
        """What the operator set."""
        return {name: value for name, value in self if value is not None}


class Prometheus(BaseModel):
    """`certificate`, `private_key` and `client_ca` hold the contents of the files that the keys name."""

    model_config = STRICT
    enabled: Bool | None = entry(None, "absent: on where `port` is given")
    port: Port = entry(0, "metrics on this port; 0 is off. On loopback, with a certificate on every address")
    meters: Meters = entry(Meters, "buckets of the histograms")
    certificate: Certificates = entry("", ("path (or PEM) of the certificate"), validation_alias="cert_path", repr=False)
    private_key: PrivateKey = entry(NO_SECRET, "path (or PEM) of its key", validation_alias="key_path")
    client_ca: Certificates = entry(
        "",
        "path (or PEM) of the authority of the scrapers, who then need a certificate",
        validation_alias="ca_path",
        repr=False,
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.certificate) != bool(self.private_key.get_secret_value()):
            raise mistake("cert_path and key_path together, or neither", "give the missing one")
        if self.client_ca and not self.certificate:
            raise mistake("ca_path only beside cert_path and key_path", "client certificates need TLS")
        if self.certificate:
            check_pair(self.certificate, self.private_key)
        return self


class Metrics(BaseModel):
    """The same endpoint as `prometheus`, by address."""

    model_config = STRICT
    addr: ListenAddress | None = entry(None, "host:port of the metrics; absent: as `prometheus` says")
    path: Text = entry("/metrics", "path of the metrics", pattern=r"^/[!-~]{0,200}$")


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names: TypeAlias = Annotated[tuple[Text, ...], BeforeValidator(_as_tuple)]


class Subject(BaseModel):
    """A certificate subject to compare with; absent attributes must be absent in the certificate too."""

    model_config = STRICT
    common_name: Text = entry("", "CN")
    serial_number: Text = entry("", "serialNumber")
    country: Names = entry((), "C")
    organization: Names = entry((), "O", validation_alias=AliasChoices("organization", "organisation"))
    organizational_unit: Names = entry(
        (),
        "OU",
        validation_alias=AliasChoices("organizational_unit", "organisation_unit", "organisational_unit"),
    )
    locality: Names = entry((), "L")
    province: Names = entry((), "ST")
    street_address: Names = entry((), "street")
    postal_code: Names = entry((), "postalCode")


class CertificateMetadata(BaseModel):
    model_config = STRICT
    issuer_in_chain: Subject = Field(description="subject of a CA in the verified chain")
    valid_cert_subjects: tuple[Subject, ...] = entry((), "the only leaf subjects that are good under this CA")
