"""router/l7/denial.py: the one line of the component log for a refusal by the doors."""

from pathlib import Path
from typing import Any

import pytest

from tests.router.desk import EAST, Desk, desk
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.client import Tls

CALLED = f"app.{EAST}"
EAST_CA = authority("east instance identity")


def caller(*, sni: str = CALLED) -> Tls:
    return Tls(sni=sni, credential=EAST_CA.issue_instance("app-1", "space-1", "org-1"))


def only(one: Desk, event: str) -> dict[str, Any]:
    (found,) = one.log.of(event)
    return dict(found)


async def test_a_hit_of_a_list_says_the_list_and_the_caller_with_names(backend: EchoBackend, tmp_path: Path) -> None:
    """R237: what the operator looks for after putting an org out."""
    names = tmp_path / "names.yml"
    names.write_text("orgs: {org-1: shop}\napps: {app-1: cart}")
    async with desk(deny={"orgs": ["org-1"]}, logging={"names_file": str(names)}) as one:
        one.register(CALLED, backend, options={"mtls_allow_any": True})
        assert (await one.get(CALLED, tls=caller())).status == 403
        said = only(one, "deny-list-hit")
        assert (said["list"], said["host"], said["reason"]) == ("orgs", CALLED, "caller org org-1 is on deny.orgs")
        assert (said["caller_app"], said["caller_space"], said["caller_org"]) == ("cart (app-1)", "space-1", "shop (org-1)")
        assert [check["rule"] for check in said["trail"]] == ["domain", "deny:orgs"]
        assert one.log.of("mtls-pre-auth-denied") == []


async def test_a_refusal_of_the_second_door_names_the_caller(backend: EchoBackend) -> None:
    """Names are of use where a caller is not on a list, too."""
    async with desk() as one:
        one.register(CALLED, backend, options={"mtls_allowed_apps": "another"})
        assert (await one.get(CALLED, tls=caller())).status == 403
        said = only(one, "mtls-pre-auth-denied")
        assert (said["caller_app"], said["tls_mtls_domain"]) == ("app-1", f"*.{EAST}")


@pytest.mark.parametrize("tls", [None, caller(sni="x.open.example")])
async def test_nobody_is_named_whom_no_handshake_verified(backend: EchoBackend, tls: Tls | None) -> None:
    """A 421 knows no caller."""
    async with desk() as one:
        one.register(CALLED, backend)
        assert (await one.get(CALLED, tls=tls)).status == 421
        assert "caller_app" not in only(one, "mtls-enforcement-mismatch")


async def test_a_broken_policy_is_named_with_its_route_and_value(backend: EchoBackend) -> None:
    """R126: what an operator looks for who wonders at 403s; the client's own words stay in the access log."""
    policies = [{"route": "*.open.example/api", "type": "user_agent_block", "value": "badbot"}]
    async with desk(l7_policies=policies) as one:
        one.register("app.open.example", backend)
        assert (await one.get("app.open.example", "/api/x", headers=[("User-Agent", "BadBot/2")])).status == 403
        said = only(one, "l7-policy-denied")
        assert (said["host"], said["route"]) == ("app.open.example", "*.open.example/api")
        assert (said["type"], said["value"]) == ("user_agent_block", "badbot")
        assert backend.received == []
