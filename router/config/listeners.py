"""The `listeners` section: ports beside GoRouter's two, and the routes that belong to them.

Promises: each value is checked as it is read; a route is L4 unless it says otherwise; names and addresses are canonical.
Refuses to know which of them contradict each other (listener_rules.py), and what becomes of a route (compile_l4.py).

Source: requirements 5, 6, 10, 72-79, 123, 128; K5, K9-K12, K33; the keys' names are those of source 001.
"""

import ipaddress
from typing import Annotated, Final, Literal, NamedTuple, Self, TypeAlias

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, PlainValidator, model_validator

from registry.endpoint import SendProxy
from registry.hostname import canonical
from router.config.domains import STRICT, entry
from router.config.l7_policies import PolicyTerms
from router.config.pem import Certificates, PrivateKey, check_pair, parse_certificates, san_names
from router.config.scalars import Bool, Count, EndlessAtZero, Network, Pattern, ServerName, boolean, mistake
from router.config.sections import NO_SECRET

Kind: TypeAlias = Literal["tls", "tcp", "http"]
Mode: TypeAlias = Literal["l4", "l7"]

MODES: Final[dict[str, Mode]] = {
    "": "l4", "l4": "l4", "tls_passthrough": "l4", "tcp_raw": "l4", "l7": "l7", "http_terminate": "l7",
}  # fmt: skip
"""Every spelling of a mode. K9."""
EVERY_ADDRESS: Final = "::"
_DATAGRAMS: Final = frozenset({"udp", "quic", "dtls", "http3", "h3"})
_SEND: Final[dict[object, SendProxy]] = {False: "", "": "", True: "v2", "v1": "v1", "v2": "v2", "v2-ssl-cn": "v2-ssl-cn"}


