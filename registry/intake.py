"""One registry message in: read, applied to the ledger, logged and counted. The journey of a registration.

Promises: never raises for what a message holds; a message that does not parse is counted, logged (bounded,
and only so often) and dropped, and nothing else happens; a heartbeat is not parsed, not logged and changes
nothing. Refuses to know: NATS, event loops, who publishes the table.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from registry.ledger import Change, Event, Ledger, What
from registry.message import MAX_BYTES, Malformed, RegistryMessage, parse_message
from registry.options import DEFAULT_LIMIT

REGISTER, UNREGISTER = "router.register", "router.unregister"

_SHOWN_PAYLOAD = 512
_ACTIONS: Mapping[What, str] = {
    What.REGISTERED: "added",
    What.UPDATED: "updated",
    What.REFRESHED: "unmodified",
    What.HELD: "held",
}


class Log(Protocol):
    """Where events go. `sparse` is for those that a peer can cause at will: it holds back most of a flood."""

    def debug(self, event: str, **data: object) -> None: ...
    def info(self, event: str, **data: object) -> None: ...
    def warning(self, event: str, **data: object) -> None: ...
    def error(self, event: str, **data: object) -> None: ...
    def sparse(self, event: str, level: int = ..., /, **data: object) -> None: ...


class RegistryMetrics(Protocol):
    """What is counted. `component` is an emitter's word: the receiver bounds how many it tells apart."""

    def registry_message(self, component: str, action: str) -> None:
        """One registration: added, updated, unmodified (a heartbeat comes with component ""), or held: the configuration has a
        route for the host, and nothing was done.
        """

    def unregistry_message(self, component: str) -> None:
        """One unregistration."""

    def message_dropped(self, reason: str) -> None:
        """One message that does not parse; `reason` is one of a few."""

    def routes_pruned(self, count: int) -> None:
        """Endpoints of routes that were silent for their time to live."""

    def route_options_rejected(self, reason: str) -> None:
        """One option, or one map of options, that was not used; `reason` is one of a few."""

    def registered_at(self, updated_at_ns: int) -> None:
        """An endpoint that was registered or changed; when, by the platform's clock (0: it did not say)."""


class IntakeLimits(NamedTuple):
    """`max_options` in bytes; `stale_threshold` in seconds, the longest time to live and the default."""

    max_options: int = DEFAULT_LIMIT
    stale_threshold: float = 120.0


class Intake:
    """Feeds one ledger."""

    def __init__(self, ledger: Ledger, log: Log, metrics: RegistryMetrics, limits: IntakeLimits) -> None:
        self._ledger = ledger
        self._log = log
        self._metrics = metrics
        self._limits = limits

    def take(self, subject: str, data: bytes, now: float) -> Change | None:
        """Deal with one message; None where routing cannot have changed. `now` in monotonic seconds.

        Other subjects than register and unregister are not ours to read.
        """
        if len(data) > MAX_BYTES:
            if subject in (REGISTER, UNREGISTER):
                problem = Malformed("too_large", f"{len(data)} bytes, the limit is {MAX_BYTES}")
                self._drop(subject, data, problem)
            return None
        if subject == REGISTER:
            if self._ledger.heartbeat(data, now):
                self._metrics.registry_message("", "unmodified")
                return None
            return self._register(data, now)
        return self._unregister(data, now) if subject == UNREGISTER else None

    def prune(self, now: float, part: int = 0, of: int = 1) -> Change:
        """Drop what was silent too long; of the whole table, or of one of its parts."""
        change = self._ledger.prune(now, part, of)
        if change.events:
            self._metrics.routes_pruned(len(change.events))
        for event in change.events:
            self._log.info("pruned-route", **_described(event))
        return change

    def _register(self, data: bytes, now: float) -> Change | None:
        message = self._parse(REGISTER, data)
        if message is None:
            return None
        change = self._ledger.register(message, data, now)
        if change.ignored:
            return None
        component = message.endpoint.tags.get("component", "")
        for event in change.events:
            self._metrics.registry_message(component, _ACTIONS[event.what])
            if event.what is What.HELD:
                self._log.sparse("registration-ignored", reason="configured-route", **_described(event))
            elif event.what is not What.REFRESHED:
                self._log_registered(event, is_new=event.key in change.new_routes)
        if change.routing:
            self._metrics.registered_at(message.endpoint.updated_at_ns)
        self._say_what_was_wrong(message, change)
        return change if change.routing else None

    def _unregister(self, data: bytes, now: float) -> Change | None:
        message = self._parse(UNREGISTER, data)
        if message is None:
            return None
        change = self._ledger.unregister(message, now)
        if change.ignored:
            return None
        self._metrics.unregistry_message(message.endpoint.tags.get("component", ""))
        for event in change.events:
            if event.what in (What.UNKNOWN, What.HELD):
                reason = "unknown-endpoint" if event.what is What.UNKNOWN else "configured-route"
                self._log.sparse("endpoint-not-unregistered", reason=reason, **_described(event))
            else:
                self._log.info("endpoint-unregistered", **_described(event))
        for key in change.gone_routes:
            self._log.info("route-unregistered", uri=key)
        return change if change.routing else None

    def _parse(self, subject: str, data: bytes) -> RegistryMessage | None:
        limits = self._limits
        message = parse_message(data, max_options=limits.max_options, stale_threshold=limits.stale_threshold)
        if isinstance(message, Malformed):
            self._drop(subject, data, message)
            return None
        return message

    def _drop(self, subject: str, data: bytes, problem: Malformed) -> None:
        self._metrics.message_dropped(problem.reason)
        payload = data[:_SHOWN_PAYLOAD].decode("utf-8", "backslashreplace")
        self._log.sparse("validation-error", reason=problem.reason, detail=problem.detail, payload=payload, subject=subject)

    def _log_registered(self, event: Event, *, is_new: bool) -> None:
        if is_new:
            self._log.info("route-registered", uri=event.key)
        say = self._log.info if event.what is What.REGISTERED else self._log.debug
        say("endpoint-registered", **_described(event))

    def _say_what_was_wrong(self, message: RegistryMessage, change: Change) -> None:
        """Once a change, however many routes the message names."""
        if message.bad_uris:
            self._log.warning("uris-left-out", uris=message.bad_uris, backend=message.endpoint.address)
        for note in message.notes:
            self._log.warning("registration-note", note=note, backend=message.endpoint.address)
        fresh = next((event for event in change.events if event.new_options), None)
        if fresh is None:
            return
        options = fresh.endpoint.options
        for text in options.policy.warnings:
            self._log.warning("malformed-route-policy", uri=fresh.key, warning=text)
        if options.policy.warnings and not options.warnings:  # a nested value, say, is counted below
            self._metrics.route_options_rejected("bad_policy")
        for warning in options.warnings:
            self._metrics.route_options_rejected(warning.reason)
            self._log.warning(
                "route-option-rejected",
                uri=fresh.key,
                option=warning.key,
                value=warning.value,
                reason=warning.reason,
                in_effect=warning.in_effect,
            )


def _described(event: Event) -> dict[str, object]:
    endpoint = event.endpoint
    return {
        "uri": event.key,
        "backend": endpoint.address,
        "is_tls": endpoint.tls,
        "application_id": endpoint.app,
        "instance_id": endpoint.instance_id,
    }
