"""router/config/compile.py: a valid configuration becomes a snapshot, whole or not at all."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from identity.caller import Guid
from router.config.compile import compile_config, compile_domains, compile_open_policy
from router.config.compile_error import CompileError
from router.config.model import Config
from router.l7.route_service_seal import Seal
from router.live import Snapshot
from router.net.deadline import Wheel
from tests.router.desk import EAST, settings
from tests.support.certs import CA, authority
from tests.support.router import mtls_domain, server_credential, tls_pem

EAST_CA = authority("east instance identity")


def compiled(config: Config, previous: Snapshot | None = None) -> Snapshot:
    loop = asyncio.get_running_loop()
    return compile_config(config, 1 + (previous.generation if previous else 0), loop, Wheel(loop), previous)


async def test_a_configuration_becomes_a_snapshot() -> None:
    """Domains, contexts, limits and headers as the operator wrote them."""
    crl = EAST_CA.crl()
    made = compiled(
        settings(
            mtls_domains=[mtls_domain(f"*.{EAST}", EAST_CA, orgs=["org-1"], crls=[crl + EAST_CA.crl()])],
            max_request_headers=7,
            max_request_header_bytes=4096,
            healthcheck_user_agent="probe",
            forwarded_client_cert="always_forward",
        )
    )
    assert made.generation == 1
    assert (made.request_limits.max_bytes, made.request_limits.max_fields) == (4096, 7)
    assert made.healthcheck_user_agent == b"probe"
    assert made.xfcc_mode == "always_forward"
    domain = made.domains.claim(f"a.{EAST}")
    assert domain is not None
    assert (domain.mode, domain.identity_extractor, domain.orgs) == ("cf_identity", "cf_ou", frozenset({Guid("org-1")}))
    policy = made.client_policy(domain.pattern)
    assert policy is not None
    assert (policy.mode, len(policy.anchors), len(policy.crls or ()), policy.system_roots) == ("require", 1, 2, False)
    assert policy.fingerprint == domain.client_policy
    assert made.contexts.choose(f"a.{EAST}").domain is domain


async def test_a_zone_is_preferred_only_where_the_operator_says_so() -> None:
    """Contract f.1: GoRouter's default is `none`, whatever the router's zone."""
    assert compiled(settings(zone="z1")).zone == ""
    assert compiled(settings(zone="z1", balancing_algorithm_az_preference="locally-optimistic")).zone == "z1"


def test_domains_and_their_policies_come_without_a_tls_context() -> None:
    """Tools that only predict decisions need no event loop, and no certificate of the router's own."""
    config = settings(mtls_domains=[mtls_domain(f"*.{EAST}", EAST_CA, orgs=["org-1"])], enable_ssl=False, tls_pem=[])
    domains, policies = compile_domains(config)
    domain = domains.claim(f"a.{EAST}")
    assert domain is not None
    assert list(policies) == [f"*.{EAST}"]
    assert policies[domain.pattern].fingerprint == domain.client_policy
    assert compile_open_policy(config).mode == "none"


async def test_a_static_route_is_served_with_its_own_certificate_and_by_nobody_elses() -> None:
    """R104, R109: exactly its host; the default stays the first of `tls_pem`, and a domain's door stays a domain's door."""
    host = f"static.{EAST}"
    own = EAST_CA.issue_server(f"*.{EAST}")
    route = {"hostname": host, "mode": "l7", "tls_cert": own.chain_pem, "tls_key": own.key_pem, "backends": ["10.0.0.7:80"]}
    listener = {
        "port": 8443,
        "kind": "tls",
        "routes": [{**route, "l7_policies": [{"type": "required_header", "value": "X-Key"}]}],
    }
    made = compiled(settings(listeners=[listener]))
    certificates = made.contexts.certificates
    assert certificates.certificates[certificates.choose(host)].chain[0] == own.certificate
    assert certificates.choose(None) == 0
    assert certificates.certificates[certificates.choose(f"other.{EAST}")].chain[0] != own.certificate
    chosen = made.contexts.choose(host)
    assert chosen.domain is not None
    assert chosen.policy.mode == "require"
    assert made.l7_policies is not None
    assert made.l7_policies.broken(host, "/", [], frozenset()) is not None
    assert made.l7_policies.broken(f"other.{EAST}", "/", [], frozenset()) is None


