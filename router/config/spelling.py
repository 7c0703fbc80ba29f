"""A field's default as YAML would spell it.

Promises: one line, durations in seconds; no secret, for a default holds none. Refuses to know what the key means.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from router.config.ciphers import CipherSuites
from router.config.load import keys_of
from router.config.scalars import is_duration


def spelled_default(field: FieldInfo) -> str:
    """The default on one line; `absent` for none, `required` where there must be a value, `section` for a section."""
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case None:
            return "absent"
        case SecretStr() | "":
            return "absent"
        case BaseModel():
            return "section"
        case CipherSuites():
            return ":".join((*value.tls13, *value.tls12))
        case tuple() if value and isinstance(value[0], BaseModel):
            items = [{key: getattr(item, name) for name, key in _names(type(item))} for item in value]
            return _flow(items)
        case tuple() if value and isinstance(value[0], IPv4Network | IPv6Network):
            return _flow([str(network) for network in value])
        case float() if is_duration(field.metadata):
            return f"{value:g}s"
        case _:
            return _flow(list(value) if isinstance(value, tuple) else value)


def _names(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    return zip(model.model_fields, (key for key, _ in keys_of(model)), strict=True)


def _flow(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
