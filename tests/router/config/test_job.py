"""The job's properties and its spec."""

from pathlib import Path

import yaml

from router.config.job import EXAMPLES, SAME_AS, TEMPLATES, WITHOUT_EFFECT, durations, job_spec, name_of, properties

FOLDER = Path(__file__).parents[3] / "bosh_like_config/jobs/vestibule"


def test_a_property_is_named_by_one_rule() -> None:
    """`router.` and the path of its key; `nats` alone stands at the top."""
    names = {one.name for one in properties()}
    assert {"router.port", "router.mtls_domains", "router.status.tls.port", "nats.tls_enabled"} <= names
    assert name_of(("mtls_domains", 0, "domain")) == "router.mtls_domains.0.domain"


def test_every_property_has_a_description_and_an_example() -> None:
    """A new key whose default shows no value needs an entry in EXAMPLES of router/config/job.py."""
    spec = yaml.safe_load(job_spec())["properties"]
    assert [name for name, entry in spec.items() if not entry["description"]] == []
    assert [name for name, entry in spec.items() if entry["example"] in (None, "", [], {})] == []
    assert {one.name for one in properties()} <= spec.keys()


def test_examples_and_other_names_are_of_keys_that_exist() -> None:
    """Nothing outlives its key."""
    places = {one.where for one in properties()}
    assert [where for where in EXAMPLES if where not in places] == []
    assert [name for name, where in SAME_AS.items() if where not in places] == []
    own = {one.name for one in properties()}
    assert [name for name in (*SAME_AS, *WITHOUT_EFFECT) if name in own] == []


def test_durations_are_known() -> None:
    """There a number is seconds, as in GoRouter's job."""
    assert {("drain_wait",), ("endpoint_timeout",), ("read_header_timeout",)} <= durations()
    assert ("port",) not in durations()


def test_the_templates_of_the_spec_exist() -> None:
    """And there are no others; `monit` stands beside the spec, as BOSH wants it."""
    assert {path.name for path in (FOLDER / "templates").iterdir()} == set(TEMPLATES)
    assert yaml.safe_load(job_spec())["templates"] == {name: to for name, to in TEMPLATES.items() if to != "monit"}
