"""The versions of what the numbers of a run may depend on."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

from pyrl_sb3 import __version__
from pyrl_sb3.plugins.records import is_record

_PACKAGES = (
    *("torch", "numpy", "stable-baselines3", "sb3-contrib", "gymnasium"),
    *("gymnasium-robotics", "mujoco", "Box2D"),
)


def versions(components: Iterable[Any] = ()) -> dict[str, str]:
    """Return the versions of Python, of packages, and of the plugins that records are of."""
    there = {"python": platform.python_version()}
    for name in (*_PACKAGES, *_distributions(components)):
        with suppress(metadata.PackageNotFoundError):
            there[name] = metadata.version(name)
    return {**there, "pyrl-sb3": __version__}


def other_versions(before: Mapping[str, str], components: Sequence[Any]) -> list[str]:
    """
    Return a line for each package and plugin that has another version now.

    Args:
        before: what `versions` returned; in older runs without pyrl-sb3 and plugins.
        components: the records of then.
    """
    now = versions(components)
    return [
        f"{name} was {version} and is {now.get(name, 'not installed')}: numbers may differ"
        for name, version in {**_distributions(components), **before}.items()
        if now.get(name) != version
    ]


def _distributions(components: Iterable[Any]) -> dict[str, str | None]:
    """Name -> version, as records of a file say, which may be anybody's."""
    records = filter(is_record, components)
    return {each["distribution"]: each["version"] for each in records if each["distribution"]}
