"""Stock Stable-Baselines3 models train on the buffers, save them and go on."""

import numpy as np
import pytest
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3.buffers import HerReplayBuffer


def small():
    return {"policy_kwargs": {"net_arch": [8]}, "device": "cpu", "batch_size": 16}


@pytest.mark.parametrize("algorithm", [SAC, TD3, DDPG])
@pytest.mark.parametrize("normalize", [False, True])
def test_train_save_load_continue(counting_env, tmp_path, algorithm, normalize):
    env = counting_env(5, 8)
    env = VecNormalize(env) if normalize else env
    model = algorithm(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        buffer_size=60,
        learning_starts=4,
        seed=1,
        **small(),
    )
    model.learn(90)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    stored = model.replay_buffer.sample(1000).actions

    again = algorithm.load(tmp_path / "model", env)
    assert again.replay_buffer._store is None
    again.load_replay_buffer(tmp_path / "buffer")
    assert np.array_equal(again.replay_buffer.sample(1000).actions, stored)
    assert again.replay_buffer.size() == 30
    again.learn(20, reset_num_timesteps=False)
    assert again.num_timesteps == 110


def test_a_model_for_inference_allocates_nothing(counting_env):
    env = counting_env(5)
    model = SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        buffer_size=10**8,  # two gigabytes
        **small(),
    )
    model.predict(env.reset())
    assert model.replay_buffer._store is None


def test_model_seed_seeds_the_buffer(counting_env):
    def drawn(seed):
        kwargs = {"replay_buffer_class": HerReplayBuffer, "buffer_size": 60, "seed": seed}
        model = SAC("MultiInputPolicy", counting_env(5), **kwargs, **small())
        return model.replay_buffer.rng.random()

    assert drawn(1) == drawn(1) != drawn(2)
