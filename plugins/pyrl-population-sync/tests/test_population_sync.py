import copy
import math
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
from pyrl_population_sync import PopulationSync
from pyrl_population_sync.callback import PARAMETER
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import pyrl_sb3.algorithms
from pyrl_sb3.plugins import SyncContext
from pyrl_sb3.testing import SyncCallbackSuite
from pyrl_sb3.testing.lockstep import Lockstep
from pyrl_sb3.training.checkpoint import Checkpoint
from pyrl_sb3.training.checkpoints import Checkpoints


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


def guide_of(callback):
    """The guide as a module, made of what the callback keeps."""
    guide = copy.deepcopy(callback.model.actor)
    prefix = len(PARAMETER)
    guide.load_state_dict({k[prefix:]: th.tensor(v) for k, v in callback.guide.items()})
    return guide


def mean_actions(actor, observations):
    if hasattr(actor, "get_action_dist_params"):
        return th.tanh(actor.get_action_dist_params(observations)[0])
    return actor(observations)


def numbers(**values):
    return {name: np.array(value) for name, value in values.items()}


@pytest.mark.parametrize("module", [stable_baselines3, pyrl_sb3.algorithms])
@pytest.mark.parametrize("name", ["TD3", "SAC", "DDPG"])
def test_followers_approach_the_guide_and_nothing_else_changes(module, name):
    callback = make(getattr(module, name), others={1: numbers(score=1.0)})
    callback._synchronise()
    assert callback.guide_rank == 1
    callback.guide = {name: 1.5 * array for name, array in callback.guide.items()}
    critic = [p.clone() for p in callback.model.critic.parameters()]
    distances = [callback._follow() for _ in range(60)]
    assert np.mean(distances[-10:]) < 0.3 * np.mean(distances[:10])
    for before, after in zip(critic, callback.model.critic.parameters(), strict=True):
        assert th.equal(before, after)


def test_step_is_that_of_the_equation():
    callback = make(others={1: numbers(score=1.0)}, beta=0.5)
    callback._synchronise()
    callback.guide = {name: array + np.float32(0.1) for name, array in callback.guide.items()}
    actor = callback.model.actor
    before = [p.detach().clone() for p in actor.parameters()]
    state = np.random.get_state()
    observations = callback.model.replay_buffer.sample(32).observations
    loss = (
        0.5 * (actor(observations) - guide_of(callback)(observations).detach()).pow(2).sum(1).mean()
    )
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
    assert callback.model.logger.name_to_value["population/guide"] == -1


def test_parameters_that_do_not_learn_are_left_alone():
    callback = make(others={1: numbers(score=1.0)})
    callback._synchronise()
    callback.guide = {name: 1.5 * array for name, array in callback.guide.items()}
    frozen, *learning = callback.model.actor.parameters()
    frozen.requires_grad_(False)
    before = [p.detach().clone() for p in (frozen, *learning)]
    callback._follow()
    changed = [not th.equal(*pair) for pair in zip(before, (frozen, *learning), strict=True)]
    assert changed == [False, *[True] * len(learning)]


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
        moved = mean_actions(callback.model.actor, observations)
        distance = 0.5 * (moved - guide_of(callback)(observations)).square().sum(1).mean().item()
    assert distance > 0.01
    assert callback._distance() == pytest.approx(distance, rel=0.5)
    told, gather = [], callback.group.all_gather
    callback.group.all_gather = lambda value: told.append(float(value["change"])) or gather(value)
    callback._synchronise()
    callback.guide_rank = 1  # followers measure nothing
    callback._synchronise()
    assert (told[0] > 0.01, math.isnan(told[1])) == (True, True)


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


@pytest.mark.parametrize("module", [stable_baselines3, pyrl_sb3.algorithms])
def test_copies_follow_the_guide_at_every_step_of_the_actor(module):
    """TD3's actor takes a step at every second update, and there is one update per rollout."""

    def train(group):
        context = SyncContext(group=group, interval=100, rng=np.random.default_rng(0))
        callback = PopulationSync(context)
        follow, steps = callback._follow, []
        callback._follow = lambda: steps.append(callback.model._n_updates) or follow()
        env = Monitor(gym.make("Pendulum-v1", max_episode_steps=50))
        model = module.TD3(
            "MlpPolicy", env, policy_kwargs={"net_arch": [8]}, learning_starts=50, seed=group.rank
        )
        model.learn(200, callback)
        return steps

    leader, follower = sorted(Lockstep(2).run([train] * 2), key=len)
    assert leader == []
    # It trains from step 51 on, and has a guide from step 100 on, in which there are 49 updates.
    assert follower == list(range(50, 149, 2))


@pytest.mark.parametrize("name", ["TD3", "SAC"])
def test_a_group_that_is_resumed_ends_as_one_that_was_not(name, tmp_path):
    def train(group, resume=False, steps=240):
        context = SyncContext(group=group, interval=50, rng=np.random.default_rng(0))
        callback = PopulationSync(context, beta=9.0)
        env = DummyVecEnv([lambda: Monitor(gym.make("Pendulum-v1", max_episode_steps=40))])
        model = getattr(pyrl_sb3.algorithms, name)(
            "MlpPolicy", env, policy_kwargs={"net_arch": [8]}, learning_starts=30, seed=group.rank
        )
        folder = tmp_path / str(group.rank)
        checkpoints = Checkpoints(folder, save_freq=125, keep_last=9, by_steps=True)
        if resume:
            assert checkpoints.resume(model, Checkpoint(folder / "step_125"))
        left = steps - model.num_timesteps
        model.learn(left, [checkpoints, callback], reset_num_timesteps=not resume)
        state = {key: value.numpy().copy() for key, value in model.policy.state_dict().items()}
        return {**state, "beta": callback.beta, "guide": callback.guide_rank}

    whole = Lockstep(2).run([train] * 2)
    resumed = Lockstep(2).run([partial(train, resume=True)] * 2)
    assert whole[0]["guide"] in (0, 1)
    for one, other in zip(whole, resumed, strict=True):
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key], err_msg=key)


def test_readme_example_runs():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {}
    exec(example, names)
    assert len(set(names["guides"])) == 1
