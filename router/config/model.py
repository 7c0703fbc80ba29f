"""The configuration: every key that has an effect, its type, its default and the reason for it.

Promises: frozen; an attribute is the YAML key's name (`status.password` for `pass`); durations are float
seconds; None means unlimited where `unlimited` may stand; lists are tuples; secrets are `SecretStr`. Refuses
to know older shapes and keys without effect (legacy.py), what contradicts what (rules.py), and what is unwise
(advice.py).

Source: contract g.1 (keys), decision 13 (defaults: absent takes Vestibule's, BOSH's unless that is
unsafe).
"""

import os
from difflib import get_close_matches
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, PlainValidator

from router.config.ciphers import DEFAULT, CipherSuites, known_names, parse_cipher_suites
from router.config.deny import Deny
from router.config.domains import STRICT, DomainConfig, IdentityAwareDomain, MtlsDomain, XfccModeText, entry
from router.config.error_template import ErrorTemplate
from router.config.firewall import FirewallConfig
from router.config.l7_policies import L7Policy
from router.config.listeners import L7Config, ListenerConfig
from router.config.pem import Certificates
from router.config.scalars import (
    MAX_WORKERS,
    Bool,
    Bound,
    CookieName,
    Count,
    Deadline,
    Duration,
    EndlessAtZero,
    FieldName,
    Network,
    Pattern,
    Port,
    Secret,
    Text,
    Workers,
    mistake,
)
from router.config.sections import (
    NO_SECRET,
    AccessLogConfig,
    BackendHealthCheck,
    Backends,
    CertificateMetadata,
    HttpRewrite,
    Logging,
    Metrics,
    Nats,
    Prometheus,
    RouteServices,
    Status,
    TlsPair,
    Tracing,
)

