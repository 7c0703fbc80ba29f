"""What a worker is told of the configuration: all but the secrets of what only the supervisor does.

Promises: neither NATS's credentials and keys, nor the password and keys of the ports for health, routes and metrics are in a
process that faces clients; every key that a worker acts upon is as the file has it. Refuses to know how it is sent.
"""

from __future__ import annotations

from router.config.model import Config
from router.config.sections import NO_SECRET, Nats, Status


def for_worker(config: Config) -> Config:
    """The same configuration for a process that serves clients only. The argument is not changed."""
    unsealed = {"certificate": "", "private_key": NO_SECRET, "client_ca": ""}
    prometheus = config.prometheus.model_copy(update=unsealed)
    return config.model_copy(update={"nats": Nats(), "status": Status(), "prometheus": prometheus})
