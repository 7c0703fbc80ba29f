"""Expectations against what the router would answer: which hold, which do not, and which routes nobody asked about.

Promises: a case holds only when everything that it says is seen; of one that fails everything that differs is said. Refuses to
know how an answer comes about: `ask` is explain.py's, so that no second opinion about a decision exists here.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from registry.endpoint import Route
from router.inspect.callers import KnownCaller
from router.inspect.expectations import Case, Expect, Status


class Asked(NamedTuple):
    """One call that somebody might make. `sni` None: the host itself. `plain`: without TLS."""

    caller: KnownCaller
    host: str
    path: str
    sni: str | None = None
    plain: bool = False


class Seen(NamedTuple):
    """What would come of a call. `status` None: it is forwarded. `outcome` says the same in a word."""

    allowed: bool
    outcome: str
    status: Status | None = None
    rule: str | None = None
    reason: str = ""
    remedy: str | None = None
    route: str | None = None

    @property
    def answer(self) -> str:
        """All in a few words: `allow route:mtls_allow_any`, `deny 403 domain:orgs`."""
        return " ".join(str(part) for part in (word(self), self.status, self.rule) if part is not None)


Ask = Callable[[Asked], Seen]


class Verdict(NamedTuple):
    """A case, what was seen, and everything in which it differs from what was expected."""

    case: Case
    seen: Seen
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.differences

    def as_json(self) -> dict[str, object]:
        """The verdict as plain JSON values."""
        case, seen = self.case, self.seen
        return {
            "name": case.name,
            "line": case.line,
            "ok": self.holds,
            "caller": case.caller.name,
            "host": case.host,
            "path": case.path,
            "expected": {"expect": case.expect, "rule": case.rule, "status": case.status},
            "seen": seen_json(seen),
            "differences": list(self.differences),
        }


def seen_json(seen: Seen) -> dict[str, object]:
    """What was seen as plain JSON values."""
    return {"result": word(seen), **seen._asdict()}


def word(seen: Seen) -> Expect:
    """allow or deny."""
    return "allow" if seen.allowed else "deny"


def judge(cases: Iterable[Case], ask: Ask) -> tuple[Verdict, ...]:
    """Each case's verdict, in their order."""
    return tuple(_judge(case, ask(Asked(case.caller, case.host, case.path, case.sni, case.plain))) for case in cases)


def _judge(case: Case, seen: Seen) -> Verdict:
    differences = []
    if case.expect != word(seen):
        differences.append(f"expected {case.expect}, seen {word(seen)} ({seen.outcome})")
    if case.rule is not None and case.rule != seen.rule:
        differences.append(f"expected rule {case.rule}, seen {seen.rule or 'no rule'}")
    if case.status is not None and case.status != seen.status:
        differences.append(f"expected status {case.status}, seen {seen.outcome}")
    return Verdict(case, seen, tuple(differences))


def untouched(routes: Iterable[Route], verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    """The keys of the routes that no case came to, sorted."""
    touched = {verdict.seen.route for verdict in verdicts}
    return tuple(sorted(route.key for route in routes if route.key not in touched))
