"""What the access log knows of one exchange: a plain record that the exchange fills and hands over when it
ends.

Promises: a misspelt field is an error, not a lost fact. Refuses to know how it is rendered (access_line.py)
or where it goes.
"""

from typing import Final, NamedTuple


class CallerNames(NamedTuple):
    """What the caller's app, space and org are called (registry/names.py); None where nobody said."""

    app: str | None = None
    space: str | None = None
    org: str | None = None


NO_CALLER_NAMES: Final = CallerNames()


class AccessRecord:
    """What is known of one exchange. Text that a peer sent stays bytes; times are seconds, -1 where there is
    none.

    `app_time` runs from the first attempt's start to the response's end, `backend_time` only over the attempt
    that answered; GoRouter's `gorouter_time` is `response_time` less `app_time`. `extra_headers` holds the
    values of the headers named by `extra_headers_to_log`, in that order.
    """

    __slots__ = (
        "app_id",
        "app_index",
        "app_time",
        "backend_addr",
        "backend_time",
        "bytes_in",
        "bytes_out",
        "caller_cf_app",
        "caller_cf_org",
        "caller_cf_space",
        "caller_names",
        "dial_time",
        "dns_time",
        "extra_headers",
        "failed_attempts",
        "failed_attempts_time",
        "generation",
        "host",
        "instance_id",
        "local_address",
        "method",
        "mtls_auth",
        "mtls_denied_reason",
        "mtls_rule",
        "proto",
        "referer",
        "remote_addr",
        "request_id",
        "response_time",
        "router_error",
        "started_at",
        "status",
        "tls_sni",
        "tls_time",
        "trace_id",
        "uri",
        "user_agent",
        "vcap_request_id",
        "x_forwarded_for",
        "x_forwarded_proto",
    )

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.host = b""
        self.method = b""
        self.uri = b""
        self.proto = b""
        self.status: int | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.referer = b""
        self.user_agent = b""
        self.remote_addr = ""
        self.backend_addr = ""
        self.x_forwarded_for = b""
        self.x_forwarded_proto = b""
        self.vcap_request_id = b""
        self.response_time = -1.0
        self.app_time = 0.0
        self.backend_time = -1.0
        self.app_id = ""
        self.app_index = ""
        self.instance_id = ""
        self.router_error = ""
        self.extra_headers: tuple[bytes, ...] = ()
        self.failed_attempts = 0
        self.failed_attempts_time = -1.0
        self.dns_time = -1.0
        self.dial_time = -1.0
        self.tls_time = -1.0
        self.local_address = ""
        self.tls_sni: str | None = None
        self.caller_cf_app: str | None = None
        self.caller_cf_space: str | None = None
        self.caller_cf_org: str | None = None
        self.caller_names = NO_CALLER_NAMES
        self.mtls_auth: str | None = None
        self.mtls_rule: str | None = None
        self.mtls_denied_reason: str | None = None
        self.request_id = b""
        self.trace_id = b""
        self.generation = 0
