"""Manifests in; routes out, or every mistake in them with its line."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.policy import MtlsOptions
from registry.findings import MAX_FINDINGS
from registry.manifest import (
    MAX_ROUTES,
    ManifestRead,
    ManifestRoute,
    join_manifests,
    manifest_table,
    read_manifest,
    read_variables,
)
from registry.options import parse_options
from registry.problems import Problem
from registry.route_limits import Scalar
from registry.route_options_check import OPTIONS

FIXTURES = Path(__file__).parents[2] / "fixtures" / "manifests"
GOOD = sorted((FIXTURES / "good").glob("*.yml"))
BAD = sorted((FIXTURES / "bad").glob("*.yml"))
EXPECTED = re.compile(r"# (expect|warns): (\S+|\(whole file\)) \| (.+?)(?= # expect:| # warns:|$)")


def enforces(host: str) -> bool:
    return host.endswith(".apps.mtls.internal")


def read(text: str | bytes, variables: Mapping[str, object] | None = None, limit: int = 1024) -> ManifestRead:
    data = text.encode() if isinstance(text, str) else text
    return read_manifest(data, "manifest.yml", variables or {}, limit, enforces)


def one_route(options: str) -> ManifestRead:
    """A manifest of one route on an open domain, with these lines as its options."""
    lines = "".join(f"      {line}\n" for line in options.splitlines())
    return read(f"applications:\n- name: a\n  routes:\n  - route: a.example.com\n    options:\n{lines}")


def fixture(file: Path) -> ManifestRead:
    variables, problems = read_variables((FIXTURES / "vars.yml").read_bytes(), "vars.yml")
    assert problems == ()
    return read_manifest(file.read_bytes(), file.name, variables, 1024, enforces)


def expected(file: Path, kind: str) -> list[tuple[int, str, str]]:
    """(line, path, words) of what the file says itself."""
    lines = enumerate(file.read_text().splitlines(), 1)
    return [(number, path, words) for number, line in lines for said, path, words in EXPECTED.findall(line) if said == kind]


def assert_found(wanted: list[tuple[int, str, str]], found: Iterable[Problem]) -> None:
    """Each wanted one was found, on its line, and nothing else."""
    left = list(found)
    for line, path, words in wanted:
        fitting = [
            p for p in left if (p.line, p.path or "(whole file)") == (line, path) and words in f"{p.expected} | {p.remedy}"
        ]
        assert fitting != [], f"nothing on line {line} at {path} says `{words}`, but: {left}"
        left.remove(fitting[0])
    assert left == []


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_a_good_manifest_has_routes_and_the_warnings_that_it_names(file: Path) -> None:
    """K1, K3: what is legal passes; what is unwise is said."""
    found = fixture(file)
    assert found.problems == ()
    assert found.routes != ()
    assert_found(expected(file, "warns"), found.warnings)


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_bad_manifest_has_every_problem_on_its_line_and_no_route(file: Path) -> None:
    """R262, R271, K1, K3: all mistakes at once, each with line, path and the way out."""
    found = fixture(file)
    assert found.routes == ()
    assert_found(expected(file, "expect"), found.problems)


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_what_is_accepted_registers_without_a_warning(file: Path) -> None:
    """What passes here the router reads as it stands."""
    routes = fixture(file).routes
    parsed = [parse_options(dict(route.options)) for route in routes]
    assert [(options.warnings, options.policy.warnings) for options in parsed] == [((), ())] * len(routes)
    assert len(manifest_table(routes)) == len({route.uri.lower() for route in routes})


def test_a_route_is_canonical_and_its_values_keep_their_types() -> None:
    (route,) = read(
        "applications:\n- name: a\n  routes:\n  - route: Ä.Example.com./Cart/\n    protocol: http2\n"
        "    options:\n      loadbalancing: hash\n      hash_header: X\n      hash_balance: 2\n      mtls_allow_any: true\n"
    ).routes
    options: dict[str, Scalar] = {"loadbalancing": "hash", "hash_header": "X", "hash_balance": 2, "mtls_allow_any": True}
    assert route == ManifestRoute("a", "xn--4ca.example.com/Cart", "http2", options, "manifest.yml", 4)
    assert [type(value) for value in route.options.values()] == [str, str, int, bool]


def test_a_variable_gives_its_value_with_its_type() -> None:
    """`--vars-file` and `--var`: whole values, and parts of texts."""
    text = "applications:\n- name: ((n))\n  routes:\n  - route: ((n))-((k)).example.com\n    options: ((o))\n"
    (route,) = read(text, {"n": "shop", "k": 7, "o": {"mtls_allow_any": True}}).routes
    assert (route.app, route.uri, dict(route.options)) == ("shop", "shop-7.example.com", {"mtls_allow_any": True})


def test_a_problem_behind_an_alias_is_shown_where_it_is_written() -> None:
    text = (
        "x: &x\n  options:\n    mtls_allow_any: maybe\n"
        "applications:\n- name: a\n  routes:\n  - {<<: *x, route: a.b}\n  - {<<: *x, route: c.d}\n"
    )
    assert [(problem.line, problem.path) for problem in read(text).problems] == [
        (3, "applications[0].routes[0].options.mtls_allow_any"),
        (3, "applications[0].routes[1].options.mtls_allow_any"),
    ]


@pytest.mark.parametrize("guids", [1, 25, 26])
def test_the_size_limit_is_the_routers(guids: int) -> None:
    """R281: the same bytes are counted, and the words are the Cloud Controller's."""
    text = ",".join(f"{number:08d}-1111-2222-3333-444444444444" for number in range(guids))
    options = {"mtls_allowed_apps": text}
    size = 24 + 37 * guids - 1
    found = one_route(f"mtls_allowed_apps: {text}")
    accepted = not parse_options(options).warnings
    assert accepted == (size <= 1024)
    assert [dict(route.options) for route in found.routes] == [options] * accepted
    words = f"Options must be smaller than 1024 bytes (actual size is {size} bytes)"
    assert [problem.expected for problem in found.problems] == [words] * (not accepted)