async def test_a_tls_listener_needs_no_tls_port_of_gorouters() -> None:
    """R59: its routes bring their certificates."""
    own = EAST_CA.issue_server("static.example")
    route = {
        "hostname": "static.example",
        "mode": "l7",
        "tls_cert": own.chain_pem,
        "tls_key": own.key_pem,
        "backend": "10.0.0.7:80",
    }
    listener = {"port": 8443, "kind": "tls", "routes": [route]}
    made = compiled(settings(listeners=[listener], enable_ssl=False, tls_pem=[], mtls_domains=[]))
    assert made.contexts.certificates.bears("static.example")
    assert not made.contexts.certificates.bears("other.example")


async def test_a_domain_without_crls_checks_none() -> None:
    """Only a CRL that is there is checked."""
    made = compiled(settings())
    policy = made.client_policy(f"*.{EAST}")
    assert policy is not None
    assert policy.crls is None


@pytest.mark.parametrize(
    ("config", "mode", "anchors", "system"),
    [
        ({}, "none", 0, False),
        ({"client_cert_validation": "none", "client_ca_certs": EAST_CA.pem}, "none", 0, False),
        ({"client_cert_validation": "request", "client_ca_certs": EAST_CA.pem}, "request", 1, True),
        (
            {"client_cert_validation": "require", "client_ca_certs": EAST_CA.pem, "ca_certs": [authority("b").pem]},
            "require",
            2,
            True,
        ),
        (
            {
                "client_cert_validation": "require",
                "client_ca_certs": EAST_CA.pem,
                "ca_certs": [authority("b").pem],
                "only_trust_client_ca_certs": True,
            },
            "require",
            1,
            False,
        ),
    ],
    ids=["absent", "none", "request", "require", "only client authorities"],
)
async def test_the_global_policy_has_gorouters_meaning(config: dict[str, Any], mode: str, anchors: int, system: bool) -> None:
    """client_cert_validation, for hosts that no domain claims."""
    policy = compiled(settings(**config)).client_policy(None)
    assert policy is not None
    assert (policy.mode, len(policy.anchors), policy.system_roots) == (mode, anchors, system)


async def test_subjects_below_an_authority_are_compiled() -> None:
    """verify_client_certificate_metadata: which CA, and who may be below it."""
    rule = {"issuer_in_chain": {"common_name": "ca"}, "valid_cert_subjects": [{"organization": ["o"], "common_name": "leaf"}]}
    config = {
        "client_cert_validation": "request",
        "client_ca_certs": EAST_CA.pem,
        "enable_verify_client_certificate_metadata": True,
        "verify_client_certificate_metadata": [rule],
    }
    policy = compiled(settings(**config)).client_policy(None)
    assert policy is not None
    leaf = frozenset({("2.5.4.10", "o"), ("2.5.4.3", "leaf")})
    assert policy.metadata == ((frozenset({("2.5.4.3", "ca")}), (leaf,)),)
    off = compiled(settings(**{**config, "enable_verify_client_certificate_metadata": False})).client_policy(None)
    assert off is not None
    assert off.metadata == ()


async def test_without_tls_no_certificate_is_needed() -> None:
    """enable_ssl: false builds no context."""
    made = compiled(settings(enable_ssl=False, mtls_domains=[], tls_pem=[]))
    assert tuple(made.contexts.certificates) == ()


def _broken_chain(config: Config) -> Config:
    """What passes the file's check and OpenSSL refuses: another certificate's key."""
    other = authority("server").issue_server("x.example")
    pair = config.tls_pem[0].model_copy(update={"cert_chain": other.chain_pem})
    return config.model_copy(update={"tls_pem": (pair,)})


