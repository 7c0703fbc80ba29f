"""Checks of one instance: by a command, by HTTP, always bounded."""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.registration import Instance
from router.demo.process import free_port
from router.emit.health import MAX_OUTPUT, Check, Thresholds, Verdict, ask, command_check, http_check
from tests.support.backend import EchoBackend
from tests.support.certs import authority
from tests.support.failing import Babbler, Mute
from tests.support.router import wait_until
from tests.support.waiting import running, until

INSTANCE = Instance("10.0.0.1", 8080)


def result(check: Check, instance: Instance = INSTANCE, timeout: float = 5.0) -> str:
    return asyncio.run(ask(check, instance, timeout))


def script(folder: Path, text: str) -> str:
    """A program whose lines are Python's; its name is its path."""
    file = folder / "check"
    file.write_text(f"#!{sys.executable} -IS\n{text}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("results", "verdicts"),
    [
        ("g", "+"),
        ("b", "."),
        ("bb", ".-"),
        ("gbgb", "+..."),
        ("gbbb", "+.-."),
        ("gbbg", "+.-+"),
        ("bgbb", ".+.-"),
    ],
)
def test_a_verdict_changes_after_enough_results_in_a_row(results: str, verdicts: str) -> None:
    """Two failures, one success; `.`: no change."""
    verdict, seen = Verdict(Thresholds()), ""
    for one in results:
        seen += ("+" if verdict.healthy else "-") if verdict.take(one == "g") else "."
    assert seen == verdicts


@pytest.mark.parametrize(("status", "said"), [(0, ""), (3, "exit status 3: not\\x1b today")])
def test_a_commands_exit_status_decides(tmp_path: Path, status: int, said: str) -> None:
    """What it printed is told, with the status."""
    program = script(tmp_path, f"import sys; print('not\\x1b today'); sys.exit({status})")
    assert result(command_check(program, os.environ)) == said.replace("\\x1b", "\x1b")


def test_a_command_gets_host_and_port_and_no_shell_reads_it(tmp_path: Path) -> None:
    """Words stay words, whatever is in them."""
    program = script(tmp_path, "import sys; print(sys.argv[1:]); sys.exit(1)")
    said = result(command_check(f"{program} '{{host}};id' {{port}} $HOME {{other}}", os.environ), Instance("::1", 80, 8443))
    assert said == "exit status 1: ['::1;id', '8443', '$HOME', '{other}']"


def test_a_command_does_not_inherit_our_secrets(tmp_path: Path) -> None:
    """Only what has nothing to do with NATS."""
    program = script(tmp_path, "import os, sys; sys.exit(f\"{os.environ.get('VESTIBULE_NATS_TOKEN')} {os.environ['KEPT']}\")")
    said = result(command_check(program, {"VESTIBULE_NATS_TOKEN": "t0ken", "KEPT": "kept"}))
    assert said == "exit status 1: None kept"


def test_a_command_that_is_broken_off_is_killed_with_all_it_started(tmp_path: Path) -> None:
    """A check never outlives its time."""
    pids = tmp_path / "pids"
    pids.touch()
    program = script(
        tmp_path,
        "import os, time\n"
        f"os.fork(); file = os.open({str(pids)!r}, os.O_WRONLY | os.O_APPEND)\n"
        "os.write(file, b'%d\\n' % os.getpid()); time.sleep(60)",
    )

    async def scenario() -> None:
        async with running(never_ends(command_check(program, os.environ))):
            await until(lambda: pids.read_text().count("\n") == 2, "both processes")

    asyncio.run(scenario())
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: gone(int(pid)), f"{pid} to end")  # type: ignore[misc]


async def never_ends(check: Check) -> None:
    raise AssertionError(await ask(check, INSTANCE, 60.0))


def test_a_command_has_only_its_time(tmp_path: Path) -> None:
    program = script(tmp_path, "import time; time.sleep(60)")
    assert result(command_check(program, os.environ), timeout=0.1) == "no result after 0.1 s"


def test_a_command_that_talks_without_end_takes_little_memory(tmp_path: Path) -> None:
    """Its output is read, and dropped."""
    program = script(tmp_path, f"import sys; sys.stdout.write('x' * {100 * MAX_OUTPUT}); sys.exit(1)")
    assert re.fullmatch(r"exit status 1: x{200}", result(command_check(program, os.environ)))


