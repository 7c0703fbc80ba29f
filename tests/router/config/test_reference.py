"""The written reference says what the model says."""

from pathlib import Path

from router.config.compare import Difference, compare
from router.config.job import job_spec
from router.config.legacy import NO_EFFECT
from router.config.load import load
from router.config.model import Config
from router.config.reference import SHIPPED, main, reference, router_yml

ROOT = Path(__file__).parents[3]


def test_the_reference_is_current() -> None:
    """If this fails: python -m router.config.reference"""
    assert (ROOT / "docs/reference/config.md").read_text(encoding="utf-8") == reference()
    assert (ROOT / "bosh_like_config/router.yml").read_text(encoding="utf-8") == router_yml()
    assert (ROOT / "bosh_like_config/jobs/vestibule/spec").read_text(encoding="utf-8") == job_spec()


def test_router_yml_means_what_an_empty_configuration_means_but_for_what_it_says_is_shipped_otherwise() -> None:
    """Only `workers`: an older file starts one process, a new one a worker for each core."""
    shipped = load(ROOT / "bosh_like_config/router.yml", {}).config
    assert shipped is not None
    assert compare(Config(), shipped) == (Difference("workers", "0", "auto"),)
    assert [*SHIPPED] == ["workers"]


def test_every_key_is_in_the_reference() -> None:
    text = reference()
    assert [key for key in (*Config.model_fields, *NO_EFFECT) if f"`{key}" not in text] == []


def test_it_writes_every_file(tmp_path: Path) -> None:
    assert main(tmp_path) == 0
    assert (tmp_path / "docs/reference/config.md").read_text(encoding="utf-8") == reference()
    assert (tmp_path / "bosh_like_config/jobs/vestibule/spec").read_text(encoding="utf-8") == job_spec()
