"""The small values of the configuration: text, durations, bounds, ports, names, secrets.

Promises: each type takes what the file spells and gives one plain Python value (durations: seconds as float;
`unlimited`: None), or an error that carries what was expected and the remedy. Refuses to know which key uses
which type.

Source: Go's time.ParseDuration for durations; go-yaml v3 for what counts as text or boolean.
"""

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import BeforeValidator, Field, PlainValidator, SecretStr, ValidationInfo
from pydantic_core import PydanticCustomError

from identity.caller import Guid, parse_guid
from registry.hostname import canonical, canonical_pattern
from registry.problems import Problem
from registry.source import spelled

UNLIMITED = "unlimited"
AUTO = "auto"
MAX_WORKERS = 64
MAX_FILE_BYTES = 1024 * 1024
OTHERS = 0o077
"""The mode bits by which others than the owner get at a file."""
_MAX_SECONDS = 10 * 365 * 86400.0
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_DURATION_EXPECTED = "a duration such as 20s, 1m30s or 100ms"
FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", re.ASCII)


@dataclass(slots=True)
class LoadContext:
    """What reading values needs from outside: the folder of the file, the environment, and what was seen on
    the way: files, and the problems inside those that have lines of their own.
    """

    base: Path
    environ: Mapping[str, str]
    files: list[Path] = field(default_factory=list)
    open_keys: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def mistake(expected: str, remedy: str = "") -> PydanticCustomError:
    """The one error our own types raise; the loader turns it into a Problem."""
    return PydanticCustomError("vestibule", "{expected}", {"expected": expected, "remedy": remedy})


def _text(value: object) -> object:
    """A number where text stands is the text as the file spells it, as in GoRouter."""
    if value is None:
        return ""
    return spelled(value)


def boolean(value: object) -> object:
    """`yes`, `on`, `no` and `off` as booleans, as go-yaml reads them where a boolean is due; the rest as
    it is.
    """
    return {"yes": True, "on": True, "no": False, "off": False}.get(value, value) if isinstance(value, str) else value


def parse_duration(value: object) -> float:
    """Seconds of a Go duration, or of a bare integer of nanoseconds. Raises ValueError."""
    text = "" if isinstance(value, bool) else value
    seconds = int(text) * 1e-9 if isinstance(text, int) else _parse_go_duration(str(text))
    if not 0 <= seconds <= _MAX_SECONDS:
        raise ValueError(f"{_DURATION_EXPECTED}, between 0 and ten years")
    return seconds


def _parse_go_duration(text: str) -> float:
    if text == "0":
        return 0.0
    seconds, position = 0.0, 0
    while part := _DURATION_PART.match(text, position):
        seconds += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if position == 0 or position != len(text):
        raise ValueError(_DURATION_EXPECTED)
    return seconds


def _duration(value: object) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise mistake(str(error), "write the number with its unit: ns, us, ms, s, m or h") from None


def _deadline(value: object) -> float | None:
    return None if value == UNLIMITED else _duration(value)


def _endless(value: object) -> float | None:
    return None if value == UNLIMITED else _duration(value) or None


def _bound(value: object) -> int | None:
    if value == UNLIMITED:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise mistake("a positive integer, or `unlimited`", "0 or an absent key means Vestibule's default")
    return int(value)


