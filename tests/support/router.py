"""The real router as a subprocess, configured from keyword arguments, stopped and inspected at a test's end.

    with RouterProcess(tmp_path, nats=server, mtls_domains=[...]) as router:
        get(router.port, "app.example")

Every keyword is a top-level key of the configuration file; None removes a default. `stop` asserts that the
router ended with status 0, that it never wrote a traceback and that no process of it is left. Workers are in
its process group, and no group outlives the tests, not even tests that are killed (guard.py).
"""

import base64
import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml

from router.demo.nats_server import NatsServer
from router.demo.process import free_port, spawn, stop
from tests.support.certs import CA, Credential, authority
from tests.support.client import Client, Response
from tests.support.guard import alive_in, end_group, watch_group

T = TypeVar("T")

WORKERS = 0
"""Worker processes of each router whose test does not say (`pytest --workers`)."""
WITHOUT_UVLOOP = False
"""Do the routers run as where uvloop is not installed (`pytest --loop asyncio`)?"""

START_SECONDS = 40.0
LEFT_SECONDS = 5.0
WAIT_SECONDS = 10.0
PORT_ATTEMPTS = 5
STATUS_USER, STATUS_PASSWORD = "router-status", "status-secret"


class RouterProcess:
    """One router; `nats` is a server or the whole section.

    Ports: `port` (plain), `ssl_port`, `status_port`, `routes_port`, `metrics_port`.
    """

    def __init__(self, directory: Path, *, nats: NatsServer | dict[str, Any] | None = None, **config: Any) -> None:
        self.directory = directory
        self._nats = nats
        self._overrides = config
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[int] = []  # the process groups of all that was started, each by its leader's id
        self.exit_status: int | None = None
        self.config: dict[str, Any] = {}

    # Life

    def start(self, *, wait_healthy: bool = True) -> Self:
        """Start and wait until /health is good, or only answers; AssertionError with the log if not."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self._choose_ports()
            self.write_config()
            self._launch()
            if self._answers(wait_healthy):
                return self
            self.kill()
            if attempt == PORT_ATTEMPTS or "address already in use" not in (self.stderr + self.stdout).lower():
                break
        raise AssertionError(f"the router did not start; it wrote:\n{self.stdout[-4000:]}\n{self.stderr[-4000:]}")

    def stop(self, *, expected: int = 0) -> None:
        """SIGTERM, then the assertions every test shares."""
        if self._process is None:
            return
        self.exit_status = stop(self._process)
        self._process = None
        self._assert_nobody_left()
        self.assert_clean()
        assert self.exit_status == expected, f"exit status {self.exit_status}; stderr: {self.stderr[-4000:]}"

    def wait_exit(self, deadline: float = WAIT_SECONDS) -> int:
        """Wait until it ends by itself (after `signal`); its exit status."""
        assert self._process is not None
        self.exit_status = self._process.wait(deadline)
        self._process = None
        self._assert_nobody_left()
        self.assert_clean()
        return self.exit_status

    def kill(self) -> None:
        """Everything of it, workers too."""
        for group in self._groups:
            end_group(group)
        self._groups.clear()
        if self._process is not None:
            self._process.wait()
            self._process = None

    def kill_supervisor(self) -> None:
        """The process that was started, and nothing else."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def succeed(self, *, wait_healthy: bool = True) -> Self:
        """Start another one in the place of the supervisor that was killed, with the same file and ports."""
        self._launch()
        assert self._answers(wait_healthy), f"no successor started; it wrote:\n{self.stdout[-4000:]}\n{self.stderr[-4000:]}"
        return self

    @property
    def width(self) -> int:
        """How many processes serve: what one keeps for itself, such as connections to backends, may be there so many times."""
        return max(1, int(self.config.get("workers", 0)))

    @property
    def tries(self) -> int:
        """New connections of which one is sure to reach a given worker: the kernel spreads them by chance."""
        return 1 if self.width == 1 else 30

    def processes(self) -> list[int]:
        """The ids of all that are left of everything that was started."""
        return [pid for group in self._groups for pid in alive_in(group)]

    def workers(self) -> list[int]:
        """The ids of all that are left but for the one that was started last: workers, spares, orphans."""
        return [pid for pid in self.processes() if self._process is None or pid != self._process.pid]

    def crew(self) -> list[int]:
        """The ids of all, once nobody is on its way any more: each worker serves, and another one stands by."""
        if self.config.get("workers"):
            wait_until(lambda: len(self._alive("worker-serving")) == self.width and self.spares(), "every worker, and a spare")
        return self.processes()

    def spares(self) -> set[int]:
        """Workers that stand ready to take another's place."""
        return self._alive("worker-standing-by") - self._alive("worker-serving")

    def _alive(self, event: str) -> set[int]:
        """The processes of which the supervisor's log says this, and which are there."""
        said = {json.loads(line)["data"]["pid"] for line in self.stdout.splitlines() if f'"{event}"' in line}
        return said & set(self.workers())

    def _assert_nobody_left(self) -> None:
        """What a router that has ended leaves behind. Orphans of one that was killed before are its successor's to dismiss."""
        try:
            wait_until(lambda: not self.processes(), f"the end of {self._groups}", LEFT_SECONDS)
        finally:
            for group in self._groups:
                end_group(group)
            self._groups.clear()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """To its workers too."""
        for pid in self.processes():
            os.kill(pid, number)

    def assert_clean(self) -> None:
        """No traceback and no leaked resource was ever written."""
        for stream in (self.stdout, self.stderr):
            for sign in (
                "Traceback",
                "ResourceWarning",
                "was never awaited",
                "exception was never retrieved",
            ):
                assert sign not in stream, f"the router wrote {sign!r}:\n{stream[-6000:]}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.kill()
        self.stop()

    # Configuration

    @property
    def config_file(self) -> Path:
        return self.directory / "router.yml"

    def write_config(self, **changes: Any) -> None:
        """Write the file; `changes` go over what the router was made with."""
        self._overrides.update(changes)
        merged = {**self._defaults(), **copy.deepcopy(self._overrides)}
        self.config = {key: value for key, value in merged.items() if value is not None}
        if WORKERS and "workers" not in self._overrides:
            self.config["workers"] = WORKERS
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def reload(self, **changes: Any) -> dict[str, float]:
        """Write `changes`, send SIGHUP, wait until `config_reloads` counts it: which results grew."""
        self.write_config(**changes)
        before = self.metric_values("config_reloads")
        self.signal(signal.SIGHUP)

        def grown() -> dict[str, float]:
            now = self.metric_values("config_reloads")
            return {key: value - before.get(key, 0) for key, value in now.items() if value > before.get(key, 0)}

        results = wait_until(grown, "a reload to be counted in config_reloads")
        self.settle_workers()  # the scrape that showed it may have asked a worker before
        return results

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Whatever keys the block changes, another reload takes back."""
        before = dict(self._overrides)
        try:
            yield
        finally:
            self._overrides = before
            assert self.reload() == {'result="ok"': 1}

    # Observation

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def stdout(self) -> str:
        return _text(self.directory / "stdout")

    @property
    def stderr(self) -> str:
        return _text(self.directory / "stderr")

    @property
    def access_log(self) -> list[str]:
        """The complete lines of the access log so far."""
        return [line for line in _text(self.directory / "access.log").split("\n")[:-1] if line]

    def wait_for_log(self, predicate: str | Callable[[str], bool], deadline: float = WAIT_SECONDS) -> str:
        """The first access-log line that contains a text or satisfies a predicate."""
        return self._wait_line(lambda: self.access_log, predicate, deadline)

    @property
    def events(self) -> list[str]:
        """The lines of the router's own log (stdout and stderr) so far, those included that wait for their sink."""
        if self.running:
            self._wait_flushed()
        return [line for line in (self.stdout + "\n" + self.stderr).split("\n") if line]

    def _wait_flushed(self) -> None:
        """A thread writes the log: what the router did may be seen before the line that says so."""
        with contextlib.suppress(OSError, EOFError, AssertionError):  # it is just starting, or ending, or tells no metrics
            wait_until(lambda: self.metric("log_pending_bytes") == 0, "the log to be written")

    def wait_for_event(self, predicate: str | Callable[[str], bool], deadline: float = WAIT_SECONDS) -> str:
        """The first line of the router's own log that contains a text or satisfies a predicate."""
        return self._wait_line(lambda: self.events, predicate, deadline)

    def health(self) -> int:
        """The status of /health; 0 where nothing answers."""
        try:
            return self.fetch(self.status_port, "/health").status
        except (OSError, EOFError):
            return 0

    def routes(self) -> dict[str, Any]:
        """The live table as /routes tells it."""
        response = self._inspect("/routes")
        assert response.status == 200, f"/routes answered {response.status}: {response.body[:300]!r}"
        table: dict[str, Any] = json.loads(response.body)
        return table

    def has_route(self, host: str) -> bool:
        """Is there a route for a host that no domain claims? The whole of `routes` costs more the longer a router is shared."""
        response = self._inspect(f"/explain?host={host}&plain=true")
        assert response.status == 200, f"/explain answered {response.status}: {response.body[:300]!r}"
        return bool(json.loads(response.body)["error"] != "unknown_route")

    def _inspect(self, target: str) -> Response:
        token = base64.b64encode(f"{STATUS_USER}:{STATUS_PASSWORD}".encode()).decode()
        return self.fetch(self.routes_port, target, headers=[("Authorization", f"Basic {token}")])

    def settle_workers(self) -> None:
        """Return when every worker has heard what its supervisor knew: a scrape asks each of them, behind all else."""
        if self.config.get("workers") and self.config.get("prometheus"):
            self.metrics()

    def metrics(self) -> str:
        """The metrics page."""
        response = self.fetch(self.metrics_port, "/metrics")
        assert response.status == 200, f"/metrics answered {response.status}: {response.body[:300]!r}"
        return response.body.decode()

    def metric_values(self, name: str) -> dict[str, float]:
        """The samples of one metric, by their label text ('' without labels, else 'a="1",b="2"')."""
        return dict(_samples(self.metrics(), name))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples whose labels include these; 0 where there is none yet."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        samples = self.metric_values(name).items()
        return sum(value for text, value in samples if all(part in text for part in wanted))

    def wait_for_metric(self, name: str, at_least: float, deadline: float = WAIT_SECONDS, **labels: str) -> float:
        return wait_until(
            lambda: value if (value := self.metric(name, **labels)) >= at_least else None,
            f"{name}{labels} to reach {at_least}",
            deadline,
        )

    def fetch(self, port: int, target: str, headers: list[tuple[str, str]] | None = None) -> Response:
        """A GET to one of the router's own endpoints."""
        with Client(port) as client:
            return client.request("127.0.0.1", target, headers=[("Connection", "close"), *(headers or [])])

    def resident_kib(self) -> int:
        """Resident memory of all its processes, from the kernel; what they share counts once for each."""
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self.crew()]
        return sum(int(line.split()[1]) for status in statuses for line in status.splitlines() if line.startswith("VmRSS:"))

    def cpu_seconds(self) -> float:
        """Processor time that all its processes have used so far, in user and kernel mode."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.crew()]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        """How many descriptors all its processes hold."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.crew())

    # Within

    def _choose_ports(self) -> None:
        self.port, self.ssl_port, self.status_port, self.routes_port, self.metrics_port = (free_port() for _ in range(5))

    def _defaults(self) -> dict[str, Any]:
        nats: object = self._nats
        if isinstance(nats, NatsServer):
            nats = {"hosts": [{"hostname": "127.0.0.1", "port": nats.port}]}
        return {
            "port": self.port,
            "enable_ssl": True,
            "ssl_port": self.ssl_port,
            "tls_pem": [tls_pem(server_credential())],
            "status": {
                "host": "127.0.0.1",
                "port": self.status_port,
                "user": STATUS_USER,
                "pass": STATUS_PASSWORD,
                "routes": {"port": self.routes_port},
            },
            "prometheus": {"enabled": True, "port": self.metrics_port},
            "nats": nats,
            "access_log": {"file": str(self.directory / "access.log")},
            "logging": {"level": "debug"},
            "start_response_delay_interval": "0s",
            "load_balancer_healthy_threshold": "0s",
            "drain_wait": "0s",
            "drain_timeout": "10s",
        }

    def _launch(self) -> None:
        command = [
            sys.executable,
            "-W",
            "always::ResourceWarning",
            "-m",
            "router",
            "run",
            "-c",
            str(self.config_file),
        ]
        root = Path(__file__).parents[2]
        path = str(root)
        if WITHOUT_UVLOOP:
            hidden = self.directory / "without" / "uvloop.py"
            hidden.parent.mkdir(exist_ok=True)
            hidden.write_text("raise ImportError\n")
            path = f"{hidden.parent}:{path}"
        environment = {**os.environ, "PYTHONPATH": path}
        files = self.directory / "stdout", self.directory / "stderr"
        if not self._groups:  # a successor goes on where its predecessor was killed
            for file in files:
                file.write_bytes(b"")
        with files[0].open("ab") as out, files[1].open("ab") as err:
            self._process = spawn(command, stdout=out, stderr=err, cwd=root, env=environment)
        self._groups.append(self._process.pid)
        watch_group(self._process.pid)
        self.exit_status = None

    def _answers(self, healthy: bool) -> bool:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.running:
            status = self.health()
            if status == 200 or (status and not healthy):
                return True
            time.sleep(0.01)
        return False

    def _wait_line(self, lines: Callable[[], list[str]], predicate: str | Callable[[str], bool], deadline: float) -> str:
        def fits(line: str) -> bool:
            return predicate in line if isinstance(predicate, str) else predicate(line)

        try:
            return wait_until(lambda: next((line for line in lines() if fits(line)), None), "a line", deadline)
        except AssertionError:
            recent = "\n".join(lines()[-20:])
            raise AssertionError(f"no line fits {predicate!r} after {deadline} s; the last are:\n{recent}") from None


