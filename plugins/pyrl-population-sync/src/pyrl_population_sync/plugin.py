"""What the plugin registers."""

from collections.abc import Iterable

from pyrl_sb3.plugins import SyncCallbackSpec, hookimpl

PYRL_PLUGIN_API = 1


@hookimpl
def pyrl_sync_callbacks() -> Iterable[SyncCallbackSpec]:
    """The best copy guides the others."""
    yield SyncCallbackSpec(
        name="population",
        aliases=("p3s",),
        target="pyrl_population_sync.callback:PopulationSync",
        couples_seeds=True,
        summary="the policies are drawn towards the best one's (P3S, Jung 2020)",
    )