def test_a_command_that_leaves_its_output_open_to_a_daemon_is_over_in_time(tmp_path: Path) -> None:
    """And its pipe is closed: nothing is left behind in us."""
    program = script(tmp_path, "import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(3)")
    before = len(os.listdir("/proc/self/fd"))
    assert result(command_check(program, os.environ), timeout=0.3) == "no result after 0.3 s"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_program_that_is_not_there_is_named_at_once() -> None:
    """A gate that can never open is a mistake, not a verdict."""
    with pytest.raises(ValueError, match="no program 'no-such-program'"):
        command_check("no-such-program {host}", os.environ)
    with pytest.raises(ValueError, match="no program ''"):
        command_check(" ", os.environ)


def test_a_program_that_has_gone_is_a_failure(tmp_path: Path) -> None:
    """It may come back."""
    program = script(tmp_path, "")
    check = command_check(program, os.environ)
    Path(program).unlink()
    assert "FileNotFoundError" in result(check)


@pytest.mark.parametrize(
    ("status", "said"), [("200 OK", ""), ("204 Fine", ""), ("302 Found", "the answer is 302"), ("503 No", "the answer is 503")]
)
def test_an_answer_of_2xx_is_well(backend: EchoBackend, status: str, said: str) -> None:
    """The port that routers dial is asked, by its own name."""
    backend.script(
        f"HTTP/1.1 {status}\r\n{'' if '204' in status else 'Content-Length: 0'}\r\n\r\n".replace(
            "\r\n\r\n\r\n", "\r\n\r\n"
        ).encode()
    )
    check = http_check("http://{host}:{port}/health?deep=1")
    assert result(check, Instance(backend.host, backend.port)) == said
    assert backend.last.request_line == "GET /health?deep=1 HTTP/1.1"
    assert backend.last.get("host") == backend.address


def test_an_interim_answer_is_not_the_answer(backend: EchoBackend) -> None:
    """RFC 9110 15.2: more may come before the final one."""
    backend.script(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    assert result(http_check("http://{host}:{port}/"), Instance(backend.host, backend.port)) == "the answer is 500"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (b"hello\r\n\r\n", "the answer is no HTTP response"),
        (b"HTTP/1.1 200 OK\r\n", "the connection ended"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000, "the answer is no HTTP response"),
    ],
    ids=["no HTTP", "cut", "endless"],
)
def test_what_is_no_answer_is_a_failure(words: bytes, said: str) -> None:
    """Nothing that a peer says raises."""
    with Babbler(words) as babbler:
        assert said in result(http_check("http://{host}:{port}/"), Instance("127.0.0.1", babbler.port))


def test_nobody_there_and_nobody_who_answers_are_failures() -> None:
    """The first at once, the second when its time is over."""
    check = http_check("http://{host}:{port}/")
    assert "ConnectionRefusedError" in result(check, Instance("127.0.0.1", free_port()))
    with Mute() as mute:
        assert result(check, Instance("127.0.0.1", mute.port), 0.2) == "no result after 0.2 s"


@pytest.mark.parametrize(("san", "said"), [("app.internal", ""), ("other.internal", "SSLCertVerificationError")])
def test_an_https_check_verifies_the_instances_name(make_backend: Callable[..., EchoBackend], san: str, said: str) -> None:
    """As the router will: chain and SAN."""
    ca = authority("instances")
    backend = make_backend(credential=ca.issue_server("app.internal"))
    check = http_check("https://{host}:{port}/", str(ca.file))
    assert result(check, Instance("127.0.0.1", 1, backend.port, san)).startswith(said)
    assert bool(backend.received) is not bool(said)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://h/",
        "http://",
        "http://u:p@h/",
        "http://h:x/",
        "http://h/a b",
        "http://h/\u00e9",
        "http://h:99999/",
        "http://[/",
    ],
)
def test_what_is_no_url_is_said_at_once(url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ValueError, match="is the form of the URL"):
        http_check(url)


def test_an_authority_file_must_hold_one(tmp_path: Path) -> None:
    """Else no check could ever succeed."""
    with pytest.raises(ValueError, match=r"none\.pem"):
        http_check("https://{host}/", str(tmp_path / "none.pem"))


def gone(pid: int) -> bool:
    """It has ended, or only waits for whoever inherited it."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
