"""What the plugin registers."""

from collections.abc import Iterable

from pyrl_sb3.plugins import EngineSpec, hookimpl

PYRL_PLUGIN_API = 1


@hookimpl
def pyrl_engines() -> Iterable[EngineSpec]:
    """Ray."""
    yield EngineSpec(
        name="ray",
        target="pyrl_ray.engine:Ray",
        summary="machines of a Ray cluster (https://ray.io), or a Ray of this machine's own",
    )
