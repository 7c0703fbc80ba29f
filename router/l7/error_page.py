"""The operator's HTML page for the errors that the router makes: what its template becomes.

Promises: a page cannot fail, and grows to MAX_PAGE bytes at most (beyond that the plain text stays); every value is escaped for
HTML; it says no more than the plain text and the fields of the response do. Refuses to know where the template comes from, and
why a request was refused.
Source: GoRouter's error writer.
"""

import html
from typing import Final, NamedTuple

from router.config.template import Template, canonical_name
from router.l7.refusal import Refusal
from router.wire.http1 import Fields

MAX_PAGE: Final = 256 * 1024
_PLAIN: Final = frozenset({b"Content-Type", b"X-Content-Type-Options", b"Content-Length"})


class ErrorPage(NamedTuple):
    """A template, as a body for errors."""

    template: Template

    def dress(self, answer: Refusal, said: Fields, *, is_head: bool) -> Refusal:
        """`answer` with this page as its body; `said` are the fields that the client will see. As it is where it is no error
        of ours, or where the page grew too large.
        """
        if answer.message is None:
            return answer
        body = self._render(answer, answer.message, said).encode("utf-8")
        if len(body) > MAX_PAGE:
            return answer
        fields: Fields = [field for field in answer.fields if field[0] not in _PLAIN]
        fields += (
            (b"Content-Type", b"text/html; charset=utf-8"),
            (b"X-Content-Type-Options", b"nosniff"),
            (b"Content-Length", b"%d" % len(body)),
        )
        return answer._replace(fields=fields, body=b"" if is_head else body)

    def _render(self, answer: Refusal, message: str, said: Fields) -> str:
        header: dict[str, list[str]] = {}
        for name, value in said:
            header.setdefault(canonical_name(name.decode("latin-1")), []).append(value.decode("latin-1"))
        values = {
            ".Status": str(answer.status),
            ".StatusText": answer.reason.decode("ascii"),
            ".Message": message,
            ".Header": "map[" + " ".join(f"{name}:[{' '.join(header[name])}]" for name in sorted(header)) + "]",
        } | {f"header:{name}": each[0] for name, each in header.items()}
        out = [self.template.pieces[0]]
        for action, piece in zip(self.template.actions, self.template.pieces[1:], strict=True):
            out += (html.escape(values.get(action, "")), piece)
        return "".join(out)
