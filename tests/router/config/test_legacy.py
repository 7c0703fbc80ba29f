"""Older shapes and keys without effect: accepted, each with one warning."""

from pathlib import Path
from typing import Any

import pytest

from router.config.legacy import AGREED, NO_EFFECT, ZERO_MEANS_DEFAULT
from router.config.load import load
from router.config.model import Config
from tests.router.config.support import config, errors, loaded, warnings

FIXTURES = Path(__file__).parents[3] / "fixtures" / "gorouter"


@pytest.mark.parametrize("name", ["present.yml", "older.yml"])
def test_a_whole_gorouter_yml_starts_unchanged(name: str) -> None:
    """Contract g.1: warnings only, one a place, each with its line."""
    found = load(FIXTURES / name, {})
    assert found.problems == ()
    assert found.config is not None
    places = [(warning.path, warning.expected) for warning in found.warnings if warning.path]
    assert len(places) == len(set(places))
    assert [w.path for w in found.warnings if w.line == 0 and w.path] == []


def test_the_present_file_has_every_key_of_the_contract() -> None:
    """The fixture is complete: no known top-level key of GoRouter is missing from it."""
    text = (FIXTURES / "present.yml").read_text()
    known = {path.partition(".")[0] for path in NO_EFFECT} - {"max_open_files"}
    assert sorted(key for key in known if f"\n{key}:" not in text) == []


@pytest.mark.parametrize("path", sorted(NO_EFFECT))
def test_a_key_without_effect_is_accepted_with_one_warning(path: str) -> None:
    first, _, second = path.partition(".")
    mapping: dict[str, Any] = {first: {second: "whatever"}} if second else {first: "whatever"}
    assert errors(mapping) == []
    assert warnings(mapping) == [path]


@pytest.mark.parametrize(("path", "value"), AGREED.items())
def test_what_is_so_anyway_may_be_asked_for(path: str, value: bool) -> None:
    """Only the other value deserves a warning."""
    first, _, second = path.partition(".")
    asked, other = ({first: {second: word}} if second else {first: word} for word in (value, not value))
    assert (errors(asked), warnings(asked)) == ([], [])
    assert (errors(other), warnings(other)) == ([], [path])


@pytest.mark.parametrize("key", ZERO_MEANS_DEFAULT)
@pytest.mark.parametrize("zero", [0, "0s"])
def test_zero_is_the_default_with_one_warning(key: str, zero: object) -> None:
    """Decision 13."""
    assert getattr(config({key: zero}), key) == Config.model_fields[key].default
    assert warnings({key: zero}) == [key]


def test_nats_may_be_a_list() -> None:
    hosts = [{"host": "a", "port": 1, "user": "u", "pass": "p"}, {"host": "b", "port": 2, "user": "u", "pass": "p"}]
    nats = config({"nats": hosts}).nats
    assert [(host.hostname, host.port) for host in nats.hosts] == [("a", 1), ("b", 2)]
    assert (nats.user, nats.password.get_secret_value()) == ("u", "p")


def test_a_nats_list_with_two_users_is_refused_without_showing_them() -> None:
    hosts = [{"host": "a", "user": "u", "pass": "hunter2"}, {"host": "b", "user": "v", "pass": "hunter2"}]
    found = loaded({"nats": hosts})
    assert [problem.path for problem in found.problems] == ["nats"]
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("mapping", "key", "value"),
    [
        ({"max_header_bytes": 5000}, "max_request_header_bytes", 5000),
        ({"max_header_bytes": 5000, "max_request_header_bytes": 6000}, "max_request_header_bytes", 6000),
        ({"max_header_bytes": 2_000_000}, "max_request_header_bytes", 1_048_576),
        ({"endpoint_timeout": 0}, "endpoint_timeout", None),
        ({"endpoint_timeout": 5_000_000_000}, "endpoint_timeout", 5.0),
        ({"port": None}, "port", 80),
    ],
)
def test_older_and_newer_names_mean_the_same(mapping: dict[str, Any], key: str, value: object) -> None:
    assert getattr(config(mapping), key) == value


def test_an_error_under_an_older_name_has_its_line() -> None:
    (problem,) = loaded("port: 80\nmax_header_bytes: many\n").problems
    assert (problem.line, problem.path) == (2, "max_request_header_bytes")


@pytest.mark.parametrize("path", ["http_rewrite.responses", "logging.format", "status.tls", "backends"])
def test_a_key_without_a_value_takes_its_default(path: str) -> None:
    first, _, second = path.partition(".")
    assert config({first: {second: None} if second else None}) == config({})


@pytest.mark.parametrize("value", [True, "yes", False])
def test_http2_is_accepted_either_way(value: object) -> None:
    assert warnings({"enable_http2": value}) == []
