"""How much work something may be, counted in processor time: a deadline on the clock would also tell how busy the machine is."""

import contextlib
import time
from collections.abc import Iterator


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """What this thread does in the block takes it no longer."""
    began = time.thread_time()
    yield
    spent = time.thread_time() - began
    assert spent <= seconds, f"it took {spent:.1f} s of the processor, of {seconds} s that it may"
