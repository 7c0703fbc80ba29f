"""Certificates, keys and revocation lists, as text or by file."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from router.config import pem
from router.config.scalars import LoadContext
from tests.support.certs import CA

AUTHORITY = CA("pem tests")
SERVER = AUTHORITY.issue_server("a.example", "*.b.example", "127.0.0.1")
OTHER = AUTHORITY.issue_server("other.example")
BROKEN = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def read(kind: Any, value: object, folder: Path = Path()) -> Any:
    return TypeAdapter(kind).validate_python(value, strict=True, context=LoadContext(folder, {"CA": AUTHORITY.pem}))


def test_pem_is_the_text_a_path_a_file_or_the_environment(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    given: list[object] = [AUTHORITY.pem, "ca.pem", {"file": "ca.pem"}, {"env": "CA"}]
    assert {read(pem.Certificates, value, tmp_path).strip() for value in given} == {AUTHORITY.pem.strip()}


@pytest.mark.parametrize("value", ["none.pem", BROKEN, AUTHORITY.pem + BROKEN, SERVER.key_pem, 5, "a\nb"])
def test_a_certificate_text_must_hold_certificates_that_parse(value: object) -> None:
    """Attack 25: an authority that is missing, empty or broken is refused, never replaced."""
    with pytest.raises(ValidationError):
        read(pem.Certificates, value)


def test_an_empty_text_is_good_only_where_nothing_is_required() -> None:
    assert read(pem.Certificates, "") == ""
    with pytest.raises(ValidationError):
        read(pem.RequiredCertificates, "")


def test_a_revocation_list_must_parse() -> None:
    assert len(pem.parse_crls(read(pem.Revocations, AUTHORITY.crl()))) == 1
    with pytest.raises(ValidationError):
        read(pem.Revocations, AUTHORITY.pem)


def test_a_key_is_never_shown() -> None:
    assert SERVER.key_pem not in repr(read(pem.PrivateKey, SERVER.key_pem))


@pytest.mark.parametrize("value", [AUTHORITY.pem, ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")])
def test_a_key_must_be_one(value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(pem.PrivateKey, value)
    assert caught.value.errors()[0]["msg"] == "an unencrypted private key in PEM"


def test_a_key_that_does_not_match_is_refused() -> None:
    """Attack 83."""
    pem.check_pair(SERVER.chain_pem, SecretStr(SERVER.key_pem))
    with pytest.raises(PydanticCustomError, match="the private key of the first certificate"):
        pem.check_pair(SERVER.chain_pem, SecretStr(OTHER.key_pem))


def test_the_names_of_a_certificate_are_its_sans() -> None:
    assert pem.san_names(SERVER.certificate) == ("a.example", "*.b.example", "127.0.0.1")
    assert pem.san_names(AUTHORITY.certificate) == ()
