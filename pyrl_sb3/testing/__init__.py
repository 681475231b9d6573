"""What plugin authors run against their components."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrl_sb3.testing.agents import check_agent as check_agent
    from pyrl_sb3.testing.noise import check_noise as check_noise
    from pyrl_sb3.testing.replay_buffers import check_replay_buffer as check_replay_buffer
    from pyrl_sb3.testing.suites import NoiseSuite as NoiseSuite
    from pyrl_sb3.testing.suites import ReplayBufferSuite as ReplayBufferSuite
    from pyrl_sb3.testing.suites import SyncCallbackSuite as SyncCallbackSuite
    from pyrl_sb3.testing.sync import check_sync_callback as check_sync_callback

# Loaded on first use: the pytest fixtures need neither torch nor SB3.
_LAZY = {
    "NoiseSuite": "pyrl_sb3.testing.suites",
    "ReplayBufferSuite": "pyrl_sb3.testing.suites",
    "SyncCallbackSuite": "pyrl_sb3.testing.suites",
    "check_agent": "pyrl_sb3.testing.agents",
    "check_noise": "pyrl_sb3.testing.noise",
    "check_replay_buffer": "pyrl_sb3.testing.replay_buffers",
    "check_sync_callback": "pyrl_sb3.testing.sync",
}

__all__ = [
    "NoiseSuite",
    "ReplayBufferSuite",
    "SyncCallbackSuite",
    "check_agent",
    "check_noise",
    "check_replay_buffer",
    "check_sync_callback",
]


# Type checkers read the imports above: for them a name that is not there is a mistake.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
