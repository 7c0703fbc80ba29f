"""The responses that the router makes itself: every status, code and body in one table.

Promises: a refusal is a value, ready to render; its body and X-Cf-RouterError come from this page and the
table of faults alone, so that no reason, key or name of another tenant can leak; what a peer sent appears
bounded and escaped.
Refuses to know: why a request was refused (that is for log and metrics) and how bytes are sent.
Source: GoRouter's error writer and its lookup and round-trip errors; RFC 9110 section 15.
"""

from typing import Final, Literal, NamedTuple

from router.faults import Fault, Kind
from router.wire.http1 import Fields, Malformed

Code = Literal[
    "empty_host",
    "unknown_route",
    "unknown_instance",
    "invalid_cf_app_instance_header",
    "invalid_cf_process_instance_header",
    "no_endpoints",
    "Connection Limit Reached",
    "route_service_unsupported",
    "route_service_upgrade",
    "expired_route_service_signature",
    "invalid_route_service_signature",
    "foreign_route_service_signature",
    "bad_route_service_url",
    "mtls_domain_mismatch",
    "mtls_authorization_denied",
    "access_denied",
    "l7_policy_denied",
    "rate_limit_exceeded",
    "malformed_request",
    "connect",
    "request_timeout",
    "request_body_too_large",
    "uri_too_long",
    "expectation_failed",
    "max-request-size-exceeded",
    "unsupported_transfer_encoding",
    "unsupported_http_version",
    "unknown_failure",
]

REASONS: Final[dict[int, bytes]] = {
    200: b"OK",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Request Entity Too Large",
    414: b"Request URI Too Long",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    504: b"Gateway Timeout",
    496: b"SSL Certificate Required",
    499: b"Request Cancelled",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
    525: b"SSL Handshake Failed",
    526: b"Invalid SSL Certificate",
}


class RefusalRule(NamedTuple):
    """One row: `error` is X-Cf-RouterError, `message` the body's text (None: `body` as it is), `close` as in
    Refusal.
    """

    status: int
    error: str
    message: str | None
    cache_control: bytes | None = None
    body: bytes = b""
    close: bool = False
    extra: tuple[tuple[bytes, bytes], ...] = ()


class Refusal(NamedTuple):
    """A response that the router makes itself, framed by Content-Length; `close`: the connection ends after
    it. `message` is what an operator's page may say of it; None: it is no error, and keeps its body.
    """

    status: int
    reason: bytes
    fields: Fields
    body: bytes
    close: bool
    message: str | None = None


_NEVER: Final = b"no-cache, no-store"
_BRIEFLY: Final = b"public,max-age=2"
_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"

REFUSALS: Final[dict[Code, RefusalRule]] = {
    "empty_host": RefusalRule(400, "empty_host", "Request had empty Host header", _BRIEFLY, close=True),
    "unknown_route": RefusalRule(404, "unknown_route", "Requested route ('{host}') does not exist.", _NEVER),
    "unknown_instance": RefusalRule(
        400,
        "unknown_route",
        "Requested instance ('{instance}') with guid ('{guid}') does not exist for route ('{host}')",
        _NEVER,
    ),
    "invalid_cf_app_instance_header": RefusalRule(
        400, "invalid_cf_app_instance_header", "Invalid X-CF-App-Instance Header", _NEVER
    ),
    "invalid_cf_process_instance_header": RefusalRule(
        400, "invalid_cf_process_instance_header", "Invalid X-CF-Process-Instance Header", _NEVER
    ),
    "no_endpoints": RefusalRule(503, "no_endpoints", "Requested route ('{host}') has no available endpoints.", _BRIEFLY),
    "Connection Limit Reached": RefusalRule(
        503, "Connection Limit Reached", "Requested route ('{host}') has reached the connection limit."
    ),
    "route_service_unsupported": RefusalRule(502, "route_service_unsupported", "Support for route services is disabled."),
    "route_service_upgrade": RefusalRule(
        503, "route_service_unsupported", "Websocket requests are not supported for routes bound to Route Services."
    ),
    "expired_route_service_signature": RefusalRule(
        504, "expired_route_service_signature", "Failed to validate Route Service Signature: route service request expired"
    ),
    "invalid_route_service_signature": RefusalRule(
        502, "invalid_route_service_signature", "Failed to validate Route Service Signature"
    ),
    "foreign_route_service_signature": RefusalRule(
        400, "invalid_route_service_signature", "invalid route service signature detected"
    ),
    "bad_route_service_url": RefusalRule(500, "bad_route_service_url", "Route service request failed."),
    "mtls_domain_mismatch": RefusalRule(421, "mtls_domain_mismatch", None),
    "mtls_authorization_denied": RefusalRule(403, "mtls_authorization_denied", None, body=b"Forbidden"),
    "access_denied": RefusalRule(403, "access_denied", None, body=b"Forbidden"),
    "l7_policy_denied": RefusalRule(403, "l7_policy_denied", None, body=b"Forbidden"),
    "rate_limit_exceeded": RefusalRule(
        429, "rate_limit_exceeded", "Requested route ('{host}') has reached its rate limit.", _NEVER
    ),
    "malformed_request": RefusalRule(400, "malformed_request", "Malformed request", close=True),
    "connect": RefusalRule(405, "malformed_request", "CONNECT is not supported", close=True, extra=((b"Allow", _METHODS),)),
    "request_timeout": RefusalRule(408, "request_timeout", "The request did not arrive in time", close=True),
    "request_body_too_large": RefusalRule(413, "request_body_too_large", "The request body exceeds the limit", close=True),
    "uri_too_long": RefusalRule(414, "malformed_request", "The request target is too long", close=True),
    "expectation_failed": RefusalRule(417, "malformed_request", "Only the expectation 100-continue is supported", close=True),
    "max-request-size-exceeded": RefusalRule(431, "max-request-size-exceeded", "The request head exceeds the limit", close=True),
    "unsupported_transfer_encoding": RefusalRule(
        501, "malformed_request", "The transfer coding or method is not supported", close=True
    ),
    "unsupported_http_version": RefusalRule(505, "malformed_request", "Only HTTP/1.0 and HTTP/1.1 are supported", close=True),
    "unknown_failure": RefusalRule(502, "unknown_failure", "The router failed to handle the request"),
}

