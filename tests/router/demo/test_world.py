"""The demo's world: up as a whole, gone as a whole."""

import asyncio
from pathlib import Path

import pytest

from router.demo.world import DemoError, world


def test_a_router_that_cannot_start_is_told_with_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """DemoError with what the router wrote; no file remains."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("router.demo.world._mtls_domain", lambda _suffix, _authority: {"domain": "*"})

    async def scenario() -> None:
        async with world():
            pytest.fail("the world must not come up")

    with pytest.raises(DemoError, match="Error loading config"):
        asyncio.run(scenario())
    assert list(tmp_path.iterdir()) == []
