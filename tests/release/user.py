"""A user's script: `mypy --strict` must accept it where the package is installed."""

from pathlib import Path

import gymnasium as gym
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from typing_extensions import assert_type

import pyrl_sb3
from pyrl_sb3 import SAC, TD3, DictReplayBuffer, HerReplayBuffer, ReplayBuffer, SACPolicy
from pyrl_sb3.plugins import NoiseSpec, PluginManager, get_plugin_manager
from pyrl_sb3.testing import check_noise

model = SAC(SACPolicy, gym.make("Pendulum-v1"), replay_buffer_class=ReplayBuffer, seed=0)
model.learn(10)
model.save_replay_buffer(Path("buffer"))
algorithms: list[OffPolicyAlgorithm] = [model, TD3("MlpPolicy", "Pendulum-v1")]
buffers: list[type[ReplayBuffer]] = [HerReplayBuffer, DictReplayBuffer]
assert_type(get_plugin_manager(), PluginManager)
assert_type(pyrl_sb3.__version__, str)
spec = NoiseSpec(name="kick", target="kick:kick")
assert_type(spec.scale, str | None)
check_noise("pyrl/ou", {"sigma": 0.3})
