"""A router from a deployment of the project, rendered and started as an operator would, only on this machine's ports."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import yaml

from router.demo.nats_server import NatsServer
from tests.support.certs import CA, Credential
from tests.support.router import STATUS_PASSWORD, RouterProcess
from tests.support.typed import typed

BOSH = Path(__file__).parents[2] / "bosh_like_config"
PROPERTIES = "/instance_groups/name=router/jobs/name=vestibule/properties"


def pair(credential: Credential) -> dict[str, str]:
    """A certificate as BOSH's variables have it."""
    return {"certificate": credential.chain_pem, "private_key": credential.key_pem}


def authority_pair(ca: CA) -> dict[str, str]:
    """An authority's certificate as BOSH's variables have it."""
    return {"certificate": ca.pem}


def vestibule(*words: str | Path, cwd: Path = BOSH.parent) -> CompletedProcess[str]:
    """One command, as typed. Of what is installed, and by the job's scripts, it is in a process of its own."""
    return typed(*words, folder=cwd)


class RenderedRouter(RouterProcess):
    """The router of an example: its deployment, its ops-files, and the variables an operator would give."""

    def __init__(
        self, directory: Path, nats: NatsServer, deployment: Path, ops: Iterable[Path], variables: Mapping[str, object]
    ) -> None:
        super().__init__(directory, nats=nats)
        self.server, self._deployment, self._ops = nats, deployment, tuple(ops)
        self._values = {"nats_password": "nats", "router_status_password": STATUS_PASSWORD, **variables}

    @property
    def job(self) -> Path:
        """The rendered job's folder."""
        return self.directory / "job"

    @property
    def config_file(self) -> Path:
        return self.job / "config/gorouter.yml"

    def write_config(self, **changes: Any) -> None:
        """Render, with an ops-file more for this machine's ports; `changes` are properties below `router`."""
        self._overrides.update(changes)
        for name, content in (("here.yml", self._here()), ("vars.yml", self._values)):
            (self.directory / name).write_text(yaml.safe_dump(content, sort_keys=False))
        done = vestibule("bosh", "render", *self.words())
        assert done.returncode == 0, done.stderr

    def words(self) -> list[str | Path]:
        """What stands behind `vestibule bosh render`."""
        ops = [word for file in (*self._ops, self.directory / "here.yml") for word in ("-o", file)]
        return ["-m", self._deployment, *ops, "--vars-file", self.directory / "vars.yml", "--output", self.job]

    def _here(self) -> list[dict[str, object]]:
        router = {
            "port": self.port,
            "tls_port": self.ssl_port,
            "status/host": "127.0.0.1",
            "status/port": self.status_port,
            "status/routes": {"port": self.routes_port},
            "prometheus": {"port": self.metrics_port},
            "access_log": {"file": str(self.directory / "access.log")},
            "start_response_delay_interval": 0,
            "drain_wait": 0,
            "drain_timeout": 10,
            **self._overrides,
        }
        places = {f"router/{key}?": value for key, value in router.items()}
        places |= {"nats/machines/0": "127.0.0.1", "nats/port": self.server.port}
        return [{"type": "replace", "path": f"{PROPERTIES}/{place}", "value": value} for place, value in places.items()]
