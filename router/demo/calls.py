"""The calls of the demo: who calls what, what must happen, and what did.

Promises: each call is a real connection of its own; what was seen is what came back on it, and the reason is what the
router's log says of that very request. Refuses to know: how it is shown.
"""

import contextlib
import http.client
import socket
import ssl
import time
from typing import Any, NamedTuple

from router.demo.app import XFCC
from router.demo.world import DRAFT, HELLO, ORDERS, STOCK, World

LOG_SECONDS = 5.0
DENIED_EVENTS = ("mtls-pre-auth-denied", "mtls-enforcement-mismatch")
"""Events of the component log that carry a refusal's trail: GoRouter's names."""


class Call(NamedTuple):
    """One call. `caller` None: without a certificate; `sni` None: the host's own name."""

    caller: str | None
    host: str
    about: str
    expected: str
    sni: str | None = None


CALLS = (
    Call("billing", ORDERS, "is on the route's list", "200"),
    Call("reports", ORDERS, "is not on the list", "403"),
    Call("billing", DRAFT, "route without options", "403"),
    Call(None, ORDERS, "no certificate", "alert certificate required"),
    Call("warehouse", ORDERS, "a certificate of west", "alert unknown ca"),
    Call("billing", ORDERS, "SNI hello, Host orders", "421", sni=HELLO),
    Call("warehouse", STOCK, "is at home in west", "200"),
    Call(None, HELLO, "open domain, no certificate", "200"),
)


class Outcome(NamedTuple):
    """What happened. `details`: what the app saw, or why the router refused, a line each."""

    call: Call
    seen: str
    details: tuple[str, ...] = ()

    @property
    def as_expected(self) -> bool:
        """Whether the call ended as it must."""
        return self.seen == self.call.expected


def make(call: Call, world: World) -> Outcome:
    """Make one call and find out what became of it. Blocks for a few seconds at most."""
    try:
        status, headers, body = _exchange(call, world)
    except ssl.SSLError as error:
        return Outcome(call, f"alert {_alert(error)}")
    except (OSError, http.client.HTTPException) as error:
        return Outcome(call, f"{type(error).__name__}: {error}")
    if status == 200:
        return Outcome(call, "200", _xfcc(body))
    return Outcome(call, str(status), _why(headers.get("X-Vcap-Request-Id", ""), world))


def _exchange(call: Call, world: World) -> tuple[int, http.client.HTTPMessage, str]:
    context = ssl.create_default_context(cafile=str(world.authority))
    if call.caller is not None:
        context.load_cert_chain(world.caller(call.caller))
    with (
        socket.create_connection(("127.0.0.1", world.port), 10.0) as raw,
        context.wrap_socket(raw, server_hostname=call.sni or call.host) as connection,
    ):
        # In TLS 1.3 a refusal follows our handshake: the request may fail to leave, and the alert can still be read.
        with contextlib.suppress(ConnectionError):
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {call.host}\r\nConnection: close\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.headers, response.read(65536).decode("utf-8", "replace")


def _xfcc(body: str) -> tuple[str, ...]:
    """The header that the app saw, an element a line."""
    _, _, value = body.rstrip().partition(f"{XFCC}: ")
    if value in ("", "-"):
        return (f"the app saw no {XFCC}",)
    return (f"the app saw {XFCC}:", *value.split(";"))


def _alert(error: ssl.SSLError) -> str:
    """The alert's name from OpenSSL's reason, such as TLSV13_ALERT_CERTIFICATE_REQUIRED."""
    reason = error.reason or str(error)
    return reason.rpartition("ALERT_")[2].replace("_", " ").lower()


def _why(request_id: str, world: World) -> tuple[str, ...]:
    """The refusal's trail from the component log; where it holds none, the access log's rule and reason."""
    record = _logged(world, request_id)
    trail = next((_trail(event) for event in world.events() if _tells_of(event, request_id)), ())
    return trail or (f"{record.get('mtls_rule')}: {record.get('mtls_denied_reason')}",)


def _logged(world: World, request_id: str) -> dict[str, Any]:
    """The access record of one request; it is written a moment after the response."""
    end = time.monotonic() + LOG_SECONDS
    while time.monotonic() < end:
        for record in world.access_log():
            if record.get("vcap_request_id") == request_id:
                return record
        time.sleep(0.02)
    return {}


def _tells_of(event: dict[str, Any], request_id: str) -> bool:
    data = event.get("data")
    return event.get("message") in DENIED_EVENTS and isinstance(data, dict) and data.get("vcap_request_id") == request_id


def _trail(event: dict[str, Any]) -> tuple[str, ...]:
    checks = event["data"].get("trail", ())
    return tuple(f"{check['layer']:<9}{'passed' if check['passed'] else 'FAILED'}  {check['detail']}" for check in checks)
