"""Attack 24: subjects written to be misread: separators, NUL, line ends, foreign encodings, two values for one name."""

import json
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from identity.certificate import read_subject
from identity.xfcc import EnvoyElement, parse_envoy
from tests.attacks.conftest import Door
from tests.attacks.forgery import sign_again
from tests.conftest import EAST
from tests.support.certs import CA, Credential, Rdns, name_of
from tests.support.client import Alert, Tls, get, render_request
from tests.support.mangled import MangledClient, with_certificate
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess

OU, CN, ORGANIZATION = NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME
APP, SPACE, ORG = "app:victim", "space:s", "organization:o"


@pytest.fixture
def victim(registrar: Registrar, backend: object, strict: Door) -> Door:
    """A route that lets in the app `victim` alone."""
    host = unique_host(EAST)
    registrar.register(host, backend=strict.backend, options={"mtls_allowed_apps": "victim"})
    return Door(host, strict.backend)


def units(*texts: str) -> Rdns:
    """One RDN for each OU."""
    return [[(OU, text)] for text in texts]


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param([[(OU, APP), (OU, SPACE), (OU, ORG)]], id="one-rdn"),
        pytest.param(units(APP, SPACE, ORG), id="an-rdn-each"),
        pytest.param(units(ORG, "anything else", SPACE, APP), id="any-order"),
        pytest.param([[(OU, SPACE), (CN, "x")], [(OU, APP), (ORGANIZATION, "y")]], id="mixed-rdns"),
        pytest.param(units(APP), id="app-alone"),
        pytest.param(units(APP, "App:other", "application:other", "app", "app;other", "ou=app:other"), id="look-alikes-beside"),
        pytest.param([*units(APP), [(CN, 'a\nb\r\nc"d\\e,f=g;h+i\0j')]], id="any-cn"),
        pytest.param([*units(APP, "x\0,OU=app:other", 'y",OU="app:other', "z\nOU=app:other")], id="units-inside-units"),
        pytest.param([*units(APP), [(CN, "OU=app:other"), (ORGANIZATION, "app:other")]], id="app-in-other-attributes"),
    ],
)
def test_a_subject_is_read_attribute_by_attribute(router: RouterProcess, victim: Door, east_ca: CA, subject: Rdns) -> None:
    """Attack 24: OUs in one RDN or in several name the app; what looks like one inside another value is part of that value."""
    credential = east_ca.issue(name_of(subject))
    assert get(router.ssl_port, victim.host, tls=Tls(victim.host, credential)).status == 200
    [request] = victim.backend.received
    value = request.get("x-forwarded-client-cert")
    assert value is not None
    element = parse_envoy(value.encode("latin-1"))
    assert isinstance(element, EnvoyElement)
    read = read_subject(credential.der)
    names = {NameOID.COMMON_NAME.dotted_string: "CN", OU.dotted_string: "OU", ORGANIZATION.dotted_string: "O"}
    assert isinstance(read, tuple)
    assert sorted(element.subject) == sorted((names[oid], text) for oid, text in read)


DENIED = {
    "nul-behind": units("app:victim\0"),
    "nul-and-more": units("app:victim\0.other"),
    "nul-before": units("\0app:victim"),
    "comma": units("app:victim,space:s"),
    "comma-list": units("app:other,app:victim"),
    "plus": units("app:other+OU=app:victim"),
    "line-end": units("app:victim\n"),
    "line-before": units("x\napp:victim"),
    "carriage-return": units("app:victim\r\napp:other"),
    "quoted": units('app:"victim"'),
    "quoted-whole": units('"app:victim"'),
    "blank-behind": units("app:victim "),
    "blank-before": units(" app:victim"),
    "blank-after-colon": units("app: victim"),
    "upper-case-name": units("APP:victim"),
    "upper-case-guid": units("app:VICTIM"),
    "longer": units("app:victim1"),
    "shorter": units("app:victi"),
    "inside": units("app:not-victim-either"),
    "prefix": units("xapp:victim"),
    "equals": units("app=victim"),
    "two-colons": units("app::victim"),
    "empty": units("app:"),
    "slash": units("app:victim/x"),
    "full-width-colon": units("app：victim"),
    "cyrillic": units("аpp:victim"),
    "zero-width": units("app:vic\u200btim"),
    "too-long": units("app:" + "v" * 65),
    "star": units("app:*"),
    "two-apps": units(APP, "app:other"),
    "two-apps-other-first": units("app:other", APP),
    "two-equal-apps": units(APP, APP),
    "two-apps-in-one-rdn": [[(OU, APP), (OU, "app:other")]],
    "two-apps-over-rdns": [[(OU, APP), (OU, SPACE)], [(OU, "app:other")]],
    "two-spaces": units(APP, SPACE, "space:t"),
    "two-orgs": units(APP, ORG, "organization:p"),
    "bad-second-app": units(APP, "app:"),
    "bad-space": units(APP, "space:s,t"),
    "bad-org": units(APP, "organization:"),
    "cn-only": [[(CN, APP)]],
    "o-only": [[(ORGANIZATION, APP)]],
    "no-subject": [],
}