_BY_STATUS: Final[dict[int, Code]] = {
    405: "connect",
    408: "request_timeout",
    413: "request_body_too_large",
    414: "uri_too_long",
    417: "expectation_failed",
    431: "max-request-size-exceeded",
    501: "unsupported_transfer_encoding",
    505: "unsupported_http_version",
}
_BY_KIND: Final[dict[Kind, Code]] = {
    "dial_denied": "access_denied",
    "request_timeout": "request_timeout",
    "request_malformed": "malformed_request",
    "request_body_too_large": "request_body_too_large",
    "out_of_descriptors": "unknown_failure",
    "unknown_failure": "unknown_failure",
}
_PLAIN: Final = ((b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff"))
_SHOWN_LENGTH = 253  # characters of a peer's text in a body: a whole host name


def refusal(
    code: Code, *, is_head: bool = False, host: str = "", instance: str = "", guid: str = "", retry_after: int = 0
) -> Refusal:
    """The response for `code`. `host`, `instance` and `guid` are what the peer asked for: shown bounded,
    escaped. `retry_after`: seconds after which asking again makes sense, 0: not said.
    """
    rule = REFUSALS[code]
    body = rule.body
    said = body.decode("ascii")
    if rule.message is not None:
        said = rule.message.format(host=_shown(host), instance=_shown(instance), guid=_shown(guid))
        body = b"%d %b: %b\n" % (rule.status, REASONS[rule.status], said.encode("ascii"))
    fields = _fields(rule.error, body)
    fields += rule.extra
    if rule.cache_control is not None:
        fields.append((b"Cache-Control", rule.cache_control))
    if retry_after:
        fields.append((b"Retry-After", b"%d" % retry_after))
    return Refusal(rule.status, REASONS[rule.status], fields, b"" if is_head else body, rule.close, said)


def malformed(reason: Malformed, *, is_head: bool = False) -> Refusal:
    """The response to a head that cannot be understood; its reason goes to the log, not to the client."""
    if reason.reason in ("empty_host", "host_missing"):
        return refusal("empty_host", is_head=is_head)
    return refusal(_BY_STATUS.get(reason.status, "malformed_request"), is_head=is_head)


def failure(fault: Fault, *, is_head: bool = False) -> Refusal:
    """The response to a fault, by the table of faults; `fault.detail` never shows."""
    code = _BY_KIND.get(fault.kind)
    if code is not None:
        return refusal(code, is_head=is_head)
    rule = fault.rule
    body = failure_body(rule.status)
    return Refusal(
        rule.status,
        REASONS[rule.status],
        _fields(rule.router_error, body),
        b"" if is_head else body,
        rule.side == "downstream",
        body.decode("ascii").partition(": ")[2].rstrip("\n"),
    )


def failure_body(status: int) -> bytes:
    """The body of a failed round trip, as GoRouter words it."""
    if status == 502:
        return b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
    return b"%d %b\n" % (status, REASONS[status])


def healthcheck(fields: Fields, user_agent: bytes, *, healthy: bool, is_head: bool = False) -> Refusal | None:
    """The router's own answer to a load balancer's probe, known by its whole User-Agent; None for other
    requests.

    An empty `user_agent` knows no probe.
    """
    for name, value in fields:
        if name == b"user-agent":
            return _health(healthy=healthy, is_head=is_head) if value == user_agent and user_agent else None
    return None


def _health(*, healthy: bool, is_head: bool) -> Refusal:
    status, body = (200, b"ok\n") if healthy else (503, b"")
    fields: Fields = [(b"Cache-Control", b"private, max-age=0"), (b"Expires", b"0")]
    fields += _PLAIN
    fields.append((b"Content-Length", b"%d" % len(body)))
    return Refusal(status, REASONS[status], fields, b"" if is_head else body, close=True)


def _fields(error: str, body: bytes) -> Fields:
    fields: Fields = [(b"X-Cf-RouterError", error.encode("ascii")), (b"Content-Length", b"%d" % len(body))]
    if body:
        fields += _PLAIN
    return fields


def _shown(text: str) -> str:
    """A peer's text in a response: printable ASCII, at most 253 of its characters, so that it can break
    nothing.
    """
    shown = text[:_SHOWN_LENGTH]
    return "".join(c if " " <= c <= "~" and c not in "<>&'\"\\" else f"\\x{ord(c):02x}" for c in shown)
