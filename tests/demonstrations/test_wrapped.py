"""Demonstrations where wrappers change what agents learn from: stacked frames, other rewards."""

import dataclasses
import sys

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.atari_wrappers import ClipRewardEnv
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

from pyrl_sb3 import TD3
from pyrl_sb3.algorithms.demo_observations import as_recorded
from pyrl_sb3.buffers.demofiles import load_demonstrations, save_demonstrations
from pyrl_sb3.buffers.demonstrations import DemonstrationError, Demonstrations, Episode
from pyrl_sb3.cli.app import run
from pyrl_sb3.training.demos import record
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.run import train
from pyrl_sb3.training.wrappers import BoundedRewards


def build(env, demonstrations, **keywords):
    settings = {"learning_starts": 5, "batch_size": 16, "buffer_size": 100, "seed": 0, **keywords}
    settings.setdefault("policy_kwargs", {"net_arch": [8]})
    policy = "MultiInputPolicy" if hasattr(env.observation_space, "spaces") else "MlpPolicy"
    return TD3(policy, env, demonstrations=demonstrations, **settings)


def begun(env, demonstrations, **keywords):
    model = build(env, demonstrations, **keywords)
    model._setup_learn(1)
    return model


def pendulum(path, **changed):
    """A file of one episode of Pendulum-v1 that fell all the time."""
    rng = np.random.default_rng(0)
    episode = Episode(
        observations={"observation": rng.uniform(-1, 1, (21, 3))},
        actions=rng.uniform(-2, 2, (20, 1)),
        rewards=np.full(20, -10.0),
    )
    episode = dataclasses.replace(episode, **changed)
    save_demonstrations(Demonstrations(episodes=[episode], source="x"), path)
    return path


def replayed(env, actions):
    """What SB3's wrappers show of one episode with these actions, its end left out."""
    seen = [env.reset()]
    seen += [env.step(action[None])[0] for action in actions[:-1]]
    keyed = [each if isinstance(each, dict) else {"observation": each} for each in seen]
    return {key: np.concatenate([each[key] for each in keyed]) for key in keyed[0]}


@pytest.mark.parametrize("kind", ["box", "image", "channels-last", "keyed"])
@pytest.mark.parametrize("transposed", ["before", "after"])
def test_frames_are_stacked_as_those_of_the_agent(line, demonstrations, kind, transposed):
    env = DummyVecEnv([lambda: line(kind)])
    if transposed == "before" and kind in ("channels-last", "keyed"):
        env = VecTransposeImage(env)
    env, demos = VecFrameStack(env, 3), demonstrations(kind, count=1)
    model = begun(env, demos)
    expected = replayed(model.env, demos.episodes[0].actions)
    stored = model._demo_buffer.sample(100).observations
    stored = stored if isinstance(stored, dict) else {"observation": stored}
    assert stored.keys() == expected.keys()
    for key, drawn in stored.items():
        rows = {row.tobytes() for row in drawn.numpy().astype(np.float32)}
        assert rows == {row.tobytes() for row in expected[key].astype(np.float32)}


def test_statistics_begin_with_stacked_frames(line, demonstrations):
    env = VecNormalize(VecFrameStack(DummyVecEnv([lambda: line("box")]), 2), norm_reward=False)
    begun(env, demonstrations("box"))
    assert env.obs_rms.mean.shape == (2,)
    assert env.obs_rms.count > 24


def test_frames_are_stored_once_in_a_buffer_that_stores_them_so(line, demonstrations):
    env = VecFrameStack(DummyVecEnv([lambda: line("box")]), 3)
    model = build(env, demonstrations("box"), replay_buffer_kwargs={"frame_stack": 3})
    model.learn(8)
    assert model._demo_buffer.sample(8).observations.shape == (8, 3)


@pytest.mark.parametrize("wrappers", [[0], [0, 1], [1, 0]], ids=str)
def test_what_is_recorded_is_what_the_environment_shows(line, wrappers):
    env = base = DummyVecEnv([lambda: line("keyed")])
    for wrapper in wrappers:
        env = [lambda env: VecFrameStack(env, 2), VecTransposeImage][wrapper](env)
    env.reset()
    (seen, *_) = env.step(np.ones((1, 1), np.float32))
    frames = as_recorded(env, {key: values[0] for key, values in seen.items()})
    shown = base.envs[0]._seen()
    assert frames.keys() == shown.keys()
    assert all(np.array_equal(frames[key], shown[key]) for key in shown)


