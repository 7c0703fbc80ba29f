"""Load for passthrough, in a process of its own: `python -m bench.l4_load KIND PORT ...`. Bytes after a ClientHello, no TLS.

    backend PORT SIZE    answers each ClientHello with SIZE bytes and the end; 0: never
    bulk PORT            one connection, reads to the end; prints the bytes
    new PORT COUNT       so many connections, AT_ONCE at a time; prints their number
    idle PORT COUNT      holds so many until its input ends; prints "ready"

Refuses to know: which proxy it talks to, and whose CPU counts.
"""

import select
import socket
import ssl
import sys
from collections.abc import Callable

HOST = "bench.tunnel.example"
AT_ONCE = 16
PIECE = bytes(1 << 20)


def client_hello() -> bytes:
    """What a client that asks for HOST says first."""
    outgoing = ssl.MemoryBIO()
    connection = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake needs a peer")


def backend(port: int, size: int) -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", port), backlog=4096) as listening:
        epoll = select.epoll()
        epoll.register(listening, select.EPOLLIN)
        answers: dict[int, tuple[socket.socket, int]] = {}
        while True:
            for fd, _ in epoll.poll():
                if fd == listening.fileno():
                    sock, _ = listening.accept()
                    sock.setblocking(False)
                    answers[sock.fileno()] = sock, size
                    epoll.register(sock, select.EPOLLIN)
                else:
                    _answer(epoll, answers, fd)


def _answer(epoll: select.epoll, answers: dict[int, tuple[socket.socket, int]], fd: int) -> None:
    sock, left = answers[fd]
    try:
        heard = sock.recv(65536)
    except BlockingIOError:
        heard = b"."
    if not heard:
        del answers[fd]
        sock.close()
        return
    try:
        while left:
            left -= sock.send(PIECE[: min(left, len(PIECE))])
    except BlockingIOError:
        epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
    else:
        if answers[fd][1]:
            epoll.modify(fd, select.EPOLLIN)
            sock.shutdown(socket.SHUT_WR)
    answers[fd] = sock, left


def bulk(port: int) -> None:
    """Read one answer to its end."""
    buffer, total = bytearray(1 << 20), 0
    with _connection(port, client_hello()) as sock:
        while size := sock.recv_into(buffer):
            total += size
    print(total)


def new(port: int, count: int) -> None:
    """Connections one after the other, AT_ONCE at a time."""
    hello, epoll = client_hello(), select.epoll()
    open_: dict[int, socket.socket] = {}

    def another() -> None:
        sock = _connection(port, hello)
        open_[sock.fileno()] = sock
        epoll.register(sock, select.EPOLLIN)

    for _ in range(AT_ONCE):
        another()
    started, done = AT_ONCE, 0
    while open_:
        for fd, _ in epoll.poll():
            if open_[fd].recv(65536):
                continue
            open_.pop(fd).close()
            done += 1
            if started < count:
                started += 1
                another()
    print(done)


def idle(port: int, count: int) -> None:
    """Hold connections that have said hello and hear nothing."""
    hello = client_hello()
    held = [_connection(port, hello) for _ in range(count)]
    print("ready", flush=True)
    sys.stdin.read()
    for sock in held:
        sock.close()


def _connection(port: int, hello: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.sendall(hello)
    return sock


KINDS: dict[str, Callable[..., None]] = {"backend": backend, "bulk": bulk, "new": new, "idle": idle}

if __name__ == "__main__":
    KINDS[sys.argv[1]](*map(int, sys.argv[2:]))