@pytest.mark.parametrize(("size", "warned"), [(819, False), (820, True)])
def test_an_allow_list_over_80_percent_of_the_limit_is_warned_of(size: int, warned: bool) -> None:
    found = one_route(f"mtls_allowed_apps: {','.join(f'{n:03d}' for n in range((size - 24) // 4))}")
    assert found.problems == ()
    text = found.routes[0].options["mtls_allowed_apps"]
    assert isinstance(text, str)
    longer = text + "," * (size - 24 - len(text))
    assert [w.expected for w in one_route(f'mtls_allowed_apps: "{longer}"').warnings] == (
        [f"the options take {size} of 1024 bytes, over 80 %"] if warned else []
    )


def test_without_a_domain_to_ask_nobody_is_warned_of_a_missing_policy() -> None:
    text = b"applications:\n- name: a\n  routes:\n  - route: a.apps.mtls.internal\n"
    assert read_manifest(text, "m.yml").warnings == ()
    assert len(read_manifest(text, "m.yml", enforces=enforces).warnings) == 1


def test_a_file_of_mistakes_gives_no_more_problems_than_can_be_read() -> None:
    text = "applications:\n" + "- name: a\n  routes: [1, 2, 3]\n" * 1000
    found = read(text).problems
    assert len(found) == MAX_FINDINGS
    assert sum("there are more" in problem.remedy for problem in found) == 1


def test_variables_multiply_nothing_without_end() -> None:
    """A variable that many applications name is not a way to make a file's routes uncountable."""
    routes = tuple({"route": f"h{number}.example.com"} for number in range(5000))
    text = "applications:\n" + "".join(f"- name: a{n}\n  routes: ((r))\n" for n in range(200))
    found = read(text, {"r": routes})
    assert found.routes == ()
    assert found.problems[0].expected == f"at most {MAX_ROUTES} routes"


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    read(data)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=12),
    st.sampled_from(["hash", "any", "cf:any", "cf:app:x", "a,b", "a.b", "*.x/z", "http2", "((v))", "x((v))", "((w))", "true"]),
)  # fmt: skip
KEYS = st.one_of(st.sampled_from([*OPTIONS, "mtls_allowed_sources", "trim-path", "apps", "any"]), st.text(max_size=8))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8)
ROUTES = st.fixed_dictionaries(
    {}, optional={"route": LEAVES, "protocol": LEAVES, "options": st.dictionaries(KEYS, VALUES, max_size=5)}
)
APPS = st.fixed_dictionaries({}, optional={"name": LEAVES, "no-route": LEAVES, "routes": st.lists(ROUTES | VALUES, max_size=4)})


