"""The `l7_policies` list: what a request must not be, or must bring, for a host or a path; each checked as it is read.

Promises: routes are canonical, a type that is not known and a value that could never fit are errors. Refuses to know what a
policy means for a request (router/l7/policies.py).

Source: requirements 126-128.
"""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, Field, PlainValidator, model_validator

from registry.message import parse_uri
from router.config.domains import STRICT
from router.config.scalars import FIELD_NAME, Text, mistake

MAX_VALUE = 256


def _route(value: object) -> str:
    uri = parse_uri(value) if isinstance(value, str) else None
    if uri is None or uri.host.startswith("["):
        raise mistake("a host or `*.suffix`, with a path or without", "such as shop.example.com/admin; no scheme, port or query")
    return uri.key


RouteText: TypeAlias = Annotated[str, PlainValidator(_route)]
PolicyType: TypeAlias = Literal["user_agent_block", "required_header"]


def check_value(kind: PolicyType, value: str) -> None:
    """The value could fit a request. Raises a `mistake`."""
    if not 0 < len(value) <= MAX_VALUE or not (value.isascii() and value.isprintable()):
        raise mistake(f"a value of 1 to {MAX_VALUE} printable ASCII characters", "write what the requests have in common")
    if kind == "required_header" and not FIELD_NAME.fullmatch(value):
        raise mistake("an HTTP field name as value", "letters, digits and - only, without the colon")


class PolicyTerms(BaseModel):
    """One policy where the route is known: an entry of a static route's `l7_policies`."""

    model_config = STRICT
    type: PolicyType = Field(description="as in `l7_policies` at the top")
    value: Text = Field(description="as in `l7_policies` at the top")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_value(self.type, self.value)
        return self


class L7Policy(BaseModel):
    """One policy of one route."""

    model_config = STRICT
    route: RouteText = Field(
        description="host, or `*.suffix` for every host below it, at any depth; with a path, for it and every path below it"
    )
    type: PolicyType = Field(
        description="`user_agent_block`: requests whose User-Agent contains `value` are refused; "
        "`required_header`: requests without the header `value`"
    )
    value: Text = Field(description="part of a User-Agent, or a header's name; case does not matter")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_value(self.type, self.value)
        return self

    @property
    def place(self) -> tuple[str, str]:
        """(host, path) of the route."""
        host, slash, path = self.route.partition("/")
        return host, slash + path
