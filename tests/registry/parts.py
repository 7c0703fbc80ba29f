"""Small makers of registrations for the tests of this folder."""

import json

from registry.endpoint import Endpoint, Tags
from registry.message import RegistryMessage, parse_message


def tags(**pairs: str) -> Tags:
    return Tags(tuple(pairs), tuple(pairs.values()))


def endpoint(number: int = 1, **fields: object) -> Endpoint:
    """Endpoint `10.0.0.<number>:8080`, plain; an `expires` among the fields sets its pulse."""
    expires = fields.pop("expires", None)
    made = Endpoint(**({"host": f"10.0.0.{number}", "port": 8080} | fields))  # type: ignore[arg-type]
    if isinstance(expires, float):
        made.pulse.expires = expires
    return made


def registration(*uris: str, number: int = 1, **fields: object) -> bytes:
    """The bytes of a message for endpoint `10.0.0.<number>:8080`."""
    said: dict[str, object] = {"host": f"10.0.0.{number}", "port": 8080, "uris": list(uris)}
    return json.dumps(said | fields).encode()


def parsed(data: bytes) -> RegistryMessage:
    message = parse_message(data)
    assert isinstance(message, RegistryMessage), message
    return message
