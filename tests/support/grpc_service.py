"""A gRPC service and its callers on grpcio, with bytes as messages: no `.proto` file, and under the test's control.

    with GrpcService() as service:
        registrar.register(host, backend=service.port, protocol="http2")
        with grpc_channel(router.ssl_port, host, trust=authority("server"), credential=alice) as channel:
            assert unary(channel, "Echo")(b"hello", timeout=10) == b"hello"

Every call is recorded in `calls` when it arrives, its messages as they arrive. Methods of `/vestibule.test.Echo/`:

    Echo     unary: the request
    Count    server streaming: as many messages as the request says, each after a `proceed.release()`
    Collect  client streaming: all messages, joined by commas
    Chat     bidirectional: each message as it comes
    Fail     unary: ends as the `Ending` in the request says, after initial metadata
    Abort    the same at once: a reply of trailers only
    FailIn   server streaming: one message, and then as `Fail`
    Wait     unary: nothing, until the call is cancelled or its deadline passes
    WaitIn   bidirectional: echoes, and is left open by the server
    Reject   bidirectional: ends as the first message says, whatever the client has still to say

`/grpc.health.v1.Health/Check` answers SERVING.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self, TypeVar

# Read by the library at its import: tests start processes, and its handlers for forks warn on stderr.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc

from tests.support.certs import CA, Credential

T = TypeVar("T")

SERVICE: Final = "vestibule.test.Echo"
HEALTH: Final = "grpc.health.v1.Health"
INITIAL, TRAILING = "initial-", "trailing-"
"""Metadata with these in front is sent back at the beginning, or at the end."""
SERVING: Final = b"\x08\x01"
"""`HealthCheckResponse{status: SERVING}`."""
SECONDS: Final = 10.0
"""How long a handler, or a test, waits for what must happen."""
ANY_SIZE: Final = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))

Metadata = Sequence[tuple[str, str | bytes]]


class Ending(NamedTuple):
    """How a call is to end."""

    code: grpc.StatusCode
    details: str = ""
    trailing: Metadata = ()

    def encode(self) -> bytes:
        """As a request of `Fail`, `Abort` or `FailIn`; binary values travel as hexadecimal digits."""
        pairs = [(name, value.hex() if isinstance(value, bytes) else value) for name, value in self.trailing]
        return json.dumps([self.code.name, self.details, pairs]).encode()


@dataclass(slots=True, eq=False)
class Received:
    """One call as the server sees it."""

    method: str
    metadata: list[tuple[str, str | bytes]]
    peer: str
    time_remaining: float | None
    messages: list[bytes] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    answered: bool = False
    cancelled: bool = False
    ended_at: float = 0.0

    def over(self) -> None:
        """The call is over for the server: cancelled where its handler had not finished."""
        self.ended_at = time.monotonic()
        self.cancelled = not self.answered
        self.ended.set()

    def all(self, name: str) -> list[str | bytes]:
        return [value for known, value in self.metadata if known == name]

    def wait_cancelled(self) -> None:
        """Until the call is over for the server; AssertionError where it ended, or goes on, by the server's own will."""
        assert self.ended.wait(SECONDS), f"{self.method} is still open at the server after {SECONDS} s"
        assert self.cancelled, f"{self.method} ended without being cancelled"


