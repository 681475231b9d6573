"""Plugin-based extension of Stable-Baselines3 for off-policy and goal-conditioned control."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrl_sb3.algorithms import DDPG as DDPG
    from pyrl_sb3.algorithms import DQN as DQN
    from pyrl_sb3.algorithms import SAC as SAC
    from pyrl_sb3.algorithms import TD3 as TD3
    from pyrl_sb3.algorithms import DiscreteSAC as DiscreteSAC
    from pyrl_sb3.buffers import DictReplayBuffer as DictReplayBuffer
    from pyrl_sb3.buffers import HerReplayBuffer as HerReplayBuffer
    from pyrl_sb3.buffers import ReplayBuffer as ReplayBuffer
    from pyrl_sb3.discrete_policies import DiscreteSACPolicy as DiscreteSACPolicy
    from pyrl_sb3.discrete_policies import DQNPolicy as DQNPolicy
    from pyrl_sb3.discrete_policies import QRDQNPolicy as QRDQNPolicy
    from pyrl_sb3.policies import CrossQPolicy as CrossQPolicy
    from pyrl_sb3.policies import DDPGPolicy as DDPGPolicy
    from pyrl_sb3.policies import SACPolicy as SACPolicy
    from pyrl_sb3.policies import TD3Policy as TD3Policy
    from pyrl_sb3.policies import TQCPolicy as TQCPolicy

__version__ = "0.1.0"

# Loaded on first use (PEP 562), so that importing the package loads neither torch nor SB3.
_LAZY = {
    "CrossQPolicy": "pyrl_sb3.policies",
    "DDPG": "pyrl_sb3.algorithms",
    "DDPGPolicy": "pyrl_sb3.policies",
    "DQN": "pyrl_sb3.algorithms",
    "DQNPolicy": "pyrl_sb3.discrete_policies",
    "DictReplayBuffer": "pyrl_sb3.buffers",
    "DiscreteSAC": "pyrl_sb3.algorithms",
    "DiscreteSACPolicy": "pyrl_sb3.discrete_policies",
    "HerReplayBuffer": "pyrl_sb3.buffers",
    "QRDQNPolicy": "pyrl_sb3.discrete_policies",
    "ReplayBuffer": "pyrl_sb3.buffers",
    "SAC": "pyrl_sb3.algorithms",
    "SACPolicy": "pyrl_sb3.policies",
    "TD3": "pyrl_sb3.algorithms",
    "TD3Policy": "pyrl_sb3.policies",
    "TQCPolicy": "pyrl_sb3.policies",
}

__all__ = [
    "DDPG",
    "DQN",
    "SAC",
    "TD3",
    "CrossQPolicy",
    "DDPGPolicy",
    "DQNPolicy",
    "DictReplayBuffer",
    "DiscreteSAC",
    "DiscreteSACPolicy",
    "HerReplayBuffer",
    "QRDQNPolicy",
    "ReplayBuffer",
    "SACPolicy",
    "TD3Policy",
    "TQCPolicy",
    "__version__",
]


# Type checkers read the imports above: for them a name that is not there is a mistake.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
