"""The router's own answers, as a gRPC client's library reads them.

Promises: a refusal becomes a reply of trailers only, so that code and request ids reach the caller as metadata: of any other
answer the library keeps nothing but the number. The HTTP status stays; `grpc-status` is the one that libraries make of it.
Refuses to know: why it was refused, and how heads are sent.
Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md), gRPC's HTTP to gRPC status code mapping.
"""

from typing import Final

from router.l7.refusal import Refusal
from router.wire.http1 import Fields

_TYPE: Final = b"application/grpc"
_UNKNOWN: Final = b"2"
_STATUS: Final = {400: b"13", 401: b"16", 403: b"7", 404: b"12", 429: b"14", 502: b"14", 503: b"14", 504: b"14"}
"""INTERNAL, UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED, UNAVAILABLE."""
_OF_A_BODY: Final = frozenset({b"Content-Type", b"X-Content-Type-Options", b"Content-Length"})


def asks_by_grpc(fields: Fields) -> bool:
    """Is this a gRPC call, whatever its messages are made of? (gRPC-Web is not: it has types of its own.)"""
    return any(name == b"content-type" and _is_grpc(value.lower()) for name, value in fields)


def as_grpc(answer: Refusal) -> Refusal:
    """`answer` for a caller that asks by gRPC; as it is where it is no error of ours."""
    if answer.message is None:
        return answer
    code = next((value for name, value in answer.fields if name == b"X-Cf-RouterError"), b"")
    said = b": ".join(part for part in (code, answer.message.encode("ascii")) if part)
    fields: Fields = [
        (b"Content-Type", _TYPE),
        (b"Grpc-Status", _STATUS.get(answer.status, _UNKNOWN)),
        (b"Grpc-Message", said.replace(b"%", b"%25")),
    ]
    fields += (field for field in answer.fields if field[0] not in _OF_A_BODY)
    return answer._replace(fields=fields, body=b"")


def _is_grpc(value: bytes) -> bool:
    return value.startswith(_TYPE) and value[len(_TYPE) : len(_TYPE) + 1] in (b"", b"+", b";", b" ")
