"""A router with workers as a test sees it: which worker has a connection, and one connection to each."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.client import Client
from tests.support.router import RouterProcess, wait_until

ATTEMPTS = 200


def worker_of(router: RouterProcess, client: Client, among: list[int]) -> int:
    """The process of `among` that holds the other end of a connection, from the kernel's lists; it has been answered there."""
    port = client.socket.getsockname()[1]
    inode = next(
        found for table in ("tcp", "tcp6") if (found := _inode(Path(f"/proc/net/{table}").read_text(), router.port, port))
    )
    return next(pid for pid in among if f"socket:[{inode}]" in _files(pid))


def _inode(table: str, local: int, remote: int) -> str | None:
    found = re.search(rf"^ *\d+: \w+:{local:04X} \w+:{remote:04X} (?:\S+ +){{6}}(\d+) ", table, re.MULTILINE)
    return found[1] if found else None


def _files(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(entry))
        except OSError:
            continue
    return found


@contextmanager
def client_of_each(router: RouterProcess, host: str, count: int = 2) -> Iterator[dict[int, Client]]:
    """An open connection to each worker, by its process id; each has had one answer."""
    all_serve(router)
    with ExitStack() as stack:
        found: dict[int, Client] = {}
        for _ in range(ATTEMPTS):
            client = stack.enter_context(Client(router.port))
            client.request(host)
            found.setdefault(worker_of(router, client, router.workers()), client)
            if len(found) == count:
                yield found
                return
        raise AssertionError(f"{ATTEMPTS} connections reached only the workers {sorted(found)}")


def all_serve(router: RouterProcess) -> None:
    """Wait until every worker has its share of new connections."""
    wait_until(lambda: router.metric("workers_serving") == router.width, "all workers to serve")


def stands_by(router: RouterProcess) -> None:
    """Wait until a worker stands ready to take another's place."""
    wait_until(router.spares, "a worker that stands by")


def is_whole(router: RouterProcess) -> None:
    """Wait until all workers serve, another one stands by, and the clients of before are gone."""
    all_serve(router)
    stands_by(router)
    wait_until(lambda: router.metric("connections_open") == 0, "all connections to end")