@given(st.lists(APPS | VALUES, max_size=3), st.dictionaries(st.sampled_from(["v", "w"]), VALUES))
def test_nothing_that_a_manifest_or_its_variables_hold_makes_it_raise(apps: list[object], variables: dict[str, object]) -> None:
    found = read("applications: ((apps))\n", variables | {"apps": apps})
    assert not (found.routes and found.problems)
    for problem in (*found.problems, *found.warnings):
        assert f"{problem.path}{problem.value}{problem.expected}{problem.remedy}".isascii()


GUIDS = st.text("abc-_19 ,", max_size=20)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "loadbalancing": st.sampled_from(["hash", "round-robin", "x"]), "hash_header": st.sampled_from(["X-Y", "x y", ""]),
        "hash_balance": st.sampled_from([0, 1.1, 10, "1.5", "x", "1_0", True, -1, "+2", "1e1"]), "mtls_allowed_apps": GUIDS,
        "mtls_allowed_orgs": GUIDS | st.booleans(), "mtls_allow_any": st.sampled_from([True, False, "true", "false", 1, "yes"]),
        "route_policy_scope": st.sampled_from(["any", "org", "x"]), "trim-path": LEAVES, "mtls_allowed": LEAVES,
        "route_policy_sources": st.sampled_from(["cf:any", "cf:app:a", "cf:app:a,cf:any", "cf:org:a,cf:org:a", "x", 1]),
    },
)  # fmt: skip


@given(LIKELY)
def test_the_options_of_every_accepted_manifest_are_read_without_a_warning(options: dict[str, object]) -> None:
    """Stricter than the router, always: what passes here never surprises there."""
    found = read("applications: [{name: a, routes: [{route: a.b, options: ((o))}]}]", {"o": options})
    for route in found.routes:
        parsed = parse_options(dict(route.options))
        assert (parsed.warnings, parsed.policy.warnings) == ((), ())
        assert dict(route.options) == options


def test_the_table_is_as_if_each_application_had_registered_one_endpoint() -> None:
    text = (
        "applications:\n- name: shop\n  routes:\n  - route: a.b/Path\n    protocol: http2\n    options: {mtls_allowed_apps: x}\n"
        "  - route: c.d\n- name: green\n  routes:\n  - route: c.d\n"
    )
    table = manifest_table(read(text).routes, {"shop": "guid-1", "green": "no guid"})
    first, second = table.lookup("a.b", "/path/more"), table.lookup("c.d", "/")
    assert first is not None
    assert second is not None
    assert [part for part in first.pool.policy.parts if isinstance(part, MtlsOptions)] != []
    assert [(e.app, e.protocol, dict(e.tags)) for e in first.pool.endpoints] == [
        ("guid-1", "http2", {"app_name": "shop", "app_id": "guid-1"})
    ]
    assert [(e.app, e.address, e.tags["app_name"]) for e in second.pool.endpoints] == [
        ("guid-1", "192.0.2.1:8080", "shop"), ("", "192.0.2.2:8080", "green"),
    ]  # fmt: skip


def test_a_table_of_what_no_manifest_says_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a b is no route of a manifest: uris"):
        manifest_table([ManifestRoute("a", "a b", "http1", {}, "m.yml", 1)])


def route(app: str, uri: str, file: str, **options: str) -> ManifestRead:
    return ManifestRead((ManifestRoute(app, uri, "http1", options, file, 4),))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (route("a", "x.y", "2.yml"), "each route once"),
        (route("b", "x.y", "2.yml", mtls_allowed_apps="g"), "one protocol and one set of options for a route"),
        (route("b", "x.y", "2.yml"), None),
        (route("a", "x.y/z", "2.yml"), None),
    ],
)
def test_manifests_that_are_read_together_keep_the_rules_together(second: ManifestRead, expected: str | None) -> None:
    joined = join_manifests([route("a", "x.y", "1.yml"), second])
    assert [problem.expected for problem in joined.problems] == ([expected] if expected else [])
    assert len(joined.routes) == (0 if expected else 2)
    assert all("line 4 of 1.yml" in problem.remedy for problem in joined.problems)
