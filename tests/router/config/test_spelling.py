"""Defaults as YAML spells them."""

import pytest

from router.config.load import keys_of
from router.config.model import Config
from router.config.sections import Prometheus, TlsPair
from router.config.spelling import spelled_default

FIELDS = {key: field for model in (Config, Prometheus, TlsPair) for key, field in keys_of(model)}


@pytest.mark.parametrize(
    ("key", "spelled"),
    [
        ("ssl_port", "443"),
        ("disable_http", "false"),
        ("drain_wait", "20s"),
        ("client_ca_certs", "absent"),
        ("enabled", "absent"),
        ("key_path", "absent"),
        ("cert_chain", "required"),
        ("status", "section"),
        ("tls_pem", "[]"),
    ],
)
def test_a_default_is_one_line(key: str, spelled: str) -> None:
    """Each kind of default."""
    assert spelled_default(FIELDS[key]) == spelled


def test_suites_are_spelled_as_the_file_would() -> None:
    """One text with `:` between."""
    assert spelled_default(FIELDS["cipher_suites"]).startswith("ECDHE-ECDSA-AES128-GCM-SHA256:")
