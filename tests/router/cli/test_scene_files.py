"""router/cli/scene_files.py: files -> the scene of `explain`."""

import argparse
from pathlib import Path

import pytest

from identity.caller import Caller, Guid
from router.cli.scene_files import SceneRead, read_scene
from router.inspect.callers import KnownCaller
from tests.router.cli.policy_files import DOMAIN, write
from tests.router.inspect.worlds import table
from tests.support.certs import CA


@pytest.fixture
def folder(tmp_path: Path, east_ca: CA, west_ca: CA) -> Path:
    write(tmp_path, east_ca, west_ca)
    return tmp_path


def manifests(*files: Path) -> argparse.Namespace:
    return argparse.Namespace(manifest=list(map(str, files)), vars_file=[], var=[])


def keys(found: SceneRead) -> list[str]:
    assert found.scene is not None
    return sorted(route.key for route in found.scene.table)


def test_a_configuration_and_manifests_are_a_scene(folder: Path) -> None:
    found = read_scene(str(folder / "router.yml"), manifests(folder / "manifest.yml"), {})
    assert (keys(found), found.problems) == ([f"api.{DOMAIN}", f"free.{DOMAIN}/v1"], ())
    assert found.scene is not None
    assert [domain.pattern for domain in found.scene.domains.policies] == [f"*.{DOMAIN}"]


def test_applications_that_callers_are_named_like_have_their_guids(folder: Path) -> None:
    caller = KnownCaller("backend", Caller(Guid("back-guid")))
    found = read_scene(str(folder / "router.yml"), manifests(folder / "manifest.yml"), {"backend": caller})
    assert found.scene is not None
    assert {endpoint.app for route in found.scene.table for endpoint in route.pool.endpoints} == {"back-guid"}


def test_routes_of_manifests_replace_those_below(folder: Path) -> None:
    """As if they were registered in place of what a running router has."""
    below = table({f"api.{DOMAIN}": {}, "other.example": {}})
    found = read_scene(str(folder / "router.yml"), manifests(folder / "manifest.yml"), {}, below)
    assert keys(found) == [f"api.{DOMAIN}", f"free.{DOMAIN}/v1", "other.example"]
    assert found.scene is not None
    changed = found.scene.table.lookup(f"api.{DOMAIN}", "/")
    assert changed is not None
    assert changed.pool.policy.parts != below.lookup(f"api.{DOMAIN}", "/").pool.policy.parts  # type: ignore[union-attr]


def test_all_problems_of_all_files_are_said(folder: Path) -> None:
    (folder / "router.yml").write_text("prot: 80\n")
    (folder / "manifest.yml").write_text("[]")
    found = read_scene(str(folder / "router.yml"), manifests(folder / "manifest.yml", folder / "none.yml"), {})
    assert found.scene is None
    assert [Path(problem.file).name for problem in found.problems] == ["router.yml", "manifest.yml", "none.yml"]


def test_a_route_that_its_domain_keeps_shut_is_warned_of(folder: Path) -> None:
    (folder / "manifest.yml").write_text(f"applications: [{{name: a, routes: [{{route: a.{DOMAIN}}}]}}]")
    found = read_scene(str(folder / "router.yml"), manifests(folder / "manifest.yml"), {})
    assert found.scene is not None
    assert [warning.line for warning in found.warnings] == [1]


def test_the_limit_of_options_is_the_configurations(folder: Path) -> None:
    (folder / "router.yml").write_text((folder / "router.yml").read_text() + "max_route_options_size: 10\n")
    found = read_scene(str(folder / "router.yml"), manifests(folder / "manifest.yml"), {})
    assert found.scene is None
    assert "10" in found.problems[0].expected
