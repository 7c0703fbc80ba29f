"""Header blocks of requests: bytes to pairs, with the table that all blocks of a connection share.

Promises: every block is decoded once, in order, in time that grows with its bytes and no faster; ``changes`` tells two states of
the table apart, so that who keeps what a block meant knows for how long; nothing a client sends raises. Refuses to know:
what a field means.
Source: RFC 7541. The Huffman code and the static table are the ``hpack`` library's; its decoder is not used, since it copies
the rest of a block for each literal and takes 4 us for a field of one byte: a client would get milliseconds of ours for 3 KiB.

Stricter than the RFC: two resizes at the start of a block, as many as section 4.2 has a use for. Each is one byte, and
thousands of them would cost as much as thousands of fields while the decoded size stays nothing.
"""

from typing import Final, NamedTuple

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from router.wire.headers import Fields
from router.wire.http2_frames import ErrorCode

_TABLE_BYTES: Final = 4_096  # what a table may hold where no setting says otherwise; ours never do
_ENTRY_OVERHEAD: Final = 32
_MAX_RESIZES: Final = 2
_MAX_INTEGER_BYTES: Final = 5  # behind the first: enough for 32 bits
_STATIC: Final = ((b"", b""), *HeaderTable.STATIC_TABLE)  # from 1 on


class BlockFault(NamedTuple):
    """A block after which the table is not known any more: the connection ends."""

    code: ErrorCode
    reason: str


_BAD_BLOCK = BlockFault(ErrorCode.COMPRESSION_ERROR, "bad_header_block")
_TOO_MANY_RESIZES = BlockFault(ErrorCode.COMPRESSION_ERROR, "table_resizes")
_TOO_LARGE = BlockFault(ErrorCode.ENHANCE_YOUR_CALM, "header_list_too_large")


class _Broken(Exception):
    """A representation that is none."""


class BlockDecoder:
    """The decoder of one connection. ``max_bytes`` bounds the decoded size of a block, 32 bytes a field included.

    ``resizes`` counts those of the table; ``changes`` grows with every block that may have changed what it holds.
    """

    __slots__ = ("_entries", "_max_bytes", "_most", "_size", "changes", "resizes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: Fields = []  # the oldest first
        self._size = 0  # bytes of the entries, with their overhead
        self._most = _TABLE_BYTES
        self.changes = 0
        self.resizes = 0

    def decode(self, block: bytes) -> Fields | BlockFault:
        """The pairs of a block, in order. Their text has not been judged."""
        try:
            at = self._read_resizes(block)
            return _TOO_MANY_RESIZES if at < 0 else self._read_fields(block, at)
        except (_Broken, IndexError, HPACKDecodingError):
            return _BAD_BLOCK

    def _read_resizes(self, block: bytes) -> int:
        """Where the fields begin; -1 after too many resizes."""
        at = count = 0
        while block[at : at + 1] and block[at] & 0xE0 == 0x20:
            size, at = _integer(block, at, 0x1F)
            count += 1
            if count > _MAX_RESIZES:
                return -1
            if size > _TABLE_BYTES:
                raise _Broken
            self._most = size
            self._evict()
            self.resizes += 1
            self.changes += 1
        return at

    def _read_fields(self, block: bytes, at: int) -> Fields | BlockFault:
        pairs: Fields = []
        left, end = self._max_bytes, len(block)
        while at < end:
            first = block[at]
            if first & 0x80:
                if first < 0xBE and first != 0x80:
                    pair = _STATIC[first & 0x7F]
                    at += 1
                else:
                    index, at = _integer(block, at, 0x7F)
                    pair = self._entry(index)
            else:
                if first & 0xE0 == 0x20:
                    raise _Broken  # a resize behind a field
                pair, at = self._literal(block, at, first)
            left -= _ENTRY_OVERHEAD + len(pair[0]) + len(pair[1])
            if left < 0:
                return _TOO_LARGE
            pairs.append(pair)
        return pairs

    def _literal(self, block: bytes, at: int, first: int) -> tuple[tuple[bytes, bytes], int]:
        """Section 6.2: a field whose value is spelled out, its name perhaps too."""
        index, at = _integer(block, at, 0x3F if first & 0x40 else 0x0F)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        pair = (name, value)
        if first & 0x40:
            self._add(pair)
        return pair, at

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if 0 < index < len(_STATIC):
            return _STATIC[index]
        back = index - len(_STATIC) + 1  # 1: the youngest
        if not 0 < back <= len(self._entries):
            raise _Broken
        return self._entries[-back]

    def _add(self, pair: tuple[bytes, bytes]) -> None:
        """Section 4.4: one that is larger than the table empties it."""
        self.changes += 1
        self._entries.append(pair)
        self._size += _ENTRY_OVERHEAD + len(pair[0]) + len(pair[1])
        self._evict()

    def _evict(self) -> None:
        gone = 0
        while self._size > self._most:
            name, value = self._entries[gone]
            self._size -= _ENTRY_OVERHEAD + len(name) + len(value)
            gone += 1
        if gone:
            del self._entries[:gone]


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Section 5.1: the integer that begins in the bits of ``mask``, and where it ends. IndexError where the block ends first."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in range(0, 7 * _MAX_INTEGER_BYTES, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Broken


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """Section 5.2: a string, and where it ends."""
    coded = block[at] & 0x80
    size, at = _integer(block, at, 0x7F)
    text = block[at : at + size]
    if len(text) != size:
        raise _Broken
    return (decode_huffman(text) if coded else text), at + size
