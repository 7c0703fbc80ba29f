"""What a client may not say is removed; what the router knows is said in its place. Both ways, fields in,
fields out.

Promises: no field of a client's can pass for one of ours, in any spelling; a Connection header removes
nothing that carries our word; the fields that leave are ready to send but for `transfer-encoding`, which
their sender adds when it re-chunks (`content-length` and `trailer` stay as they came). Names from a peer stay
lower-case, ours are spelled out.
Refuses to know: sockets, routes, policies, clocks, randomness.
Source: RFC 9110 sections 6.6.1 (Date) and 7.6.1 (hop by hop), RFC 7239 (Forwarded), RFC 9440 section 4, GoRouter's headers.
"""

import ipaddress
import re
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from registry.endpoint import Endpoint
from router.l7.header_policy import DATE, DROP, OURS, REQUEST_ID, START, TE, XFCC, HeaderPolicy, header_policy
from router.observe.trace import B3_NAMES, W3C_NAMES, Trace, continue_trace, new_trace
from router.wire.http1 import Fields, RequestHead

__all__ = [
    "NAMING", "RANDOM_BYTES", "DownstreamFacts", "HeaderPolicy", "RequestIds", "XfccMode", "downstream_facts",
    "facts_by_way_of", "header_policy", "make_ids", "refusal_fields", "request_fields", "response_fields", "vcap_trace",
]  # fmt: skip

XfccMode = Literal["sanitize_set", "forward", "always_forward"]

RANDOM_BYTES: Final = 24
"""How many random bytes `make_ids` takes: 16 for the request id, 8 for our span."""

_REQUEST_ID_FORM: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PROTO_FORM: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,15}")
_HOST_FORM: Final = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,262}")
_IPV4_FORM: Final = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_IPV6_FORM: Final = re.compile(rb"[0-9A-Fa-f:.]{2,45}")
_MAX_HOPS: Final = 16  # elements of X-Forwarded-For that are told again in Forwarded: the last ones
_NOT_PRINTABLE: Final = re.compile(r"[^ -~]")


class DownstreamFacts(NamedTuple):
    """What never changes on one client connection; make it with `downstream_facts`.

    `peer` is the client's address as text, `host` the same in canonical host form (for `resolve_target`).
    """

    peer: bytes
    host: str
    scheme: bytes
    trusted: bool
    forwarded: Fields  # the fields that need no more than this, for a peer that is not trusted
    node: bytes  # the client as a node of Forwarded


class RequestIds(NamedTuple):
    """The names of one request: ours (a UUID), the client's or ours again, its trace (empty: none known).

    `trace` are the fields that carry it on; `traced` says that the client knows the operator's trace key.
    """

    vcap: bytes
    request: bytes
    trace_id: bytes
    trace: Fields
    traced: bool


def downstream_facts(peer: str, policy: HeaderPolicy, *, tls: bool) -> DownstreamFacts:
    """The facts of a connection from address `peer` (text, no port); an IPv4 address inside IPv6 counts as
    IPv4.
    """
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(peer.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    text = str(address)
    host = text if address.version == 4 else f"[{text}]"
    scheme = b"https" if tls else b"http"
    shown = text.encode("ascii")
    proto = b"https" if policy.force_forwarded_proto_https else scheme
    return DownstreamFacts(
        peer=shown,
        host=host,
        scheme=scheme,
        trusted=any(address in network for network in policy.trusted_proxies),
        forwarded=[(b"X-Forwarded-For", shown), (b"X-Forwarded-Proto", proto), (b"X-Real-IP", shown)],
        node=_node(shown),
    )


def facts_by_way_of(facts: DownstreamFacts, address: str, hops: str, proto: str) -> DownstreamFacts:
    """The facts of a client whose request comes by way of the peer of `facts`: its address, its own way (X-Forwarded-For) and
    scheme, each as a router of ours told them.
    """
    way = ", ".join((*filter(None, (hops,)), facts.peer.decode("ascii"))).encode("latin-1")
    forwarded = [(b"X-Forwarded-For", way), (b"X-Forwarded-Proto", proto.encode()), (b"X-Real-IP", address.encode())]
    return facts._replace(trusted=False, forwarded=forwarded, node=_node(address.encode()))


def make_ids(fields: Fields, policy: HeaderPolicy, random: bytes) -> RequestIds:
    """Name a request. `random`: RANDOM_BYTES fresh random bytes; `fields` may be empty (a head that did not
    parse).
    """
    digits = random.hex()
    vcap = (f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[random[8] & 3]}{digits[17:20]}-{digits[20:32]}").encode(
        "ascii"
    )
    sent = [field for field in fields if field[0] in NAMING] if fields else []
    trace_id, span_id = vcap.replace(b"-", b""), digits[32:48].encode("ascii")
    if not sent and policy.w3c_key is not None and not policy.zipkin:
        trace = new_trace(trace_id, span_id, policy.w3c_key)
        return RequestIds(vcap, vcap, trace.trace_id, trace.fields, traced=False)
    trace = continue_trace(sent, trace_id, span_id, policy.w3c_key, zipkin=policy.zipkin)
    return _named_by_client(sent, policy, vcap, trace)