@pytest.mark.parametrize(
    ("spoil", "path"),
    [
        (_broken_chain, "tls_pem[0]"),
        (lambda config: config.model_copy(update={"min_tls_version": "TLSv1.3", "max_tls_version": "TLSv1.3"}), None),
    ],
    ids=["another key", "good"],
)
async def test_what_cannot_be_built_says_where_and_why(spoil: Callable[[Config], Config], path: str | None) -> None:
    """A CompileError with the key's path; nothing of the running configuration is touched."""
    running = compiled(settings())
    before = running.contexts.choose(None)
    if path is None:
        assert compiled(spoil(settings()), running).generation == 2
        return
    with pytest.raises(CompileError) as raised:
        compiled(spoil(settings()), running)
    assert raised.value.path == path
    assert path in str(raised.value)
    assert raised.value.why
    assert running.contexts.choose(None) is before


BACKENDS = CA("backends of another release")


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"max_request_headers": 9}, True),
        ({"tls_pem": [tls_pem(server_credential()), tls_pem(authority("server").issue_server("x.example"))]}, True),
        ({"ca_certs": [BACKENDS.pem]}, False),
        ({"skip_ssl_validation": True}, False),
        ({"max_idle_conns": 7}, False),
        ({"disable_keep_alives": True}, False),
    ],
    ids=["nothing", "headers", "server certificates", "authorities", "verification", "pool", "keep-alive"],
)  # fmt: skip
async def test_idle_backend_connections_outlive_what_does_not_concern_them(change: dict[str, Any], kept: bool) -> None:
    """A connection made under other TLS settings is not used again, in whatever version of HTTP."""
    old = compiled(settings())
    new = compiled(settings(**change), old)
    assert (new.idle is old.idle, new.http2 is old.http2) == (kept, kept)


async def test_shared_backend_connections_are_those_of_today() -> None:
    """HTTP/2 can be off; other bounds of a response are for new connections."""
    old = compiled(settings())
    assert old.http2 is not None
    assert old.http2.idle is old.idle
    assert compiled(settings(enable_http2=False), old).http2 is None
    assert compiled(settings(max_response_headers=9), old).http2 is not old.http2


async def test_contexts_of_an_unchanged_domain_are_kept() -> None:
    """Tickets of open domains stay good over reloads."""
    old = compiled(settings())
    new = compiled(settings(mtls_domains=[mtls_domain(f"*.{EAST}", EAST_CA, orgs=["another"])]), old)
    assert new.contexts.choose(None).context is old.contexts.choose(None).context
    assert new.contexts.choose(f"a.{EAST}").context is old.contexts.choose(f"a.{EAST}").context
    assert new.contexts.choose(f"a.{EAST}").domain is not old.contexts.choose(f"a.{EAST}").domain


ROUTE_SERVICES = {"route_services_secret": "tulips", "route_services_secret_decrypt_only": "roses"}


async def test_route_services_are_compiled_as_configured() -> None:
    """Versions are those of the frontend; the certificate is the router's own for services."""
    own = authority("router").issue_instance("router")
    section = {"cert_chain": own.chain_pem, "private_key": own.key_pem, "max_attempts": 0, "strict_signature_validation": True}
    made = compiled(
        settings(
            **ROUTE_SERVICES, route_services=section, route_services_timeout="5s", route_services_recommend_https=False,
            min_tls_version="TLSv1.3", deny={"backend_networks": ["203.0.113.0/24"]},
        )
    )  # fmt: skip
    services = made.route_services
    assert services is not None
    assert (services.timeout, services.scheme, services.strict, services.max_attempts) == (5.0, "http", True, 1)
    assert (services.inside, services.idle is made.idle) == (None, False)
    assert {str(network) for network in services.blocked.networks} >= {"203.0.113.0/24", "127.0.0.0/8"}
    sealed = Seal("roses").close(b"text", b"0123456789ab")
    assert services.seal.open(sealed) == b"text"


async def test_a_certificate_for_services_that_openssl_refuses_is_named() -> None:
    config = settings(**ROUTE_SERVICES)
    own = config.route_services.model_copy(update={"cert_chain": "no certificate"})
    with pytest.raises(CompileError) as caught:
        compiled(config.model_copy(update={"route_services": own}))
    assert caught.value.path == "route_services"