def lone() -> int:
    """A `workers` of at most one, for what each worker has a bound of its own for."""
    return min(WORKERS, 1)


def wait_until(probe: Callable[[], T | None], what: str, deadline: float = WAIT_SECONDS) -> T:
    """The first truthy value of `probe`, asked every few milliseconds; AssertionError after the deadline."""
    end = time.monotonic() + deadline
    pause = 0.002
    while not (value := probe()):
        assert time.monotonic() < end, f"waited {deadline} s in vain for {what}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return value


def server_credential() -> Credential:
    """The default server certificate of test routers: the open domain and the two foundations."""
    return _server_credential("localhost", "*.open.example", "*.east.example", "*.west.example")


def tls_pem(credential: Credential) -> dict[str, str]:
    """An entry of `tls_pem`."""
    return {"cert_chain": credential.chain_pem, "private_key": credential.key_pem}


def mtls_domain(
    domain: str,
    ca: CA | str,
    *,
    orgs: list[str] | None = None,
    spaces: list[str] | None = None,
    mode: str = "cf_identity",
    xfcc_format: str = "envoy",
    **more: Any,
) -> dict[str, Any]:
    """An entry of `mtls_domains`."""
    lists: Mapping[str, list[str] | None] = {"orgs": orgs, "spaces": spaces}
    config = {key: value for key, value in lists.items() if value is not None}
    return {
        "domain": domain,
        "ca_certs": ca if isinstance(ca, str) else ca.pem,
        "forwarded_client_cert": "sanitize_set",
        "xfcc": {"format": xfcc_format, "identity_extractor": "cf_ou"},
        "authorization": {"mode": mode, **({"config": config} if config else {})},
        **more,
    }


_CREDENTIALS: dict[tuple[str, ...], Credential] = {}


def _server_credential(*names: str) -> Credential:
    if names not in _CREDENTIALS:
        _CREDENTIALS[names] = authority("server").issue_server(*names)
    return _CREDENTIALS[names]


def _samples(page: str, name: str) -> Iterator[tuple[str, float]]:
    for line in page.splitlines():
        if line.startswith(name) and line[len(name) : len(name) + 1] in ("{", " "):
            labels, _, value = line[len(name) :].rpartition(" ")
            with contextlib.suppress(ValueError):
                yield labels.strip().strip("{}"), float(value)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
