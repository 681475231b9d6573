"""DDPG with a faster gradient step."""

from typing import ClassVar

import stable_baselines3
from stable_baselines3.common.policies import BasePolicy

from pyrl_sb3.algorithms.td3 import TD3
from pyrl_sb3.policies import DDPGPolicy


class DDPG(TD3, stable_baselines3.DDPG):
    """
    Deep deterministic policy gradient (Lillicrap 2015, https://arxiv.org/abs/1509.02971): as in
    SB3, TD3 with one critic, no delay and no noise on the target's actions.

    Parameters: see ``stable_baselines3.DDPG``.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = dict.fromkeys(
        ("MlpPolicy", "CnnPolicy", "MultiInputPolicy"), DDPGPolicy
    )
