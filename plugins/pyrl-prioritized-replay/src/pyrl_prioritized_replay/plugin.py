"""What the plugin registers."""

from collections.abc import Iterable

from pyrl_sb3.plugins import ReplayBufferSpec, hookimpl

PYRL_PLUGIN_API = 1

_NEEDS = frozenset({"priority-updates", "importance-weights"})


@hookimpl
def pyrl_replay_buffers() -> Iterable[ReplayBufferSpec]:
    """One buffer for each kind of observation, and one with hindsight."""
    yield ReplayBufferSpec(
        name="prioritized",
        target="pyrl_prioritized_replay.buffers:PrioritizedReplayBuffer",
        needs=_NEEDS,
        summary="prioritised replay",
    )
    yield ReplayBufferSpec(
        name="prioritized-dict",
        target="pyrl_prioritized_replay.buffers:PrioritizedDictReplayBuffer",
        observation_kinds=frozenset({"dict"}),
        needs=_NEEDS,
        summary="prioritised replay of dictionary observations",
    )
    yield ReplayBufferSpec(
        name="prioritized-her",
        target="pyrl_prioritized_replay.buffers:PrioritizedHerReplayBuffer",
        observation_kinds=frozenset({"dict"}),
        needs=_NEEDS | {"env"},
        summary="prioritised hindsight experience replay",
    )
