"""The operator's `nats` section as the registry wants it. Raises ValueError (with the key's path) for an NKey or credentials
that are none.
"""

from __future__ import annotations

import ssl

from registry.connect_nats import NatsSettings
from registry.nkey import parse_credentials, parse_seed
from router.config.model import Config
from router.observe.status import load_certificate


def nats_settings(config: Config) -> NatsSettings:
    """Every server of the file, tried in turn; TLS verifies the server's name and chain."""
    nats = config.nats
    seed, credentials = nats.nkey_seed.get_secret_value(), nats.credentials.get_secret_value()
    return NatsSettings(
        servers=tuple((host.hostname, host.port) for host in nats.hosts),
        user=nats.user,
        password=nats.password.get_secret_value(),
        token=nats.token.get_secret_value(),
        key=parse_seed(seed) if seed else None,
        credentials=parse_credentials(credentials) if credentials else None,
        tls=tls_context(nats.ca_certs, nats.cert_chain, nats.private_key.get_secret_value()) if nats.tls_enabled else None,
        ping_interval=config.nats_client_ping_interval,
    )


def tls_context(authorities: str, chain: str, key: str) -> ssl.SSLContext:
    """How servers are verified (by these authorities, none: the system's) and who we are to them (nobody); PEM texts.

    Raises ssl.SSLError or ValueError for what is no PEM.
    """
    context = ssl.create_default_context(cadata=authorities or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 began to refuse chains that lack a key identifier; a platform's authority must not depend on our Python.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if chain:
        load_certificate(context, chain.encode(), key.encode())
    return context
