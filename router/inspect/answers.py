"""Explanations as the short answers that are held against expectations and against each other.

Promises: every answer is explain.py's. A call that no client could send is refused with the status of what is malformed. Refuses
to know what is expected.
"""

from authz.remedy import Remedy
from router.inspect.explain import explain
from router.inspect.explanation import Explanation, Question
from router.inspect.judgement import Ask, Asked, Seen
from router.inspect.scene import Scene


def asker(scene: Scene, now_epoch: float) -> Ask:
    """Who answers what would come of a call in this scene, at this time (seconds)."""

    def ask(asked: Asked) -> Seen:
        caller = asked.caller
        explanation = explain(
            Question(asked.host, asked.path, caller.identity, asked.sni, caller.certificate, asked.plain, caller.intermediates),
            scene,
            now_epoch,
        )
        if isinstance(explanation, Explanation):
            return _seen(explanation)
        return Seen(False, str(explanation.status), explanation.status, None, f"malformed request ({explanation.reason})")

    return ask


def _seen(explanation: Explanation) -> Seen:
    allowed, status = explanation.allowed, explanation.status
    return Seen(
        allowed,
        "forwarded" if allowed else str(status),
        None if allowed else status,
        explanation.rule or explanation.error,
        explanation.reason or "",
        None if explanation.remedy is None else _told(explanation.remedy),
        None if explanation.route is None else explanation.route.key,
    )


def _told(remedy: Remedy) -> str:
    """All steps in one line."""
    return "; then ".join(f"{step.who}: {step.change} ({step.where})" for step in remedy.steps)
