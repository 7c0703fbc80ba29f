"""Loading a configuration from a mapping, and asking what was found."""

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from registry.problems import Problem
from router.config.load import Loaded, load_bytes
from router.config.model import Config

TODAY = dt.datetime.now(dt.UTC)


def loaded(mapping: Mapping[str, Any] | str, *, folder: Path = Path(), environ: Mapping[str, str] | None = None) -> Loaded:
    """What loading says of a mapping, or of a YAML text."""
    text = mapping if isinstance(mapping, str) else yaml.safe_dump(dict(mapping), sort_keys=False)
    return load_bytes(text.encode(), folder / "router.yml", environ or {}, TODAY)


def config(mapping: Mapping[str, Any] | str, **more: Any) -> Config:
    """The valid configuration of a mapping."""
    outcome = loaded(mapping, **more)
    assert outcome.problems == ()
    assert outcome.config is not None
    return outcome.config


def paths(found: Iterable[Problem]) -> list[str]:
    """The places that findings are about."""
    return [problem.path for problem in found]


def errors(mapping: Mapping[str, Any] | str, **more: Any) -> list[str]:
    return paths(loaded(mapping, **more).problems)


def warnings(mapping: Mapping[str, Any] | str, **more: Any) -> list[str]:
    """Places of the warnings, but for the one that every file without `trusted_proxies` gets."""
    text = {"trusted_proxies": [], **mapping} if isinstance(mapping, Mapping) else mapping
    return paths(loaded(text, **more).warnings)
