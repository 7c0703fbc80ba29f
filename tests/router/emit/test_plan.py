"""Which messages come of a manifest and instances, and what does not fit together."""

import pytest

from registry.manifest import ManifestRoute
from registry.registration import Instance
from router.emit.plan import MAX_INSTANCES, Named, Plan, Wishes, plan, read_instances

ALLOW = {"mtls_allowed_apps": "app-a"}


def route(app: str, uri: str, **options: str) -> ManifestRoute:
    return ManifestRoute(app, uri, "http1", options, "manifest.yml", 1)


def planned(
    *texts: str, routes: tuple[ManifestRoute, ...] = (route("orders", "o.example"),), wishes: Wishes | None = None
) -> Plan:
    return plan(routes, read_instances(texts), wishes or Wishes())


TWO = (route("orders", "o.example"), route("stock", "s.example"))


def test_each_instance_gets_a_message_for_each_set_of_options() -> None:
    """Numbered from the first index on."""
    routes = (route("orders", "o.example"), route("orders", "o.example/x", **ALLOW))
    made = planned("10.0.0.1:80,10.0.0.2:80", routes=routes, wishes=Wishes(first_index=4))
    assert [(m["host"], m["uris"], m.get("options"), m["private_instance_index"]) for m in made.messages] == [
        ("10.0.0.1", ["o.example"], None, "4"),
        ("10.0.0.1", ["o.example/x"], ALLOW, "4"),
        ("10.0.0.2", ["o.example"], None, "5"),
        ("10.0.0.2", ["o.example/x"], ALLOW, "5"),
    ]
    assert made.cost(2, 10.0)[:4] == (4, 2, 2, 10.0)


def test_a_guid_stands_for_the_name_which_becomes_a_tag() -> None:
    """The GUID decides; the name is for people."""
    (message,) = planned("a:1", wishes=Wishes(guids={"orders": "g-1"}, tags={"space_id": "s-1"})).messages
    assert message["app"] == "g-1"
    assert message["tags"] == {"component": "vestibule-emit", "app_name": "orders", "space_id": "s-1"}
    (message,) = planned("a:1", wishes=Wishes(ttl=30)).messages
    assert (message["app"], message["stale_threshold_in_seconds"]) == ("orders", 30)


def test_instances_are_of_the_application_that_is_named() -> None:
    """Who has none here is told, not registered."""
    made = planned("stock=a:1,b:2", routes=TWO)
    assert [(one.app, one.instance.address) for one in made.planned] == [("stock", "a:1"), ("stock", "b:2")]
    assert made.notes == ("application 'orders' has no instance here: its routes are not registered",)
    made = planned("orders=a:1", "stock=a:1", routes=TWO)
    assert [(one.app, one.instance.index) for one in made.planned] == [("orders", 0), ("stock", 0)]


@pytest.mark.parametrize(
    ("texts", "wishes", "said"),
    [
        (("a:1",), Wishes(), "the manifest has 2 applications ('orders', 'stock'): say whose"),
        (("shop=a:1",), Wishes(), "--instance 'shop'=...: no application"),
        (("stock=a:1,a:1",), Wishes(), "a:1 is named twice"),
        (("stock=a:1",), Wishes(guids={"shop": "g"}), "--app 'shop'=...: no application"),
        (("stock=a:1",), Wishes(guids={"stock": "g g"}), "expected a GUID"),
        (("stock=a_b..c:1",), Wishes(), "host: 'a_b..c'"),
        (("stock=a:1",), Wishes(tags={"x": "\ud800"}), "tags."),
    ],
)
def test_what_does_not_fit_leaves_nothing_to_send(texts: tuple[str, ...], wishes: Wishes, said: str) -> None:
    """Issue 3: with anything wrong, nothing is sent."""
    made = planned(*texts, routes=TWO, wishes=wishes)
    assert made.planned == ()
    assert any(said in problem for problem in made.problems), made.problems


def test_a_manifest_without_routes_is_said() -> None:
    assert planned("a:1", routes=()).problems == ("the manifest has no route; add applications[].routes",)


def test_all_problems_are_said_at_once() -> None:
    made = planned("shop=a:1", routes=TWO, wishes=Wishes(guids={"shop": ""}))
    assert len(made.problems) == 3


def test_the_limit_of_options_is_the_callers() -> None:
    """As the routers'."""
    routes = (route("orders", "o.example", **ALLOW),)
    assert "the limit is 10 bytes" in planned("a:1", routes=routes, wishes=Wishes(max_options=10)).problems[0]


def test_tls_ports_names_and_ids_are_one_for_all_or_one_for_each() -> None:
    """In the order of all --instance options."""
    texts = ("x=[::1]:80, b:81", "y=z=c:82")
    assert read_instances(texts, tls_ports=[443], sans=["n"]) == (
        Named("x", Instance("::1", 80, 443, "n")),
        Named("x", Instance("b", 81, 443, "n")),
        Named("y=z", Instance("c", 82, 443, "n")),
    )
    each = read_instances(texts, tls_ports=[1, 2, 3], sans=["l", "m", "n"], ids=["i", "j", "k"])
    assert [(one.instance.tls_port, one.instance.san, one.instance.id) for one in each] == [
        (1, "l", "i"),
        (2, "m", "j"),
        (3, "n", "k"),
    ]


@pytest.mark.parametrize("text", ["", "a", "a:", ":1", "a:0", "a:65536", "a:x", "::1:80", "[]:80", "a:1,", "a:\u0661"])
def test_what_is_no_instance_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        read_instances([text])


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="--tls-port: 2 values for 3 instances"):
        read_instances(["a:1,b:2,c:3"], tls_ports=[1, 2])
    with pytest.raises(ValueError, match="give one for each of 2 instances, all different"):
        read_instances(["a:1,b:2"], ids=["i"])
    with pytest.raises(ValueError, match="give --tls-port too"):
        read_instances(["a:1"], sans=["n"])
    with pytest.raises(ValueError, match="at most 1000"):
        read_instances([",".join(["a:1"] * (MAX_INSTANCES + 1))])
