"""Cipher suite names in both spellings."""

import pytest
from OpenSSL import SSL

from router.config.ciphers import BROKEN, DEFAULT, OPENSSL_BY_RFC, known_names, parse_cipher_suites


def test_both_spellings_mix_and_tls_1_3_stands_apart() -> None:
    """Contract g.1: `cipher_suites` mixes OpenSSL and RFC names, TLS 1.3 names included."""
    text = "ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"
    assert parse_cipher_suites(text) == (
        ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("TLS_AES_128_GCM_SHA256",),
    )


def test_a_name_in_two_spellings_counts_once() -> None:
    text = "ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    assert parse_cipher_suites(text).tls12 == ("ECDHE-RSA-AES128-GCM-SHA256",)


@pytest.mark.parametrize("name", ["NULL", "ALL", "!aNULL", "ecdhe-rsa-aes128-gcm-sha256", "@SECLEVEL=0"])
def test_an_unknown_name_is_named(name: str) -> None:
    """No OpenSSL keyword gets through: `ALL` or `@SECLEVEL=0` would open what the list closes."""
    with pytest.raises(ValueError, match=name):
        parse_cipher_suites(name)


def test_openssl_takes_every_name_that_is_not_broken() -> None:
    context = SSL.Context(SSL.TLS_METHOD)
    refused = []
    for name in sorted(set(OPENSSL_BY_RFC.values()) - BROKEN):
        try:
            context.set_cipher_list(name.encode())
        except SSL.Error:
            refused.append(name)
    assert refused == []


def test_the_default_has_forward_secrecy_and_aead_only() -> None:
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "POLY1305" in name) for name in parse_cipher_suites(DEFAULT).tls12)


def test_every_known_name_parses() -> None:
    assert [name for name in known_names() if parse_cipher_suites(name) == ((), ())] == []