class Doubled(gym.RewardWrapper):
    of_reward_alone = True

    def reward(self, reward):
        return 2 * reward


def rewards_of(env, demos):
    stored = begun(env, demos)._demo_buffer.sample(200).rewards.numpy()
    return set(np.round(np.unique(stored), 3).tolist())


def test_rewards_go_through_the_wrappers_of_the_environment(tmp_path):
    def pendulum_env():
        return gym.make("Pendulum-v1")

    rewards = np.array([-100, -20, 0, 5, 100] * 4, np.float32)
    demos = load_demonstrations(pendulum(tmp_path / "demos.npz", rewards=rewards))
    bounded = [lambda: BoundedRewards(Doubled(pendulum_env()), low=-50, scale=0.1)]
    assert rewards_of(DummyVecEnv(bounded), demos) == {-5, -4, 0, 1, 20}
    assert rewards_of(DummyVecEnv([pendulum_env]), demos) == {-100, -20, 0, 5, 100}
    scalars = [lambda: gym.wrappers.TransformReward(pendulum_env(), lambda r: r.item() / 5)]
    assert rewards_of(DummyVecEnv(scalars), demos) == {-20, -4, 0, 1, 20}
    signs = [lambda: ClipRewardEnv(pendulum_env())]
    assert rewards_of(DummyVecEnv(signs), demos) == {-1, 0, 1}
    # VecNormalize divides both alike, when they are drawn.
    assert rewards_of(VecNormalize(DummyVecEnv(bounded)), demos) == {-5, -4, 0, 1, 20}


def test_rewards_that_goals_decide_go_through_them_too(line, demonstrations):
    demos = demonstrations("goal", rewards=False)
    assert rewards_of(DummyVecEnv([lambda: Doubled(line("goal"))]), demos) == {-2, 0}


class OfGoals(Doubled):
    """Gives doubled rewards for other goals too."""

    def compute_reward(self, *asked):
        return 2 * self.env.get_wrapper_attr("compute_reward")(*asked)


def test_rewards_that_a_wrapper_computes_from_goals_are_as_it_computes_them(line, demonstrations):
    env = DummyVecEnv([lambda: Doubled(OfGoals(Doubled(line("goal"))))])
    assert rewards_of(env, demonstrations("goal", rewards=False)) == {-4, 0}
    assert rewards_of(env, demonstrations("goal")) == {-8, 0}
    both = demonstrations("goal"), demonstrations("goal", rewards=False)
    mixed = dataclasses.replace(both[0], episodes=[e for each in both for e in each.episodes])
    assert rewards_of(env, mixed) == {-8, -4, 0}


class OfAction(gym.RewardWrapper):
    def step(self, action):
        self.cost = abs(action).sum()
        return super().step(action)

    def reward(self, reward):
        return reward - self.cost


class Shaped(Doubled):
    """Overrides the method of one that looks at rewards alone."""

    def reward(self, reward):
        return super().reward(reward) - self.unwrapped.place[0]


class Counting(gym.RewardWrapper):
    met = 0

    def reward(self, reward):
        self.met += 1
        return reward / self.met


class OfStep(gym.RewardWrapper):
    def step(self, action):
        seen, reward, *rest = super(gym.RewardWrapper, self).step(action)
        return seen, 2 * reward, *rest


def failing(reward):
    raise ValueError(reward)


class OwnTransform(gym.wrappers.TransformReward):
    def step(self, action):
        return self.env.step(action)


@pytest.mark.parametrize(
    "wrapper",
    [OfAction, Shaped, Counting, OfStep, lambda env: OwnTransform(env, failing)],
    ids=["action", "state", "past", "step", "overridden"],
)
def test_rewards_stay_where_a_wrapper_may_look_at_more_than_them(line, demonstrations, wrapper):
    wrapped = wrapper(line("box"))
    env = DummyVecEnv([lambda: gym.wrappers.ClipReward(Doubled(wrapped), -1.5, 1.5)])
    env.reset()
    name = type(wrapped).__name__
    with pytest.warns(UserWarning, match=rf"test\.npz: .* by {name}: .*of_reward_alone") as said:
        assert rewards_of(env, demonstrations("box")) == {-1.5, 0}
    assert len(said) == 1
    assert getattr(wrapped, "met", 0) == 0