TlsVersion: TypeAlias = Literal["TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
MAX_HEAD_BYTES = 1024 * 1024  # GoRouter's cap

HOP_BY_HOP = (
    "X-Forwarded-For", "X-Forwarded-Proto", "B3", "X-B3", "X-B3-SpanID", "X-B3-TraceID", "X-Request-Start",
    "X-Forwarded-Client-Cert",
)  # fmt: skip


def _ciphers(value: object) -> CipherSuites:
    if not isinstance(value, str):
        raise mistake("names of cipher suites with `:` between them")
    try:
        return parse_cipher_suites(value or DEFAULT)
    except ValueError as error:
        near = get_close_matches(str(error)[:80], known_names(), 1)
        raise mistake("known cipher suites", f"did you mean {near[0]}?" if near else "OpenSSL or RFC names") from None


Ciphers: TypeAlias = Annotated[CipherSuites, PlainValidator(_ciphers)]


class Config(BaseModel):
    """A valid configuration."""

    model_config = STRICT

    # Listeners
    port: Port = entry(80, "plain HTTP. BOSH's default")
    disable_http: Bool = entry(False, "true: no plain HTTP listener")
    enable_ssl: Bool = entry(False, "true: a TLS listener; needs `tls_pem`")
    ssl_port: Port = entry(443, "TLS. GoRouter's default")
    enable_http2: Bool = entry(
        True, "as in GoRouter: TLS clients are offered `h2` beside `http/1.1`, endpoints of `protocol: http2` reached over it"
    )
    enable_h2c: Bool = entry(False, "true: HTTP/2 on the plain port too, for clients that begin with its preface")
    enable_proxy: Bool = entry(False, "true: connections to `port` and `ssl_port` begin with a PROXY header; without it: reset")
    proxy_protocol_trusted: tuple[Network, ...] | None = entry(
        None, "networks whose PROXY headers `enable_proxy` believes; absent: everybody's, as in GoRouter, with a warning"
    )
    listeners: tuple[ListenerConfig, ...] = entry((), "ports beside these two, with routes of their own: L4, raw TCP, static L7")
    l7: L7Config = entry(L7Config, "the HTTP side as a whole")
    firewall: FirewallConfig = entry(FirewallConfig, "which clients may not connect, to whatever port")
    max_connections: Count = entry(20_000, ("connections a listener, 0: any number; each idle one costs up to 40 KiB"))
    max_total_connections: Count = entry(0, "connections of all listeners together, 0: any number")
    max_handshakes: Count = entry(
        1_000, ("TLS handshakes in flight in each worker, 0: any number; each costs about 100 KiB"), lt=2**31
    )
    max_connections_per_address: Count = entry(0, ("connections a client address, IPv6 a /64; 0: any number. A NAT is one"))
    connection_rate: Count = entry(0, "new connections a second and listener, 0: any number")
    connection_rate_per_address: Count = entry(0, ("new connections a second and client address, IPv6 a /64, 0: any number"))

    # TLS
    tls_pem: tuple[TlsPair, ...] = entry(
        (), "server certificates, chosen by SNI, exact before wildcard; the first is the default"
    )
    cipher_suites: Ciphers = entry(
        parse_cipher_suites(DEFAULT),
        "OpenSSL or RFC names with `:` between. Default: forward secrecy and AEAD, RSA and ECDSA",
    )
    min_tls_version: TlsVersion = entry("TLSv1.2", "1.0 and 1.1 are broken (RFC 8996)")
    max_tls_version: TlsVersion = entry("TLSv1.3", ("GoRouter stops at 1.2; 1.3 hides client certificates from the wire"))
    client_cert_validation: Literal["none", "request", "require"] = entry(
        "none",
        (
            "client certificates outside `mtls_domains`: BOSH's `request` refuses a client whose "
            "certificate no listed CA knows, on domains that need none"
        ),
    )
    client_ca_certs: Certificates = entry("", ("PEM or path: authorities for `client_cert_validation`"), repr=False)
    only_trust_client_ca_certs: Bool = entry(False, ("true: `ca_certs` and the system's authorities do not count for clients"))
    enable_verify_client_certificate_metadata: Bool = entry(False, ("true: `verify_client_certificate_metadata` is enforced"))
    verify_client_certificate_metadata: tuple[CertificateMetadata, ...] = entry(
        (), ("under a listed CA only these subjects pass")
    )

    # Domains
    mtls_domains: tuple[MtlsDomain, ...] = entry((), ("domains that demand a client certificate, with who may call them"))
    domains: tuple[IdentityAwareDomain, ...] = entry((), "the same in GoRouter's later dialect (RFC-0055)")

    deny: Deny = entry(Deny, "who and what is out at once, at the next reload, before any other rule; 403")

    l7_policies: tuple[L7Policy, ...] = entry(
        (), "requests that are refused (403), by host or path: a User-Agent that is out, a header that is missing"
    )

    # What is said about the client
    forwarded_client_cert: XfccModeText = entry(
        "sanitize_set",
        "X-Forwarded-Client-Cert outside `mtls_domains`; GoRouter's `always_forward` lets anybody write it",
    )
    trusted_proxies: tuple[Network, ...] = entry(
        (),
        ("networks whose X-Forwarded-For, -Proto and -Host are believed; absent: nobody's, a client can write them"),
    )
    force_forwarded_proto_https: Bool = entry(False, "X-Forwarded-Proto is always https")
    sanitize_forwarded_proto: Bool = entry(False, "X-Forwarded-Proto is ours even from `trusted_proxies`")
    hop_by_hop_headers_to_filter: tuple[FieldName, ...] = entry(
        HOP_BY_HOP,
        "fields that a client's `Connection` cannot remove, beside those always protected. BOSH's list",
    )
    html_error_template_file: ErrorTemplate = entry(
        "", "HTML template (its path, or its text) for the router's own errors; absent: plain text"
    )
    http_rewrite: HttpRewrite = entry(HttpRewrite, "fields to add to and remove from responses")

    # Backends
    backends: Backends = entry(Backends, "how endpoints are reached")
    backend_health_check: BackendHealthCheck = entry(
        BackendHealthCheck, "checks that only remove: an endpoint serves if it is registered, and passes where it is checked"
    )
    ca_certs: tuple[Certificates, ...] = entry((), ("PEM or paths: authorities of the backends, beside the system's"), repr=False)
    skip_ssl_validation: Bool = entry(False, ("true: backends' certificates are not verified. Never outside a test"))
    balancing_algorithm: Literal["round-robin", "least-connection"] = entry(
        "round-robin", "choice among a route's endpoints, unless its options say otherwise"
    )
    balancing_algorithm_az_preference: Literal["none", "locally-optimistic"] = entry(
        "none", "`locally-optimistic`: a first attempt goes to endpoints of `zone`, if one there can serve; retries go anywhere"
    )
    zone: Text = entry("", "availability zone of this router, as registrations name theirs")
    sticky_session_cookie_names: tuple[CookieName, ...] = entry(
        ("JSESSIONID",), "cookies of the apps' sessions, `__Host-` forms included: their requests stay at one instance"
    )
    secure_cookies: Bool = entry(False, "true: `__VCAP_ID__` is always Secure, not only where the app's cookie is")
    sticky_sessions_for_auth_negotiate: Bool = entry(
        False, "true: authentication by Negotiate stays at the instance it began with, for 60 s; if that goes: 503"
    )
    disable_keep_alives: Bool = entry(False, "true: one backend connection a request. BOSH's default")
    max_idle_conns: Count = entry(100, "idle backend connections kept, 0: none. BOSH's default")
    max_idle_conns_per_host: Count = entry(100, "of these, to one endpoint, 0: none. BOSH's default")
    endpoint_timeout: EndlessAtZero = entry(900.0, ("from dialling to the response's end, 0: no limit. BOSH's default"))
    http_1_endpoint_timeout: Duration = entry(0.0, "the same for requests that came over HTTP/1, 0: as `endpoint_timeout`")
    http_2_endpoint_timeout: Duration = entry(0.0, "the same for requests that came over HTTP/2, 0: as `endpoint_timeout`")
    endpoint_dial_timeout: EndlessAtZero = entry(5.0, "one TCP connect, 0: the system's limit")
    websocket_dial_timeout: Duration = entry(
        0.0, "the same for a request that asks for an upgrade, 0: as `endpoint_dial_timeout`"
    )
    endpoint_keep_alive_probe_interval: Duration = entry(1.0, "TCP keep-alive probes to backends, 0: none")
    empty_pool_response_code_503: Bool = entry(True, ("503 (false: 404) for a known route without endpoints. BOSH's default"))
    empty_pool_timeout: Duration = entry(0.0, "how long a route without endpoints stays known")

    # Route services
    route_services_secret: Secret = entry(
        NO_SECRET, "what seals requests to route services, the same on every router; absent: no route service is asked (502)"
    )
    route_services_secret_decrypt_only: Secret = entry(
        NO_SECRET, "another secret whose seals are good: the next or the last one while the secret is changed"
    )
    route_services_timeout: Duration = entry(60.0, "how long a seal is good, from the way out to the way back. BOSH's default")
    route_services_recommend_https: Bool = entry(
        True, "the URL that a service is to send requests on to: https, or http where false"
    )
    route_services_hairpinning: Bool = entry(
        False, "true: a service whose URL is a route here is asked inside this process, not through DNS and balancer"
    )
    route_services_hairpinning_allowlist: tuple[Pattern, ...] = entry(
        (), "hosts of services for which that holds, or `*.` for one label before a host; absent: every route's"
    )
    route_services: RouteServices = entry(RouteServices, "how route services are asked")

    # Deadlines and bounds on what a client sends: 0 means the default, `unlimited` none
    tls_handshake_timeout: Deadline = entry(10.0, "a TLS handshake, of a client and of a backend; attack 27")
    read_header_timeout: Deadline = entry(10.0, ("a request head, from its first byte; GoRouter has none and can be held open"))
    frontend_idle_timeout: Deadline = entry(900.0, "a client connection between requests")
    client_stall_timeout: Deadline = entry(
        60.0, ("no byte of a body that is due, or a client that takes no response byte; attack 76")
    )
    websocket_idle_timeout: Deadline = entry(
        3600.0, "an upgraded connection in which no byte moves; a ping keeps it, a peer that is gone without a word does not"
    )
    max_request_header_bytes: Bound = entry(
        65_536, "a request head; GoRouter's 1 MiB lets a few clients fill the memory. At most 1 MiB"
    )
    max_request_headers: Bound = entry(128, ("fields of a request; proxies in front that stop at 100 may still add some"))
    max_response_header_bytes: Bound = entry(262_144, "a response head")
    max_response_headers: Bound = entry(256, "fields of a response")
    max_request_body_bytes: Count = entry(0, ("bytes of a request body (413), 0: any number, since bodies stream"))

    # Routes
    nats: Nats = entry(Nats, "where registrations come from")
    nats_client_ping_interval: Duration = entry(20.0, "pings that find a dead server. GoRouter's default")
    start_response_delay_interval: Duration = entry(
        20.0, "health stays bad so long after the first NATS connection. BOSH's default"
    )
    load_balancer_healthy_threshold: Duration = entry(
        0.0, "with systemd: ready only so long after health turned good, for rolling restarts; 0: ready when it listens"
    )
    publish_active_apps_interval: Duration = entry(0.0, "how often the apps with requests go out as router.active_apps; 0: never")
    droplet_stale_threshold: Duration = entry(120.0, ("life of a registration that is not repeated. GoRouter's default"))
    prune_stale_droplets_interval: Duration = entry(30.0, "how often such are looked for. GoRouter's default")
    suspend_pruning_if_nats_unavailable: Bool = entry(True, ("no route ages while NATS is away. BOSH's default"))
    max_route_options_size: Count = entry(
        1024, "bytes of a route's options as compact JSON (RFC-0027); larger: see the options page"
    )
    isolation_segments: tuple[Text, ...] = entry((), "segments this router serves, by the sharding mode")
    routing_table_sharding_mode: Literal["all", "segments", "shared-and-segments"] = entry(
        "all", "`segments`: only `isolation_segments`; `shared-and-segments`: also routes without a segment"
    )

    # Operation
    workers: Workers = entry(
        0, "worker processes that serve, beside a supervisor, at most 64; `auto`: one a core; 0: one process does all"
    )
    status: Status = entry(Status, "health and the route table")
    healthcheck_user_agent: Text = entry("HTTP-Monitor/1.1", ("a request with this User-Agent is answered by the router itself"))
    drain_wait: Duration = entry(20.0, ("on drain: bad health but still serving, so that balancers turn away. BOSH's default"))
    drain_timeout: Duration = entry(900.0, "then: how long requests may go on. BOSH's default")
    index: Count = entry(0, "number of this router in its group; in the start message and the logs")
    trace_key: Text = entry(
        "",
        "value of X-Vcap-Trace that shows router and backend; absent: off. BOSH's 22 shows them to anybody",
    )
    tracing: Tracing = entry(Tracing, "trace fields")
    logging: Logging = entry(Logging, "component log, and what the access log shows")
    access_log: AccessLogConfig = entry(AccessLogConfig, "where the access log goes")
    extra_headers_to_log: tuple[FieldName, ...] = entry((), ("request fields added to the access log; they may hold secrets"))
    prometheus: Prometheus = entry(Prometheus, "the metrics endpoint, as in GoRouter")
    metrics: Metrics = entry(Metrics, "the metrics endpoint, by address")
    route_latency_metric_muzzle_duration: Duration = entry(
        0.0, "how long after the start no route_registration_latency is counted: the first message of each route is old"
    )
    per_app_prometheus_http_metrics_reporting: Bool = entry(False, ("true: latency by app; one series an app, so off"))

    @property
    def client_domains(self) -> tuple[DomainConfig, ...]:
        """The domains of both dialects, in the order of the file, `mtls_domains` first."""
        ours = tuple(item.as_domain() for item in self.mtls_domains)
        return ours + tuple(item.as_domain() for item in self.domains)

    @property
    def worker_count(self) -> int:
        """Worker processes; 0: none, one process does all. With `auto` one a core that this process may use."""
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS) if isinstance(self.workers, str) else self.workers

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """(host, port) of the metrics endpoint; None: off. An empty host means every address."""
        if self.metrics.addr is not None:
            return self.metrics.addr
        if not self.prometheus.port or self.prometheus.enabled is False:
            return None
        return ("" if self.prometheus.certificate else "127.0.0.1"), self.prometheus.port
