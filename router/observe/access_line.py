"""An access record as text: GoRouter's line byte for byte, or a JSON object.

    host - [time] "METHOD uri PROTO" status in out "referer" "agent" "client" "backend"
    x_forwarded_for:"-" ... x_cf_routererror:"-"

Promises: a record never splits a line, whatever its bytes are; a line has a bound (GoRouter's own cuts,
applied for every sink); query strings are hidden unless the operator says otherwise (`redact_query_params`;
also those in the Referer).
Refuses to know where lines go. Pure but for a cache of texts.

Source of the layout: GoRouter's access-log record: order, quoting, time format and `-` for what is missing as
there.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from router.observe.access_record import AccessRecord
from router.observe.passthrough_record import PassthroughRecord, render_passthrough_json, render_passthrough_line
from router.observe.quote import PLAIN, escape, quote
from router.observe.timestamp import Timestamps

MAX_LINE = 65_400
"""Bytes; a longer line is rendered again with its long values cut, as GoRouter does for UDP."""
MAX_HEADER = 1_000
MAX_URI = 20_000
MAX_EXTRA_HEADERS = 20_000
MAX_TEXTS = 4_096
"""Texts of the router's own (addresses, ids) kept in their escaped form."""
ATTEMPT_DETAILS = (
    "failed_attempts",
    "failed_attempts_time",
    "dns_time",
    "dial_time",
    "tls_time",
    "backend_time",
)
"""What `logging.enable_attempts_details` adds, in this order."""


@dataclass(frozen=True, slots=True)
class AccessLogOptions:
    """The operator's choices; names as in `gorouter.yml`, section `logging` (and top-level
    `extra_headers_to_log`).

    `extra_access_log_fields` may name what EXTRA_FIELDS holds; others are left out. `sampling` is the share
    of plain successes that is logged, 0 to 1.
    """

    format: Literal["gorouter", "json"] = "gorouter"
    disable_log_forwarded_for: bool = False
    disable_log_source_ip: bool = False
    redact_query_params: Literal["none", "all", "hash"] = "all"
    extra_headers_to_log: tuple[str, ...] = ()
    extra_access_log_fields: tuple[str, ...] = ()
    enable_attempts_details: bool = False
    sampling: float = 1.0

    def extra_fields(self) -> tuple[str, ...]:
        """The known extra fields, each once, in the order they are printed."""
        asked = (ATTEMPT_DETAILS if self.enable_attempts_details else ()) + self.extra_access_log_fields
        return tuple(name for name in dict.fromkeys(asked) if name in EXTRA_FIELDS)


def _text(value: str | bytes | None) -> bytes:
    if not value:
        return b'"-"'
    return quote(value if isinstance(value, bytes) else _encoded(value))


