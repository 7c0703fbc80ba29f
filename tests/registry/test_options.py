"""Tests of registry/options.py: flat options that can never fail a registration nor open a route."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.policy import WITHOUT_OPTIONS, InvalidOptions, MtlsOptions, NoOptions
from registry.options import NO_OPTIONS, RouteOptions, parse_options

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(
    [
        "loadbalancing",
        "hash_header",
        "hash_balance",
        "mtls_allowed_apps",
        "mtls_allow_any",
        "route_policy_scope",
        "connection-limit",
        "rate-limit-rps",
        "session-cookie",
    ]
)


def reasons(options: RouteOptions) -> list[str]:
    return [warning.reason for warning in options.warnings]


@pytest.mark.parametrize("raw", [None, {}])
def test_no_options_ask_for_nothing(raw: object) -> None:
    """A missing, null or empty map is no policy and no warning."""
    assert parse_options(raw) is NO_OPTIONS
    assert NO_OPTIONS.policy == WITHOUT_OPTIONS


def test_a_list_of_apps_becomes_the_policy() -> None:
    """R254: `mtls_allowed_apps` names the callers."""
    [part] = parse_options({"mtls_allowed_apps": "g1, g2"}).policy.parts
    assert isinstance(part, MtlsOptions)
    assert {"g1", "g2"} == set(part.callers.apps)


@pytest.mark.parametrize("raw", [[], "text", 7, True, 1.5, [{"mtls_allow_any": True}]])
def test_a_value_that_is_no_map_is_invalid_as_a_whole(raw: object) -> None:
    """R261: flat options are one object; anything else is invalid, which is not the same as absent."""
    options = parse_options(raw)
    assert reasons(options) == ["not_an_object"]
    assert (InvalidOptions("invalid"),) == options.policy.parts


@pytest.mark.parametrize(("size", "is_good"), [(1024, True), (1025, False)])
def test_the_limit_is_1024_bytes_of_compact_json(size: int, *, is_good: bool) -> None:
    """R281: exactly 1024 bytes still hold; one more and the map as a whole is invalid."""
    raw = {"mtls_allowed_apps": ""}
    raw["mtls_allowed_apps"] = "a" * (size - len(json.dumps(raw, separators=(",", ":"))))
    assert is_good == (not isinstance(parse_options(raw).policy.parts[0], InvalidOptions))
    assert is_good == ("too_large" not in reasons(parse_options(raw)))


def test_the_size_counts_bytes_not_characters() -> None:
    """R281: an umlaut is two bytes of UTF-8 and is not escaped."""
    raw = {"x": "ü" * 508}  # 8 bytes around 1016
    assert [
        reasons(parse_options(raw)),
        reasons(parse_options({"x": "ü" * 508 + "a"})),
    ] == [[], ["too_large"]]


def test_the_operator_sets_the_limit() -> None:
    """R281: `max_route_options_size` is a parameter, not a constant."""
    raw = {"mtls_allowed_apps": "a" * 2000}
    assert [reasons(parse_options(raw, 1024)), reasons(parse_options(raw, 4096))] == [["too_large"], []]


@pytest.mark.parametrize(
    ("key", "column"),
    [("mtls_allowed_apps", "invalid_mtls"), ("route_policy_scope", "invalid_route_policy"), ("x", "invalid")],
)
def test_an_oversize_map_still_says_which_dialect_it_meant(key: str, column: str) -> None:
    """Decision 8: what an invalid map means depends on the raw keys seen in it."""
    assert [column] == [part.column for part in parse_options({key: "a" * 2000}).policy.parts]


def test_a_nested_value_counts_as_an_empty_list_and_the_others_stand() -> None:
    """Decision 8, R262: nested sources never become `any`; the good pair holds."""
    options = parse_options({"mtls_allowed_apps": {"apps": ["g1"]}, "mtls_allowed_spaces": "s1"})
    [part] = options.policy.parts
    assert isinstance(part, MtlsOptions)
    assert (set(), {"s1"}) == (set(part.callers.apps), set(part.callers.spaces))
    assert "nested" in reasons(options)


def test_a_null_list_admits_nobody() -> None:
    """Decision 8: a dialect whose only pair is bad denies; it is not the same as no options."""
    [part] = parse_options({"mtls_allowed_apps": None}).policy.parts
    assert isinstance(part, MtlsOptions)
    assert part.callers.nobody


def test_options_of_others_ask_nothing_of_callers() -> None:
    """R322: unknown keys are ignored in silence."""
    options = parse_options({"protocol": "http2", "x-of-another": 7})
    assert ((NoOptions(),), ()) == (options.policy.parts, options.warnings)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"loadbalancing": "round-robin"}, ("round-robin", "", 0.0, [])),
        ({"loadbalancing": "least-connection"}, ("least-connection", "", 0.0, [])),
        ({"loadbalancing": ""}, (None, "", 0.0, [])),
        ({"loadbalancing": "fastest"}, (None, "", 0.0, ["bad_value"])),
        ({"loadbalancing": 7}, (None, "", 0.0, ["bad_value"])),
        ({"loadbalancing": ["hash"]}, (None, "", 0.0, ["nested"])),
        ({"loadbalancing": "hash"}, (None, "", 0.0, ["bad_value"])),
        ({"loadbalancing": "hash", "hash_header": "X-T"}, ("hash", "X-T", 0.0, [])),
        ({"loadbalancing": "hash", "hash_header": "X T"}, (None, "", 0.0, ["bad_value"])),
        ({"loadbalancing": "hash", "hash_header": "T", "hash_balance": 1.25}, ("hash", "T", 1.25, [])),
        ({"loadbalancing": "hash", "hash_header": "T", "hash_balance": "1.5"}, ("hash", "T", 1.5, [])),
        (
            {"loadbalancing": "hash", "hash_header": "T", "hash_balance": 1.0},
            ("hash", "T", 0.0, ["bad_value"]),
        ),
        (
            {"loadbalancing": "hash", "hash_header": "T", "hash_balance": 1e999},
            ("hash", "T", 0.0, ["bad_value"]),
        ),
        (
            {"loadbalancing": "hash", "hash_header": "T", "hash_balance": True},
            ("hash", "T", 0.0, ["bad_value"]),
        ),
    ],
)
def test_a_bad_balancing_option_falls_back_alone(
    raw: dict[str, object], expected: tuple[str | None, str, float, list[str]]
) -> None:
    """R321, RFC-0027: one invalid pair is ignored, the others apply, and the value in effect is said."""
    options = parse_options(raw)
    assert expected == (options.algorithm, options.hash_header, options.hash_balance, reasons(options))


def test_limits_and_wishes_are_read_and_a_bad_one_falls_back_alone() -> None:
    """RFC-0027: one warning that names what holds, and no access option suffers from it."""
    options = parse_options({"connection-limit": 7, "rate-limit-rps": "fast", "session-cookie": "SID", "mtls_allow_any": True})
    assert options.wishes.limits is not None
    assert (options.wishes.limits.connections, options.wishes.session_cookie) == (7, "SID")
    assert [(w.reason, w.key, w.value, w.in_effect) for w in options.warnings] == [
        ("bad_value", "rate-limit-rps", "'fast'", "no rate limit")
    ]
    assert isinstance(options.policy.parts[0], MtlsOptions)


def test_of_a_map_that_is_too_large_no_limit_holds() -> None:
    """R281: nothing of it, as documented."""
    assert parse_options({"connection-limit": 7, "x": "a" * 2000}).wishes is NO_OPTIONS.wishes


@given(JSON | st.dictionaries(KEYS, JSON, max_size=6), st.integers(0, 4096))
def test_any_json_value_gives_options(raw: object, limit: int) -> None:
    """Never raises; warnings are few, short and printable ASCII; what is not a map never opens a route."""
    options = parse_options(raw, limit)
    assert len(options.warnings) <= 8
    for warning in options.warnings:
        assert all(len(text) <= 256 and text.isascii() and text.isprintable() for text in warning)
    if raw is not None and not isinstance(raw, dict):
        assert isinstance(options.policy.parts[0], InvalidOptions)


def test_equal_options_are_one_value_and_equal_looking_ones_are_not() -> None:
    """JSON tells 1 from true and from 1.0; so do options."""
    assert parse_options({"rate-limit-rps": 1}) is parse_options({"rate-limit-rps": 1})
    assert parse_options({"trim-path": True}).wishes != parse_options({"trim-path": 1}).wishes
    assert parse_options({"trim-path": "true"}).wishes == parse_options({"trim-path": True}).wishes
