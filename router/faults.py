"""Why an exchange ended badly, and the one table that says what follows from it.

Promises: every kind of fault has one row: whose side, which answer, may the request be sent again, what it
means for the endpoint. A row's texts are ours and few, so that nothing of a backend's or a peer's words
reaches a client.
Refuses to know: sockets and attempts: whether a byte was sent or a connection reused is the caller's fact.
Source: GoRouter's round-trip errors and fault classes, with the resend rule of this project.
"""

from typing import Final, Literal, NamedTuple

Side = Literal["downstream", "upstream", "router"]

Resend = Literal["no", "unsent", "idempotent_reused", "unprocessed"]
"""May the request be sent again? `no`: never. `unsent`: where not one of its bytes left for a backend.
`idempotent_reused`: there too, and also where it is idempotent, its body is absent or wholly kept, the
connection was a reused one and no byte of a response had come. `unprocessed`: the backend has said that it
did nothing with it; there, and also where its body is absent or wholly kept, whatever its method.
"""

Kind = Literal[
    "dial_failed",
    "dial_timeout",
    "dial_denied",
    "egress_denied",
    "tls_not_spoken",
    "tls_handshake_failed",
    "tls_handshake_timeout",
    "tls_name_mismatch",
    "tls_untrusted",
    "tls_expired",
    "tls_client_certificate_rejected",
    "connection_closed",
    "connection_reset",
    "stream_refused",
    "stream_reset",
    "response_malformed",
    "response_too_large",
    "response_truncated",
    "endpoint_timeout",
    "client_cancelled",
    "client_gone_while_streaming",
    "request_timeout",
    "request_malformed",
    "request_body_too_large",
    "out_of_descriptors",
    "unknown_failure",
]


class FaultRule(NamedTuple):
    """What follows from one kind of fault.

    `router_error` is the text of X-Cf-RouterError; `failable` takes the endpoint out of the choice for a
    while; `prunable` removes an endpoint that is reached over TLS at once.
    """

    side: Side
    status: int
    router_error: str
    retriable: Resend
    failable: bool = False
    prunable: bool = False


class Fault(Exception):
    """An exchange cannot go on: data for the fault table, not a sentence.

    `detail` is for the log alone (the logger bounds and escapes it); no client ever sees it.
    """

    __slots__ = ("detail", "kind")

    def __init__(self, kind: Kind, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind: Final[Kind] = kind
        self.detail: Final[str] = detail

    @property
    def rule(self) -> FaultRule:
        """The row of this fault's kind."""
        return FAULTS[self.kind]

    @property
    def side(self) -> Side:
        """Whose fault it is."""
        return FAULTS[self.kind].side

    def let_go(self) -> None:
        """Forget the way it came: frames hold their exchange, which holds the fault, and all would wait for the collector."""
        self.__traceback__ = self.__context__ = self.__cause__ = None


def _endpoint(
    status: int, text: str, retriable: Resend = "unsent", *, failable: bool = False, prunable: bool = False
) -> FaultRule:
    return FaultRule("upstream", status, f"endpoint_failure ({text})", retriable, failable, prunable)


FAULTS: Final[dict[Kind, FaultRule]] = {
    "dial_failed": _endpoint(502, "dial failed", failable=True, prunable=True),
    "dial_timeout": _endpoint(502, "dial timeout", failable=True, prunable=True),
    "dial_denied": FaultRule("upstream", 403, "access_denied", "unsent", failable=True),
    "egress_denied": _endpoint(502, "address not allowed", "no"),
    "tls_not_spoken": _endpoint(525, "endpoint does not speak TLS", failable=True, prunable=True),
    "tls_handshake_failed": _endpoint(525, "TLS handshake failed", failable=True, prunable=True),
    "tls_handshake_timeout": _endpoint(502, "TLS handshake timeout", failable=True, prunable=True),
    "tls_name_mismatch": _endpoint(503, "certificate name mismatch", failable=True, prunable=True),
    "tls_untrusted": _endpoint(526, "certificate not trusted", failable=True, prunable=True),
    "tls_expired": _endpoint(526, "certificate expired or not yet valid", failable=True, prunable=True),
    "tls_client_certificate_rejected": _endpoint(496, "client certificate rejected", failable=True, prunable=True),
    "connection_closed": _endpoint(502, "connection closed", "idempotent_reused"),
    "connection_reset": _endpoint(502, "connection reset", "idempotent_reused", failable=True),
    "stream_refused": _endpoint(502, "stream refused", "unprocessed"),
    "stream_reset": _endpoint(502, "stream reset", "no"),
    "response_malformed": _endpoint(502, "malformed response", "no"),
    "response_too_large": _endpoint(502, "response head too large", "no"),
    "response_truncated": _endpoint(502, "response cut short", "no"),
    "endpoint_timeout": _endpoint(502, "timeout", "no"),
    "client_cancelled": FaultRule("downstream", 499, "endpoint_failure (request cancelled)", "no"),
    "client_gone_while_streaming": FaultRule("downstream", 499, "client-conn-closed-during-response-streaming", "no"),
    "request_timeout": FaultRule("downstream", 408, "request_timeout", "no"),
    "request_malformed": FaultRule("downstream", 400, "malformed_request", "no"),
    "request_body_too_large": FaultRule("downstream", 413, "request_body_too_large", "no"),
    "out_of_descriptors": FaultRule("router", 502, "unknown_failure", "unsent"),
    "unknown_failure": FaultRule("router", 502, "unknown_failure", "no"),
}
