"""Where NATS is and who we are to it, from a command's options.

Promises: a secret comes from a file or from an environment variable, never from the command line, where every user of the
machine could read it; no error quotes one; where one server is spoken to by TLS, all are. Raises ValueError with a sentence.
Refuses to know: connections.
"""

import argparse
import ssl
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # heavy; --help must not wait
    from registry.connect_nats import NatsSettings

DEFAULT_PORT: Final = 4222
_MAX_BYTES: Final = 64 * 1024
_FORM: Final = "nats://HOST:PORT or tls://HOST:PORT"

_SECRETS: Final = {
    "password": ("VESTIBULE_NATS_PASSWORD", "the password of --nats-user"),
    "token": ("VESTIBULE_NATS_TOKEN", "a token, instead of user and password"),
    "nkey": ("VESTIBULE_NATS_NKEY", "an NKey seed, instead of user and password"),
    "creds": ("VESTIBULE_NATS_CREDS", "credentials (JWT and seed), instead of user and password"),
}
SECRET_VARIABLES: Final = frozenset(variable for variable, _ in _SECRETS.values())
"""The environment variables that may hold a secret of ours."""


def add_nats(parser: argparse.ArgumentParser) -> None:
    """The options that say where NATS is and who we are."""
    group = parser.add_argument_group("NATS")
    group.add_argument(
        "--nats", action="append", default=[], metavar="URL", help=f"a server, {_FORM}; more by repeating it or after commas"
    )
    group.add_argument("--nats-user", metavar="NAME", default="", help="the user's name")
    for name, (variable, about) in _SECRETS.items():
        group.add_argument(f"--nats-{name}-file", metavar="FILE", help=f"a file with {about}; or set {variable}")
    group.add_argument("--nats-ca", metavar="FILE", help="the authorities of tls:// servers (default: the system's)")
    group.add_argument("--nats-cert", metavar="FILE", help="our certificate for tls:// servers, with its chain")
    group.add_argument("--nats-key", metavar="FILE", help="its private key")


def nats_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> "NatsSettings":
    """What `add_nats`'s options say. Raises ValueError."""
    from registry.connect_nats import NatsSettings
    from registry.nkey import parse_credentials, parse_seed

    servers, secure = read_servers(arguments.nats)
    files = arguments.nats_ca, arguments.nats_cert, arguments.nats_key
    if any(files) and not secure:
        raise ValueError("--nats-ca, --nats-cert and --nats-key are for tls:// servers; write tls:// instead of nats://")
    if bool(arguments.nats_cert) is not bool(arguments.nats_key):
        raise ValueError("--nats-cert and --nats-key belong together; give both")
    said = {name: _secret(name, getattr(arguments, f"nats_{name}_file"), environ) for name in _SECRETS}
    if said["password"] and not arguments.nats_user:
        raise ValueError("there is a password but no user; give --nats-user NAME")
    return NatsSettings(
        servers,
        user=arguments.nats_user,
        password=said["password"],
        token=said["token"],
        key=parse_seed(said["nkey"]) if said["nkey"] else None,
        credentials=parse_credentials(said["creds"]) if said["creds"] else None,
        tls=_tls(*(_read(file) if file else "" for file in files)) if secure else None,
        name="vestibule-emit",
    )


def read_servers(urls: Sequence[str]) -> tuple[tuple[tuple[str, int], ...], bool]:
    """Every server of these URLs, and whether they are spoken to by TLS. Raises ValueError."""
    read = [_server(url.strip()) for text in urls for url in text.split(",")]
    if len({secure for _, _, secure in read}) != 1:
        raise ValueError("some servers are nats:// and some tls://; write tls:// for all, or nobody is safe")
    return tuple((host, port) for host, port, _ in read), read[0][2]


def _server(url: str) -> tuple[str, int, bool]:
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port if parts.port is not None else DEFAULT_PORT
    except ValueError:
        raise ValueError(f"a server is no URL; expected {_FORM}") from None
    if "@" in url:  # also where nothing is before it that makes it a URL: it would be quoted below
        raise ValueError("a URL with a user or password is visible to others; use --nats-user and --nats-password-file")
    if parts.scheme not in ("nats", "tls") or not host or not 0 < port < 65536 or parts.path.strip("/") or parts.query:
        raise ValueError(f"a server is {url[:80]!r}, expected {_FORM}")
    return host, port, parts.scheme == "tls"


def _tls(authorities: str, chain: str, key: str) -> ssl.SSLContext:
    from router.nats import tls_context

    try:
        return tls_context(authorities, chain, key)
    except (ssl.SSLError, ValueError):
        raise ValueError("--nats-ca, --nats-cert or --nats-key holds no PEM, or certificate and key do not fit") from None


def _secret(name: str, file: str | None, environ: Mapping[str, str]) -> str:
    text = _read(file) if file else environ.get(_SECRETS[name][0], "")
    return text.strip("\r\n")


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(_MAX_BYTES + 1)
        if len(data) <= _MAX_BYTES:
            return data.decode()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        pass
    raise ValueError(f"{file}: expected text of at most {_MAX_BYTES} bytes")