def _network(value: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(str(value))
    except ValueError:
        raise mistake(("a network such as 10.0.0.0/8, 192.0.2.7 or fd00::/8"), "give the network's first address") from None


def _guid(value: object) -> Guid:
    guid = parse_guid(value) if isinstance(value, str) else None
    if guid is None:
        raise mistake("a GUID: 1 to 64 of A-Z a-z 0-9 _ -", "one GUID an item; names are not resolved here")
    return guid


def _pattern(value: object) -> str:
    host = canonical_pattern(value) if isinstance(value, str) else None
    if host is None or host.startswith("[") or _is_address(host):
        remedy = "a `*` stands only as the whole first label; no port, path or address"
        raise mistake("a host name, or `*.` and a host name", remedy)
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _server_name(value: object) -> str:
    host = canonical(value) if isinstance(value, str) else None
    if host is None:
        raise mistake("a host name or an address", "without scheme, user, port or path")
    return host


def _field_name(value: object) -> str:
    if not isinstance(value, str) or not FIELD_NAME.fullmatch(value):
        raise mistake("an HTTP field name", "letters, digits and - only, without the colon")
    return value


def _cookie_name(value: object) -> str:
    if not isinstance(value, str) or not FIELD_NAME.fullmatch(value) or value.startswith("__VCAP_ID_"):
        raise mistake("the name of an app's session cookie", "letters, digits and punctuation but no blank, `=` or `;`")
    return value


def _field_value(value: object) -> str:
    text = _text(value)
    if not isinstance(text, str) or any(ord(c) < 32 or ord(c) > 126 for c in text) or len(text) > 8192:
        raise mistake(("an HTTP field value in printable ASCII"), "remove line ends and other control characters")
    return text.strip()


def is_duration(metadata: Iterable[object]) -> bool:
    """Whether a field's metadata is that of a duration."""
    return any(getattr(item, "func", None) in (_duration, _deadline, _endless) for item in metadata)


class Address(NamedTuple):
    """A place to listen on."""

    host: str
    port: int


def _address(value: object) -> Address:
    host, colon, port = str(value).rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise mistake(("host:port, such as 127.0.0.1:9100"), "the port is 1 to 65535; without a host: every address")
    return Address(host.strip("[]"), int(port))


def resolve_reference(value: object, info: ValidationInfo) -> object:
    """`{file: PATH}` or `{env: NAME}` as the text it stands for (the file wins where both are given); the
    rest as it is.
    """
    if not isinstance(value, dict):
        return _text(value)
    context = context_of(info)
    if not value or not value.keys() <= {"file", "env"}:
        raise mistake("a text, {file: PATH} or {env: NAME}", "remove the other keys")
    if "file" in value:
        return read_file(str(value["file"]), context, secret=True).rstrip("\r\n")
    name = str(value["env"])
    if name not in context.environ:
        raise mistake("a variable that is set", ("set the variable that `env` names in the router's environment"))
    return context.environ[name]


def context_of(info: ValidationInfo) -> LoadContext:
    """The context of this loading; without one, the current folder and no environment."""
    return info.context if isinstance(info.context, LoadContext) else LoadContext(Path(), {})


def read_file(name: str, context: LoadContext, *, secret: bool, limit: int = MAX_FILE_BYTES) -> str:
    """The text of a file named relative to the configuration file; at most `limit` bytes. Raises a `mistake`."""
    try:
        path = context.base / name
        with path.open("rb") as file:
            data = file.read(limit + 1)
            mode = os.fstat(file.fileno()).st_mode
        text = data.decode("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a readable text"
        remedy = f"{reason}; a relative path starts at the folder of the configuration file"
        raise mistake("a file that can be read, or the text itself", remedy) from None
    if len(data) > limit:
        raise mistake(f"a file of at most {limit >> 20} MiB", "name the right file")
    context.files.append(path)
    if secret and mode & OTHERS:
        context.open_keys.append(path)
    return text


def _workers(value: object) -> int | Literal["auto"]:
    if value == AUTO:
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_WORKERS:
        raise mistake(f"a number from 0 to {MAX_WORKERS}, or `auto`", "0: one process does all; auto: a worker for each core")
    return int(value)


def _unit_interval(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise mistake("a number from 0 to 1", "1 keeps every line, 0.1 one in ten")
    return float(value)


Text: TypeAlias = Annotated[str, BeforeValidator(_text)]
Bool: TypeAlias = Annotated[bool, BeforeValidator(boolean)]
Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]
Count: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
Duration: TypeAlias = Annotated[float, PlainValidator(_duration)]
Deadline: TypeAlias = Annotated[float | None, PlainValidator(_deadline)]
EndlessAtZero: TypeAlias = Annotated[float | None, PlainValidator(_endless)]
Bound: TypeAlias = Annotated[int | None, PlainValidator(_bound)]
Network: TypeAlias = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, PlainValidator(_network)]
GuidText: TypeAlias = Annotated[Guid, PlainValidator(_guid)]
Pattern: TypeAlias = Annotated[str, PlainValidator(_pattern)]
FieldName: TypeAlias = Annotated[str, PlainValidator(_field_name)]
CookieName: TypeAlias = Annotated[str, PlainValidator(_cookie_name)]
FieldValue: TypeAlias = Annotated[str, PlainValidator(_field_value)]
ServerName: TypeAlias = Annotated[str, PlainValidator(_server_name)]
ListenAddress: TypeAlias = Annotated[Address, PlainValidator(_address)]
Secret: TypeAlias = Annotated[SecretStr, BeforeValidator(resolve_reference)]
Workers: TypeAlias = Annotated[int | Literal["auto"], PlainValidator(_workers)]
Share: TypeAlias = Annotated[float, PlainValidator(_unit_interval)]


def _buckets(value: object) -> tuple[float, ...]:
    items = value if isinstance(value, list | tuple) else ()
    numbers = tuple(float(item) for item in items if isinstance(item, int | float) and not isinstance(item, bool))
    if not 0 < len(numbers) == len(items) <= MAX_BUCKETS or not all(0 < number < float("inf") for number in numbers):
        raise mistake(f"1 to {MAX_BUCKETS} positive numbers", "the upper bounds of a histogram's buckets")
    return tuple(sorted(set(numbers)))


MAX_BUCKETS = 50
Buckets: TypeAlias = Annotated[tuple[float, ...], PlainValidator(_buckets)]
