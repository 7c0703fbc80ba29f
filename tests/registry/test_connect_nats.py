"""The connection to NATS: every way to prove who we are, and every way it can fail."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable

import pytest
from nats.aio.client import Client

from registry.connect_nats import NatsLink, NatsSettings
from registry.nkey import parse_credentials, parse_seed
from router.demo.process import free_port
from tests.support.certs import CA, Credential, authority
from tests.support.nats import NatsServer
from tests.support.nkeys import USER, KeyPair, operator_mode
from tests.support.waiting import running, until

MakeNats = Callable[..., NatsServer]


class Watcher:
    """A link whose callbacks are only remembered."""

    def __init__(self, settings: NatsSettings) -> None:
        self.connections = 0
        self.losses = 0
        self.failures: list[Exception] = []
        self.client: Client | None = None
        self.link = NatsLink(settings, connected=self._up, lost=self._down, failed=self.failures.append)

    async def _up(self, client: Client) -> None:
        await client.flush()
        self.client = client
        self.connections += 1

    def _down(self) -> None:
        self.losses += 1


def at(*servers: NatsServer, **settings: object) -> NatsSettings:
    return NatsSettings(tuple(("127.0.0.1", server.port) for server in servers), **settings)  # type: ignore[arg-type]


def tls_of(ca: CA, ours: Credential | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca.pem)
    if ours is not None:
        context.load_cert_chain(*ours.files())
    return context


def connects(settings: NatsSettings) -> Watcher:
    """Run a link until its first connection."""
    watcher = Watcher(settings)

    async def scenario() -> None:
        async with running(watcher.link.run()):
            await until(lambda: watcher.connections, f"a connection; failures: {watcher.failures}")

    asyncio.run(scenario())
    return watcher


def stays_out(settings: NatsSettings) -> Watcher:
    """Run a link until it has failed twice."""
    watcher = Watcher(settings)

    async def scenario() -> None:
        async with running(watcher.link.run()):
            await until(lambda: len(watcher.failures) > 1, "two failures")

    asyncio.run(scenario())
    assert watcher.connections == 0
    return watcher


def test_no_credentials_are_needed_where_none_are_asked(nats_server: NatsServer) -> None:
    """The plain case; what was connected is told as lost when the link ends."""
    assert connects(at(nats_server)).losses == 1


def test_a_user_and_password_open_the_door(make_nats: MakeNats) -> None:
    """As GoRouter's `nats.user` and `nats.pass`."""
    server = make_nats("authorization { user: router, password: s3cret }")
    connects(at(server, user="router", password="s3cret"))


def test_a_token_opens_the_door(make_nats: MakeNats) -> None:
    """Instead of user and password."""
    connects(at(make_nats("authorization { token: t0ken }"), token="t0ken"))


def test_an_nkey_opens_the_door(make_nats: MakeNats) -> None:
    """The server knows only the public key; we sign its nonce."""
    user = KeyPair(USER)
    server = make_nats(f"authorization {{ users: [ {{ nkey: {user.public} }} ] }}")
    connects(at(server, key=parse_seed(user.seed)))


def test_a_credentials_file_opens_the_door(make_nats: MakeNats) -> None:
    """Operator mode: the account's JWT and our signature."""
    config, text = operator_mode()
    connects(at(make_nats(config), credentials=parse_credentials(text)))


def test_a_wrong_password_is_tried_again_and_never_told(make_nats: MakeNats) -> None:
    """The failure says what the server said, without our secret."""
    server = make_nats("authorization { user: router, password: right }")
    watcher = stays_out(at(server, user="router", password="wr0ng"))
    assert "wr0ng" not in repr(watcher.failures)
    assert "Authorization Violation" in str(watcher.failures[0])


def test_settings_show_no_secret() -> None:
    """`repr` of the settings is safe for logs."""
    assert "s3cret" not in repr(NatsSettings((("h", 1),), user="u", password="s3cret", token="s3cret"))


