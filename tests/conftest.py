"""What all tests share, once a worker: NATS, the authorities of two foundations, a router with three domains.

The shared router knows one open domain and two mTLS domains. Tests register hosts of their own on it
(`unique_host`) and never change it; a test that needs another configuration, or that hurts the router or
NATS, makes its own with `make_router` and `make_nats`.
"""

import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

from tests.support import router as router_process
from tests.support.backend import EchoBackend
from tests.support.certs import CA, authority
from tests.support.nats import NatsServer
from tests.support.register import Registrar
from tests.support.router import RouterProcess, mtls_domain

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # what is slow on a busy machine, or in a fresh checkout, is no fault of the code

OPEN, EAST, WEST = "open.example", "east.example", "west.example"
"""The suffixes of the shared router's domains."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("routers of the tests")
    group.addoption("--workers", type=int, default=0, help="worker processes of each router whose test does not say")
    group.addoption("--loop", choices=["uvloop", "asyncio"], default="uvloop", help="the event loop of the routers")


def pytest_configure(config: pytest.Config) -> None:
    router_process.WORKERS = config.getoption("--workers")
    router_process.WITHOUT_UVLOOP = config.getoption("--loop") == "asyncio"
    _hear_signals()
    _keep_bytecode(config.rootpath / ".pytest_cache" / "bytecode")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """The collected tests live as long as the session: the collector need not look at them again and again."""
    gc.disable()
    try:
        if session.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
            _import_in_turn(session.config.rootpath)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _keep_bytecode(directory: Path) -> None:
    """Where Python is to write none beside the sources, every router would compile its own anew, and every worker all tests."""
    if sys.dont_write_bytecode:
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(directory)
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(directory)}


def _import_in_turn(root: Path) -> None:
    """Workers that went through all the tests in step would each compile every one: each begins elsewhere, and finds the bytecode
    of what others began with. What fails to be imported is for pytest to say."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    files = sorted((root / "tests").rglob("test_*.py"))
    start = len(files) * number // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    for file in files[start:] + files[:start]:
        with contextlib.suppress(Exception):
            importlib.import_module(".".join(file.relative_to(root).with_suffix("").parts))


def _hear_signals() -> None:
    """Whoever starts the tests in the background may have them ignore signals, and with them all that they start."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


class MakeRouter(Protocol):
    """Keywords are top-level configuration keys; `nats=` another server or a section; `start=False` only makes it."""

    def __call__(
        self, *, nats: NatsServer | dict[str, Any] | None = None, start: bool = True, **config: Any
    ) -> RouterProcess: ...


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def east_ca() -> CA:
    return authority("east instance identity")


@pytest.fixture(scope="session")
def west_ca() -> CA:
    return authority("west instance identity")


@pytest.fixture(scope="session")
def router(
    nats_server: NatsServer, east_ca: CA, west_ca: CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RouterProcess]:
    """The shared router: open.example, and mTLS with identity on *.east.example and *.west.example."""
    domains = [mtls_domain(f"*.{EAST}", east_ca), mtls_domain(f"*.{WEST}", west_ca)]
    with RouterProcess(tmp_path_factory.mktemp("router"), nats=nats_server, mtls_domains=domains) as process:
        yield process


@pytest.fixture(scope="session")
def registrar(nats_server: NatsServer, router: RouterProcess) -> Iterator[Registrar]:
    """Registers on the shared router."""
    with Registrar(nats_server.port, router) as made:
        yield made


@pytest.fixture(scope="session")
def lone_router(
    router: RouterProcess, nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RouterProcess]:
    """The shared router, or where that has several workers one with a single one: what each has for itself is all then."""
    if router.width == 1:
        yield router
        return
    with RouterProcess(tmp_path_factory.mktemp("lone"), nats=nats_server, workers=1) as process:
        yield process


@pytest.fixture(scope="session")
def lone_registrar(nats_server: NatsServer, lone_router: RouterProcess) -> Iterator[Registrar]:
    """Registers on the router of a single worker."""
    with Registrar(nats_server.port, lone_router) as made:
        yield made


@pytest.fixture
def backend() -> Iterator[EchoBackend]:
    with EchoBackend() as made:
        yield made


@pytest.fixture
def make_backend() -> Iterator[Callable[..., EchoBackend]]:
    """Any number of backends; arguments as EchoBackend's."""
    made: list[EchoBackend] = []

    def make(*args: Any, **kwargs: Any) -> EchoBackend:
        made.append(EchoBackend(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def make_nats(tmp_path: Path) -> Iterator[Callable[..., NatsServer]]:
    """NATS servers of a test's own; the argument is more of their configuration."""
    made: list[NatsServer] = []

    def make(extra: str = "", *, start: bool = True) -> NatsServer:
        server = NatsServer(tmp_path / f"nats-{len(made)}", extra)
        made.append(server)
        if start:
            server.start()
        return server

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def make_router(tmp_path: Path, nats_server: NatsServer) -> Iterator[MakeRouter]:
    """Routers of a test's own, stopped and checked at its end."""
    made: list[RouterProcess] = []

    def make(*, nats: NatsServer | dict[str, Any] | None = None, start: bool = True, **config: Any) -> RouterProcess:
        process = RouterProcess(tmp_path / f"router-{len(made)}", nats=nats or nats_server, **config)
        made.append(process)
        return process.start() if start else process

    try:
        yield make
        for process in made:
            process.stop()
    finally:
        for process in made:
            process.kill()


@pytest.fixture
def make_registrar() -> Iterator[Callable[[NatsServer, RouterProcess], Registrar]]:
    """Registrars for routers of a test's own."""
    made: list[Registrar] = []

    def make(server: NatsServer, process: RouterProcess) -> Registrar:
        made.append(Registrar(server.port, process))
        return made[-1]

    yield make
    for one in made:
        one.close()
