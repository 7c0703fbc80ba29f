"""registry/names.py: names beside GUIDs, bounded and printable, and never a reason to decide."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.binding import BOUND_DOMAIN
from authz.decide import decide
from authz.deny import DenyLists, denied_request
from identity.caller import Caller, Guid
from registry import names
from registry.balance import choose
from registry.endpoint import Endpoint, Pool, Tags
from registry.names import MAX_NAME, NO_NAMES, HeardNames, Names, is_name, read_names
from tests.authz.parts import domain, pool
from tests.registry.parts import endpoint, tags

GOOD = b"""apps:
  app-1: checkout
  app-2: "42"
  app-3: 0123
spaces: {space-1: production}
orgs: {org-1: "Shop & S\xc3\xb6hne"}
"""


def told(text: bytes) -> list[tuple[int, str, str]]:
    """Line, path and expectation of each problem."""
    found, problems = read_names(text, "names.yml")
    assert (not problems) or found is NO_NAMES
    assert {problem.file for problem in problems} <= {"names.yml"}
    return [(problem.line, problem.path, problem.expected) for problem in problems]


def test_a_file_gives_names_of_apps_spaces_and_orgs() -> None:
    """A number is the text that the file spells."""
    found, problems = read_names(GOOD, "names.yml")
    assert problems == ()
    assert [found.get(guid) for guid in ("app-1", "app-2", "app-3", "space-1", "org-1", "app-9", None)] == [
        "checkout", "42", "0123", "production", "Shop & Söhne", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", [(1, "", "a mapping with apps, spaces or orgs")]),
        (b"- a\n", [(1, "", "a mapping with apps, spaces or orgs")]),
        (b"apps: [a]\n", [(1, "apps", "a mapping of GUIDs to names")]),
        (b"apps:\n", [(1, "apps", "a mapping of GUIDs to names")]),
        (b"apps: {a: x}\nteams: {b: y}\n", [(2, "teams", "apps, spaces or orgs")]),
        (b"apps:\n  a b: x\n", [(2, "apps.a b", "a GUID: 1 to 64 of A-Z a-z 0-9 _ -")]),
        (b"apps:\n  a: x\norgs:\n  a: y\n", [(4, "orgs.a", "each GUID once")]),
        (b"apps:\n  a: x\n  a: y\n", [(3, "apps.a", "each key once")]),
        (b"apps:\n  a:\n", [(2, "apps.a", "1 to 255 printable characters")]),
        (b"apps:\n  a: [x]\n", [(2, "apps.a", "1 to 255 printable characters")]),
        (b"apps:\n  a: true\n", [(2, "apps.a", "1 to 255 printable characters")]),
        (b'apps:\n  a: ""\n', [(2, "apps.a", "1 to 255 printable characters")]),
        (b'apps:\n  a: "x\\ny"\n', [(2, "apps.a", "1 to 255 printable characters")]),
        (b'apps:\n  a: "\\u202ex"\n', [(2, "apps.a", "1 to 255 printable characters")]),
        (b"apps:\n  a: " + b"x" * 256 + b"\n", [(2, "apps.a", "1 to 255 printable characters")]),
        (
            b"apps:\n  a b: x\n  c:\nteams: {}\n",
            [
                (2, "apps.a b", "a GUID: 1 to 64 of A-Z a-z 0-9 _ -"),
                (3, "apps.c", "1 to 255 printable characters"),
                (4, "teams", "apps, spaces or orgs"),
            ],
        ),
    ],
)
def test_every_problem_of_a_file_has_its_line(text: bytes, expected: list[tuple[int, str, str]]) -> None:
    """Issue, bad input: all problems at once, and no names at all."""
    assert told(text) == expected


def test_the_number_of_problems_and_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A huge or hostile file costs no more than a large one."""
    assert len(told(b"apps:\n" + b"".join(b"  a%d:\n" % number for number in range(1000)))) == 200
    monkeypatch.setattr(names, "MAX_NAMES", 3)
    four = b"apps: {a: x, b: x, c: x, d: x}"
    assert told(four) == [(1, "", "at most 3")]
    assert told(b"apps: {a: x, b: x, c: x}") == []


@given(st.binary(max_size=300))
def test_no_file_raises(data: bytes) -> None:
    """Names or problems, never an exception."""
    found, problems = read_names(data, "names.yml")
    assert (found is NO_NAMES) == bool(problems) or not problems


@pytest.mark.parametrize(
    ("guid", "expected"),
    [("g", "checkout (g)"), ("other", "other"), (None, "-"), ("", "-"), ("x\ny", "x\\ny"), ("liar", "shop (g) (liar)")],
)
def test_a_label_ends_with_the_guid(guid: str | None, expected: str) -> None:
    """So that a name which looks like another label still stands before the true GUID."""
    assert Names({"g": "checkout", "liar": "shop (g)"}).label(guid) == expected