def test_tls_verifies_the_server_and_shows_our_certificate(make_nats: MakeNats) -> None:
    """`nats.tls_enabled` with `ca_certs`, `cert_chain` and `private_key`, against a server that verifies clients."""
    ca = authority("nats")
    chain, key = ca.issue_server("127.0.0.1").files()
    ours = ca.issue_instance("router")
    server = make_nats(f'tls {{ cert_file: "{chain}", key_file: "{key}", ca_file: "{ca.file}", verify: true }}')
    connects(at(server, tls=tls_of(ca, ours)))


def test_a_server_of_another_authority_is_refused(make_nats: MakeNats) -> None:
    """TLS without the right authority is no connection."""
    chain, key = authority("nats").issue_server("127.0.0.1").files()
    server = make_nats(f'tls {{ cert_file: "{chain}", key_file: "{key}" }}')
    watcher = stays_out(at(server, tls=tls_of(authority("other"))))
    assert any(isinstance(failure, ssl.SSLCertVerificationError) for failure in watcher.failures)


def test_a_server_without_tls_gets_no_credential() -> None:
    """A stripped `tls_required` must not make us send a password in clear text."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.12.0","auth_required":true,"max_payload":1048576}\r\n')
        with contextlib.suppress(ConnectionError):
            heard.extend(await reader.read())
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            tls = tls_of(authority("nats"))
            settings = NatsSettings((("127.0.0.1", port),), user="router", password="s3cret", tls=tls)
            watcher = Watcher(settings)
            async with running(watcher.link.run()):
                await until(lambda: len(watcher.failures) > 1, "two failures")
            assert watcher.connections == 0

    asyncio.run(scenario())
    assert bytes(heard) == b""


@pytest.mark.parametrize(
    "greeting",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO\r\n", b"INFO []\r\n", b"INFO {\r\n", b"x" * 200_000, b"\xff\n"],
)
def test_a_server_that_talks_nonsense_never_ends_the_link(greeting: bytes) -> None:
    """Whatever greets us, the next try follows."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            watcher = Watcher(NatsSettings((("127.0.0.1", server.sockets[0].getsockname()[1]),)))
            async with running(watcher.link.run()) as task:
                await until(lambda: len(watcher.failures) > 1, "two failures")
                assert not task.done()

    asyncio.run(scenario())


def test_the_link_waits_for_a_server_that_is_not_there_yet(make_nats: MakeNats) -> None:
    """The router starts without NATS and finds it at the latest two seconds after it came."""
    server = make_nats(start=False)
    server.port = free_port()
    watcher = Watcher(at(server))

    async def scenario() -> None:
        async with running(watcher.link.run()):
            await until(lambda: watcher.failures, "a failure")
            await asyncio.to_thread(server.start)
            await until(lambda: watcher.connections, "the connection", deadline=2.5)

    asyncio.run(scenario())


def test_the_next_server_takes_over_when_one_dies(make_nats: MakeNats) -> None:
    """Several servers: the connection moves on by itself."""
    first, second = make_nats(), make_nats()
    watcher = Watcher(at(first, second))

    async def scenario() -> None:
        async with running(watcher.link.run()):
            await until(lambda: watcher.connections == 1, "the first connection")
            assert watcher.client is not None
            url = watcher.client.connected_url
            used = first if url is not None and url.port == first.port else second
            await asyncio.to_thread(used.kill)
            await until(lambda: watcher.connections == 2, "the connection to the other server", deadline=8)
            assert watcher.losses == 1

    asyncio.run(scenario())


def test_an_ipv6_server_is_addressed_with_brackets() -> None:
    """Both address families have a URL form."""
    assert NatsSettings((("::1", 4222), ("h", 1))).urls() == ["nats://[::1]:4222", "nats://h:1"]


def test_a_cancelled_link_ends_whatever_it_was_doing(nats_server: NatsServer) -> None:
    """Stopping the router never hangs on NATS: cancelled at any moment of connecting, the link ends."""

    async def scenario(turns: int) -> None:
        watcher = Watcher(at(nats_server))
        task = asyncio.get_running_loop().create_task(watcher.link.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(task, return_exceptions=True)
        assert watcher.connections == watcher.losses

    for turns in range(0, 60, 3):
        asyncio.run(scenario(turns))
