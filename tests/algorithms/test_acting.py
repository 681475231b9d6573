"""Acting in numpy, against SB3's predict with the same random state."""

from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from pyrl_sb3 import algorithms

NETS = {
    "relu": {},
    "layer_norm": {"layer_norm": True},
    "tanh": {"activation_fn": nn.Tanh},
    "silu": {"activation_fn": nn.SiLU},
    "gelu": {"activation_fn": nn.GELU},
}


@pytest.mark.parametrize("name", ["SAC", "TD3"])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("space", ["box", "matrix", "dict"])
def test_actions_are_those_of_predict(name: str, net: str, space: str, make_env: Any) -> None:
    env = DummyVecEnv([lambda: make_env(space)] * 3)
    kwargs = {"net_arch": [9, 8], **NETS[net]}
    policy = "MultiInputPolicy" if space == "dict" else "MlpPolicy"
    model = getattr(algorithms, name)(policy, env, policy_kwargs=kwargs, buffer_size=9, seed=0)
    for p in model.policy.parameters():
        nn.init.normal_(p, 0, 0.5)  # in place: acting must see it
    model._last_obs = env.reset()
    assert model.gradients == "explicit"
    th.manual_seed(1)
    actions, scaled = model._sample_action(learning_starts=0, n_envs=3)
    th.manual_seed(1)
    # SB3's own way, around our policies' predict
    observations, _ = model.policy.obs_to_tensor(model._last_obs)
    with th.no_grad():
        expected = model.policy._predict(observations, deterministic=False).numpy()
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(actions, model.policy.unscale_action(expected), rtol=0, atol=1e-5)
    assert actions.dtype == np.float32


def test_acting_follows_parameters_that_are_loaded_or_moved(make_env: Any) -> None:
    model, other = (
        algorithms.TD3("MlpPolicy", make_env(), policy_kwargs={"net_arch": [8]}, seed=seed)
        for seed in (0, 1)
    )
    model._last_obs = observation = model.env.reset()
    wanted = other.policy.scale_action(other.predict(observation)[0])
    assert not np.allclose(model._sample_action(0)[1], wanted)
    model.set_parameters(other.get_parameters())
    np.testing.assert_allclose(model._sample_action(0)[1], wanted, rtol=0, atol=1e-6)
    for p in model.policy.parameters():
        p.data = p.data * 0
    model.learn(0)
    model.learning_starts = 0
    model.learn(1)
    assert not model.replay_buffer.actions[0].any()
