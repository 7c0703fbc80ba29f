"""Every bound and deadline of the data plane, in one place.

Promises: each field says its unit, its default, why that, and the attack (by its number) it answers. Plain
numbers, so that no caller branches: where the operator wants no bound, a count is UNBOUNDED and a deadline
FOREVER. Only the limits by rate and by address are 0 then, so that nothing is counted. Refuses to know how a
bound is kept.

Source: contract f.3 and g for GoRouter's values; decision 13.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from router.wire.http1 import ChunkedDecoder
from router.wire.http2_frames import MAX_FRAME
from router.wire.http2_limits import MAX_HEAD_BYTES, STREAMS, Http2Limits

if TYPE_CHECKING:
    from router.config.model import Config

FOREVER = 315_360_000.0
UNBOUNDED = 2**63 - 1
_HELLO = 5.0
_MOST_HEAD = 16 * 2**20
_MOST_FIELDS = 65_536


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, counts and float seconds. The defaults are those of an empty configuration."""

    request_head_bytes: int = 65_536
    """Bytes of a request line and fields. `max_request_header_bytes`. Attacks 51, 52: 431."""
    request_fields: int = 128
    """Fields of a request. `max_request_headers`. Attack 52: 431."""
    response_head_bytes: int = 262_144
    """Bytes of a status line and fields. `max_response_header_bytes`. Attack 55: 502."""
    response_fields: int = 256
    """Fields of a response. `max_response_headers`. Attack 55: 502."""
    informational_responses: int = 16
    """1xx responses before the final one; honest ones send one or two. Attack 55: 502."""
    request_body_bytes: int = UNBOUNDED
    """Bytes of a request body. `max_request_body_bytes`; none, since bodies stream: 413."""
    chunk_line_bytes: int = 4_096
    """Bytes of a chunk-size line with its extension; nobody uses extensions. Attacks 46, 47: 400."""
    trailer_bytes: int = 16_384
    """Bytes of a trailer section. Attacks 47, 52: 400."""
    trailer_fields: int = 64
    """Fields of a trailer section. Attack 52: 400."""

    http2: Http2Limits = field(default_factory=Http2Limits)
    """What one HTTP/2 connection may cost; each budget stands with its reason in `router/wire/http2_limits.py`. Heads and
    trailers are bounded as HTTP/1.1's. Attacks 52, 62 to 68: RST_STREAM, 431 or GOAWAY."""

    hello_bytes: int = 16_384
    """Bytes of a ClientHello, over all its records; post-quantum keys take 2 KiB. Attack 10: reset."""
    hello_deadline: float = _HELLO
    """Seconds from accept to a whole ClientHello. Attacks 9, 27, 73: reset."""
    proxy_header_deadline: float = 5.0
    """Seconds from accept to a whole PROXY header, where a listener wants one. Attack 73: reset."""
    tls_handshake_deadline: float = 10.0
    """Seconds of a client's TLS handshake. `tls_handshake_timeout`. Attack 27: close."""
    read_header_deadline: float = 10.0
    """Seconds from a head's first byte to its end. `read_header_timeout`. Attack 76: 408 and close."""
    frontend_idle_deadline: float = 900.0
    """Seconds between two requests of a connection. `frontend_idle_timeout`. Attack 76: close."""
    client_read_stall: float = 60.0
    """Seconds without one byte of a body that is due. `client_stall_timeout`. Attack 76: 408 or close."""
    client_write_stall: float = 60.0
    """Seconds in which a client takes not one byte. `client_stall_timeout`. Attacks 68, 76: close."""

    endpoint_deadline: float = 900.0
    """Seconds from choosing an endpoint to the response's end, of a request over HTTP/1. `endpoint_timeout`,
    `http_1_endpoint_timeout`: 502, or an abort."""
    http2_endpoint_deadline: float = 900.0
    """The same of a request over HTTP/2. `endpoint_timeout`, `http_2_endpoint_timeout`."""
    dial_deadline: float = 5.0
    """Seconds of one TCP connect to an endpoint. `endpoint_dial_timeout`: the next endpoint."""
    upgrade_dial_deadline: float = 5.0
    """Seconds of a TCP connect for a request that asks for an upgrade. `websocket_dial_timeout`."""
    upgrade_idle_deadline: float = 3_600.0
    """Seconds in which no byte moves on an upgraded connection. `websocket_idle_timeout`. Attack 76: close."""
    backend_handshake_deadline: float = 10.0
    """Seconds of a TLS handshake with an endpoint. `tls_handshake_timeout`: the next endpoint."""
    keep_alive_probe_interval: float = 1.0
    """Seconds between TCP keep-alive probes to backends, 0: none. `endpoint_keep_alive_probe_interval`."""
    backend_idle_deadline: float = 90.0
    """Seconds for which an idle backend connection is kept, as in GoRouter."""
    max_idle_backends: int = 100
    """Idle backend connections in all, 0: none. `max_idle_conns`, `disable_keep_alives`. Attack 81."""
    max_idle_per_endpoint: int = 100
    """Idle connections to one endpoint, 0: none. `max_idle_conns_per_host`. Attack 81."""
    http2_backend_window: int = 262_144
    """Bytes of a response that an HTTP/2 backend may send before they are read: 2 Gbit/s at a millisecond. What a
    slow client costs at most; a connection's own window is that of all its streams, so none of them waits for
    another."""
    http2_backend_frames: int = 1_000
    """Frames in a row by which an HTTP/2 backend gets nothing done (pings, settings, empty data, 1xx); each
    request, and each body byte either way, allows more. Attack 55: the connection is closed."""
    http2_backend_frame_rate: int = 100
    """Such frames that are forgiven a second; honest backends ping once in some seconds. Attack 55."""
    max_attempts: int = 3
    """Endpoints tried for one request. `backends.max_attempts`. Attack 57."""
    retry_deadline: float = 15.0
    """Seconds from a request's head in which another attempt may begin. `backends.retry_timeout`: the last fault."""
    max_in_flight_per_endpoint: int = 500
    """Requests in flight at one endpoint. `backends.max_conns`: 503."""
    failed_mark: float = 30.0
    """Seconds for which a failed endpoint is passed over: `droplet_stale_threshold` / 4, as GoRouter."""

    max_connections: int = 20_000
    """Connections a listener. `max_connections`. Attacks 76, 81: shed."""
    max_handshakes: int = 1_000
    """Client TLS handshakes in flight. `max_handshakes`. Attack 27: shed."""
    max_connections_per_address: int = 0
    """Connections a client address. `max_connections_per_address`. Attack 76: shed."""
    connection_rate: int = 0
    """New connections a second and listener. `connection_rate`. Attack 27: shed."""
    connection_rate_per_address: int = 0
    """New connections a second and client address. `connection_rate_per_address`. Attack 27: shed."""
    accept_pause: float = 0.2
    """Seconds without accepting after descriptors ran out. Attack 81: recovery within one second."""

    drain_wait: float = 20.0
    """Seconds of bad health while still serving. `drain_wait`. Attack 82."""
    drain_deadline: float = 900.0
    """Seconds that requests in flight get then. `drain_timeout`. Attack 82: exit status 1 when passed."""

    @classmethod
    def from_config(cls, config: "Config") -> "Limits":
        """The limits that an operator chose."""
        idle = 0 if config.disable_keep_alives else config.max_idle_conns
        head_bytes, fields = config.max_request_header_bytes or UNBOUNDED, config.max_request_headers or UNBOUNDED
        return cls(
            http2=Http2Limits(max_head_bytes=min(head_bytes, MAX_HEAD_BYTES), max_fields=fields),
            request_head_bytes=head_bytes,
            request_fields=fields,
            response_head_bytes=config.max_response_header_bytes or UNBOUNDED,
            response_fields=config.max_response_headers or UNBOUNDED,
            request_body_bytes=config.max_request_body_bytes or UNBOUNDED,
            hello_deadline=min(_HELLO, config.tls_handshake_timeout or _HELLO),
            tls_handshake_deadline=config.tls_handshake_timeout or FOREVER,
            read_header_deadline=config.read_header_timeout or FOREVER,
            frontend_idle_deadline=config.frontend_idle_timeout or FOREVER,
            client_read_stall=config.client_stall_timeout or FOREVER,
            client_write_stall=config.client_stall_timeout or FOREVER,
            endpoint_deadline=config.http_1_endpoint_timeout or config.endpoint_timeout or FOREVER,
            http2_endpoint_deadline=config.http_2_endpoint_timeout or config.endpoint_timeout or FOREVER,
            dial_deadline=config.endpoint_dial_timeout or FOREVER,
            upgrade_dial_deadline=config.websocket_dial_timeout or config.endpoint_dial_timeout or FOREVER,
            upgrade_idle_deadline=config.websocket_idle_timeout or FOREVER,
            backend_handshake_deadline=config.tls_handshake_timeout or FOREVER,
            keep_alive_probe_interval=config.endpoint_keep_alive_probe_interval,
            max_idle_backends=idle,
            max_idle_per_endpoint=min(idle, config.max_idle_conns_per_host),
            max_attempts=max(1, config.backends.max_attempts),
            retry_deadline=config.backends.retry_timeout or FOREVER,
            max_in_flight_per_endpoint=config.backends.max_conns or UNBOUNDED,
            failed_mark=config.droplet_stale_threshold / 4,
            max_connections=config.max_connections or UNBOUNDED,
            max_handshakes=config.max_handshakes or UNBOUNDED,
            max_connections_per_address=config.max_connections_per_address,
            connection_rate=config.connection_rate,
            connection_rate_per_address=config.connection_rate_per_address,
            drain_wait=config.drain_wait,
            drain_deadline=config.drain_timeout,
        )

    def http2_backends(self) -> Http2Limits:
        """What an HTTP/2 backend may send. A head without a bound is one of 16 MiB here: all of it is held."""
        fields = min(self.response_fields, _MOST_FIELDS)
        head_bytes = min(self.response_head_bytes, _MOST_HEAD) + 32 * fields  # as RFC 9113 6.5.2 counts
        return Http2Limits(
            max_head_bytes=head_bytes,
            max_fields=fields,
            max_trailer_bytes=self.trailer_bytes,
            max_trailer_fields=self.trailer_fields,
            max_continuations=64 + 2 * head_bytes // MAX_FRAME,
            max_streams=STREAMS,
            stream_window=self.http2_backend_window,
            connection_window=STREAMS * self.http2_backend_window,
            reset_tokens=UNBOUNDED,  # each costs a request of ours
            control_tokens=self.http2_backend_frames,
            control_tokens_a_second=self.http2_backend_frame_rate,
            control_tokens_a_frame=64,  # some open both windows anew for every few hundred bytes that their app reads
            cut_bytes_a_token=128,
        )

    def chunked_decoder(self) -> ChunkedDecoder:
        """A fresh decoder of a chunked body, with these bounds."""
        return ChunkedDecoder(self.chunk_line_bytes, self.trailer_bytes, self.trailer_fields)
