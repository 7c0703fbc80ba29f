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
GUIDES = [ROOT / "docs" / f"{name}.md" for name in ("coming-from-gorouter", "when-to-use", "nats")]

YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"[\w-]+\.(?:crt|key|crl)")
COMMAND = re.compile(r"\bvestibule ([a-z]+(?: [a-z-]+)?)")
EVENTS_AND_METRICS = re.compile(r"`([a-z]+(?:[-_][a-z]+)+)(?:\{[^}]*\})?`")

ELSEWHERE = {"ca_file"}
"""Names of other programs' keys: nats-server's."""

named = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)


def blocks() -> list[tuple[str, str]]:
    """Every configuration in a guide, or part of one."""
    return [(guide.stem, text) for guide in GUIDES for text in YAML.findall(guide.read_text())]


def certificates(text: str, place: Path) -> None:
    """Every file that a configuration names, as it is named."""
    ca = authority("guide")
    pair = ca.issue_server("router.example", "*.apps.mtls.internal", "*.apps.identity")
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
    unknown = {name for name in EVENTS_AND_METRICS.findall(guide.read_text()) if name not in known and name not in source}
    assert unknown - ELSEWHERE == set()
