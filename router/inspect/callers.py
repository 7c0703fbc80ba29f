"""The people of an expectation file: who may call, by GUIDs, by a certificate, or with no certificate at all.

    callers:
      frontend: {app: GUID, space: GUID, org: GUID}
      partner: {certificate: partner.pem}
      nobody: {}

Promises: a KnownCaller is whole; whatever is wrong with one is a problem with its line, and nothing here raises. Refuses to
know: where files are (`load` reads them), whether a certificate is trusted (explain.py verifies it), and any decision.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from identity.caller import Caller, Guid, parse_guid
from registry.problems import Problem, Where
from router.inspect.reading import Reading

Load = Callable[[str], bytes]
"""The bytes of a file that an expectation file names. Raises OSError or ValueError."""

MAX_CALLERS: Final = 10_000
_GUIDS: Final = ("app", "space", "org")
_KEYS: Final = (*_GUIDS, "certificate")
_FORM: Final = "{app: GUID, space: GUID, org: GUID}, {certificate: FILE}, or {} for no certificate"


@dataclass(frozen=True, slots=True)
class KnownCaller:
    """Somebody who may call. With neither `identity` nor `certificate` they show no certificate; those of a file are in DER, and
    `intermediates` is what is sent along.
    """

    name: str
    identity: Caller | None = None
    certificate: bytes | None = None
    intermediates: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class CallersRead:
    """The callers of a file by name; none of them when there are problems."""

    callers: Mapping[str, KnownCaller]
    problems: tuple[Problem, ...]


def read_callers(data: bytes, file: str, load: Load) -> CallersRead:
    """The `callers:` of a file of its own, or of an expectation file, whose other keys are not looked at here."""
    reading = Reading(data, file)
    tree = reading.tree
    callers: Mapping[str, KnownCaller] = {}
    if isinstance(tree, dict) and "callers" in tree:
        callers = callers_of(reading, tree["callers"], load)
    elif not reading.problems:
        reading.absent((), "a mapping with the key callers", "docs/policy-testing.md shows the form")
    problems = reading.problems
    return CallersRead({} if problems else callers, problems)


def callers_of(reading: Reading, value: object, load: Load) -> dict[str, KnownCaller]:
    """The section `callers`; who is wrong in it is a problem and left out."""
    found: dict[str, KnownCaller] = {}
    for name, form in reading.named(("callers",), value, f"names and who they are: {_FORM}"):
        where = ("callers", name)
        if len(found) >= MAX_CALLERS:
            reading.absent(where, f"at most {MAX_CALLERS} callers", "split the file")
            break
        if reading.text(where, name, "a name", 200) is None:
            continue
        caller = caller_of(reading, where, name, form, load)
        if caller is not None:
            found[name] = caller
    return found


def caller_of(reading: Reading, where: Where, name: str, value: object, load: Load) -> KnownCaller | None:
    """One caller's mapping."""
    pairs = reading.mapping(where, value, _KEYS)
    if pairs is None:
        return None
    if "certificate" not in pairs:
        return _by_guids(reading, where, name, pairs)
    if len(pairs) > 1:
        reading.absent(where, "either certificate, or app with space and org", "the certificate names them itself")
        return None
    return _by_certificate(reading, (*where, "certificate"), name, pairs["certificate"], load)


def _by_guids(reading: Reading, where: Where, name: str, pairs: Mapping[str, object]) -> KnownCaller | None:
    if not pairs:
        return KnownCaller(name)
    guids: dict[str, Guid] = {}
    for key, value in pairs.items():
        text = reading.text((*where, key), value, "a GUID", 64)
        guid = parse_guid(text) if text is not None else None
        if guid is not None:
            guids[key] = guid
        elif text is not None:
            reading.wrong((*where, key), value, "a GUID: 1 to 64 of [A-Za-z0-9_-]", "`cf app NAME --guid` shows an app's")
    if "app" not in pairs:
        remedy = "add `app:`, or write {} for no certificate"
        reading.absent(where, "app: a certificate without an app names nobody", remedy)
        return None
    if len(guids) < len(pairs):
        return None
    return KnownCaller(name, Caller(guids["app"], guids.get("space"), guids.get("org")))


def _by_certificate(reading: Reading, where: Where, name: str, value: object, load: Load) -> KnownCaller | None:
    path = reading.text(where, value, "the name of a PEM file", 4096)
    if path is None:
        return None
    try:
        leaf, *intermediates = (each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(load(path)))
        return KnownCaller(name, None, leaf, tuple(intermediates))
    except OSError as error:
        reading.wrong(where, value, "a file that can be read", error.strerror or "name the right file")
    except ValueError:
        reading.wrong(where, value, "a PEM certificate, the caller's own first", "the path starts from this file's folder")
    return None
