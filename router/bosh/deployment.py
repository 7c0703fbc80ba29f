"""A deployment manifest: which instance group runs the job, with which properties, at which addresses.

Promises: pure; the whole manifest may hold anything, only the named group and job are looked at, so variables of others
need no value; what is missing or ambiguous is a Problem with what there is instead. Refuses to know what a property
means (properties.py).

Source: BOSH's manifest: `instance_groups[].jobs[].properties`, `instance_groups[].networks[].static_ips`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from registry.problems import Problem, Where, printable
from router.bosh.document import Node, kind_of
from router.bosh.variables import interpolate


@dataclass(frozen=True, slots=True)
class Job:
    """A job of an instance group, variables replaced. `addresses`: the group's static addresses, as they are written."""

    deployment: str
    group: str
    name: str
    properties: Node
    addresses: tuple[Node, ...]


def find_job(
    manifest: Node, variables: Mapping[str, object], name: str, group: str | None = None
) -> tuple[Job | None, tuple[Problem, ...]]:
    """The one job of this name, in the instance group of this name or in the only one that has it."""
    groups = manifest.get("instance_groups")
    if groups is None or groups.items is None:
        there, remedy = groups or manifest, "name a deployment manifest with -m"
        return None, (there.problem("instance_groups", kind_of(there), "a list of instance groups", remedy),)
    fitting = [
        (number, node, place, job)
        for number, node in enumerate(groups.items)
        if group is None or _name(node) == group
        for place, job in _jobs(node)
        if _name(job) == name
    ]
    if len(fitting) != 1:
        return None, (_not_one(groups, [_name(node) for _, node, _, _ in fitting], name, group),)
    number, node, place, job = fitting[0]
    at: Where = ("instance_groups", number)
    empty = job.at({})
    given = job.get("properties")
    properties, missing = interpolate(given or empty, variables, (*at, "jobs", place, "properties"))
    networks, more = interpolate(node.get("networks") or node.at(()), variables, (*at, "networks"))
    deployment = manifest.get("name")
    named = str(deployment.content) if deployment is not None else ""
    if properties.content is None:
        properties = empty
    return Job(named, _name(node), name, properties, tuple(_static(networks))), missing + more


def _jobs(group: Node) -> Iterator[tuple[int, Node]]:
    jobs = group.get("jobs")
    yield from enumerate(jobs.items or () if jobs is not None else ())


def _name(node: Node) -> str:
    name = node.get("name")
    return name.content if name is not None and isinstance(name.content, str) else ""


def _not_one(groups: Node, names: list[str], name: str, group: str | None) -> Problem:
    expected = f"one job `{printable(name, 60)}`" + (f" in the instance group `{printable(group, 60)}`" if group else "")
    if names:
        shown = ", ".join(printable(one, 60) for one in names[:12])
        remedy = "choose with --instance-group NAME" if len(set(names)) > 1 else "let the instance group have it once"
        return groups.problem("instance_groups", f"in {shown}", expected, remedy)
    there = [f"{_name(node)} ({', '.join(_name(job) for _, job in _jobs(node))})" for node in (groups.items or ())[:12]]
    remedy = "choose with --job NAME and --instance-group NAME"
    return groups.problem("instance_groups", printable("; ".join(there), 300), expected, remedy)


def _static(networks: Node) -> Iterator[Node]:
    for network in networks.items or ():
        addresses = network.get("static_ips")
        if addresses is not None:
            yield from addresses.items if addresses.items is not None else (addresses,)
