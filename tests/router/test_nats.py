"""router/nats.py: the `nats` section as the registry wants it."""

import ssl

from registry.nkey import parse_credentials
from router.nats import nats_settings
from tests.router.config.support import config
from tests.support.certs import authority
from tests.support.nkeys import USER, KeyPair, operator_mode

CLIENT = authority("nats").issue_server("router.internal")


def test_every_server_is_named_with_who_we_are() -> None:
    """In the order of the file, with user, password or token; without TLS none."""
    made = nats_settings(
        config(
            {
                "nats": {
                    "hosts": [{"hostname": "one", "port": 4222}, {"hostname": "two", "port": 4223}],
                    "user": "router",
                    "pass": "secret",
                },
                "nats_client_ping_interval": "7s",
            }
        )
    )
    assert made.servers == (("one", 4222), ("two", 4223))
    assert (made.user, made.password, made.token) == ("router", "secret", "")
    assert (made.key, made.credentials, made.tls) == (None, None, None)
    assert made.ping_interval == 7.0


def test_tls_verifies_the_servers_chain_and_name() -> None:
    """By the given authorities alone, from TLS 1.2, with our certificate where there is one."""
    made = nats_settings(
        config(
            {
                "nats": {
                    "tls_enabled": True,
                    "ca_certs": authority("nats").pem,
                    "cert_chain": CLIENT.chain_pem,
                    "private_key": CLIENT.key_pem,
                }
            }
        )
    )
    tls = made.tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert tls.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.cert_store_stats()["x509_ca"] == 1


def test_an_nkey_or_credentials_prove_who_we_are() -> None:
    """Both are read once, at the start."""
    user = KeyPair(USER)
    made = nats_settings(config({"nats": {"nkey_seed": user.seed}}))
    assert made.key is not None
    assert made.key.public == user.public
    _, text = operator_mode()
    made = nats_settings(config({"nats": {"credentials": text}}))
    expected = parse_credentials(text)
    assert made.credentials is not None
    assert (made.credentials.jwt, made.credentials.key.public) == (expected.jwt, expected.key.public)
    assert made.key is None
