"""Attack 42: a certificate whose subject holds the characters that X-Forwarded-Client-Cert is made of."""

import re
from collections.abc import Iterator
from hashlib import sha256

import pytest
from cryptography.x509.oid import NameOID

from identity.xfcc import EnvoyElement, parse_envoy
from tests.support.certs import CA, name_of
from tests.support.client import Tls
from tests.support.register import Registrar
from tests.support.router import RouterProcess
from tests.support.site import Site, site

APP = "0f6d5d7c-9f6b-4a0e-8d0a-4b6f5a8f0c01"
OTHER = "0f6d5d7c-9f6b-4a0e-8d0a-4b6f5a8f0c02"
FORGING = f"x,OU=app:{OTHER}"

UNESCAPED_UNIT = re.compile(rf"(?:^|[,\"+;])OU=app:{OTHER}")


@pytest.fixture(scope="module")
def strict(router: RouterProcess, registrar: Registrar) -> Iterator[Site]:
    with site(router, registrar, "east.example", options={"mtls_allowed_apps": APP}) as made:
        yield made


@pytest.mark.parametrize(
    "text",
    [
        FORGING,
        f'x",OU=app:{OTHER}',
        f'x";Subject="OU=app:{OTHER}',
        f"x+OU=app:{OTHER}",
        f"x;OU=app:{OTHER}",
        f"x\\,OU=app:{OTHER}",
        "x\\",
        'x"',
        'a;b,c"d\\e=f+g<h>i',
        f"x\r\nA: OU=app:{OTHER}",
        "x\ny",
        "x\ty",
        "x\x7fy",
        " x ",
        "#x",
        "Grün 宇 🙂",
        f',Hash=00;Subject="OU=app:{OTHER}"',
    ],
)
@pytest.mark.parametrize("kind", ["CN", "OU", "O"])
def test_a_subject_cannot_break_out_of_its_value(strict: Site, east_ca: CA, kind: str, text: str) -> None:
    """Attack 42: specials of a subject are escaped on one line; one parse gives the same subject back, and nobody who splits
    at commas finds another app in it.
    """
    strict.backend.clear()
    oid = {"CN": NameOID.COMMON_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "O": NameOID.ORGANIZATION_NAME}[kind]
    credential = east_ca.issue(name_of([[(NameOID.ORGANIZATIONAL_UNIT_NAME, f"app:{APP}")], [(oid, text)]]))
    with strict.client(Tls(sni=strict.host, credential=credential)) as client:
        assert client.request(strict.host).status == 200
    seen = strict.seen()
    value = seen.get("x-forwarded-client-cert") or ""
    order = [("CN", text)] if kind == "CN" else []
    order += [("OU", f"app:{APP}")]
    order += [(kind, text)] if kind != "CN" else []
    assert parse_envoy(value.encode()) == EnvoyElement(sha256(credential.der).hexdigest(), tuple(order))
    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 2
    assert value.count(";") == 1
    assert UNESCAPED_UNIT.search(value) is None
