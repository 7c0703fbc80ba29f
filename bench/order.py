"""What a process of the load generator is told, and what it answers: each one line of JSON.

Refuses to know: how it is done.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Literal

from bench.waits import Waits

Mode = Literal["keep", "new", "idle", "socket", "paced", "http2"]


@dataclass(frozen=True, slots=True)
class Order:
    """What to do. `host` is SNI and Host, `path` the target; `certificate` (PEM with key) may be empty; `tls` False: plain
    HTTP. `rate`: requests a second that `paced` keeps. `streams`: of one connection that `http2` keeps busy.
    """

    mode: Mode
    port: int
    host: str
    path: str
    tls: bool
    certificate: str
    connections: int
    seconds: float
    rate: float = 0.0
    streams: int = 1

    def line(self) -> str:
        """As it is told."""
        return json.dumps(asdict(self))


@dataclass(slots=True)
class Done:
    """What was done. `received`: bytes of answers; `why`: the first error, for people; `late`: the 99th percentile of what a
    `paced` request left after it was due, in seconds; `spoken`: version and cipher of TLS.
    """

    requests: int = 0
    received: int = 0
    errors: int = 0
    seconds: float = 0.0
    why: str = ""
    late: float = 0.0
    spoken: str = ""
    waits: Waits = field(default_factory=Counter)

    def line(self) -> str:
        """As it is answered."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


def read_done(line: str) -> Done:
    """What another process said."""
    answer = json.loads(line)
    waits = Counter({int(step): count for step, count in answer.pop("waits").items()})
    return Done(**answer, waits=waits)
