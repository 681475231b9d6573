"""Sub-goals: what relay-goals asks for, and what hindsight makes of it."""

import pickle
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from pyrl_sb3 import HerReplayBuffer
from pyrl_sb3.config import read_experiment
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.training.environments import vector_env
from pyrl_sb3.training.hyperparams import packaged_config
from pyrl_sb3.training.relay import RelayGoals


class Arm(gym.Env):
    """A hand that takes along whatever is within 5 cm of it; 12 steps.

    The fourth entry of its observation counts all observations ever made; `log` has them by number.
    """

    def __init__(self, owner=0):
        box = lambda n: spaces.Box(-np.inf, np.inf, (n,), np.float64)  # noqa: E731
        self.observation_space = spaces.Dict(
            observation=box(4), achieved_goal=box(3), desired_goal=box(3)
        )
        self.action_space = spaces.Box(-1, 1, (3,), np.float32)
        self.number, self.log, self.episode = 10_000 * owner, {}, 0

    def observed(self):
        self.number += 1
        self.log[self.number] = self.episode, self.hand.copy(), self.thing.copy()
        return {
            "observation": np.append(self.hand, self.number),
            "achieved_goal": self.thing.copy(),
            "desired_goal": self.goal.copy(),
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.hand, self.steps = np.zeros(3), 0
        self.thing, self.goal = self.np_random.uniform(-0.1, 0.1, (2, 3))
        return self.observed(), {}

    def step(self, action):
        self.steps += 1
        taken = np.linalg.norm(self.hand - self.thing) < 0.05
        self.hand = self.hand + 0.05 * np.asarray(action, float)
        self.thing = self.thing + 0.05 * taken * np.asarray(action, float)
        done = bool(np.linalg.norm(self.thing - self.goal) < 0.05)
        return self.observed(), 7.0, False, self.steps == 12, {"is_success": done}

    def compute_reward(self, achieved_goal, desired_goal, info):
        raise AssertionError("sub-goals have rewards of their own")


class Differing(RelayGoals):
    """The same, and `difference` in observations: what is left to the goal asked for."""

    def __init__(self, env):
        super().__init__(env)
        left = spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.observation_space = spaces.Dict({**self.observation_space, "difference": left})

    def _asked(self, observation):
        found = super()._asked(observation)
        return {**found, **self.goal_features(found["achieved_goal"], found["desired_goal"])}

    def goal_features(self, achieved_goal, desired_goal):
        thing = desired_goal[..., 3:] > 0.5
        asked = np.where(thing, achieved_goal[..., :3], achieved_goal[..., 3:])
        return {"difference": desired_goal[..., :3] - asked}


def collected(env, steps=400, **kwargs):
    """What a model that acts at random has in its buffer."""
    model = SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs=kwargs,
        learning_starts=10**6,
        buffer_size=1000,
        policy_kwargs={"net_arch": [4]},
        seed=0,
    )
    model.learn(steps)
    return model


def relayed(*owners):
    return DummyVecEnv([lambda owner=owner: Differing(Arm(owner)) for owner in owners])


def test_reaching_is_asked_for_and_rewarded_first():
    env = RelayGoals(Arm(), guided=1.0, near=0.06, within=0.05)
    env.reset(seed=0)
    arm = env.unwrapped
    arm.thing, arm.goal = np.array([0.2, 0, 0]), np.array([0.5, 0, 0])
    still = np.zeros(3)
    observation = env.step(still)[0]
    assert observation["desired_goal"].tolist() == [0.2, 0, 0, 0]
    assert observation["achieved_goal"].tolist() == [0.2, 0, 0, 0, 0, 0]
    arm.hand = np.array([0.151, 0, 0])  # nearer than 0.06, not nearer than 0.8 of it
    observation, reward, *_ = env.step(still)
    assert reward == -1
    assert observation["desired_goal"].tolist() == [0.5, 0, 0, 1]
    arm.thing = np.array([0.46, 0, 0])
    observation, reward, _, _, info = env.step(still)
    assert (reward, info["is_success"]) == (0, True)
    assert observation["desired_goal"][3] == 1, "what is there is left alone"
    arm.thing, arm.hand = np.array([0.1, 0, 0]), np.array([0.13, 0, 0])
    env.goal = np.array([0.1, 0, 0, 0.0])
    assert env.step(still)[1] == 0, "the gripper is where it was to be"