@given(st.text(max_size=400), st.text(max_size=400))
def test_a_label_is_printable_ascii_and_bounded(guid: str, name: str) -> None:
    """Whatever stands in a mapping."""
    label = Names({guid: name}).label(guid)
    assert label.isascii()
    assert label.isprintable()
    assert len(label) <= MAX_NAME + 64 + 10


@given(st.text(max_size=300))
def test_a_name_that_is_taken_is_printable(name: str) -> None:
    """From a tag as from a file."""
    heard = HeardNames()
    heard.hear(endpoint(app="a", tags=tags(app_name=name)))
    assert heard.get("a") == (name if is_name(name) else None)
    assert is_name(name) == (1 <= len(name) <= MAX_NAME and name.isprintable())


def test_registrations_name_their_app_their_space_and_their_org() -> None:
    """The platform's tags; the app's GUID is the message's own, else its tag."""
    said = tags(
        app_id="app-9", app_name="checkout", space_id="s", space_name="prod", organization_id="o", organization_name="shop"
    )
    found = NO_NAMES.with_tags([endpoint(app="app-1", tags=said), endpoint(tags=tags(app_id="app-2", app_name="cart"))])
    assert [found.get(guid) for guid in ("app-1", "app-2", "app-9", "s", "o")] == ["checkout", "cart", None, "prod", "shop"]
    assert NO_NAMES.get("app-1") is None


@pytest.mark.parametrize(
    "said",
    [
        tags(),
        tags(app_name=""),
        tags(app_name="a\x1b[31m"),
        tags(app_name="x" * 256),
        tags(space_name="without an id"),
        tags(space_id="not a guid", space_name="x"),
        tags(organization_id="g" * 65, organization_name="x"),
    ],
)
def test_tags_that_name_nobody_are_passed_over(said: Tags) -> None:
    """Neither without an id nor unprintable nor too long."""
    heard = HeardNames()
    heard.hear(endpoint(app="app-1", tags=said))
    assert len(heard) == 0


def test_the_file_wins_and_the_last_registration() -> None:
    """An operator's word stands; an app that was renamed has its new name."""
    old, new = (endpoint(app="a", tags=tags(app_name=name)) for name in ("old", "new"))
    assert NO_NAMES.with_tags([old, new]).get("a") == "new"
    assert Names({"a": "ours"}).with_tags([old, new]).get("a") == "ours"


def test_what_is_heard_later_is_seen_and_the_oldest_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A running router goes on hearing, in bounded memory."""
    monkeypatch.setattr(names, "MAX_NAMES", 3)
    heard = HeardNames()
    found = NO_NAMES.with_heard(heard)
    for number in (1, 2, 3, 1, 4):
        heard.hear(endpoint(app=f"app-{number}", tags=tags(app_name=f"name-{number}")))
    assert [found.get(f"app-{number}") for number in (1, 2, 3, 4)] == ["name-1", None, "name-3", "name-4"]
    assert len(heard) == 3


def _named(name: str) -> list[Endpoint]:
    """The endpoints of two apps, whose registrations call all and everything by one name."""
    called = {"app_name": name, "space_name": name, "organization_name": name}
    return [
        endpoint(number, app=f"app-{number}", tags=tags(space_id=f"s{number}", organization_id=f"o{number}", **called))
        for number in (1, 2)
    ]


@given(st.sampled_from(["app-1", "o1", "evil", "checkout"]), st.sampled_from(["app-1", "evil"]))
def test_no_decision_asks_for_a_name(first: str, second: str) -> None:
    """Issue, part 7: with all names swapped, even for listed GUIDs, decision, denial and choice are the same."""
    lists = DenyLists(apps=frozenset({Guid("evil")}), orgs=frozenset({Guid("checkout")}))
    policy = pool({"mtls_allowed_apps": "app-1"})
    found = []
    for name in (first, second):
        endpoints = tuple(_named(name))
        _shown = NO_NAMES.with_tags(endpoints)
        answers: list[object] = []
        for caller in (Caller(Guid("app-1"), Guid("s1"), Guid("o1")), Caller(Guid("app-2"))):
            denied = denied_request(lists, "a.example", domain(), caller)
            answers.append(decide(BOUND_DOMAIN, domain(), caller, policy, denied=denied))
            chosen = choose(Pool(endpoints, policy), frozenset({"org"}), caller, 0.0)
            answers.append(chosen.address if isinstance(chosen, Endpoint) else chosen)
        found.append(answers)
    assert found[0] == found[1]


def test_what_is_heard_anew_is_gathered_for_whoever_passes_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last word on each GUID once, nothing that was said before, and never more than MAX_NAMES."""
    heard = HeardNames()
    heard.put("a", "x")
    assert heard.news is None
    heard.news = {}
    for guid, name in (("a", "x"), ("b", "y"), ("c", "z"), ("b", "z")):
        heard.put(guid, name)
    assert (heard.news, heard.items()) == ({"c": "z", "b": "z"}, [("a", "x"), ("c", "z"), ("b", "z")])
    monkeypatch.setattr(names, "MAX_NAMES", 3)
    for guid in "defg":
        heard.put(guid, "x")
    assert [*heard.news] == ["e", "f", "g"]
