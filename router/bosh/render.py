"""A deployment manifest -> the files of the job, judged before any of them is written.

Promises: all problems of a stage at once, with the names of properties and the place in the operator's own files;
`files` is empty exactly when there are problems; what was judged is, byte for byte, what is to be written. Reads
templates and the files that properties name; writes nothing. Refuses to know the command line.

Source: requirements 265-272: bad combinations are rejected when the deployment is rendered.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.problems import Problem
from registry.source import read_documents
from router.bosh.deployment import Job, find_job
from router.bosh.document import Node, annotate, plain
from router.bosh.ops import Operation, apply_ops, read_ops
from router.bosh.properties import Converted, convert, in_properties
from router.bosh.release import CONFIG, File, render_job
from router.config.compile import why_not
from router.config.load import Loaded, load_bytes


@dataclass(frozen=True, slots=True)
class Text:
    """A file that was read: its name and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Rendered:
    """The outcome: files, or problems; warnings beside either."""

    files: tuple[File, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()


def read_manifest(manifest: Text, ops: Iterable[Text]) -> tuple[Node, tuple[Problem, ...]]:
    """The manifest with every ops-file applied. The node means nothing when there are problems."""
    document, problems = _read(manifest)
    operations: list[Operation] = []
    for text in ops:
        node, flaws = _read(text)
        found, wrong = ((), ()) if flaws else read_ops(node)
        operations += found
        problems += flaws + wrong
    return (document, problems) if problems else apply_ops(document, operations)


def _read(text: Text) -> tuple[Node, tuple[Problem, ...]]:
    source, *more = read_documents(text.data)
    flaws = [Problem(text.name, f.line, "", f.value, f.expected, f.remedy) for one in (source, *more) for f in one.flaws]
    if more and not flaws:
        flaws.append(Problem(text.name, more[0].line_of(()), "", "", "one YAML document", "give each document a file of its own"))
    return annotate(source, text.name), tuple(flaws)


def render(
    manifest: Text, ops: Iterable[Text], variables: Mapping[str, object], name: str, group: str | None, folder: Path,
    environ: Mapping[str, str],
) -> Rendered:  # fmt: skip
    """The files of the job `name`. `folder`: where they will stand; relative paths of properties start at its config/."""
    document, problems = read_manifest(manifest, ops)
    if problems:
        return Rendered((), problems)
    job, problems = find_job(document, variables, name, group)
    if job is None:
        return Rendered((), problems)
    converted = convert(job.properties)
    if problems:  # variables without a value: what they would mean cannot be judged
        return Rendered((), problems + converted.problems, converted.warnings)
    return _judged(job, converted, folder, environ)


def _judged(job: Job, converted: Converted, folder: Path, environ: Mapping[str, str]) -> Rendered:
    files = render_job(plain(converted.config), job.deployment, job.group, job.name, folder)
    text = next(file.content for file in files if file.path == CONFIG)
    target = folder / CONFIG
    loaded = _load(text, target, environ)
    of_the_file = str(target)
    wrong = (in_properties(one, converted) if one.file == of_the_file else one for one in loaded.problems)
    problems = (*converted.problems, *wrong)
    said = (in_properties(one, converted) if one.file == of_the_file else one for one in loaded.warnings)
    warnings = (*converted.warnings, *said, *_without_nats(job, converted))
    return Rendered(() if problems else files, problems, warnings)


def _load(text: str, target: Path, environ: Mapping[str, str]) -> Loaded:
    loaded = load_bytes(text.encode(), target, environ)
    error = why_not(loaded.config) if loaded.config is not None else None
    if error is None:
        return loaded
    return Loaded(None, (Problem(str(target), 0, error.path, "", error.why, "correct the property"),), loaded.warnings)


def _without_nats(job: Job, converted: Converted) -> Iterable[Problem]:
    enabled = converted.config.get("l7", "enabled")
    if enabled is not None and enabled.content is False:
        return  # registrations are routes of L7
    if converted.config.get("nats", "hosts") is None:
        node = job.properties
        remedy = "give nats.machines; links of other jobs are not followed"
        yield node.problem("nats.machines", "", "addresses of NATS; without them it is looked for on localhost", remedy)
