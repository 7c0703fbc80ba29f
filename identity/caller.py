"""Who is calling: one application, perhaps with its space and organization.

Promises: a Caller that exists is valid; its GUIDs are compared byte for byte, and none of them is ever empty,
so that "empty equals empty" cannot admit anyone. Refuses to know: certificates, headers, and whether a GUID
exists anywhere (a remote foundation's never does here).
"""

import re
from dataclasses import dataclass
from typing import NewType

Guid = NewType("Guid", str)

_GUID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SHOWN = 64


def parse_guid(text: str) -> Guid | None:
    """Return `text` as a Guid if it is 1 to 64 of `[A-Za-z0-9_-]`, else None; never trimmed or folded."""
    return Guid(text) if _GUID.fullmatch(text) else None


def shown(text: str) -> str:
    """Return foreign text as a message may carry it: quoted, printable ASCII, 64 characters of it at most."""
    return ascii(text) if len(text) <= _SHOWN else ascii(text[:_SHOWN]) + "..."


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity of a verified client. Raises ValueError for a GUID that breaks the form."""

    app: Guid
    space: Guid | None = None
    org: Guid | None = None

    def __post_init__(self) -> None:
        for guid in (self.app, self.space, self.org):
            if guid is not None and parse_guid(guid) is None:
                raise ValueError(f"caller GUID {shown(guid)} is not 1 to 64 of [A-Za-z0-9_-]")
