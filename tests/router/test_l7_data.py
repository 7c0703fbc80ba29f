"""router/l7_data.py: the doors of L7 over two snapshots that come from elsewhere."""

import asyncio

from registry.table import RouteTable
from router.config.compile import compile_config
from router.l7_data import L7Data
from router.l7_seam import L7Seam
from router.live import Live
from router.net.doorstep import Doorstep
from router.observe.access_log import AccessLog, AccessLogOptions
from router.observe.health import Health
from router.observe.tap import Tap
from router.process import Process
from tests.router.desk import EAST, settings


async def test_it_serves_what_the_snapshots_of_the_moment_say() -> None:
    """The door bears the names of the configuration in force; no connection is open yet."""
    config = settings()
    loop = asyncio.get_running_loop()
    process = Process(config, loop)
    live = Live(compile_config(config, 1, loop, process.wheel), RouteTable())
    seam = L7Seam(live, lambda key, endpoint: None, Tap(), None)
    data = L7Data(config, process, seam, Doorstep(loop), AccessLog(AccessLogOptions(), []), Health())
    assert data.door.bears(f"a.{EAST}")
    assert process.metrics.websocket_open.source() == 0
    live.adopt(compile_config(settings(tls_pem=[], enable_ssl=False), 2, loop, process.wheel, live.snapshot))
    data.adopted()
    assert not data.door.bears(f"a.{EAST}")
    data.close()
    process.close()
