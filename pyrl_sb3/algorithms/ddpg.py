"""DDPG with a faster gradient step."""

import stable_baselines3

from pyrl_sb3.algorithms.named import by_every_name
from pyrl_sb3.algorithms.td3 import TD3
from pyrl_sb3.policies import DDPGPolicy


class DDPG(TD3, stable_baselines3.DDPG):
    """
    Deep deterministic policy gradient (Lillicrap 2015, https://arxiv.org/abs/1509.02971): as in
    SB3, TD3 with one critic, no delay and no noise on the target's actions.

    Parameters: see ``stable_baselines3.DDPG``.
    """

    policy_aliases = by_every_name(DDPGPolicy)