def request_fields(
    head: RequestHead,
    facts: DownstreamFacts,
    policy: HeaderPolicy,
    xfcc_mode: XfccMode,
    xfcc: bytes | None,
    ids: RequestIds,
    endpoint: Endpoint,
    start_ms: bytes,
) -> Fields:
    """The fields of `head` as `endpoint` may see them.

    `xfcc` is the rendered certificate where the handshake verified one, else None; `start_ms` the time of
    arrival in milliseconds since the epoch, told where the client did not. `head` has passed
    `resolve_target`.
    """
    verdicts = policy.request
    out: Fields = []
    special: Fields = []
    for field in head.fields:
        verdict = verdicts[field[0]]
        if not verdict:
            out.append(field)
        elif verdict != DROP:
            special.append(field)
    if head.connection:
        named = head.connection - policy.protected
        if named:
            out = [field for field in out if field[0] not in named]
    if special:
        started = _keep_special(special, out, xfcc_mode, verified=xfcc is not None)
    else:
        started = False
    if xfcc is not None and xfcc_mode == "sanitize_set":
        out.append((b"X-Forwarded-Client-Cert", xfcc))
    host = head.host or b""
    if facts.trusted:
        out += _trusted(special, facts, policy, host)
    else:
        out += facts.forwarded
        out.append((b"X-Forwarded-Host", host))
        out.append((b"Forwarded", b'for=%b;host="%b";proto=%b' % (facts.node, host, facts.forwarded[1][1])))
    if not started:
        out.append((b"X-Request-Start", start_ms))
    out.append((b"X-Vcap-Request-Id", ids.vcap))
    out.append((b"X-Request-Id", ids.request))
    out += ids.trace
    out += _instance(endpoint.app, endpoint.instance_index, endpoint.instance_id, endpoint.address)
    return out


def response_fields(
    fields: Fields,
    connection: frozenset[bytes],
    policy: HeaderPolicy,
    ids: RequestIds,
    extra: Iterable[tuple[bytes, bytes]] = (),
    now: float | None = None,
) -> Fields:
    """The fields of a backend's response as the client may see them; `extra` are more of ours, as
    `vcap_trace`. `now`, in epoch seconds, is told where the backend sent no Date; None: it is an interim response.
    """
    verdicts = policy.response
    out: Fields = []
    named, dated = False, now is None
    for field in fields:
        verdict = verdicts[field[0]]
        if not verdict:
            out.append(field)
        elif verdict == DATE:
            out.append(field)
            dated = True
        elif verdict == REQUEST_ID:
            out.append(field)
            named = True
    if connection:
        tokens = connection - policy.protected
        if tokens:
            out = [field for field in out if field[0] not in tokens]
    if not named:
        out.append((b"X-Vcap-Request-Id", ids.vcap))
    if not dated and now is not None:
        out.append(_date(int(now)))
    out += extra
    return _rewritten(out, policy) if policy.removed or policy.added else out


def refusal_fields(
    fields: Fields, policy: HeaderPolicy, ids: RequestIds, now: float, extra: Iterable[tuple[bytes, bytes]] = ()
) -> Fields:
    """The fields of a response that the router made itself at `now` (epoch seconds): named by both ids, then rewritten too."""
    out = [*fields, (b"X-Vcap-Request-Id", ids.vcap), (b"X-Request-Id", ids.request), _date(int(now)), *extra]
    return _rewritten(out, policy)


def vcap_trace(router: bytes, backend: bytes) -> Fields:
    """What a client may know whose `RequestIds.traced` holds: the router's address, the backend's
    `host:port`.
    """
    return [(b"X-Vcap-Router", router), (b"X-Vcap-Backend", backend), (b"X-Cf-RouteEndpoint", backend)]