def _encoded(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _seconds(value: float) -> bytes:
    return b"%.6f" % value if value >= 0 else b'"-"'


EXTRA_FIELDS: dict[str, Callable[[AccessRecord], bytes]] = {
    "backend_time": lambda record: _seconds(record.backend_time),
    "dial_time": lambda record: _seconds(record.dial_time),
    "dns_time": lambda record: _seconds(record.dns_time),
    "failed_attempts": lambda record: b"%d" % record.failed_attempts,
    "failed_attempts_time": lambda record: _seconds(record.failed_attempts_time),
    "local_address": lambda record: _text(record.local_address),
    "tls_time": lambda record: _seconds(record.tls_time),
    "caller_cf_app": lambda record: _text(record.caller_cf_app),
    "caller_cf_space": lambda record: _text(record.caller_cf_space),
    "caller_cf_org": lambda record: _text(record.caller_cf_org),
    "caller_cf_app_name": lambda record: _text(record.caller_names.app),
    "caller_cf_space_name": lambda record: _text(record.caller_names.space),
    "caller_cf_org_name": lambda record: _text(record.caller_names.org),
    "route_policy": lambda record: _text(record.mtls_rule),
    "tls_sni": lambda record: _text(record.tls_sni),
    "mtls_auth": lambda record: _text(record.mtls_auth),
    "mtls_rule": lambda record: _text(record.mtls_rule),
    "mtls_denied_reason": lambda record: _text(record.mtls_denied_reason),
    "request_id": lambda record: _text(record.request_id),
    "trace_id": lambda record: _text(record.trace_id),
    "generation": lambda record: b"%d" % record.generation,
}
"""Every name that `extra_access_log_fields` may hold, with its rendering."""

_LINE = (
    b'%b - [%b] "%b %b %b" %b %d %d "%b" "%b" "%b" "%b" x_forwarded_for:"%b" x_forwarded_proto:"%b" '
    b'vcap_request_id:"%b" response_time:%b gorouter_time:%b app_id:"%b" '
    b'app_index:"%b" instance_id:"%b" %bx_cf_routererror:"%b"%b'
)


class Renderer:
    """Turns records into lines. Keeps the date part of the last second, so it serves one thread."""

    def __init__(self, options: AccessLogOptions) -> None:
        self._options = options
        self._extra_fields = tuple((name.encode(), EXTRA_FIELDS[name]) for name in options.extra_fields())
        self._extra_headers = tuple(
            name.lower().replace("-", "_").encode("ascii", "replace") for name in options.extra_headers_to_log
        )
        self._timestamps = Timestamps()
        self._texts: dict[str, bytes] = {}
        self.render: Callable[[AccessRecord], bytes] = self.render_json if options.format == "json" else self.render_line

    def render_passthrough(self, record: PassthroughRecord) -> bytes:
        """The line of a connection that was passed through, in the same format."""
        render = render_passthrough_json if self._options.format == "json" else render_passthrough_line
        return render(record, self._timestamps, hide_source=self._options.disable_log_source_ip)

    def render_line(self, record: AccessRecord) -> bytes:
        """GoRouter's line, without its line feed."""
        line = self._line(record, cut=False)
        return line if len(line) <= MAX_LINE else self._line(record, cut=True)[: 2 * MAX_LINE]

    def _line(self, record: AccessRecord, *, cut: bool) -> bytes:
        options = self._options
        hide = options.redact_query_params
        host, uri, referer, agent = record.host, record.uri, record.referer, record.user_agent
        forwarded_for, forwarded_proto = record.x_forwarded_for, record.x_forwarded_proto
        method, proto, request_id = record.method, record.proto, record.vcap_request_id
        if hide != "none":
            if b"?" in uri:
                uri = _redacted(uri, hide)
            if b"?" in referer:
                referer = _redacted(referer, hide)
        if cut:
            uri = _cut(uri, b"REQUEST-URI", MAX_URI)
            referer = _cut(referer, b"REFERER", MAX_HEADER)
            agent = _cut(agent, b"USER-AGENT", MAX_HEADER)
            forwarded_for = _cut(forwarded_for, b"X-FORWARDED-FOR", MAX_HEADER)
            forwarded_proto = _cut(forwarded_proto, b"X-FORWARDED-PROTO", MAX_HEADER)
            host = _cut(host, b"HOST", MAX_HEADER)
            method = _cut(method, b"METHOD", MAX_HEADER)
        # One look at all that a peer chose: almost always nothing needs an escape.
        sent = host + method + uri + proto + referer + agent + forwarded_for + forwarded_proto + request_id
        if sent.translate(None, PLAIN) or b" " in host:
            host, method, uri, proto, referer, agent, forwarded_for, forwarded_proto, request_id = map(
                escape, (host, method, uri, proto, referer, agent, forwarded_for, forwarded_proto, request_id)
            )
            # Host stands unquoted: a space in it would look like the next field.
            host = host.replace(b" ", b"\\x20")
        if options.disable_log_forwarded_for:
            forwarded_for = b""
        response_time = record.response_time
        known = self._known
        return _LINE % (
            host,
            self._timestamps.rfc3339(record.started_at).encode(),
            method,
            uri,
            proto,
            b"%d" % record.status if record.status else b'"-"',
            record.bytes_in,
            record.bytes_out,
            referer or b"-",
            agent or b"-",
            b"-" if options.disable_log_source_ip else known(record.remote_addr),
            known(record.backend_addr),
            forwarded_for or b"-",
            forwarded_proto or b"-",
            request_id or b"-",
            _seconds(response_time),
            _seconds(response_time - record.app_time),
            known(record.app_id),
            known(record.app_index),
            known(record.instance_id),
            b"".join([b"%b:%b " % (name, render(record)) for name, render in self._extra_fields]) if self._extra_fields else b"",
            known(record.router_error),
            self._headers(record.extra_headers, cut=cut) if self._extra_headers else b"",
        )

    def _known(self, value: str) -> bytes:
        """A text of the router's own, escaped all the same (what a registration said is not ours); it comes
        again and again."""
        text = self._texts.get(value)
        if text is None:
            if len(self._texts) >= MAX_TEXTS:
                self._texts.clear()
            text = self._texts[value] = escape(_encoded(value)) or b"-"
        return text

    def _headers(self, values: tuple[bytes, ...], *, cut: bool) -> bytes:
        """` name:"value"` for each header asked for; a missing one is `-`."""
        parts: list[bytes] = []
        size = 0
        for index, name in enumerate(self._extra_headers):
            value = values[index] if index < len(values) else b""
            size += len(name) + len(value) + 4
            if cut and size >= MAX_EXTRA_HEADERS:
                parts.append(b" ...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED")
                break
            parts.append(b" %b:%b" % (name, _text(value)))
        return b"".join(parts)

    def render_json(self, record: AccessRecord) -> bytes:
        """Every field of the record as a JSON object on one line; null where there is none."""
        options = self._options
        hide = options.redact_query_params
        uri = _redacted(record.uri, hide)
        referer = _redacted(record.referer, hide)
        gorouter_time = record.response_time - record.app_time
        fields: dict[str, object] = {
            "timestamp": self._timestamps.rfc3339(record.started_at),
            "host": _shown(record.host),
            "method": _shown(record.method),
            "uri": _shown(_cut(uri, b"REQUEST-URI", MAX_URI)),
            "proto": _shown(record.proto),
            "status": record.status,
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "referer": _shown(referer),
            "user_agent": _shown(record.user_agent),
            "remote_addr": None if options.disable_log_source_ip else record.remote_addr or None,
            "backend_addr": record.backend_addr or None,
            "x_forwarded_for": None if options.disable_log_forwarded_for else _shown(record.x_forwarded_for),
            "x_forwarded_proto": _shown(record.x_forwarded_proto),
            "vcap_request_id": _shown(record.vcap_request_id),
            "request_id": _shown(record.request_id),
            "trace_id": _shown(record.trace_id),
            "response_time": _rounded(record.response_time),
            "gorouter_time": _rounded(gorouter_time),
            "backend_time": _rounded(record.backend_time),
            "dns_time": _rounded(record.dns_time),
            "dial_time": _rounded(record.dial_time),
            "tls_time": _rounded(record.tls_time),
            "failed_attempts": record.failed_attempts,
            "failed_attempts_time": _rounded(record.failed_attempts_time),
            "local_address": record.local_address or None,
            "app_id": record.app_id or None,
            "app_index": record.app_index or None,
            "instance_id": record.instance_id or None,
            "tls_sni": record.tls_sni,
            "caller_cf_app": record.caller_cf_app,
            "caller_cf_space": record.caller_cf_space,
            "caller_cf_org": record.caller_cf_org,
            "caller_cf_app_name": record.caller_names.app,
            "caller_cf_space_name": record.caller_names.space,
            "caller_cf_org_name": record.caller_names.org,
            "mtls_auth": record.mtls_auth,
            "mtls_rule": record.mtls_rule,
            "mtls_denied_reason": record.mtls_denied_reason,
            "generation": record.generation,
            "x_cf_routererror": record.router_error or None,
        }
        names = map(bytes.decode, self._extra_headers)
        if headers := dict(zip(names, map(_shown, record.extra_headers), strict=False)):
            fields["headers"] = headers
        return json.dumps(fields, separators=(",", ":")).encode("ascii")


def _redacted(uri: bytes, hide: Literal["none", "all", "hash"]) -> bytes:
    """`uri` without its query, or with the query's SHA-1 in its place, as GoRouter hashes it."""
    path, mark, query = uri.partition(b"?")
    if hide == "none" or not mark:
        return uri
    if hide == "all" or not query:
        return path
    return b"%b?hash=%b" % (path, hashlib.sha1(query, usedforsecurity=False).hexdigest().encode())


def _cut(value: bytes, name: bytes, limit: int) -> bytes:
    """GoRouter's way to shorten: halved until it fits, with a mark each time."""
    while len(value) > limit:
        value = value[: len(value) // 2] + b"...%b-TOO-LONG-TO-LOG--TRUNCATED" % name
    return value


def _shown(value: bytes) -> str | None:
    return value[:MAX_URI].decode("utf-8", "backslashreplace") if value else None


def _rounded(value: float) -> float | None:
    return round(value, 6) if value >= 0 else None
