"""Deployment manifests."""

import pytest

from router.bosh.deployment import find_job
from router.bosh.document import plain
from tests.router.bosh.parts import node

MANIFEST = """
name: cf
instance_groups:
- name: database
  jobs: [{name: mysql, properties: {password: ((of_others))}}]
- name: router
  networks: [{name: default, static_ips: [10.0.1.5, ((second))]}, {name: other}]
  jobs:
  - name: bpm
  - name: vestibule
    properties: {router: {port: ((port))}}
"""


def test_the_job_is_found_with_its_variables_replaced() -> None:
    """Variables of other jobs need no value."""
    job, problems = find_job(node(MANIFEST), {"port": 81, "second": "10.0.1.6"}, "vestibule")
    assert problems == ()
    assert job is not None
    assert (job.deployment, job.group, job.name) == ("cf", "router", "vestibule")
    assert plain(job.properties) == {"router": {"port": 81}}
    assert [address.content for address in job.addresses] == ["10.0.1.5", "10.0.1.6"]


def test_a_job_without_properties_has_none() -> None:
    """Nor does it need addresses."""
    job, problems = find_job(node(MANIFEST), {"second": ""}, "bpm", "router")
    assert job is not None
    assert (plain(job.properties), problems) == ({}, ())


def test_each_missing_variable_is_a_problem() -> None:
    """With its path in the manifest."""
    _, problems = find_job(node(MANIFEST), {}, "vestibule")
    places = [(problem.line, problem.path) for problem in problems]
    assert places == [
        (11, "instance_groups[1].jobs[1].properties.router.port"),
        (7, "instance_groups[1].networks[0].static_ips[1]"),
    ]


@pytest.mark.parametrize(
    ("manifest", "name", "group", "value", "remedy"),
    [
        (MANIFEST, "none", None, "database (mysql); router (bpm, vestibule)", "choose with --job NAME and --instance-group NAME"),
        (MANIFEST, "mysql", "router", "database (mysql); router (bpm, vestibule)", "choose with --job NAME and"),
        ("instance_groups: [{name: a, jobs: [{name: j}]}, {name: b, jobs: [{name: j}]}]", "j", None, "in a, b", "choose with"),
        (
            "instance_groups: [{name: a, jobs: [{name: j}, {name: j}]}]",
            "j",
            "a",
            "in a, a",
            "let the instance group have it once",
        ),
        ("a: 1", "j", None, "a mapping", "name a deployment manifest with -m"),
        ("instance_groups: 1", "j", None, "a number", "name a deployment manifest with -m"),
        ("instance_groups: [1, {jobs: 3}, {name: [], jobs: [1]}]", "j", None, " ();  ();  ()", "choose with"),
    ],
)
def test_what_is_missing_or_ambiguous_says_what_there_is(
    manifest: str, name: str, group: str | None, value: str, remedy: str
) -> None:
    """Whatever the manifest holds."""
    job, (problem,) = find_job(node(manifest), {}, name, group)
    assert (job, problem.path, problem.value) == (None, "instance_groups", value)
    assert problem.remedy.startswith(remedy)
