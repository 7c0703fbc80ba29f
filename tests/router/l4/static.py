"""A static L7 route, of which L4 needs to know its name and port only."""

from router.config.compile_l4 import StaticRoute
from router.config.listeners import Backend


def static_route(port: int, host: str) -> StaticRoute:
    return StaticRoute(host, port, (Backend("10.0.0.9", 80),), "", "", False, "", False, "", ())
