"""The test kit behind one door: what `pyrl plugins check` runs on a component."""

from pyrl_sb3.plugins import Found, PluginError, PluginManager, ReplayBufferSpec
from pyrl_sb3.testing.noise import check_noise
from pyrl_sb3.testing.replay_buffers import check_replay_buffer
from pyrl_sb3.testing.sync import check_sync_callback


def check_component(manager: PluginManager, found: Found) -> str:
    """Import the component's target and run the kit for its kind; what is wrong, or nothing."""
    try:
        target = manager.load(found.kind, found.name)
        if found.kind == "noise":
            check_noise(found.name, manager=manager)
        elif isinstance(found.spec, ReplayBufferSpec):
            kinds = found.spec.observation_kinds
            check_replay_buffer(target, found.spec.defaults, observation_kinds=kinds)
        elif found.kind == "sync-callback":
            check_sync_callback(found.name, manager=manager)
        elif not callable(target):
            return f"{target!r} cannot be called"
    except (PluginError, AssertionError) as error:
        return str(error)
    except Exception as error:  # strangers' code
        return f"{type(error).__name__}: {error}"
    return ""
