"""DDPG, TD3 and SAC: SB3's, with a faster gradient step and less overhead in between."""

from pyrl_sb3.algorithms.ddpg import DDPG
from pyrl_sb3.algorithms.sac import SAC
from pyrl_sb3.algorithms.td3 import TD3

__all__ = ["DDPG", "SAC", "TD3"]
