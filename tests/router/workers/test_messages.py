"""router/workers/messages.py: what a supervisor and its workers say to each other."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.listening import Place
from router.workers.messages import (
    Adopt,
    Alive,
    Answered,
    Apps,
    Ask,
    Begin,
    Discard,
    Down,
    Drain,
    Drained,
    End,
    HealthIs,
    Names,
    Open,
    Prepare,
    Prepared,
    Prune,
    Ready,
    Routes,
    Seek,
    Serving,
    Sockets,
    Tapped,
    Told,
    Up,
    read_down,
    read_up,
    write_down,
    write_up,
)  # fmt: skip
from tests.router.desk import settings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(["Ready", "Prepared", "Serving", "Told", "Answered", "Prune", "Apps", "Tapped", "Drained", "Other"])


@pytest.mark.parametrize(
    "message",
    [
        Begin(3, 1, "\0name"), Sockets((Place("::", 80), Place("127.0.0.1", 81))), Adopt(2), Discard(2), Routes(b"any\0bytes"),
        Names([("guid", "name")]), Seek([]), HealthIs(1), Open(), Ask(7), Drain(1.5), End(),
    ],
)  # fmt: skip
def test_what_goes_down_arrives_as_it_was(message: Down) -> None:
    """Each kind of message."""
    assert message == read_down(write_down(message))


def test_a_configuration_arrives_whole() -> None:
    """Certificates, domains and secrets included."""
    config = settings()
    message = read_down(write_down(Prepare(2, config, True)))
    assert isinstance(message, Prepare)
    assert config == message.config
    assert message.config.tls_pem[0].private_key.get_secret_value() == config.tls_pem[0].private_key.get_secret_value()


@pytest.mark.parametrize(
    "message",
    [
        Ready(), Alive(), Prepared(2, ""), Prepared(2, "why"), Serving(), Told([["name", [], 1]]), Answered(7), Apps(["app"]),
        Prune("a.example/path", "10.0.0.1:80", "id"), Tapped([1, 0, "{}"]), Drained(True),
    ],
)  # fmt: skip
def test_what_goes_up_arrives_as_it_was(message: Up) -> None:
    """Each kind of message."""
    assert message == read_up(write_up(message))


@pytest.mark.parametrize(
    "said",
    [
        b"", b"\xff", b"{}", b"[]", b'["Ready",1]', b'["Prepared","1",""]', b'["Prune","a","b"]', b'["Prune","a","b",1]',
        b'["Drained",1]', b'["Told",{}]', b"[" * 100_000, json.dumps(["Prune", "a" * 5000, "b", "c"]).encode(),
        json.dumps(["Prepared", 1, "a" * 5000]).encode(),
    ],
)  # fmt: skip
def test_what_no_worker_says_is_none(said: bytes) -> None:
    """A worker faces clients: its word is checked."""
    assert read_up(said) is None


@given(st.binary(max_size=64) | st.tuples(WORDS, JSON, JSON).map(lambda said: json.dumps(said).encode()))
def test_nothing_that_comes_up_raises(said: bytes) -> None:
    """Whatever it is."""
    message = read_up(said)
    assert message is None or read_up(write_up(message)) == message
