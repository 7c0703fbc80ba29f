"""Sticky sessions (contract f.5): requests of a session stay at one instance, by the cookies `__VCAP_ID__` and its companion."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import MakeRouter
from tests.support.backend import EchoBackend, Exchange
from tests.support.client import Client, Response
from tests.support.nats import NatsServer
from tests.support.register import Registrar, unique_host
from tests.support.router import RouterProcess, wait_until

Make = Callable[..., EchoBackend]
NEGOTIATE = [("Authorization", "Negotiate YII")]
NO_BODY = {"204": "", "302": "Content-Length: 0\r\n", "404": "Content-Length: 0\r\n", "500": "Content-Length: 0\r\n"}
CHALLENGE = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"


def answer(*cookies: str, status: str = "200 OK") -> bytes:
    """A response in which the app sets these cookies."""
    fields = "".join(f"Set-Cookie: {cookie}\r\n" for cookie in cookies)
    return f"HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n".encode()


class App:
    """A host with several instances, and a browser's cookies for it."""

    def __init__(self, router: RouterProcess, registrar: Registrar, *backends: EchoBackend, path: str = "", **more: Any) -> None:
        self.router = router
        self.registrar = registrar
        self.backends = list(backends)
        self.host = unique_host("open.example")
        self.path = path
        self.more = more
        self.jar: dict[str, str] = {}
        self.asked = 0
        self.seen: list[Response] = []
        self.instances = [
            str(self.register(index)["private_instance_id"])  # the id of each backend's registration
            for index in range(len(backends))
        ]

    def register(self, index: int) -> dict[str, Any]:
        uri = self.host + self.path
        return self.registrar.register(uri, backend=self.backends[index], index=index, **self.more)

    def unregister(self, index: int) -> None:
        self.registrar.unregister(self.host + self.path, backend=self.backends[index], index=index, **self.more)

    def ask(
        self, *, port: int | None = None, headers: list[tuple[str, str]] | None = None, client: Client | None = None
    ) -> Response:
        """One request with the jar's cookies, which keeps those of the response, as a browser does; on a new connection, or on
        that of `client`.
        """
        cookies = [("Cookie", "; ".join(f"{name}={value}" for name, value in self.jar.items()))] if self.jar else []
        self.asked += 1
        with contextlib.nullcontext(client) if client is not None else Client(port or self.router.port) as connection:
            response = connection.request(self.host, self.path or "/", headers=[*cookies, *(headers or [])])
        for cookie in response.all("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.jar[name] = value
        return response

    def ask_until_it_sets(self, name: str) -> Response:
        """With an empty jar: every instance has its turn, at one worker."""
        self.jar.clear()
        with Client(self.router.port) as client:
            responses = (self.ask(client=client) for _ in self.backends)
            return next(response for response in responses if name in self.jar)

    def log_in(self, attributes: str = "", index: int = 0) -> Response:
        """A session begun at one instance, whoever's turn it is."""
        for backend in self.backends:
            backend.always(answer("other=x"))
        self.backends[index].always(answer(f"JSESSIONID=s3cret{attributes}"))
        response = self.ask_until_it_sets("JSESSIONID")
        for backend in self.backends:
            backend.always(None)
            backend.clear()
        return response

    def failed_attempts(self) -> int:
        """Of the last request."""
        asked = self.asked
        lines = wait_until(
            lambda: found if len(found := [x for x in self.router.access_log if self.host in x]) >= asked else None, "the record"
        )
        return int(lines[-1].partition("failed_attempts:")[2].split()[0].strip('"'))

    def served(self) -> list[int]:
        """How many requests each backend got."""
        return [len(backend.received) for backend in self.backends]

    def pair(self, index: int, attributes: str = "", meta: str = "") -> list[str]:
        """The two cookies that name an instance."""
        rest = f"; Path={self.path or '/'}; HttpOnly{attributes}"
        return [f"__VCAP_ID__={self.instances[index]}{rest}", f"__VCAP_ID_META__={meta}{rest}"]


def set_by_router(response: Response) -> list[str]:
    return [cookie for cookie in response.all("set-cookie") if cookie.startswith("__VCAP_ID")]


@pytest.fixture
def app(router: RouterProcess, registrar: Registrar, make_backend: Make) -> App:
    return App(router, registrar, *(make_backend(name) for name in ("zero", "one", "two")))


@pytest.fixture(scope="module")
def strict(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router with Negotiate, another name, Secure always, and one request at a time per endpoint."""
    with RouterProcess(
        tmp_path_factory.mktemp("strict"), nats=nats_server, sticky_session_cookie_names=["SID"], secure_cookies=True,
        sticky_sessions_for_auth_negotiate=True, backends={"max_conns": 1},
        logging={"enable_attempts_details": True},
    ) as process:  # fmt: skip
        yield process


@pytest.fixture
def strict_app(
    strict: RouterProcess, nats_server: NatsServer, make_backend: Make, make_registrar: Callable[..., Registrar]
) -> App:
    return App(strict, make_registrar(nats_server, strict), *(make_backend(name) for name in ("zero", "one")))


@pytest.mark.parametrize("index", [0, 2])
def test_a_session_stays_at_the_instance_it_began_with(app: App, index: int) -> None:
    """Contract f.5: the app's cookie gets two companions, and every request with them goes to that instance."""
    assert app.pair(index) == set_by_router(app.log_in(index=index))
    responses = [app.ask() for _ in range(6)]
    assert [(response.status, response.all("set-cookie")) for response in responses] == [(200, [])] * 6
    assert [6 if each == index else 0 for each in range(3)] == app.served()


@pytest.mark.parametrize("gone", ["JSESSIONID", "__VCAP_ID__"])
def test_half_a_session_is_balanced(app: App, gone: str) -> None:
    """Contract f.5: only both cookies pin."""
    app.log_in()
    del app.jar[gone]
    with Client(app.router.port) as client:  # whose worker goes round by itself
        assert [app.ask(client=client).all("set-cookie") for _ in range(6)] == [[]] * 6
    assert app.served() == [2, 2, 2]


def test_the_id_may_be_an_address(app: App) -> None:
    """Contract f.5: a cookie that names an address pins too, and is rewritten to the instance's id."""
    app.log_in()
    app.jar["__VCAP_ID__"] = app.backends[1].address
    assert app.pair(1)[:1] == app.ask().all("set-cookie")
    assert app.ask().all("set-cookie") == []
    assert app.served() == [0, 2, 0]


@pytest.mark.parametrize(
    ("attributes", "expected", "meta"),
    [
        ("; Secure; SameSite=None; Partitioned", "; Secure; SameSite=None; Partitioned", "secure&partitioned&samesite=none"),
        ("; Max-Age=3600; Path=/elsewhere; Domain=example", "", ""),
    ],
)
def test_the_companions_have_the_sessions_attributes(app: App, attributes: str, expected: str, meta: str) -> None:
    """Contract f.5: Secure, SameSite and Partitioned are copied, the path is the route's, a lifetime is not."""
    assert app.pair(0, expected, meta) == set_by_router(app.log_in(attributes))


def test_a_session_that_ends_takes_its_companions_along(app: App) -> None:
    """Contract f.5: an app that deletes its cookie deletes theirs."""
    app.log_in()
    app.backends[0].script(answer("JSESSIONID=; Max-Age=0; Expires=Thu, 01-Jan-1970 00:00:00 GMT"))
    ended = set_by_router(app.ask())
    assert [cookie.partition("; ")[2] for cookie in ended] == [
        "Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; HttpOnly"
    ] * 2


@pytest.mark.parametrize("status", ["204 No Content", "302 Found", "404 Not Found", "500 Internal Server Error"])
def test_any_status_can_begin_a_session(app: App, status: str) -> None:
    """Contract f.5: it is the cookie that counts."""
    app.backends[0].always(
        f"HTTP/1.1 {status}\r\nSet-Cookie: JSESSIONID=s\r\nContent-Type: a/b\r\n{NO_BODY[status[:3]]}\r\n".encode()
    )
    app.jar = {"JSESSIONID": "s", "__VCAP_ID__": app.instances[0]}
    assert app.pair(0) == set_by_router(app.ask())


def test_the_apps_own_cookie_wins(app: App) -> None:
    """Contract f.5: an app that sets `__VCAP_ID__` sends its session where it likes."""
    own = f"__VCAP_ID__={app.instances[2]}; Path=/"
    app.log_in()
    app.backends[0].script(answer("JSESSIONID=new", own))
    assert app.ask().all("set-cookie") == ["JSESSIONID=new", own]
    app.ask()
    assert app.served() == [1, 0, 1]


def test_a_session_of_an_instance_that_is_gone_moves_and_stays(app: App) -> None:
    """Contract f.5: another one serves, and the cookie names it from then on, with the attributes of before."""
    app.log_in("; Secure; SameSite=Strict")
    app.unregister(0)
    (moved,) = app.ask().all("set-cookie")
    new = app.instances.index(app.jar["__VCAP_ID__"])
    assert app.pair(new, "; Secure; SameSite=Strict")[0] == moved
    assert [app.ask().all("set-cookie") for _ in range(4)] == [[]] * 4
    assert [5 if each == new else 0 for each in range(3)] == app.served()


def test_a_session_of_an_instance_that_fails_moves_within_the_request(strict_app: App) -> None:
    """Contract f.2 and f.5: a refused dial is retried elsewhere, and the response says where; while it is marked as failed,
    the old instance is not asked again.
    """
    strict_app.backends[0].stop()
    with Client(strict_app.router.port) as client:  # whose worker learns it for itself
        for failed_attempts in (1, 0):
            strict_app.jar = {"SID": "s", "__VCAP_ID__": strict_app.instances[0]}
            response = strict_app.ask(client=client)
            assert (response.status, response.all("set-cookie")) == (200, strict_app.pair(1, "; Secure")[:1])
            assert failed_attempts == strict_app.failed_attempts()


def test_a_new_session_on_another_instance_has_its_own_attributes(app: App) -> None:
    """Contract f.5: where the app begins anew after the move, the new cookie counts and not the companion."""
    app.log_in("; SameSite=Strict")
    app.unregister(0)
    for backend in app.backends[1:]:
        backend.always(answer("JSESSIONID=new; SameSite=Lax"))
    moved = set_by_router(app.ask())
    assert app.pair(app.instances.index(app.jar["__VCAP_ID__"]), "; SameSite=Lax", "samesite=lax") == moved


def test_an_instance_that_is_denied_is_as_gone(
    make_router: MakeRouter, nats_server: NatsServer, make_backend: Make, make_registrar: Callable[..., Registrar]
) -> None:
    """Contract f.5: no cookie leads to an app that the operator has put on a deny list."""
    router = make_router()
    app = App(router, make_registrar(nats_server, router), make_backend("zero"), make_backend("one"), tags={"space_id": "s-0"})
    app.more = {"tags": {"space_id": "s-1"}}
    app.register(1)
    app.log_in()
    router.reload(deny={"spaces": ["s-0"]})
    assert app.pair(1)[:1] == app.ask().all("set-cookie")
    assert app.served() == [0, 1]


def test_routes_of_one_host_have_cookies_of_their_own(router: RouterProcess, registrar: Registrar, make_backend: Make) -> None:
    """Contract f.5: the cookie's path is the route's, in the case of its registration."""
    app = App(router, registrar, make_backend("zero"), make_backend("one"), path="/Shop/v1")
    assert app.pair(0) == set_by_router(app.log_in())
    assert {cookie.split("; ")[1] for cookie in app.pair(0)} == {"Path=/Shop/v1"}
    assert [app.ask().status for _ in range(4)] == [200] * 4
    assert app.served() == [4, 0]


def test_an_app_without_instance_ids_is_not_pinned(router: RouterProcess, registrar: Registrar, make_backend: Make) -> None:
    """Contract f.5: `private_instance_id` is needed."""
    app = App(router, registrar, make_backend("zero"))
    app.registrar.unregister(app.host, backend=app.backends[0])
    app.registrar.register(app.host, backend=app.backends[0], private_instance_id="")
    app.backends[0].script(answer("JSESSIONID=s"))
    assert app.ask().all("set-cookie") == ["JSESSIONID=s"]


def test_every_router_of_a_group_knows_the_cookie(app: App, make_router: MakeRouter) -> None:
    """Contract f.5: the cookie names the instance, so that it means the same to all."""
    app.log_in()
    other = make_router()
    for index in range(3):
        app.register(index)
    wait_until(lambda: len(other.routes().get(app.host, [])) == 3, "the other router to know the app")
    for _ in range(3):
        assert app.ask(port=other.port).all("set-cookie") == []
        assert app.ask().all("set-cookie") == []
    assert app.served() == [6, 0, 0]


def test_no_cookie_is_ever_logged(app: App) -> None:
    """Not its value, not the companion's: neither in the access log nor in the router's own."""
    app.log_in("; SameSite=Strict")
    app.jar["__VCAP_ID__"] = "n0body-here"
    assert app.ask().status == 200
    app.router.wait_for_log(app.host)
    written = "\n".join([*app.router.access_log, *app.router.events])
    assert [word for word in ("s3cret", "n0body-here", "__VCAP_ID", "samesite=strict") if word in written] == []


# ---- the operator's word


def test_names_and_secure_are_the_operators(strict_app: App) -> None:
    """Contract f.5, g.1: `sticky_session_cookie_names` replaces the default, `secure_cookies` holds for every cookie of ours."""
    for backend in strict_app.backends:
        backend.always(answer("JSESSIONID=s"))
    assert [set_by_router(strict_app.ask()) for _ in range(2)] == [[], []]
    for name in ("SID", "__Host-SID"):
        strict_app.backends[0].always(answer(f"{name}=s"))
        response = strict_app.ask_until_it_sets(name)
        assert strict_app.pair(0, "; Secure", "secure") == set_by_router(response)
        strict_app.backends[0].always(None)
        assert [strict_app.ask().all("set-cookie") for _ in range(3)] == [[]] * 3
    strict_app.backends[1].always(None)
    strict_app.unregister(0)
    assert strict_app.pair(1, "; Secure")[:1] == strict_app.ask().all("set-cookie")


def test_a_reload_changes_what_is_sticky(
    make_router: MakeRouter, nats_server: NatsServer, make_backend: Make, make_registrar: Callable[..., Registrar]
) -> None:
    """Contract g.1: the keys are in force at a reload; an empty list is an end of all sessions."""
    router = make_router()
    app = App(router, make_registrar(nats_server, router), make_backend("zero"), make_backend("one"))
    assert app.pair(0) == set_by_router(app.log_in())
    assert router.reload(secure_cookies=True) == {'result="ok"': 1}
    assert app.pair(0, "; Secure", "secure") == set_by_router(app.log_in())
    assert router.reload(sticky_session_cookie_names=[]) == {'result="ok"': 1}
    with Client(router.port) as client:  # whose worker goes round by itself
        assert [app.ask(client=client).status for _ in range(4)] == [200] * 4
    assert app.served() == [2, 2]


def test_a_busy_instance_lets_a_session_go_elsewhere(strict_app: App) -> None:
    """Contract f.5: at its `backends.max_conns` a pinned instance is passed over for once; with negotiate that is a 503."""
    strict_app.jar = {"SID": "s", "__VCAP_ID__": strict_app.instances[0]}

    def meanwhile(exchange: Exchange) -> None:
        strict_app.seen = [strict_app.ask(headers=headers) for headers in (NEGOTIATE, [])]
        exchange.send(answer())

    strict_app.backends[0].script(meanwhile)
    assert strict_app.ask().status == 200
    bound, free = strict_app.seen
    assert (bound.status, bound.get("x-cf-routererror")) == (503, "Connection Limit Reached")
    assert (free.status, free.all("set-cookie")) == (200, strict_app.pair(1, "; Secure")[:1])
    assert strict_app.served() == [1, 1]


def test_an_authentication_by_negotiate_goes_on_where_it_began(strict_app: App) -> None:
    """Contract f.5: the challenge pins for a minute, the answer to it goes to the same instance, without any session."""
    strict_app.backends[1].always(CHALLENGE)
    begun = strict_app.ask_until_it_sets("__VCAP_ID__").all("set-cookie")
    assert begun == [f"__VCAP_ID__={strict_app.instances[1]}; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Strict"]
    strict_app.backends[0].clear()
    strict_app.backends[1].clear()
    assert [strict_app.ask(headers=NEGOTIATE).all("set-cookie") for _ in range(3)] == [[]] * 3
    assert strict_app.served() == [0, 3]


@pytest.mark.parametrize("end", ["gone", "failed"])
def test_an_authentication_by_negotiate_goes_nowhere_else(strict_app: App, end: str) -> None:
    """Contract f.5: its instance gone is a 503, its instance failing is that failure; no other one sees it."""
    strict_app.jar = {"__VCAP_ID__": strict_app.instances[1]}
    if end == "gone":
        strict_app.unregister(1)
    else:
        strict_app.backends[1].stop()
    for _ in range(2):
        response = strict_app.ask(headers=NEGOTIATE)
        expected = (503, "no_endpoints") if end == "gone" else (502, "endpoint_failure (dial failed)")
        assert (response.status, response.get("x-cf-routererror"), response.all("set-cookie")) == (*expected, [])
    assert strict_app.served() == [0, 0]


def test_negotiate_is_off_unless_asked_for(app: App) -> None:
    """Contract f.5: the key's default is false."""
    for backend in app.backends:
        backend.always(CHALLENGE)
    assert app.ask(headers=NEGOTIATE).all("set-cookie") == []
    app.jar = {"__VCAP_ID__": "i-9"}
    assert app.ask(headers=NEGOTIATE).status == 401


@pytest.mark.parametrize("settings", [{}, {"sticky_session_cookie_names": []}], ids=["beside the operator's", "alone"])
def test_a_route_may_name_its_own_session(
    make_router: MakeRouter, nats_server: NatsServer, make_backend: Make, settings: dict[str, Any]
) -> None:
    """`session-cookie`: its requests stay at one instance; another route of the same name of cookie is not sticky."""
    router = make_router(**settings)
    with Registrar(nats_server.port, router) as registrar:
        backends = [make_backend(name) for name in "abc"]
        own = App(router, registrar, *backends, options={"session-cookie": "SHOP_SID"})
        other = App(router, registrar, *backends)
        for app in (own, other):
            for backend in backends:
                backend.clear()
                backend.always(answer("SHOP_SID=1; Path=/"))
            app.ask()
            for backend in backends:
                backend.always(None)
                backend.clear()
            with Client(router.port) as client:  # whose worker goes round by itself
                for _ in range(6):
                    app.ask(client=client)
            counts = sorted(len(backend.received) for backend in backends)
            assert counts == ([0, 0, 6] if app is own else [2, 2, 2])
            assert ("__VCAP_ID__" in app.jar) == (app is own)
