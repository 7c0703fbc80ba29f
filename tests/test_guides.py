"""The guides, kept true: configurations load, and keys, metrics, messages and commands that they name are there."""

import re
from pathlib import Path

import pytest

from router.cli.main import COMMANDS
from router.config.legacy import NO_EFFECT
from router.config.load import load
from router.config.model import Config
from router.observe.metrics import Metrics
from tests.support.certs import authority

ROOT = Path(__file__).parents[1]
GUIDES = [
    ROOT / "docs" / f"{name}.md"
    for name in (
        "coming-from-gorouter",
        "developers",
        "grpc-and-websockets",
        "listeners",
        "nats",
        "runbooks",
        "threat-model",
        "when-to-use",
    )
]

YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"[\w-]+\.(?:crt|key|crl)")
COMMAND = re.compile(r"\bvestibule ([a-z]+(?: [a-z-]+)?)")
NAMES = re.compile(r"`([a-z]+(?:[-_][a-z]+)+)(?:\{[^}]*\})?`")
SOUGHT = re.compile(r"grep (?:-\S+ )?'([^']+)'|grep ([a-z-]+)")

ELSEWHERE = {"ca_file", "process_resident_memory_bytes", "grpc-timeout", "grpc-message"}
"""A key of nats-server's; a metric of the library's; fields of gRPC."""

named = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)


def blocks() -> list[tuple[str, str]]:
    """Every configuration in a guide, or part of one."""
    return [(guide.stem, text) for guide in GUIDES for text in YAML.findall(guide.read_text())]


def certificates(text: str, place: Path) -> None:
    """Every file that a configuration names, as it is named."""
    ca = authority("guide")
    pair = ca.issue_server("router.example", "api.example.com", "*.apps.mtls.internal", "*.apps.identity")
    for name in FILE.findall(text):
        if name.endswith(".crl"):
            content = ca.crl()
        elif name.endswith(".key"):
            content = pair.key_pem
        else:
            content = ca.pem if "ca" in name else pair.chain_pem
        (place / name).write_text(content)


@pytest.mark.parametrize(("guide", "text"), blocks())
def test_every_configuration_of_a_guide_loads(guide: str, text: str, tmp_path: Path) -> None:
    """As it stands there: the rest has defaults."""
    certificates(text, tmp_path)
    file = tmp_path / f"{guide}.yml"
    file.write_text(text)
    loaded = load(file, {"ROUTER_PASSWORD": "word"})
    assert loaded.problems == ()


@named
def test_every_command_of_a_guide_is_one(guide: Path) -> None:
    """`vestibule policy test`, or `vestibule check` followed by anything."""
    said = COMMAND.findall(guide.read_text())
    assert [words for words in said if words not in COMMANDS and words.partition(" ")[0] not in COMMANDS] == []


@named
def test_every_name_of_a_guide_is_a_key_a_metric_an_event_or_a_code(guide: Path) -> None:
    """Whoever searches for it, in configuration, metrics, log or source, finds it."""
    source = "\n".join(
        path.read_text() for package in ("identity", "authz", "registry", "router") for path in (ROOT / package).rglob("*.py")
    )
    known = {*Config.model_fields, *NO_EFFECT, *(family.name for family in Metrics().families)}
    text = guide.read_text()
    sought = " ".join(f"`{one}`" for some in SOUGHT.findall(text) for one in re.findall(r"[a-z]+(?:[-_][a-z]+)+", " ".join(some)))
    unknown = {name for name in NAMES.findall(text + sought) if name not in known and name not in source}
    assert unknown - ELSEWHERE == set()


def sections(guide: str) -> dict[str, str]:
    """Heading -> text."""
    parts = (ROOT / "docs" / f"{guide}.md").read_text().split("\n## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


@pytest.mark.parametrize("incident", sections("runbooks"))
def test_every_runbook_has_its_five_parts(incident: str) -> None:
    """In this order, so that nobody searches at night."""
    said = re.findall(r"^\*\*([A-Z][a-z ]+)\.\*\*\s", sections("runbooks")[incident], re.MULTILINE)
    assert said == ["Sign", "First look", "Act", "Verify", "Undo"]


def test_the_threat_model_names_every_asset_and_what_protects_it() -> None:
    """R195: secrets, isolation, bindings, control plane, workloads, logs: each with a test."""
    rows = [line for line in sections("threat-model")["Assets"].splitlines() if line.startswith("| ")][1:]
    wanted = ("secrets", "tenant isolation", "routing bindings", "control-plane state", "integrity of workloads", "logs")
    assert [asset for asset in wanted if not any(row.startswith(f"| {asset}") and "`tests/" in row for row in rows)] == []


def test_the_checklist_asks_every_question() -> None:
    """R243: trust boundary, secrets, ports, tenants, resources, traces, decisions; and each feature answers them all."""
    text = sections("threat-model")["The checklist of a review"]
    wanted = ("trust boundary", "secret", "port", "tenants", "exhausted", "Who did it", "decision")
    assert [word for word in wanted if word not in text] == []
    assert re.findall(r"^\| (\d) \|", text, re.MULTILINE) == [*"12345678"]
    answers = text.partition("\n| feature |")[2].splitlines()[2:]
    assert len(answers) > 8
    assert [row for row in answers if len([cell for cell in row.strip("| ").split(" | ") if cell.strip()]) != 9] == []


def test_both_ways_between_apps_are_compared() -> None:
    """R276, R307: layers, ports, rights, logs and protocols side by side; who may set a policy is said for both."""
    rows = sections("when-to-use")["Side by side"]
    wanted = ("| layer |", "| ports |", "| protocols |", "| who may set it |", "| the log says |")
    assert [row for row in wanted if row not in rows] == []
    assert "`network.write` in **both** spaces" in rows
    assert "orgs: [that org]" in sections("when-to-use")["Who decides"]
