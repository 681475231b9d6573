"""The contract of agents: ours fulfil it, and what breaks it is named."""

from typing import ClassVar

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.td3.policies import TD3Policy

import pyrl_sb3
from pyrl_sb3.agent import Agent
from pyrl_sb3.testing import check_agent

OURS = [
    (cls, actions)
    for actions, classes in {
        "box": (
            pyrl_sb3.DDPG,
            pyrl_sb3.TD3,
            pyrl_sb3.SAC,
            sb3_contrib.TQC,
            sb3_contrib.CrossQ,
            stable_baselines3.SAC,
        ),
        "discrete": (pyrl_sb3.DQN, pyrl_sb3.DiscreteSAC, sb3_contrib.QRDQN),
    }.items()
    for cls in classes
]


@pytest.mark.parametrize(("cls", "actions"), OURS, ids=lambda value: str(value))
def test_every_algorithm_is_an_agent(cls, actions):
    check_agent(cls, actions=actions)


class Versioned(FlattenExtractor):
    def get_extra_state(self):
        return {"version": 2}

    def set_extra_state(self, state):
        assert state == {"version": 2}


class OfVersions(TD3Policy):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "features_extractor_class": Versioned})


def test_what_modules_keep_besides_tensors_does_not_matter():
    class OnVersions(stable_baselines3.TD3):
        policy_aliases: ClassVar = {"MlpPolicy": OfVersions}

    check_agent(OnVersions)


class NeverTrains(stable_baselines3.TD3):
    def train(self, gradient_steps, batch_size=64):
        pass


class Unseeded(stable_baselines3.TD3):
    def train(self, gradient_steps, batch_size=64):
        super().train(gradient_steps, batch_size)
        with th.no_grad():
            next(self.actor.parameters()).add_(float(np.random.default_rng().normal()))


class Overshoots(stable_baselines3.TD3):
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        actions, state = super().predict(observation, state, episode_start, deterministic)
        return actions + 2, state


class Deaf(stable_baselines3.TD3):
    def learn(self, total_timesteps, callback=None, **kwargs):
        return super().learn(total_timesteps, None, **kwargs)


class ForgetsTemperature(stable_baselines3.SAC):
    def _get_torch_save_params(self):
        return ["policy", "actor.optimizer", "critic.optimizer"], []


class ForgetsMoments(stable_baselines3.SAC):
    def _get_torch_save_params(self):
        return ["policy"], ["log_ent_coef"]


class LosesWeights(stable_baselines3.TD3):
    @classmethod
    def load(cls, path, env=None, device="auto", custom_objects=None):
        model = super().load(path, env, device, custom_objects)
        with th.no_grad():
            next(model.actor.parameters()).zero_()
        return model


class ForgetsAge(stable_baselines3.TD3):
    """Takes smaller steps as it trains, and begins anew with that when it is loaded."""

    def _setup_model(self):
        super()._setup_model()
        self.age = 0

    def train(self, gradient_steps, batch_size=64):
        self.age += 1
        self.lr_schedule = lambda _: 1e-3 / self.age
        super().train(gradient_steps, batch_size)

    def _excluded_save_params(self):
        return [*super()._excluded_save_params(), "age", "lr_schedule"]


class NoAgent:
    num_timesteps = 0


class Wrapped:
    """Has every member of `Agent`, and not what else is asked of algorithms."""

    def __init__(self, **kwargs):
        self.model = stable_baselines3.TD3(**kwargs)
        self.num_timesteps = 0

    predict = learn = train = get_parameters = set_parameters = save = load = lambda self: None
    _get_torch_save_params = predict


def test_the_wrapped_one_looks_like_an_agent():
    assert isinstance(Wrapped(policy="MlpPolicy", env="Pendulum-v1"), Agent)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NoAgent, "NoAgent is no OffPolicyAlgorithm of SB3's"),
        (Wrapped, "Wrapped is no OffPolicyAlgorithm of SB3's"),
        (NeverTrains, "change nothing"),
        (Unseeded, "two executions with one seed end differently"),
        (Overshoots, "which is not in Box"),
        (Deaf, "a callback returns False"),
        (LosesWeights, "a loaded agent acts otherwise"),
        (ForgetsTemperature, "a loaded agent has lost log_ent_coef"),
        (ForgetsAge, "a loaded agent learns on otherwise than the saved one"),
        (ForgetsMoments, r"a loaded agent has lost .*optimizer\.0\."),
    ],
)
def test_what_is_no_agent_is_named(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_agent(cls)
