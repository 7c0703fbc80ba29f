"""Header blocks of requests: bytes to pairs, with the table that all blocks of a connection share.

Promises: every block is decoded once, in order; ``changes`` tells two states of the table apart, so that who keeps what a
block meant knows for how long; nothing a client sends raises. Refuses to know: what a field means.
Source: RFC 7541. The decoding is the ``hpack`` library's.

Stricter than the library: two resizes at the start of a block, as many as RFC 7541 4.2 has a use for. Each is one byte, and
thousands of them would cost as much as thousands of fields while the decoded size stays nothing.
"""

from typing import NamedTuple

from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.hpack import Decoder
from hpack.table import HeaderTable

from router.wire.headers import Fields
from router.wire.http2_frames import ErrorCode

_MAX_RESIZES = 2


class BlockFault(NamedTuple):
    """A block after which the table is not known any more: the connection ends."""

    code: ErrorCode
    reason: str


class _CountedTable(HeaderTable):
    """Counts what is added, whether it finds room or empties the table."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.added += 1
        super().add(name, value)


class BlockDecoder:
    """The decoder of one connection. ``max_bytes`` bounds the decoded size of a block, 32 bytes a field included."""

    __slots__ = ("_decoder", "_table", "resizes")

    def __init__(self, max_bytes: int) -> None:
        self._table = _CountedTable()
        self._decoder = Decoder(max_bytes)
        self._decoder.header_table = self._table
        self.resizes = 0

    @property
    def changes(self) -> int:
        """Grows with every block that may have changed the table; resizes to the same size count too."""
        return self._table.added + self.resizes

    def decode(self, block: bytes) -> Fields | BlockFault:
        """The pairs of a block, in order. Their text has not been judged."""
        if block[:1] and block[0] & 0xE0 == 0x20:
            resizes = _leading_resizes(block)
            self.resizes += resizes
            if resizes > _MAX_RESIZES:
                return BlockFault(ErrorCode.COMPRESSION_ERROR, "table_resizes")
        try:
            return list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            return BlockFault(ErrorCode.ENHANCE_YOUR_CALM, "header_list_too_large")
        except HPACKError:
            return BlockFault(ErrorCode.COMPRESSION_ERROR, "bad_header_block")


def _leading_resizes(block: bytes) -> int:
    """How many resizes a block begins with: bytes 001xxxxx, each with the rest of its integer."""
    count = at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:
        count += 1
        longer = block[at] & 0x1F == 0x1F
        at += 1
        while longer and at < len(block):
            longer = block[at] >= 0x80
            at += 1
    return count
