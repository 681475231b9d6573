"""Noise that an algorithm cannot explore with is refused before anything begins."""

import numpy as np
import pytest
from gymnasium.spaces import Box

from pyrl_sb3 import TD3
from pyrl_sb3.algorithms.exploration import noise_problem
from pyrl_sb3.plugins import NoiseContext, get_plugin_manager, noise_from_config
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.run import checked


@pytest.mark.parametrize(
    ("agent", "noise", "message"),
    [
        (
            "sac",
            "param_0.2..0.1",
            "noise scheduled: scheduled takes noise that is added to actions",
        ),
        ("td3", "policy+ou", "this TD3 has a deterministic policy: use SAC"),
        (
            "td3",
            "eps_0.1+policy+ou",
            "noise eps: eps takes noise that is added to actions, not Pol",
        ),
        ("sac", "policy+eps_0.9", "noise policy: policy takes noise that is added to actions"),
        ("tqc", "param_0.2", r"TQC cannot explore with ParameterNoise.*: use DDPG, TD3 or SAC"),
        ("tqc", "policy+ou", r"TQC cannot explore with PolicyNoise.*: use SAC of pyrl_sb3"),
        ("crossq", "param_0.2", "CrossQ cannot explore with ParameterNoise"),
    ],
)
def test_noise_an_algorithm_does_not_know(agent, noise, message):
    request = TrainingRequest(agent=agent, env_id="Pendulum-v1", timesteps=10, noise=noise)
    with pytest.raises(InputError, match=message) as caught:
        checked(request)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(30,), (2, 2)], ids=str)
@pytest.mark.parametrize("config", ["policy+ou", "policy+normal"])
def test_noise_for_many_actions_is_refused_in_one_line(config, shape):
    context = NoiseContext(action_space=Box(-1, 1, shape), rng=np.random.default_rng(0))
    noise = noise_from_config(get_plugin_manager(), config, context)
    assert "\n" not in noise_problem(TD3, noise, use_sde=False)


def test_noise_that_is_none():
    given = ("noise={name: eps, params: {noise: 3}}",)
    request = TrainingRequest(agent="td3", env_id="Pendulum-v1", timesteps=10, overrides=given)
    with pytest.raises(InputError, match=r"noise eps: eps takes noise .* not 3"):
        checked(request)


@pytest.mark.parametrize("noise", ["param_0.2", "policy+ou"])
def test_noise_that_does_not_go_with_gsde(noise):
    request = TrainingRequest(
        agent="sac", env_id="Pendulum-v1", timesteps=10, noise=noise, overrides=("use_sde=true",)
    )
    with pytest.raises(InputError, match="this SAC explores with gSDE"):
        checked(request)


def test_stock_algorithms_only_add_noise():
    request = TrainingRequest(
        agent="td3", env_id="Pendulum-v1", timesteps=10, noise="param_0.2", stock=True
    )
    with pytest.raises(InputError, match=r"TD3 cannot explore with ParameterNoise"):
        checked(request)


@pytest.mark.parametrize(
    ("agent", "noise"),
    [("sac", "param_0.2"), ("sac", "policy+ou_0.5..0.1"), ("td3", "eps_0.3..0.1+ou_0.2")],
)
def test_noise_they_know(agent, noise):
    checked(TrainingRequest(agent=agent, env_id="Pendulum-v1", timesteps=10, noise=noise))