@pytest.mark.parametrize("subject", DENIED.values(), ids=DENIED)
def test_a_subject_that_nearly_names_the_app_names_nobody(
    router: RouterProcess, victim: Door, east_ca: CA, subject: Rdns
) -> None:
    """Attack 24: no substring, no trimming, no splitting, no second value: 403, and one log line of one line."""
    credential = east_ca.issue(name_of(subject))
    assert_denied(router, victim, credential)


@pytest.mark.parametrize("kind", [_ASN1Type.BMPString, _ASN1Type.T61String, _ASN1Type.UniversalString, _ASN1Type.PrintableString])
def test_the_encoding_of_a_unit_does_not_matter(router: RouterProcess, victim: Door, east_ca: CA, kind: _ASN1Type) -> None:
    """Attack 24: the OU in another ASN.1 string type is the same text: the app's is let in, a near one is not."""
    for text, status in ((APP, 200), ("app:victims", 403), ("app:victi", 403)):
        credential = east_ca.issue(x509.Name([x509.NameAttribute(OU, text, _type=kind)]))
        assert get(router.ssl_port, victim.host, tls=Tls(victim.host, credential)).status == status


def test_bytes_that_are_no_utf_8_name_nobody(router: RouterProcess, victim: Door, east_ca: CA) -> None:
    """Attack 24: high bytes, in a string type that is no UTF-8 or in one that claims to be, give no identity."""
    latin = x509.Name([x509.NameAttribute(OU, "app:victim\xff", _type=_ASN1Type.T61String)])
    assert_denied(router, victim, east_ca.issue(latin))
    plain = east_ca.issue(name_of(units("app:victimz")))
    forged = sign_again(east_ca, plain.certificate.tbs_certificate_bytes.replace(b"app:victimz", b"app:victim\xff"))
    tls = Tls(victim.host, plain, maximum=SSL.TLS1_2_VERSION)
    with MangledClient(router.ssl_port, tls, lambda number, said: [with_certificate(forged, said) if number else said]) as client:
        assert (client.ask(render_request(victim.host)), client.alert) == (b"", Alert.DECODE_ERROR)
    assert victim.backend.received == []


def assert_denied(router: RouterProcess, victim: Door, credential: Credential) -> None:
    response = get(router.ssl_port, victim.host, tls=Tls(victim.host, credential))
    assert (response.status, response.get("x-cf-routererror"), response.body) == (403, "mtls_authorization_denied", b"Forbidden")
    assert victim.backend.received == []
    router.wait_for_log(victim.host)
    assert sum(victim.host in line for line in router.access_log) == 1


def test_no_subject_breaks_a_log_line(router: RouterProcess, victim: Door, west_ca: CA) -> None:
    """Attack 24: a refused certificate whose subject holds line ends and quotes leaves only whole JSON lines in the log."""
    evil = 'x\n{"log_level":3,"message":"forged"}\r\n\x1b[31m\u2028'
    with pytest.raises(Exception, match="alert 48"):
        get(router.ssl_port, victim.host, tls=Tls(victim.host, west_ca.issue(name_of([[(OU, evil)], [(CN, evil)]]))))
    messages = [json.loads(line)["message"] for line in router.stdout.splitlines() if line]
    assert "forged" not in messages


def test_two_values_deny_whatever_the_route_allows(
    router: RouterProcess, registrar: Registrar, strict: Door, east_ca: CA
) -> None:
    """Attack 24: an ambiguous app is nobody also where any caller may enter, and where its space or org is listed."""
    listed = unique_host(EAST)
    registrar.register(listed, backend=strict.backend, options={"mtls_allowed_spaces": "s", "mtls_allowed_orgs": "o"})
    ambiguous: Sequence[Rdns] = [units(APP, "app:other", SPACE, ORG), units(APP, SPACE, "space:t", ORG), units(SPACE, ORG)]
    for subject in ambiguous:
        credential = east_ca.issue(name_of(subject))
        for host in (strict.host, listed):
            assert get(router.ssl_port, host, tls=Tls(host, credential)).status == 403
    assert strict.backend.received == []
