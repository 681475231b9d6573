import math
import re
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
from pyrl_population_sync import PopulationSync
from pyrl_population_sync.callback import _mean_actions

import pyrl_sb3.algorithms
from pyrl_sb3.plugins import SyncContext
from pyrl_sb3.testing import SyncCallbackSuite
from pyrl_sb3.testing.lockstep import Lockstep


class TestSuite(SyncCallbackSuite):
    ref = "population-sync/population"


class Group(SimpleNamespace):
    """A group whose other copies say what the test wants."""

    def all_gather(self, value):
        return {self.rank: value} | {
            rank: {**value, **changed} for rank, changed in self.others.items()
        }


def make(algorithm=stable_baselines3.TD3, rank=0, others=None, **parameters):
    group = Group(rank=rank, size=1 + len(others or {}), others=others or {})
    context = SyncContext(group=group, interval=10, rng=np.random.default_rng(0))
    callback = PopulationSync(context, **parameters)
    model = algorithm(
        "MlpPolicy",
        gym.make("Pendulum-v1"),
        policy_kwargs={"net_arch": [8]},
        learning_rate=0.1,
        batch_size=32,
        learning_starts=1000,
        seed=0,
    )
    model.learn(40)  # fills the replay buffer, without training
    callback.init_callback(model)
    return callback


def numbers(**values):
    return {name: np.array(value) for name, value in values.items()}


@pytest.mark.parametrize("module", [stable_baselines3, pyrl_sb3.algorithms])
@pytest.mark.parametrize("name", ["TD3", "SAC", "DDPG"])
def test_followers_approach_the_guide_and_nothing_else_changes(module, name):
    callback = make(getattr(module, name), others={1: numbers(score=1.0)})
    callback._synchronise()
    assert callback.guide_rank == 1
    with th.no_grad():
        for parameter in callback.guide.parameters():
            parameter.mul_(1.5)
    critic = [p.clone() for p in callback.model.critic.parameters()]
    distances = [callback._follow() for _ in range(60)]
    assert np.mean(distances[-10:]) < 0.3 * np.mean(distances[:10])
    for before, after in zip(critic, callback.model.critic.parameters(), strict=True):
        assert th.equal(before, after)


def test_step_is_that_of_the_equation():
    callback = make(others={1: numbers(score=1.0)}, beta=0.5)
    callback._synchronise()
    with th.no_grad():
        for parameter in callback.guide.parameters():
            parameter.add_(0.1)
    actor = callback.model.actor
    before = [p.detach().clone() for p in actor.parameters()]
    state = np.random.get_state()
    observations = callback.model.replay_buffer.sample(32).observations
    loss = 0.5 * (actor(observations) - callback.guide(observations).detach()).pow(2).sum(1).mean()
    expected = [
        p - 0.1 * 0.5 * g
        for p, g in zip(before, th.autograd.grad(loss, list(actor.parameters())), strict=True)
    ]
    np.random.set_state(state)
    assert callback._follow() == pytest.approx(loss.item())
    for parameter, wanted in zip(actor.parameters(), expected, strict=True):
        assert th.allclose(parameter, wanted)


def test_the_best_mean_return_leads_and_copies_without_episodes_do_not():
    callback = make(
        others={1: numbers(score=2.0), 2: numbers(score=3.0), 3: numbers(score=math.nan)}
    )
    callback.model.ep_info_buffer.extend([{"r": 90.0}] + [{"r": 1.0}] * 10)
    callback._synchronise()
    assert callback.guide_rank == 2
    callback.model.ep_info_buffer.extend([{"r": 4.0}] * 10)
    callback._synchronise()
    assert callback.guide_rank == 0


def test_nobody_leads_before_an_episode_has_ended():
    callback = make(others={1: numbers(score=math.nan)})
    callback._synchronise()
    assert callback.guide is None


@pytest.mark.parametrize(
    ("spread", "change", "factor"),
    [
        (0.31, 0.1, 2),  # wanted 0.2, more than 1.5 times that
        (0.29, 0.1, 1),
        (0.14, 0.1, 1),
        (0.13, 0.1, 0.5),
        (0.04, 0.0, 1),  # d_min 0.05 instead of 0
        (0.08, 0.0, 2),
        (math.nan, 0.1, 1),
        (0.31, math.nan, 1),
    ],
)
def test_beta_keeps_the_distance(spread, change, factor):
    callback = make(d_min=0.05)
    callback._adapt(
        {0: numbers(spread=spread, change=math.nan), 1: numbers(spread=math.nan, change=change)}
    )
    assert callback.beta == factor


def test_beta_is_bounded():
    callback = make(beta=9.0)
    callback._adapt({0: numbers(spread=9.0, change=0.0)})
    assert callback.beta == pytest.approx(10)  # 1 / learning rate


def test_the_guide_measures_how_far_it_has_moved():
    callback = make(others={1: numbers(score=-1e9, spread=0.0)})
    callback.model.ep_info_buffer.extend([{"r": 1.0}])
    callback._synchronise()
    assert callback.guide_rank == 0
    observations = callback.model.replay_buffer.sample(256).observations
    with th.no_grad():
        callback.model.actor.mu[-2].bias += 0.3
        moved = _mean_actions(callback.model.actor, observations)
        distance = 0.5 * (moved - callback.guide(observations)).square().sum(1).mean().item()
    assert callback._distance() == pytest.approx(distance, rel=0.5)


@pytest.mark.parametrize("algorithm", [pyrl_sb3.algorithms.TD3, pyrl_sb3.algorithms.SAC])
def test_three_copies_train_together(algorithm):
    def train(group):
        context = SyncContext(group=group, interval=200, rng=np.random.default_rng(0))
        model = algorithm(
            "MlpPolicy",
            gym.make("Pendulum-v1"),
            policy_kwargs={"net_arch": [8]},
            seed=group.rank,
            train_freq=20,
        )
        callback = PopulationSync(context)
        model.learn(400, callback)
        return callback.guide_rank, callback.beta

    results = Lockstep(3).run([train] * 3)
    assert len(set(results)) == 1, "the copies disagree"
    assert results[0][0] in (0, 1, 2)


def test_readme_example_runs():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {}
    exec(example, names)
    assert len(set(names["guides"])) == 1
