"""Register messages: what stands in them, and what is refused before it is sent."""

import json
from collections.abc import Mapping
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.message import MAX_URIS, RegistryMessage, parse_message
from registry.registration import Cost, Instance, cost, encode, messages_of

MESSAGE: Mapping[str, object] = {"host": "10.0.0.1", "port": 8080, "uris": ["a.example"]}


class Route(NamedTuple):
    """What is read of a route."""

    uri: str
    protocol: str = "http1"
    options: Mapping[str, object] = {}


INSTANCE = Instance("10.0.0.1", 8080, id="i-1")


def made(*routes: Route, instance: Instance = INSTANCE) -> list[dict[str, object]]:
    return messages_of(routes, instance, app="guid-1", tags={"component": "test"})


def test_a_message_has_the_fields_of_gorouters() -> None:
    """Contract b.2, by their names."""
    assert made(Route("a.example"), Route("b.example/x")) == [
        {
            "host": "10.0.0.1",
            "port": 8080,
            "uris": ["a.example", "b.example/x"],
            "protocol": "http1",
            "app": "guid-1",
            "private_instance_id": "i-1",
            "private_instance_index": "0",
            "stale_threshold_in_seconds": 120,
            "tags": {"component": "test"},
        }
    ]


def test_routes_with_other_options_or_another_protocol_are_other_messages() -> None:
    """A message has one set of options for all its uris."""
    one, other = {"mtls_allow_any": True}, {"mtls_allowed_apps": "app-a"}
    routes = (
        Route("a", options=one),
        Route("b", options=other),
        Route("c", options=one),
        Route("d"),
        Route("e", "http2"),
    )
    assert [(m["uris"], m["protocol"], m.get("options")) for m in made(*routes)] == [
        (["a", "c"], "http1", one),
        (["b"], "http1", other),
        (["d"], "http1", None),
        (["e"], "http2", None),
    ]


def test_more_uris_than_a_message_may_have_are_several_messages() -> None:
    """A router would drop a longer one."""
    messages = made(*(Route(f"h{number}.example") for number in range(MAX_URIS + 1)))
    assert [len(message["uris"]) for message in messages] == [MAX_URIS, 1]  # type: ignore[arg-type]


def test_tls_has_its_port_and_its_name() -> None:
    """A router dials tls_port and verifies the name."""
    (message,) = made(Route("a"), instance=Instance("10.0.0.1", 80, 8443, "app.internal", index=3))
    assert (message["tls_port"], message["server_cert_domain_san"]) == (8443, "app.internal")
    assert message["private_instance_index"] == "3"


def test_an_instance_without_an_id_has_one_that_stays() -> None:
    """Sticky sessions survive a restart of the emitter; no two instances share it."""
    ids = [made(Route("a"), instance=Instance("10.0.0.1", port))[0]["private_instance_id"] for port in (80, 80, 81)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("instance", "address"),
    [(Instance("a", 80), "a:80"), (Instance("a", 80, 443), "a:443"), (Instance("::1", 80), "[::1]:80")],
)
def test_an_address_is_what_routers_dial(instance: Instance, address: str) -> None:
    assert instance.address == address


def test_what_is_encoded_is_what_a_router_reads() -> None:
    """The same parser judges it here and there."""
    payload = encode({**MESSAGE, "options": {"mtls_allowed_apps": "app-a"}})
    assert b" " not in payload
    assert isinstance(parse_message(payload), RegistryMessage)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"port": 0}, "port: 0"),
        ({"host": "a b"}, "host: 'a b'"),
        ({"uris": []}, "at least one host"),
        ({"uris": ["a.example", "b:80"]}, "uris: 'b:80'"),
        ({"protocol": "h3"}, "protocol: 'h3'"),
        ({"app": "a\nb"}, "app: 'a\\nb'"),
        ({"options": []}, "options.*: list (not_an_object)"),
        ({"options": {"x": {"y": 1}}}, "options.'x': dict (nested)"),
        ({"options": {"mtls_allowed_apps": "a" * 1100}}, "the limit is 1024 bytes"),
        ({"options": {"mtls_allow_any": True, "mtls_allowed_apps": "app-a"}}, "options: "),
        ({"options": {"hash_balance": float("nan")}}, "no JSON"),
        ({"tags": {"a": object()}}, "no JSON"),
    ],
)
def test_what_a_router_would_not_use_is_refused(change: Mapping[str, object], said: str) -> None:
    """Nothing fails silently in a router."""
    with pytest.raises(ValueError) as refused:
        encode({**MESSAGE, **change})
    assert said in str(refused.value)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_value_is_encoded_or_refused(value: object) -> None:
    """Only ValueError comes out, with a bounded text."""
    refusal = ""
    try:
        assert json.loads(encode({**MESSAGE, "options": value, "tags": value}))["port"] == 8080
    except ValueError as refused:
        refusal = str(refused)
    assert len(refusal) < 4000


def test_the_cost_is_bytes_times_routers_by_interval() -> None:
    """What the options cost is told apart."""
    options = {"mtls_allow_any": True}
    bare = len(encode(MESSAGE))
    figures = cost([MESSAGE, {**MESSAGE, "options": options}], instances=2, routers=3, interval=20.0)
    size = len('{"mtls_allow_any":true}')
    assert figures == Cost(2, 2, 3, 20.0, 2 * bare + len(',"options":') + size, size)
    assert figures.options_rate == size * 3 / 20
    assert figures.as_json()["options_bytes_per_second"] == round(size * 3 / 20, 1)
    assert figures.sentence().startswith("2 messages of 2 instances to 3 routers every 20 s: ")
    assert f"options {size * 3 / 20:.1f} bytes/s ({size} of " in figures.sentence()
