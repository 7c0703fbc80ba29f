"""From the files that a command names to the scene of `explain`: a configuration, manifests, and who owns the applications.

Promises: all problems of all files at once, none raised; a scene only where there is none. Files are read with a bound. Refuses
to know what is asked in the scene.
"""

import argparse
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from router.cli.manifests import demands_policies, load_manifests

if TYPE_CHECKING:
    from registry.problems import Problem
    from registry.table import RouteTable
    from router.inspect.callers import KnownCaller
    from router.inspect.scene import Scene


class SceneRead(NamedTuple):
    """A scene, or why there is none; warnings of the manifests beside either."""

    scene: "Scene | None"
    problems: "tuple[Problem, ...]"
    warnings: "tuple[Problem, ...]" = ()


def read_scene(
    config: str,
    manifests: argparse.Namespace,
    callers: "Mapping[str, KnownCaller]",
    below: "RouteTable | None" = None,
) -> SceneRead:
    """The scene of a configuration file and the manifests that `add_manifests` names; their routes replace those of `below`."""
    from registry.manifest import manifest_table
    from router.cli.check import load_config
    from router.config.compile import compile_domains
    from router.inspect.owners import with_owners
    from router.inspect.scene import scene_of_config

    loaded = load_config(config, os.environ)
    if loaded.config is None:
        return SceneRead(None, (*loaded.problems, *load_manifests(manifests).problems))
    enforces = demands_policies(compile_domains(loaded.config)[0])
    read = load_manifests(manifests, loaded.config.max_route_options_size, enforces)
    if read.problems:
        return SceneRead(None, read.problems, read.warnings)
    table = with_owners(manifest_table(read.routes), callers)
    if below is not None:
        table = below.changed({(route.host, route.path): route for route in table})
    return SceneRead(scene_of_config(loaded.config, table), (), read.warnings)
