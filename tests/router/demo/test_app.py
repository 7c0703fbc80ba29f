"""A sample app: registered, and telling what it saw."""

import asyncio
import json
from collections.abc import Callable

from registry.connect_nats import NatsSettings
from router.demo.app import SampleApp
from tests.support.client import get
from tests.support.nats import NatsConnection, NatsMessage, NatsServer
from tests.support.waiting import running


def next_on(nats: NatsConnection, subject: str) -> NatsMessage:
    while True:
        message = nats.next_message()
        if message.subject == subject:
            return message


def test_it_registers_answers_and_unregisters(make_nats: Callable[..., NatsServer]) -> None:
    """One message a route, with its options; the answer names the app and its caller's header."""
    server = make_nats()
    app = SampleApp("orders", {"a.example": {"mtls_allow_any": True}, "b.example": None})

    async def scenario(nats: NatsConnection) -> None:
        async with running(app.run(NatsSettings((("127.0.0.1", server.port),)))):
            messages = [json.loads((await asyncio.to_thread(next_on, nats, "router.register")).data) for _ in range(2)]
            assert [(m["uris"], m.get("options")) for m in messages] == [
                (["a.example"], {"mtls_allow_any": True}),
                (["b.example"], None),
            ]
            headers = [("X-Forwarded-Client-Cert", "Hash=1")]
            answer = await asyncio.to_thread(get, messages[0]["port"], "a.example", headers=headers)
            assert answer.body == b"orders says hello\nX-Forwarded-Client-Cert: Hash=1\n"

    with NatsConnection(server.port) as nats:
        nats.subscribe("router.*")
        asyncio.run(scenario(nats))
        assert json.loads(next_on(nats, "router.unregister").data)["uris"] == ["a.example"]


def test_a_broken_request_does_not_disturb_it(make_nats: Callable[..., NatsServer]) -> None:
    """A head that never ends, or is too long: the connection closes, the app goes on."""
    server = make_nats()
    app = SampleApp("one", {"a.example": None})

    async def scenario(nats: NatsConnection) -> None:
        async with running(app.run(NatsSettings((("127.0.0.1", server.port),)))):
            port = json.loads((await asyncio.to_thread(next_on, nats, "router.register")).data)["port"]
            for data in (b"GET / HTTP/1.1\r\n", b"x" * 200_000):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(data)
                writer.write_eof()
                await asyncio.gather(reader.read(), return_exceptions=True)
                writer.close()
            assert (await asyncio.to_thread(get, port, "a.example")).status == 200

    with NatsConnection(server.port) as nats:
        nats.subscribe("router.*")
        asyncio.run(scenario(nats))
