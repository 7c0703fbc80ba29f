"""The chunked coding: a decoder that is fed bytes in any pieces, and the two functions that write it.

Promises: payload leaves as it arrives, nothing is collected but one unfinished size line or trailer section,
both bounded; chunk extensions are checked and dropped; the same bytes in other pieces give the same payload,
trailers and rest.
Refuses to know: sockets, limits' values, what a trailer means. What it decoded is encoded anew: no byte of a
peer's framing is ever passed on.
Source: RFC 9112 section 7.1.

Stricter than the RFC, since each of these was a smuggling bug somewhere: no blank around the size, none
before ``;``, at most 16 digits, control bytes in an extension (a bare LF above all) refused, CRLF only.
"""

import re

from router.wire.framing import MAX_LENGTH
from router.wire.headers import Fields, find_fault, may_be_trailer, split_fields
from router.wire.malformed import Malformed

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t -~]*+)?\r\n")
_SIZE_LINE_SO_FAR = re.compile(rb"(?:[0-9A-Fa-f]{1,16}(?:;[\t -~]*+)?\r?)?")

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkedDecoder:
    """Decodes one chunked body. ``max_line`` bounds a size line with its extension, ``max_trailer_bytes``
    the whole trailer section with its empty line, both in bytes; ``max_trailer_fields`` counts all its
    fields, dropped ones too.

    When ``done``: ``trailers`` are the fields that may be trailers (lower-case names), ``rest`` the bytes
    after the body.
    """

    __slots__ = (
        "_buffer", "_excess", "_fault", "_left", "_max_line", "_max_trailer_bytes", "_max_trailer_fields",
        "_state", "rest", "trailers",
    )  # fmt: skip

    def __init__(self, max_line: int, max_trailer_bytes: int, max_trailer_fields: int) -> None:
        self._max_line = max_line
        self._max_trailer_bytes = max_trailer_bytes
        self._max_trailer_fields = max_trailer_fields
        self._state = _SIZE
        self._left = 0  # payload bytes of the current chunk that have not come yet
        self._buffer = b""  # an unfinished size line, chunk end or trailer section
        self._excess = 0  # bytes of extensions beyond the bytes of payload
        self._fault: Malformed | None = None
        self.trailers: Fields = []
        self.rest = b""

    @property
    def done(self) -> bool:
        """Whether the body, its trailers and its last CRLF have come."""
        return self._state == _DONE

    def feed(self, data: bytes) -> list[bytes] | Malformed:
        """The payload in ``data``, in order and in as few pieces as it came. After a Malformed every call
        repeats it; what comes after the end is added to ``rest``. Payload in front of a fault is lost with
        it: the message is void."""
        payload: list[bytes] = []
        at = 0
        while at < len(data) and self._fault is None:
            if self._state == _DATA:
                piece = data[at : at + self._left]  # the same object when it is the whole of data: no copy
                payload.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._state = _DATA_END
            elif self._state == _SIZE:
                at = self._read_size(data, at)
            elif self._state == _DATA_END:
                at = self._read_data_end(data, at)
            elif self._state == _TRAILERS:
                at = self._read_trailers(data, at)
            else:
                self.rest += data[at:]
                break
        return payload if self._fault is None else self._fault

    def _refuse(self, reason: str, status: int = 400) -> int:
        self._fault = Malformed(reason, status)
        return 0

    def _read_size(self, data: bytes, at: int) -> int:
        held = len(self._buffer)
        line = self._buffer + data[at : at + self._max_line - held]
        end = line.find(b"\n", held) + 1
        if end == 0:
            if _SIZE_LINE_SO_FAR.fullmatch(line) is None:
                return self._refuse("bad_chunk_size")
            if len(line) >= self._max_line:
                return self._refuse("chunk_line_too_long")
            self._buffer = line
            return len(data)
        match = _SIZE_LINE.fullmatch(line, 0, end)
        if match is None:
            return self._refuse("bad_chunk_size")
        return self._open_chunk(int(match[1], 16), len(match[2] or b""), at + end - held)

    def _open_chunk(self, size: int, extension: int, at: int) -> int:
        if size > MAX_LENGTH:
            return self._refuse("chunk_too_large")
        # Each line is bounded, yet a one-byte chunk with a long extension, for ever, is a flood that carries
        # nothing.
        self._excess = max(0, self._excess + extension - size)
        if self._excess > self._max_line:
            return self._refuse("chunk_extensions_too_large")
        self._left = size
        self._state = _DATA if size else _TRAILERS
        # The CRLF of the last-chunk line stands for the section's first line: then CRLFCRLF ends it, empty
        # or not.
        self._buffer = b"" if size else b"\r\n"
        return at

    def _read_data_end(self, data: bytes, at: int) -> int:
        held = len(self._buffer)
        end = self._buffer + data[at : at + 2 - held]
        if not b"\r\n".startswith(end):
            return self._refuse("bad_chunk_end")
        complete = len(end) == 2
        self._buffer = b"" if complete else end
        if complete:
            self._state = _SIZE
        return at + len(end) - held

    def _read_trailers(self, data: bytes, at: int) -> int:
        held = len(self._buffer)
        section = self._buffer + data[at : at + self._max_trailer_bytes + 2 - held]
        end = section.find(b"\r\n\r\n", max(0, held - 3))
        fault = find_fault(section if end < 0 else section[: end + 2], held)
        if fault is not None:
            self._fault = fault
            return 0
        if end < 0:
            if len(section) >= self._max_trailer_bytes + 2:
                return self._refuse("trailers_too_large", 431)
            self._buffer = section
            return len(data)
        fields = split_fields(section[2 : end + 2])
        if len(fields) > self._max_trailer_fields:
            return self._refuse("too_many_trailers", 431)
        self.trailers = [pair for pair in fields if may_be_trailer(pair[0])]
        self._buffer = b""
        self._state = _DONE
        return at + end + 4 - held


def encode_chunk(data: bytes) -> bytes:
    """One chunk of payload; nothing for no payload, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def encode_last_chunk(trailers: Fields) -> bytes:
    """The end of a body with its trailer section. ``trailers`` are fields as a parser of this package
    returned them."""
    return b"0\r\n" + b"".join([b"%b: %b\r\n" % pair for pair in trailers]) + b"\r\n"