class Backend(NamedTuple):
    """Where a route leads: a name or an address (IPv6 without brackets), and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _kind(value: object) -> object:
    if isinstance(value, str) and value.lower() in _DATAGRAMS:
        raise mistake("`tls`, `tcp` or `http`: UDP is not routed", "remove the listener; QUIC clients fall back to TCP")
    if value not in ("tls", "tcp", "http"):
        raise mistake("`tls` (by server name), `tcp` (everything to one route) or `http`", "write one of the three")
    return value


def _mode(value: object) -> Mode:
    mode = MODES.get(value) if isinstance(value, str) else None
    if mode is None:
        raise mistake("`l4` or `l7` (or tls_passthrough, tcp_raw, http_terminate)", "l4 passes through, l7 terminates TLS")
    return mode


def _send(value: object) -> SendProxy:
    value = boolean(value)
    send = _SEND.get(value) if isinstance(value, bool | str) else None
    if send is None:
        raise mistake("`true` (v2), `v1`, `v2` or `v2-ssl-cn`", "v2-ssl-cn adds what is known of the client's TLS")
    return send


def _backend(value: object) -> Backend:
    text = value if isinstance(value, str) else ""
    name, _, port = text.rpartition(":")
    host = canonical(name)
    if host is None or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise mistake(
            "host:port, such as 10.0.0.7:443 or [fd00::7]:443", "an IPv6 address stands in brackets; a port is 1 to 65535"
        )
    return Backend(host.strip("[]"), int(port))


def _addresses(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, tuple) else (value,)
    try:
        return tuple(dict.fromkeys(_address(str(item)) for item in items)) or (EVERY_ADDRESS,)
    except ValueError:
        raise mistake(
            "an address of this machine, or a list of them", "`::` is every address, IPv4 too; no name, no port"
        ) from None


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))) if text else EVERY_ADDRESS


def _one_or_more(value: object) -> object:
    if not value:
        raise mistake("at least one backend: host:port, such as 10.0.0.7:443", "say where the route leads")
    return (value,) if isinstance(value, str) else value


Addresses: TypeAlias = Annotated[tuple[str, ...], PlainValidator(_addresses)]
Backends: TypeAlias = Annotated[tuple[Annotated[Backend, PlainValidator(_backend)], ...], BeforeValidator(_one_or_more)]


class ListenerRoute(BaseModel):
    """One route of one listener. L4: a connection is passed on untouched. L7: TLS ends here, requests are forwarded."""

    model_config = STRICT
    hostname: Pattern | None = entry(
        None, "server name, L4 also `*.suffix` at any depth; the most specific wins. None for the one route of a `tcp` listener"
    )
    mode: Annotated[Mode, PlainValidator(_mode)] = entry(
        "l4",
        "`l4` (or tls_passthrough, tcp_raw) passes bytes through, the default; `l7` (or http_terminate) terminates TLS",
        validation_alias=AliasChoices("mode", "protocol_hint"),
    )
    backends: Backends = Field(
        validation_alias=AliasChoices("backends", "backend"),
        description="host:port, IPv6 addresses in brackets; tried in turn",
    )
    send_proxy_protocol: Annotated[SendProxy, PlainValidator(_send)] = entry(
        "", "PROXY header to the backend: `true` or `v2`, `v1`; L7 also `v2-ssl-cn`, with TLS version and the client's CN"
    )
    connect_timeout: EndlessAtZero = entry(5.0, "L4: one TCP connect to a backend, then the next is tried; 0: the system's limit")
    idle_timeout: EndlessAtZero = entry(3600.0, "L4: a connection in which no byte moves either way; 0: none")
    total_timeout: EndlessAtZero = entry(None, "L4: a connection from its first to its last byte; absent: none")
    tls_cert: Certificates = entry("", "L7, required: PEM or path of the chain that `hostname` is served with", repr=False)
    tls_key: PrivateKey = entry(NO_SECRET, "L7, required: PEM or path of its key")
    backend_tls: Bool = entry(False, "L7: TLS to the backends too, verified")
    server_cert_domain_san: ServerName | None = entry(
        None, "L7 with `backend_tls`: the name that the backends' certificates must bear; absent: the backend's own"
    )
    protocol: Literal["http1", "http2"] = entry("http1", "L7: what the backends speak, as in registrations; gRPC needs http2")
    l7_policies: tuple[PolicyTerms, ...] = entry((), "L7: requests of this host that are refused (403)")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        """R77: both, and the one belongs to the other and to the name."""
        if self.mode == "l4":
            return self
        if not self.tls_cert or not self.tls_key.get_secret_value():
            raise mistake("tls_cert and tls_key in mode l7", "name the files, or use mode l4: then the backend terminates TLS")
        check_pair(self.tls_cert, self.tls_key)
        names = san_names(parse_certificates(self.tls_cert)[0])
        host = self.hostname
        if host is not None and host not in names and "*" + host[host.find(".") :] not in names:
            raise mistake("a tls_cert for this hostname", "issue it with the hostname as a subject alternative name")
        return self


class ListenerConfig(BaseModel):
    """One port."""

    model_config = STRICT
    address: Addresses = entry((EVERY_ADDRESS,), "addresses to listen on, one or a list; `::` is every one, IPv4 too")
    port: int = Field(ge=1, le=65535, description="each port once, GoRouter's two and those of `status` included")
    kind: Annotated[Kind, PlainValidator(_kind)] = Field(
        description="`tls`: by server name to a route, all else is reset; `tcp`: all to one L4 route; `http`: plain HTTP"
    )
    proxy_protocol: Bool = entry(False, "true: every connection begins with a PROXY header, version 1 or 2; without it: reset")
    proxy_protocol_trusted: tuple[Network, ...] = entry(
        (), "networks whose PROXY headers are believed; all others are reset. Needed beside `proxy_protocol: true`"
    )
    allowed_cidrs: tuple[Network, ...] | None = entry(
        None, "networks whose clients may connect, by their real address; absent: all"
    )
    max_connections: Count | None = entry(None, "connections of this listener, 0: any number; absent: as `max_connections`")
    routes: tuple[ListenerRoute, ...] = entry((), "routes of a `tls` or `tcp` listener; they come before registered ones")


class L7Config(BaseModel):
    model_config = STRICT
    enabled: Bool = entry(True, "false: no HTTP at all, only the L4 routes of `listeners`; nothing of L7 is even loaded")
