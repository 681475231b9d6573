"""DDPG, TD3 and SAC: SB3's, with a faster gradient step; DQN and discrete SAC."""

from pyrl_sb3.algorithms.ddpg import DDPG
from pyrl_sb3.algorithms.dqn import DQN
from pyrl_sb3.algorithms.sac import SAC
from pyrl_sb3.algorithms.sac_discrete import DiscreteSAC
from pyrl_sb3.algorithms.td3 import TD3

__all__ = ["DDPG", "DQN", "SAC", "TD3", "DiscreteSAC"]