def test_rewards_that_change_as_the_environment_is_met_are_refused(line, demonstrations):
    env = DummyVecEnv([lambda: gym.wrappers.NormalizeReward(line("box"))])
    with pytest.raises(DemonstrationError, match=r"NormalizeReward .*; VecNormalize does"):
        begun(env, demonstrations("box"))


def test_rewards_of_wrappers_in_other_processes_are_refused(line, demonstrations):
    env = SubprocVecEnv([lambda: Doubled(line("box"))], start_method="fork")
    try:
        with pytest.raises(DemonstrationError, match=r"in other processes.*; use DummyVecEnv"):
            begun(env, demonstrations("box"))
    finally:
        env.close()


def few_steps(save, *settings):
    settings = ("learning_starts=10", "batch_size=8", "policy_kwargs.net_arch=[8]", *settings)
    few = {"timesteps": 20, "eval_episodes": 1, "eval_freq": 0, "seed": 0}
    return TrainingRequest(agent="td3", env_id="Pendulum-v1", save=save, overrides=settings, **few)


def test_what_other_processes_do_not_change_is_refused_before_a_run_begins(tmp_path):
    given = f"demonstrations={pendulum(tmp_path / 'a.npz')}", f"env_wrapper={__name__}.Doubled"
    request = few_steps(tmp_path / "runs", *given)
    request = dataclasses.replace(request, vec_env="subproc", trust=True)
    with pytest.raises(InputError, match=r"in other processes.*--vec-env dummy$"):
        train(request)
    assert not (tmp_path / "runs").exists()


def assert_true_rewards(episode):
    cosine, sine, speed = episode.observations["observation"][:-1].T
    cost = np.arctan2(sine, cosine) ** 2 + 0.1 * speed**2
    assert -episode.rewards == pytest.approx(cost + 0.001 * episode.actions[:, 0] ** 2, abs=1e-3)


def test_what_a_run_with_wrappers_records_teaches_others(tmp_path):
    wrapped = ["frame_stack=2", f"env_wrapper={__name__}.Doubled"]
    request = few_steps(tmp_path, *wrapped, f"demonstrations={pendulum(tmp_path / 'a.npz')}")
    folder = train(dataclasses.replace(request, trust=True)).folder
    record("Pendulum-v1", str(folder), tmp_path / "own.npz", episodes=1, trust=True)
    (episode,) = load_demonstrations(tmp_path / "own.npz").episodes
    assert episode.observations["observation"].shape == (201, 3)
    assert_true_rewards(episode)
    train(few_steps(tmp_path, "frame_stack=2", f"demonstrations={tmp_path / 'own.npz'}"))
    train(few_steps(tmp_path, f"demonstrations={tmp_path / 'own.npz'}"))


def test_a_run_that_normalises_rewards_records_the_true_ones(tmp_path):
    wrapped = f"env_wrapper=[gymnasium.wrappers.NormalizeReward, {__name__}.Doubled]"
    folder = train(dataclasses.replace(few_steps(tmp_path, wrapped), trust=True)).folder
    record("Pendulum-v1", str(folder), tmp_path / "own.npz", episodes=1, trust=True)
    (episode,) = load_demonstrations(tmp_path / "own.npz").episodes
    assert_true_rewards(episode)


def test_what_cannot_be_learned_from_is_refused_before_a_run_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pyrl"])
    acs, obs = np.empty(1, object), np.empty(1, object)
    acs[0], obs[0] = [np.zeros(1)] * 10, [np.zeros(3)] * 11
    np.savez(tmp_path / "base.npz", acs=acs, obs=obs)
    given = ["td3-train", "Pendulum-v1", "--timesteps", "20", "--demos", "base.npz"]
    assert run(given) == 2
    said = capsys.readouterr().err
    assert "base.npz: episode 0: rewards: missing, and the environment has no goal" in said
    assert said.count("\n") == 1
    pendulum(tmp_path / "stacked.npz", observations={"observation": np.zeros((21, 6))})
    stacked = [*given[:-1], "stacked.npz", "--set", "frame_stack=2"]
    assert run(stacked) == 2
    assert "shape (6,), the environment has (3,)" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"base.npz", "stacked.npz"}
