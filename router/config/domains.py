"""The domains that demand a client certificate: both dialects, one result.

Promises: `mtls_domains[]` (ours) and `domains[]` (GoRouter's, RFC-0055) become the same `DomainConfig`.
Refuses to know what a domain means for a connection (authz, tls) and which combinations contradict each other
(rules.py says that at once with all else).

Source: requirements 310-320; contract a.2 for `mtls_domains`, a.7 for `domains`.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from identity.caller import Guid
from router.config.pem import RequiredCertificates, Revocations
from router.config.scalars import Bool, GuidText, Pattern

STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)
"""Of every model. Only what is asked to validate is built, with all that it consists of: parts by themselves never are."""

XfccMode: TypeAlias = Literal["sanitize_set", "forward", "always_forward"]
XfccFormat: TypeAlias = Literal["raw", "envoy"]
Extractor: TypeAlias = Literal["none", "cf_ou"]
Mode: TypeAlias = Literal["none", "cf_identity"]


def entry(default: Any, about: str, **more: Any) -> Any:
    """A key of the file: its default and what the reference says of it. A class as default makes an empty
    section.
    """
    if isinstance(default, type):
        return Field(default_factory=default, description=about, **more)
    return Field(default, description=about, **more)


@dataclass(frozen=True, slots=True)
class DomainConfig:
    """One domain as the rest of the router sees it. `crls` empty: revocation is not checked. `orgs` and
    `spaces`: None where every caller passes; never both.
    """

    dialect: Literal["mtls_domains", "domains"]
    pattern: str
    ca_certs: str = field(repr=False)
    crls: tuple[str, ...] = field(repr=False)
    forwarded_client_cert: XfccMode
    xfcc_format: XfccFormat
    identity_extractor: Extractor
    mode: Mode
    orgs: frozenset[Guid] | None
    spaces: frozenset[Guid] | None
    report_only: bool


def _or_default(default: str) -> BeforeValidator:
    return BeforeValidator(lambda value: default if value == "" else value)


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | dict) else value


XfccModeText: TypeAlias = Annotated[XfccMode, _or_default("sanitize_set")]
XfccFormatText: TypeAlias = Annotated[XfccFormat, _or_default("raw")]
CrlList: TypeAlias = Annotated[tuple[Revocations, ...], BeforeValidator(_one_or_more)]

_ABOUT_CA = "PEM of the authorities whose client certificates enter this domain; each is a trust anchor, nobody else is"
_ABOUT_XFCC = (
    "X-Forwarded-Client-Cert: `sanitize_set` replaces what the client sent, `forward` keeps it when "
    "a certificate was given, `always_forward` always; the safe one is the default"
)
_ABOUT_FORMAT = "`raw`: the certificate in base64 (about 1.5 KB); `envoy`: Hash and Subject (about 300 bytes)"
_ABOUT_CRLS = (
    "revocation lists; once there is one, every certificate of a chain but the root is checked, and "
    "a missing or expired list refuses"
)


class Xfcc(BaseModel):
    model_config = STRICT
    format: XfccFormatText = entry("raw", _ABOUT_FORMAT)
    identity_extractor: Extractor = entry("none", ("`cf_ou` reads app, space and org GUID from the certificate's OUs"))


class AuthorizationConfig(BaseModel):
    model_config = STRICT
    orgs: tuple[GuidText, ...] | None = entry(
        None, "callers of these orgs only; not together with `spaces`; absent: every caller"
    )
    spaces: tuple[GuidText, ...] | None = entry(None, ("callers of these spaces only; not together with `orgs`"))


class Authorization(BaseModel):
    model_config = STRICT
    mode: Mode = entry(
        "none",
        (
            "`cf_identity` enforces the lists and the routes' options (deny by default); needs "
            "`xfcc.identity_extractor: cf_ou`. `none` admits every certificate of `ca_certs`: for "
            "partners and devices, not between apps"
        ),
    )
    config: AuthorizationConfig = entry(AuthorizationConfig, ("the domain's own boundary; routes can only narrow it"))
    report_only: Bool = entry(False, ("log and count a refusal as `would_deny` instead of answering 403; for a roll-out"))


class MtlsDomain(BaseModel):
    """An entry of `mtls_domains`."""

    model_config = STRICT
    domain: Pattern = Field(
        validation_alias=AliasChoices("domain", "name"),
        description=("a host, or `*.suffix` for every host below the suffix, at any depth; most specific entry first"),
    )
    ca_certs: RequiredCertificates = Field(description=_ABOUT_CA)
    crls: CrlList = entry((), _ABOUT_CRLS)
    forwarded_client_cert: XfccModeText = entry("sanitize_set", _ABOUT_XFCC)
    xfcc: Xfcc = entry(Xfcc, "how the caller is passed on and recognised")
    authorization: Authorization = entry(Authorization, "who may enter")

    def as_domain(self) -> DomainConfig:
        lists = self.authorization.config
        return DomainConfig(
            "mtls_domains",
            self.domain,
            self.ca_certs,
            self.crls,
            self.forwarded_client_cert,
            self.xfcc.format,
            self.xfcc.identity_extractor,
            self.authorization.mode,
            None if lists.orgs is None else frozenset(lists.orgs),
            None if lists.spaces is None else frozenset(lists.spaces),
            self.authorization.report_only,
        )


class IdentityAwareDomain(BaseModel):
    """An entry of `domains`: policies live in the routes' `route_policy_*` options, identity always comes
    from the OUs.
    """

    model_config = STRICT
    domain: Pattern = Field(
        validation_alias=AliasChoices("domain", "name"),
        description="as in `mtls_domains`; `name` is the same key",
    )
    ca_certs: RequiredCertificates = Field(description=_ABOUT_CA)
    crls: CrlList = entry((), _ABOUT_CRLS)
    forwarded_client_cert: XfccModeText = entry("sanitize_set", _ABOUT_XFCC)
    xfcc_format: XfccFormatText = entry("raw", _ABOUT_FORMAT)

    def as_domain(self) -> DomainConfig:
        mode, form = self.forwarded_client_cert, self.xfcc_format
        return DomainConfig(
            "domains",
            self.domain,
            self.ca_certs,
            self.crls,
            mode,
            form,
            "cf_ou",
            "none",
            None,
            None,
            report_only=False,
        )