class GrpcService:
    """Listens on a free loopback port from construction to `stop`; use as a context manager. `age`: seconds after which it asks
    for another connection, as services do to be found anew; 0: never.
    """

    def __init__(self, *, credential: Credential | None = None, port: int = 0, age: float = 0) -> None:
        self.calls: list[Received] = []
        self.proceed = threading.Semaphore(0)
        self._changed = threading.Condition()
        self._pool = futures.ThreadPoolExecutor(64, thread_name_prefix="grpc-service")
        self._server = grpc.server(self._pool, options=[*ANY_SIZE, *_life(age), ("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler(SERVICE, {
                "Echo": grpc.unary_unary_rpc_method_handler(self._echo),
                "Count": grpc.unary_stream_rpc_method_handler(self._count),
                "Collect": grpc.stream_unary_rpc_method_handler(self._collect),
                "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
                "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
                "Abort": grpc.unary_unary_rpc_method_handler(self._abort),
                "FailIn": grpc.unary_stream_rpc_method_handler(self._fail_in),
                "Wait": grpc.unary_unary_rpc_method_handler(self._wait),
                "WaitIn": grpc.stream_stream_rpc_method_handler(self._wait_in),
                "Reject": grpc.stream_stream_rpc_method_handler(self._reject),
            }),
            grpc.method_handlers_generic_handler(HEALTH, {"Check": grpc.unary_unary_rpc_method_handler(self._check)}),
        ))  # fmt: skip
        self.port = self._listen(f"127.0.0.1:{port}", credential)
        self._server.start()

    def _listen(self, address: str, credential: Credential | None) -> int:
        if credential is None:
            return self._server.add_insecure_port(address)
        pair = (credential.key_pem.encode(), credential.chain_pem.encode())
        return self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))

    def wait_for(self, probe: Callable[[], T | None], what: str) -> T:
        """The first truthy value of `probe`, asked whenever something arrives; AssertionError after a while."""
        end = time.monotonic() + SECONDS
        with self._changed:
            while not (value := probe()):
                assert self._changed.wait(end - time.monotonic()), f"waited {SECONDS} s in vain for {what}"
            return value

    def call(self, number: int = 0) -> Received:
        """The call that arrived as this one; waits for it."""
        return self.wait_for(lambda: self.calls[number] if len(self.calls) > number else None, f"call {number}")

    def wait_for_messages(self, count: int, number: int = 0) -> list[bytes]:
        """The messages of a call, when so many have arrived."""
        call = self.call(number)
        return self.wait_for(lambda: call.messages if len(call.messages) >= count else None, f"{count} messages")

    @property
    def peers(self) -> set[str]:
        """The connections that calls came on."""
        return {call.peer for call in self.calls}

    def stop(self, grace: float | None = None) -> None:
        """Listen no more; after `grace` seconds (None: at once) calls are cut off."""
        self._server.stop(grace).wait(SECONDS)
        for _ in range(64):
            self.proceed.release()
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # The methods

    def _arrived(self, method: str, context: grpc.ServicerContext) -> Received:
        """Record the call; metadata that it brings to be sent back is sent back."""
        metadata = [(name, value) for name, value in context.invocation_metadata()]
        call = Received(method, metadata, context.peer(), context.time_remaining())
        if initial := tuple(pair for pair in metadata if pair[0].startswith(INITIAL)):
            context.send_initial_metadata(initial)
        if trailing := tuple(pair for pair in metadata if pair[0].startswith(TRAILING)):
            context.set_trailing_metadata(trailing)
        self._note(lambda: self.calls.append(call))
        if not context.add_callback(call.over):
            call.over()
        return call

    def _note(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def _take(self, call: Received, message: bytes) -> bytes:
        self._note(lambda: call.messages.append(message))
        return message

    def _echo(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        call = self._arrived("Echo", context)
        self._take(call, request)
        call.answered = True
        return request

    def _count(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        call = self._arrived("Count", context)
        for number in range(int(request)):
            assert self.proceed.acquire(timeout=SECONDS), f"message {number} was never wanted"
            yield b"%d" % number
        call.answered = True

    def _collect(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        call = self._arrived("Collect", context)
        for message in requests:
            self._take(call, message)
        call.answered = True
        return b",".join(call.messages)

    def _chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        call = self._arrived("Chat", context)
        for message in requests:
            yield self._take(call, message)
        call.answered = True

    def _fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        call = self._arrived("Fail", context)
        context.send_initial_metadata((("began", "yes"),))
        call.answered = True
        return self._end(request, context)

    def _abort(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        call = self._arrived("Abort", context)
        call.answered = True
        return self._end(request, context)

    def _fail_in(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        call = self._arrived("FailIn", context)
        yield b"one"
        call.answered = True
        yield self._end(request, context)

    def _end(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Never returns: what follows in a handler is what its kind demands."""
        code, details, pairs = json.loads(request)
        trailing = tuple((name, bytes.fromhex(value) if name.endswith("-bin") else value) for name, value in pairs)
        context.set_trailing_metadata(trailing)
        context.abort(grpc.StatusCode[code], details)

    def _wait(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        call = self._arrived("Wait", context)
        call.ended.wait(SECONDS)
        return b""

    def _wait_in(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        call = self._arrived("WaitIn", context)
        for message in requests:
            yield self._take(call, message)
        call.ended.wait(SECONDS)

    def _reject(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        call = self._arrived("Reject", context)
        request = self._take(call, next(requests))
        call.answered = True
        yield self._end(request, context)

    def _check(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        call = self._arrived("Check", context)
        self._take(call, request)
        call.answered = True
        return SERVING


def _life(age: float) -> list[tuple[str, int]]:
    if not age:
        return []
    return [("grpc.max_connection_age_ms", int(age * 1000)), ("grpc.max_connection_age_grace_ms", int(SECONDS * 1000))]


# Callers


def grpc_channel(
    port: int, host: str, *, trust: CA | None = None, credential: Credential | None = None, authority: str | None = None
) -> grpc.Channel:
    """A channel of its own (no connection is shared) to `host` on a loopback port: over TLS where `trust` verifies the server.

    `authority` is what calls name, where it is not the host of the handshake. Use it as a context manager.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.default_authority", authority or host),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        *ANY_SIZE,
    ]
    target = f"127.0.0.1:{port}"
    if trust is None:
        return grpc.insecure_channel(target, options)
    key = credential.key_pem.encode() if credential is not None else None
    chain = credential.chain_pem.encode() if credential is not None else None
    secrets = grpc.ssl_channel_credentials(trust.pem.encode(), key, chain)
    return grpc.secure_channel(target, secrets, [*options, ("grpc.ssl_target_name_override", host)])


def path_of(method: str, service: str = SERVICE) -> str:
    return f"/{service}/{method}"


def unary(channel: grpc.Channel, method: str, service: str = SERVICE) -> "grpc.UnaryUnaryMultiCallable[bytes, bytes]":
    return channel.unary_unary(path_of(method, service))


def server_streaming(channel: grpc.Channel, method: str) -> "grpc.UnaryStreamMultiCallable[bytes, bytes]":
    return channel.unary_stream(path_of(method))


def client_streaming(channel: grpc.Channel, method: str) -> "grpc.StreamUnaryMultiCallable[bytes, bytes]":
    return channel.stream_unary(path_of(method))


def bidirectional(channel: grpc.Channel, method: str) -> "grpc.StreamStreamMultiCallable[bytes, bytes]":
    return channel.stream_stream(path_of(method))


class Outbox:
    """The messages of a client that sends them one by one: an iterator that ends at `close`."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def put(self, message: bytes) -> None:
        self._messages.put(message)

    def close(self) -> None:
        self._messages.put(None)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._messages.get, None)


class Failure(NamedTuple):
    """How a call failed, for its client."""

    code: grpc.StatusCode
    details: str
    initial: Metadata
    trailing: Metadata


def failure(call: Callable[[], object]) -> Failure:
    """The end of a call that must fail; AssertionError where it succeeds."""
    try:
        result = call()
    except grpc.RpcError as error:
        ended: Any = error  # it is a grpc.Call as well, which the types do not say
        return Failure(ended.code(), ended.details(), tuple(ended.initial_metadata()), tuple(ended.trailing_metadata()))
    raise AssertionError(f"the call succeeded: {result!r}")
