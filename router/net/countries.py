"""The country of an address, from a MaxMind database that the operator supplies.

Promises: the file is read whole and checked before anything is asked of it, so that replacing it never harms a running router; a
look-up never raises, and says None for an address that the database does not know. The reader is an optional extra, imported only
where a database is configured. Refuses to know which countries are blocked.

Source: the MaxMind DB format, 2.0; GeoIP2 and GeoLite2 Country, or any other with `country.iso_code`.
"""

import hashlib
import io
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from authz.networks import Address

MAX_BYTES: Final = 256 * 1024 * 1024
"""Of a database; a City one takes about 60 MiB."""
_REMEMBERED: Final = 4096  # addresses; a look-up walks a tree of up to 128 levels
_LEVELS: Final = ("country", "registered_country")


class NoReader(Exception):
    """The extra that reads the database is not installed."""


class Countries:
    """One database. Equal to another of the same bytes; as text its type and the beginning of its SHA-256."""

    __slots__ = ("_digest", "_kind", "of")

    def __init__(self, data: bytes) -> None:
        """Raises NoReader, and ValueError for what is no database."""
        try:
            import maxminddb  # an extra: nobody who does not ask for it needs it
        except ImportError as error:
            raise NoReader from error
        try:
            reader = maxminddb.open_database(io.BytesIO(data), maxminddb.MODE_FD)
            self._kind = str(reader.metadata().database_type)
        except (maxminddb.InvalidDatabaseError, ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
            raise ValueError("not a MaxMind database") from error
        wrong = (maxminddb.InvalidDatabaseError, ValueError, TypeError)

        @lru_cache(_REMEMBERED)
        def of(address: Address) -> str | None:
            try:
                return _code(reader.get(address))
            except wrong:  # an IPv6 address in a database of IPv4, or a damaged place
                return None

        self._digest = hashlib.sha256(data).hexdigest()
        self.of: Callable[[Address], str | None] = of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Countries) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __str__(self) -> str:
        return f"{self._kind} (sha256 {self._digest[:16]})"


def _code(record: object) -> str | None:
    """Where the address is; where it is registered, if that is all that is known."""
    for level in _LEVELS:
        place = record.get(level) if isinstance(record, dict) else None
        code = place.get("iso_code") if isinstance(place, dict) else None
        if isinstance(code, str):
            return code
    return None