def test_guided_steps_have_their_share_and_follow_the_seed():
    def flags(seed, guided=0.6, training=True):
        """Which steps of 60 episodes ask for the object's goal, `(60, 12)`."""
        env = RelayGoals(Arm(), guided=guided, near=0.0)
        env.training = training
        found = []
        for episode in range(60):
            env.reset(seed=seed if episode == 0 else None)
            env.unwrapped.goal = np.full(3, 9.0)
            found.append([env.step(np.zeros(3))[0]["desired_goal"][3] for _ in range(12)])
        return np.array(found)

    assert np.array_equal(flags(1), flags(1))
    assert not np.array_equal(flags(1), flags(2))
    assert flags(1).mean() == pytest.approx(0.4, abs=0.07)
    assert flags(1, guided=0.0).all()
    assert not flags(1, guided=1.0).any()
    assert flags(1, guided=1.0, training=False).all()


def test_agents_are_evaluated_on_their_own():
    overrides = ["env_wrapper=relay-goals"]
    experiment = read_experiment(
        packaged_config("her-sac"), "her-sac", "FetchPush-v4", overrides=overrides
    )
    for training in (True, False):
        env = vector_env("FetchPush-v4", 2, 0, experiment, training=training)
        assert env.get_attr("training") == [training] * 2
        env.close()


def test_other_goals_are_refused():
    arm = Arm()
    arm.observation_space["achieved_goal"] = spaces.Box(-1, 1, (2,))
    with pytest.raises(ValueError, match="an achieved_goal of three coordinates"):
        RelayGoals(arm)
    with pytest.raises(ValueError, match="an achieved_goal of three coordinates"):
        RelayGoals(gym.make("Pendulum-v1"))
    arm.observation_space = spaces.Dict(observation=spaces.Box(-1, 1, (3,)))
    with pytest.raises(ValueError, match="an achieved_goal of three coordinates"):
        RelayGoals(arm)


def test_hindsight_asks_for_the_object_mostly_where_it_moved():
    env = RelayGoals(Arm(), moved=0.02)
    before = np.zeros((1000, 6))
    later = np.tile([0.0, 0, 0, 4, 5, 6], (1000, 1))
    later[500:, 0] = 0.03
    goals = env.hindsight_goals(before, later, np.tile(np.linspace(0, 0.999, 500), 2))
    thing = goals[:, 3] == 1
    assert (thing[:500].mean(), thing[500:].mean()) == (0.2, 0.8)
    assert (goals[thing & (np.arange(1000) >= 500), :3] == [0.03, 0, 0]).all()
    assert (goals[~thing, :3] == [4, 5, 6]).all()


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("owners", [(0,), (0, 1)])
def test_batches_are_those_of_their_goals(owners, n_steps):
    env = relayed(*owners)
    asked = {}
    for each in env.envs:
        each._asked = lambda o, ask=each._asked: _noted(asked, ask(o))
    buffer = collected(env, n_steps=n_steps, gamma=0.5, n_sampled_goal=3).replay_buffer
    batch = buffer.sample(400)
    now, then = (
        {key: value.numpy().astype(float) for key, value in each.items()}
        for each in (batch.observations, batch.next_observations)
    )
    log = {number: row for each in env.envs for number, row in each.unwrapped.log.items()}
    goals = now["desired_goal"]
    assert np.array_equal(goals, then["desired_goal"])
    real = [np.allclose(goals[i], asked[int(now["observation"][i, 3])]) for i in range(400)]
    assert all(real[:100])
    assert sum(real[100:]) < 30, "the others have goals that nobody asked for"
    for i in range(400):
        first, last = (int(each["observation"][i, 3]) for each in (now, then))
        goal, kind = goals[i, :3], 2 if goals[i, 3] else 1
        allowed = 0.05 if goals[i, 3] else 0.048
        ends = [log[number][kind] for number in range(first + 1, last + 1)]
        rewards = [-float(np.linalg.norm(end - goal) > allowed) for end in ends]
        assert batch.rewards[i].item() == sum(0.5**j * r for j, r in enumerate(rewards))
        for each, number in ((now, first), (then, last)):
            assert each["difference"][i] == pytest.approx(goal - log[number][kind], abs=1e-6)
        if i >= 100:
            later = [row[kind] for n, row in log.items() if n > first and row[0] == log[first][0]]
            assert min(np.abs(goal - place).max() for place in later) < 1e-6


