"""The promise: HTTP/2 without TLS is spoken where the operator asked for it, by prior knowledge alone, through the same doors."""

import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.conftest import EAST, OPEN
from tests.support.backend import EchoBackend, Exchange
from tests.support.certs import CA
from tests.support.client import Client, Tls, curl
from tests.support.http2_client import PREFACE, Code, FrameClient, Http2Client, headers_frame, raw_frame
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, mtls_domain
from tests.support.site import Site, site


@pytest.fixture(scope="module")
def clear(nats_server: NatsServer, east_ca: CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router that speaks h2c on its plain listener, and whose heads may not take long."""
    domains = [mtls_domain(f"*.{EAST}", east_ca)]
    directory = tmp_path_factory.mktemp("clear")
    with RouterProcess(
        directory, nats=nats_server, mtls_domains=domains, enable_h2c=True, read_header_timeout="400ms"
    ) as process:  # fmt: skip
        yield process


@pytest.fixture(scope="module")
def clear_registrar(nats_server: NatsServer, clear: RouterProcess) -> Iterator[Registrar]:
    with Registrar(nats_server.port, clear) as made:
        yield made


@pytest.fixture
def place(clear: RouterProcess, clear_registrar: Registrar) -> Iterator[Site]:
    with site(clear, clear_registrar) as made:
        yield made


def test_prior_knowledge_is_understood(place: Site) -> None:
    """RFC 9113 section 3.3: streams side by side, bodies both ways; the backend is told that the client came without TLS."""
    with Http2Client(place.router.port) as client:
        streams = [client.open(place.host, f"/{number}") for number in range(20)]
        assert [client.response(stream).status for stream in streams] == [200] * 20
        assert client.request(place.host, method="POST", body=b"x" * 200_000).status == 200
    assert {one.get("x-forwarded-proto") for one in place.backend.received} == {"http"}
    assert place.backend.last.body == b"x" * 200_000
    assert "HTTP/2.0" in place.router.wait_for_log(place.host)


def test_http_1_1_goes_on_beside_it(place: Site) -> None:
    """The same listener serves both; a connection is what its first bytes say."""
    with place.client() as client:
        assert client.request(place.host).status == 200
        assert client.request(place.host, method="POST", body=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 200
        assert client.request(place.host, method="PATCH").status == 200
        assert client.request(place.host, method="PRIVATE").status == 200


@pytest.mark.parametrize("cut", [1, 3, 4, 14, 18, 23])
def test_a_preface_in_pieces_is_understood(place: Site, cut: int) -> None:
    """However the first bytes are cut."""
    with FrameClient(place.router.port, greet=False) as client:
        data = PREFACE + raw_frame(4, 0) + headers_frame(1, client.head(place.host, scheme="http"))
        client.write(data[:cut])
        with place.client() as other:  # served in between, so that both pieces were read one by one
            assert other.request(place.host).status == 200
        client.write(data[cut:])
        assert client.response(1).status == 200


@pytest.mark.parametrize("first", [b"PRI * HTTP/1.1\r\n\r\n", b"PRI / HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\nHost: x\r\n\r\n"])
def test_what_only_begins_like_a_preface_is_refused(place: Site, first: bytes) -> None:
    """Nothing of it reaches a backend."""
    with place.client() as client:
        client.send(first + b"GET / HTTP/1.1\r\nHost: " + place.host.encode() + b"\r\n\r\n")
        answer = client.read_all()
        assert b" 200 " not in answer
    assert place.backend.received == []


@pytest.mark.parametrize(
    "first", [b"P", PREFACE[:-1], PREFACE, PREFACE + raw_frame(4, 0) + b"\0"], ids=["P", "most", "all", "more"]
)
def test_a_preface_that_does_not_come_is_not_waited_for(place: Site, first: bytes) -> None:
    """Attack 76's cousin: `read_header_timeout` holds for the preface and for the first frames, too."""
    with Client(place.router.port) as client:
        client.send(first)
        began = time.monotonic()
        client.read_all()
        assert time.monotonic() - began < 5


def test_no_upgrade_leads_to_it(place: Site) -> None:
    """RFC 9113 section 3.1: `Upgrade: h2c` is obsolete and never honoured, here neither."""
    lines = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    with place.client() as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {place.host}\r\n{lines}\r\n".encode())
        assert client.read_response().status == 200
        assert client.request(place.host).status == 200
    assert place.backend.received[0].all("upgrade") == []


def test_no_certificate_is_assumed(clear: RouterProcess, clear_registrar: Registrar, backend: EchoBackend) -> None:
    """A host that demands certificates is 421 over h2c as over plain HTTP/1.1, and the forged name of a caller is dropped."""
    strict, plain = unique_host(EAST), unique_host(OPEN)
    clear_registrar.register(strict, plain, backend=backend, options={"mtls_allow_any": True})
    with Http2Client(clear.port) as client:
        assert client.request(strict).refusal == (421, "mtls_domain_mismatch")
        assert backend.received == []
        assert client.request(plain, headers=[("x-forwarded-client-cert", "forged")]).status == 200
    assert backend.last.all("x-forwarded-client-cert") == []


def test_the_scheme_is_what_the_connection_is(place: Site) -> None:
    """`:scheme` does not make a plain connection a secure one."""
    with FrameClient(place.router.port) as client:
        answer = client.response(client.ask(client.head(place.host, scheme="https")))
    assert answer.status in (200, 400)
    assert [one.get("x-forwarded-proto") for one in place.backend.received] in ([], ["http"])


def test_tls_goes_on_by_alpn(place: Site) -> None:
    """On the TLS listener nothing changes: HTTP/2 by ALPN alone."""
    with Http2Client(place.router.ssl_port, Tls(place.host)) as client:
        assert client.request(place.host).status == 200
    place.backend.clear()
    place.refuses(PREFACE, 505, tls=Tls(place.host, alpn=[b"http/1.1"]))


def test_a_stream_that_is_reset_is_cancelled(place: Site) -> None:
    """The same exchange, so the same end at the backend."""
    place.backend.script(lambda exchange: exchange.recv())
    with Http2Client(place.router.port) as client:
        stream = client.open(place.host)
        place.wait_for_connections(1)
        client.reset(stream, Code.CANCEL)
        place.wait_for_connections(0)


def test_curl_speaks_it(place: Site) -> None:
    """curl --http2-prior-knowledge."""
    result = curl(
        "--http2-prior-knowledge", "--connect-to", f"{place.host}:80:127.0.0.1:{place.router.port}", f"http://{place.host}/x"
    )  # fmt: skip
    assert result.output.startswith("HTTP/2 200"), result


@pytest.mark.skipif(shutil.which("nghttp") is None, reason="asks a real nghttp")
def test_nghttp_speaks_it(place: Site) -> None:
    """nghttp by prior knowledge."""
    command = ["nghttp", "-nsv", "-m", "5", "-H", f":authority: {place.host}", f"http://127.0.0.1:{place.router.port}/x"]
    out = subprocess.run(command, capture_output=True, timeout=20, check=True).stdout.decode("latin-1")
    assert out.count(":status: 200") == 5, out[-2_000:]


def test_a_response_that_flows_is_not_cut(place: Site) -> None:
    """Half a MiB by h2c, in the client's own windows."""

    def large(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 524288\r\n\r\n" + bytes(524_288))

    place.backend.script(large)
    with Http2Client(place.router.port) as client:
        assert client.request(place.host).body == bytes(524_288)
