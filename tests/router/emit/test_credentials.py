"""Where NATS is and who we are to it, from options, files and environment."""

import argparse
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest

from registry.connect_nats import NatsSettings
from router.emit.credentials import SECRET_VARIABLES, add_nats, nats_of, read_servers
from tests.support.certs import authority
from tests.support.nkeys import USER, KeyPair, operator_mode


def settings(*words: str, environ: Mapping[str, str] | None = None) -> NatsSettings:
    parser = argparse.ArgumentParser()
    add_nats(parser)
    return nats_of(parser.parse_args(words), environ or {})


def refusal(*words: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ValueError) as refused:
        settings(*words, environ=environ)
    return str(refused.value)


def test_servers_come_in_order_from_commas_and_repetition() -> None:
    """NATS's own port where none is given; IPv6 in brackets."""
    made = settings("--nats", "nats://one:4333, nats://two", "--nats", "nats://[::1]:4444/")
    assert made.servers == (("one", 4333), ("two", 4222), ("::1", 4444))
    assert (made.tls, made.user, made.password, made.token, made.key, made.credentials) == (None, "", "", "", None, None)


@pytest.mark.parametrize(
    "url",
    ["", "one:4222", "http://one", "nats://", "nats://one:x", "nats://one:0", "nats://one:99999", "nats://one/x", "nats://one?x"],
)
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="nats://HOST:PORT or tls://HOST:PORT"):
        read_servers([url])


@pytest.mark.parametrize(
    "url", ["nats://user:s3cret@one", "nats://s3cret@one", "tls://:s3cret@one", "user:s3cret@one:4222", "s3cret@one"]
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    """Every user of the machine sees command lines."""
    said = refusal("--nats", url)
    assert "--nats-password-file" in said
    assert "s3cret" not in said


def test_tls_is_for_all_servers_or_for_none() -> None:
    """Else a credential might go out in clear text."""
    assert "tls:// for all" in refusal("--nats", "tls://one,nats://two")
    assert "for tls:// servers" in refusal("--nats", "nats://one", "--nats-ca", "x")


@pytest.mark.parametrize("by_file", [True, False])
def test_a_password_comes_from_a_file_or_the_environment(tmp_path: Path, by_file: bool) -> None:
    """The line feed that editors add is no part of it."""
    file = tmp_path / "password"
    file.write_text("s3cret \n")
    words = ["--nats", "nats://one", "--nats-user", "app", *(["--nats-password-file", str(file)] if by_file else [])]
    made = settings(*words, environ={"VESTIBULE_NATS_PASSWORD": "other" if by_file else "s3cret "})
    assert (made.user, made.password) == ("app", "s3cret ")
    assert "s3cret" not in repr(made)


def test_token_nkey_and_credentials_are_read(tmp_path: Path) -> None:
    """Each by its own option."""
    user, (_, credentials) = KeyPair(USER), operator_mode()
    for name, text in (("token", "t0ken"), ("nkey", user.seed), ("creds", credentials)):
        (tmp_path / name).write_text(text)
    words = [word for name in ("token", "nkey", "creds") for word in (f"--nats-{name}-file", str(tmp_path / name))]
    made = settings("--nats", "nats://one", *words)
    assert made.token == "t0ken"
    assert made.key is not None
    assert made.key.public == user.public
    assert made.credentials is not None


def test_tls_files_are_read(tmp_path: Path) -> None:
    """Authorities, our certificate and its key."""
    ca = authority("nats")
    chain, key = ca.issue_instance("emitter").files(tmp_path)
    made = settings("--nats", "tls://one", "--nats-ca", str(ca.file), "--nats-cert", str(chain), "--nats-key", str(key))
    assert made.tls is not None
    assert (made.tls.verify_mode, made.tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert made.urls() == ["tls://one:4222"]


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    """Each with what to do."""
    junk, binary, large = tmp_path / "junk", tmp_path / "binary", tmp_path / "large"
    junk.write_text("junk")
    binary.write_bytes(b"\xff")
    large.write_text("x" * 70_000)
    one = ("--nats", "nats://one")
    assert "belong together" in refusal("--nats", "tls://one", "--nats-cert", str(junk))
    assert "no user" in refusal(*one, environ={"VESTIBULE_NATS_PASSWORD": "s3cret"})
    assert "cannot be read: No such file" in refusal(*one, "--nats-token-file", str(tmp_path / "none"))
    for file in (binary, large):
        assert "expected text of at most" in refusal(*one, "--nats-token-file", str(file))
    assert "holds no PEM" in refusal("--nats", "tls://one", "--nats-ca", str(junk))
    said = refusal(*one, environ={"VESTIBULE_NATS_NKEY": "SUs3cret"})
    assert "NKey seed" in said
    assert "SUs3cret" not in said


def test_all_secret_variables_are_known_by_one_prefix() -> None:
    """What a health command must not inherit."""
    assert {name for name in SECRET_VARIABLES if not name.startswith("VESTIBULE_NATS_")} == set()
    assert len(SECRET_VARIABLES) == 4