def _noted(asked, observation):
    asked[int(observation["observation"][3])] = observation["desired_goal"]
    return observation


class Kinds(Arm):
    """What is achieved is the number of the step, as a goal; the environment's own goals are -1."""

    def observed(self):
        places = {"achieved_goal": self.steps, "desired_goal": -1}
        return {**super().observed(), **{key: np.full(3, float(n)) for key, n in places.items()}}

    def hindsight_goals(self, achieved, later, uniform):
        return later

    def compute_reward(self, achieved_goal, desired_goal, info):
        return achieved_goal[..., 0] - desired_goal[..., 0]


@pytest.mark.parametrize("n_steps", [1, 3])
def test_kinds_of_goals_are_dealt_among_the_rows_that_get_new_ones(n_steps):
    mix = {"real": 3, "future": 1, "final": 1}
    buffer = collected(DummyVecEnv([Kinds]), 12, n_steps=n_steps, goal_mix=mix).replay_buffer
    goals = buffer.sample(500).observations["desired_goal"][:, 0].numpy()
    assert (goals[:300] == -1).all()
    assert (goals[300:] > 0).all()
    assert 20 < (goals[300:400] == 12).sum() < 50, "of future goals few are the last"
    assert (goals[400:] == 12).all()


def test_normalised_differences_are_those_of_new_goals():
    env = VecNormalize(relayed(0), norm_reward=False)
    model = collected(env)
    raw = relayed(0).envs[0]
    batch = model.replay_buffer.sample(200, env=env)
    for observations in (batch.observations, batch.next_observations):
        known = {key: value.numpy() for key, value in observations.items()}
        plain = env.unnormalize_obs(known)
        expected = raw.goal_features(plain["achieved_goal"], plain["desired_goal"])
        assert plain["difference"] == pytest.approx(expected["difference"], abs=1e-5)


def test_features_of_goals_change_nothing_else():
    batches = []
    for kind in (Differing, RelayGoals):
        env = DummyVecEnv([lambda each=kind: each(Arm())])
        batches.append(collected(env, 100).replay_buffer.sample(100))
    both, less = batches
    for name in ("observations", "next_observations"):
        one, other = (getattr(batch, name) for batch in (both, less))
        assert set(one) - set(other) == {"difference"}
        assert all(one[key].equal(other[key]) for key in other)
    assert both.rewards.equal(less.rewards)


def test_other_processes_are_asked_and_draw_nothing():
    def batch(kind):
        env = kind([lambda: RelayGoals(Arm())])
        model = collected(env, 100, seed=3)
        found = model.replay_buffer.sample(50), model.replay_buffer.sample(50)
        env.close()
        return np.stack([each.observations["desired_goal"].numpy() for each in found])

    here, there = batch(DummyVecEnv), batch(partial(SubprocVecEnv, start_method="fork"))
    assert np.array_equal(here, there)
    assert not np.array_equal(here[0], here[1])


def test_without_an_environment_nothing_is_made_up():
    buffer = pickle.loads(pickle.dumps(collected(relayed(0), 60).replay_buffer))
    with pytest.raises(RuntimeError, match="call set_env"):
        buffer.sample(10)
    buffer.set_env(relayed(0))
    assert buffer.sample(10).observations["difference"].shape == (10, 3)


def test_the_registry_has_it():
    assert get_plugin_manager().load("env-wrapper", "relay-goals") is RelayGoals
