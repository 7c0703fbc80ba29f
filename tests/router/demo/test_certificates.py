"""The demo's certificates."""

from cryptography import x509
from cryptography.x509.oid import NameOID

from identity.caller import Caller, Guid
from identity.certificate import read_caller
from router.demo.certificates import Authority


def test_an_instance_certificate_names_its_app_space_and_org() -> None:
    """As Diego writes it: three OUs in one RDN; identity reads them."""
    pair = Authority("a").issue_instance("one-0", app="one", space="s", org="o")
    certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
    units = [rdn for rdn in certificate.subject.rdns if rdn.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    assert [len(rdn) for rdn in units] == [3]
    from cryptography.hazmat.primitives.serialization import Encoding

    caller = read_caller(certificate.public_bytes(Encoding.DER))
    assert caller == Caller(Guid("one"), Guid("s"), Guid("o"))


def test_a_server_certificate_is_for_its_names_and_from_its_authority() -> None:
    """DNS names, wildcards too."""
    authority = Authority("a")
    certificate = x509.load_pem_x509_certificate(authority.issue_server("localhost", "*.example").certificate.encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.pem.encode()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "*.example"]