@lru_cache(maxsize=4)  # one a second
def _date(second: int) -> tuple[bytes, bytes]:
    return b"Date", formatdate(second, usegmt=True).encode("ascii")


NAMING: Final = W3C_NAMES | B3_NAMES | {b"x-request-id", b"x-vcap-trace"}


def _named_by_client(sent: Fields, policy: HeaderPolicy, vcap: bytes, trace: Trace) -> RequestIds:
    asked = [value for name, value in sent if name == b"x-request-id"]
    fits = len(asked) == 1 and _REQUEST_ID_FORM.fullmatch(asked[0]) is not None
    traced = bool(policy.trace_key) and (b"x-vcap-trace", policy.trace_key) in sent
    return RequestIds(vcap, asked[0] if fits else vcap, trace.trace_id, trace.fields, traced)


def _keep_special(special: Fields, out: Fields, xfcc_mode: XfccMode, *, verified: bool) -> bool:
    """Append those of the special fields that stay as they came; True where X-Request-Start is among them."""
    started = False
    for field in special:
        kind = OURS[field[0]]
        if kind == START:
            out.append(field)
            started = True
        elif kind == XFCC:
            if xfcc_mode == "always_forward" or (xfcc_mode == "forward" and verified):
                out.append(field)
        elif kind == TE and _wants_trailers(field[1]):
            out += ((b"TE", b"trailers"), (b"Connection", b"TE"))
    return started


def _wants_trailers(te: bytes) -> bool:
    return any(coding.strip(b" \t") == b"trailers" for coding in te.lower().split(b","))


def _trusted(special: Fields, facts: DownstreamFacts, policy: HeaderPolicy, host: bytes) -> Fields:
    """The forwarding fields from a proxy that the operator trusts: its For appended to, its Proto and Host
    kept.
    """
    sent_for = [value for name, value in special if name == b"x-forwarded-for" and value]
    kept = {name: value for name, value in special if name != b"x-forwarded-for"}
    proto = kept.get(b"x-forwarded-proto", b"")
    if policy.force_forwarded_proto_https:
        proto = b"https"
    elif policy.sanitize_forwarded_proto or _PROTO_FORM.fullmatch(proto) is None:
        proto = facts.scheme
    named = kept.get(b"x-forwarded-host", b"")
    host = named if _HOST_FORM.fullmatch(named) is not None else host
    hops = b", ".join([*sent_for, facts.peer])
    first, *others = [_node(hop.strip(b" \t")) for hop in hops.rsplit(b",", _MAX_HOPS)[-_MAX_HOPS:]]
    forwarded = b'for=%b;host="%b";proto=%b' % (first, host, proto)
    return [
        (b"X-Forwarded-For", hops),
        (b"X-Forwarded-Proto", proto),
        (b"X-Real-IP", facts.peer),
        (b"X-Forwarded-Host", host),
        (b"Forwarded", b", for=".join([forwarded, *others])),
    ]


def _node(address: bytes) -> bytes:
    """An address as a node of Forwarded (RFC 7239 section 6): IPv6 bracketed and quoted, `unknown` if it is
    none.
    """
    if _IPV4_FORM.fullmatch(address) is not None:
        return address
    if b":" in address and _IPV6_FORM.fullmatch(address) is not None:
        return b'"[' + address + b']"'
    return b"unknown"


@lru_cache(maxsize=8192)  # an endpoint's fields are the same on every request
def _instance(app: str, index: str, instance_id: str, address: str) -> tuple[tuple[bytes, bytes], ...]:
    said = (
        (b"X-CF-ApplicationID", _printable(app)),
        (b"X-CF-InstanceIndex", _printable(index)),
        (b"X-CF-InstanceID", _printable(instance_id or address)),
    )
    return tuple(field for field in said if field[1])


def _printable(text: str) -> bytes:
    """A registration's word as a field value: what could break the field becomes `?`; 256 characters."""
    return _NOT_PRINTABLE.sub("?", text[:256]).strip().encode("ascii")


def _rewritten(fields: Fields, policy: HeaderPolicy) -> Fields:
    """The operator's http_rewrite: remove, then add what is not there."""
    out = [field for field in fields if field[0].lower() not in policy.removed]
    present = {field[0].lower() for field in out}
    return out + [(name, value) for lower, name, value in policy.added if lower not in present]
