"""Durations, bounds, networks, patterns, secrets: each spelling and its value."""

import contextlib
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from registry.source import read_source
from router.config import scalars
from router.config.scalars import LoadContext, is_duration, parse_duration


def value(kind: Any, given_value: object, context: LoadContext | None = None) -> Any:
    return TypeAdapter(kind).validate_python(given_value, strict=True, context=context)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20s", 20.0), ("1m30s", 90.0), ("100ms", 0.1), ("1.5h", 5400.0), ("0", 0.0), ("0s", 0.0), ("250us", 0.00025),
        (5_000_000_000, 5.0), (".5s", 0.5),
    ],
)  # fmt: skip
def test_a_duration_is_gos_text_or_nanoseconds(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "20", "s", "-1s", "1 s", "1d", "1s2", -5, True, None, 1.5, "9" * 30 + "h"])
def test_anything_else_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="a duration such as 20s"):
        parse_duration(text)


@given(st.text())
def test_no_text_makes_the_duration_parser_fail_otherwise(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration(text) >= 0


@pytest.mark.parametrize(
    ("kind", "given_value", "expected"),
    [
        (scalars.Deadline, "unlimited", None),
        (scalars.Deadline, "5s", 5.0),
        (scalars.EndlessAtZero, 0, None),
        (scalars.Bound, "unlimited", None),
        (scalars.Bound, 7, 7),
        (scalars.Bool, "yes", True),
        (scalars.Bool, "off", False),
        (scalars.Network, "10.0.0.0/8", ipaddress.ip_network("10.0.0.0/8")),
        (scalars.Network, "fd00::1", ipaddress.ip_network("fd00::1/128")),
        (scalars.Pattern, "*.Apps.Example.COM", "*.apps.example.com"),
        (scalars.Pattern, "one.example.com.", "one.example.com"),
        (scalars.GuidText, "a-b_C9", "a-b_C9"),
        (scalars.ListenAddress, "127.0.0.1:9100", ("127.0.0.1", 9100)),
        (scalars.ListenAddress, "[::1]:9100", ("::1", 9100)),
        (scalars.ListenAddress, ":9100", ("", 9100)),
        (scalars.ServerName, "Nats.Example", "nats.example"),
        (scalars.FieldName, "X-Tenant", "X-Tenant"),
        (scalars.FieldValue, " a; b ", "a; b"),
        (scalars.Share, 0.5, 0.5),
        (scalars.Workers, "auto", "auto"),
        (scalars.Workers, 0, 0),
        (scalars.Workers, 64, 64),
    ],
)
def test_a_good_value_becomes_plain(kind: Any, given_value: object, expected: object) -> None:
    assert value(kind, given_value) == expected


@pytest.mark.parametrize(
    ("kind", "given_value"),
    [
        (scalars.Bound, 0), (scalars.Bound, True), (scalars.Bound, "many"), (scalars.Network, "10.0.0.1/8"),
        (scalars.Pattern, "a.*.b"), (scalars.Pattern, "*"), (scalars.Pattern, "a*.b"), (scalars.Pattern, "*.*.b"),
        (scalars.Pattern, "a.b:443"), (scalars.Pattern, "10.0.0.1"), (scalars.Pattern, "[::1]"), (scalars.Pattern, 5),
        (scalars.GuidText, "a b"), (scalars.GuidText, ""), (scalars.GuidText, "g" * 65), (scalars.ListenAddress, "x"),
        (scalars.ListenAddress, "x:0"), (scalars.ListenAddress, "x:65536"), (scalars.ServerName, "nats://x"),
        (scalars.FieldName, "a:b"), (scalars.FieldValue, "a\r\nb: c"), (scalars.Share, 1.5), (scalars.Share, True),
        (scalars.Port, 65536), (scalars.Text, True),
        (scalars.Workers, -1), (scalars.Workers, 65), (scalars.Workers, True), (scalars.Workers, "2"), (scalars.Workers, 1.0),
        (scalars.Workers, "Auto"), (scalars.Workers, None),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused(kind: Any, given_value: object) -> None:
    with pytest.raises(ValidationError):
        value(kind, given_value)


def test_a_number_where_text_is_due_is_what_the_file_spells() -> None:
    tree = read_source(b"a: 42").tree
    assert isinstance(tree, dict)
    assert value(scalars.Text, tree["a"]) == "42"


def test_a_secret_comes_from_a_file_the_environment_or_the_text_and_the_file_wins(tmp_path: Path) -> None:
    """K41: both, file wins."""
    (tmp_path / "word").write_text("from-file\n")
    context = LoadContext(tmp_path, {"WORD": "from-env"})
    given_values: list[object] = ["text", {"env": "WORD"}, {"file": "word"}, {"file": "word", "env": "WORD"}]
    found = [value(scalars.Secret, item, context).get_secret_value() for item in given_values]
    assert found == ["text", "from-env", "from-file", "from-file"]


@pytest.mark.parametrize("reference", [{"env": "NONE"}, {"file": "none"}, {"file": "\0"}, {"vault": "x"}, {}])
def test_a_secret_that_cannot_be_had_is_an_error(tmp_path: Path, reference: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        value(scalars.Secret, reference, LoadContext(tmp_path, {}))


def test_a_secret_others_can_read_is_remembered(tmp_path: Path) -> None:
    """K8: warn where group or world can read."""
    secret = tmp_path / "word"
    secret.write_text("x")
    secret.chmod(0o644)
    context = LoadContext(tmp_path, {})
    value(scalars.Secret, {"file": "word"}, context)
    assert context.open_keys == [secret]


def test_a_file_over_one_mebibyte_is_refused(tmp_path: Path) -> None:
    (tmp_path / "word").write_bytes(b"x" * (scalars.MAX_FILE_BYTES + 1))
    with pytest.raises(ValidationError):
        value(scalars.Secret, {"file": "word"}, LoadContext(tmp_path, {}))


def test_a_field_knows_whether_it_is_a_duration() -> None:
    kinds = {"duration": scalars.Duration, "count": scalars.Count}
    found = {name: is_duration(kind.__metadata__) for name, kind in kinds.items()}  # type: ignore[attr-defined]
    assert found == {"duration": True, "count": False}
