"""`vestibule run`: what ends it before it serves, and how it ends."""

import gc
import signal
import socket
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.cli import main
from router.cli.run import add_arguments, run
from router.demo.process import free_port
from tests.conftest import MakeRouter


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    """`run` tunes the process's garbage collector, which is the tests' too."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def config_file(folder: Path, text: str) -> Path:
    file = folder / "router.yml"
    file.write_text(text)
    return file


def test_the_file_is_named_by_c_or_config(tmp_path: Path) -> None:
    """And must be named."""
    parser = ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args(["-c", "x"]).config == parser.parse_args(["--config", "x"]).config == Path("x")
    with pytest.raises(SystemExit):
        parser.parse_args([])


def test_a_file_with_problems_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1 with every problem, GoRouter's words first."""
    assert run(Namespace(config=config_file(tmp_path, "prot: 1\nenable_proxy: x\n"))) == 1
    first, *problems = capsys.readouterr().err.splitlines()
    assert first == "Error loading config"
    assert f"{tmp_path}/router.yml:1" in problems[0]
    assert any(f"{tmp_path}/router.yml:2" in line for line in problems)


def test_a_file_that_is_not_there_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said by name, without a traceback."""
    assert main(["run", "-c", str(tmp_path / "none.yml")]) == 1
    error = capsys.readouterr().err
    assert "none.yml" in error
    assert "Traceback" not in error


def test_a_port_in_use_starts_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, and the reason in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = f"port: {port}\nstatus: {{port: {free_port()}, routes: {{port: {free_port()}}}}}\ntrusted_proxies: []\n"
        assert run(Namespace(config=config_file(tmp_path, text))) == 1
    error = capfd.readouterr().err
    assert "vestibule: cannot start" in error
    assert "in use" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_with_status_0(make_router: MakeRouter, number: signal.Signals) -> None:
    """Contract: at once, and cleanly."""
    router = make_router(nats=None)
    router.signal(number)
    assert router.wait_exit() == 0
