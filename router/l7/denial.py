"""What the component log says of a refusal by the doors: who, where, why, with names beside the GUIDs.

    mtls-enforcement-mismatch   421: the handshake does not fit the Host
    deny-list-hit               403: the caller, the host or the backend is on a list of the operator's
    mtls-pre-auth-denied        403: domain or route do not let the caller in
    l7-policy-denied            403: an entry of `l7_policies` refuses such requests
    upgrade-cut                 either, for a connection that had been let in and upgraded (tunnel.py)

Promises: events that a caller causes at will are sparse; a caller is named only where its certificate was verified for a domain
that reads identities. Refuses to know metrics, the access log and the client, who learns nothing of this.
"""

from authz.decision import Deny
from router.l7.policies import Policy
from router.l7.state import Exchange


def log_denial(exchange: Exchange, decision: Deny, event: str = "") -> None:
    """One sparse line; `event` where it is none of those above."""
    last = decision.trail[-1]
    data: dict[str, object] = {"host": exchange.target.host}
    if last.layer == "deny":
        event = event or "deny-list-hit"
        data |= {"list": last.rule.removeprefix("deny:"), "reason": last.detail}
    else:
        event = event or ("mtls-enforcement-mismatch" if decision.status == 421 else "mtls-pre-auth-denied")
    if event:
        data |= {"status": decision.status, "reason": decision.reason}
    conn = exchange.party
    if conn.caller is not None:
        label = exchange.snapshot.names.label
        caller = conn.caller
        data |= {"caller_app": label(caller.app), "caller_space": label(caller.space), "caller_org": label(caller.org)}
    exchange.router.log.sparse(
        event,
        **data,
        tls_sni=exchange.record.tls_sni,
        tls_mtls_domain=conn.binding_domain,
        vcap_request_id=exchange.ids.vcap,
        trail=[check._asdict() for check in decision.trail],
    )


def log_broken_policy(exchange: Exchange, policy: Policy) -> None:
    """One sparse line."""
    exchange.router.log.sparse(
        "l7-policy-denied",
        host=exchange.target.host,
        route=policy.host + policy.path,
        type=policy.type,
        value=policy.value,
        vcap_request_id=exchange.ids.vcap,
    )
