"""Environments side by side, as trainings and evaluations have them."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from pyrl_sb3.config import read_experiment
from pyrl_sb3.training import environments
from pyrl_sb3.training.environments import env_spec, newest_ids, vector_env
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.hyperparams import packaged_config
from pyrl_sb3.training.outermost import Outermost

ENV_ID = "Noted-v3"
made = []


class Noted(gym.Env):
    """Notes how it is used."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    training = True
    fails = False

    def __init__(self, render_mode=None):
        self.render_mode, self.seeds, self.closed = render_mode, [], 0
        self.action_space = gym.spaces.Box(-1, 1, (1,))
        made.append(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.fails:
            raise RuntimeError("stuck")
        self.seeds.append(seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        if self.fails:
            raise RuntimeError("stuck")
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def close(self):
        self.closed += 1


class Told(gym.Wrapper):
    """Has a `training` of its own."""

    def __init__(self, env):
        super().__init__(env)
        self.training = True


def fail(*_, **__):
    raise ValueError("not these")


@pytest.fixture(autouse=True)
def _registered():
    made.clear()
    before = {*gym.registry}
    gym.register(ENV_ID, Noted, max_episode_steps=9)
    yield
    for env_id in {*gym.registry} - before:
        if not isinstance(gym.registry[env_id].entry_point, str):  # that of an installed package
            del gym.registry[env_id]


def experiment(*overrides):
    return read_experiment(packaged_config("sac"), "sac", ENV_ID, overrides=overrides, trust=True)


def test_each_has_a_seed_of_its_own_for_its_actions_too():
    env = vector_env(ENV_ID, 3, 7, experiment())
    env.reset()
    assert [each.seeds for each in made] == [[7], [8], [9]]
    drawn = [float(each.action_space.sample()[0]) for each in made]
    assert len({*drawn}) == 3
    env.seed(8)
    env.reset()
    assert [float(each.action_space.sample()[0]) for each in made[:2]] == drawn[1:]
    env.reset()
    assert [each.seeds for each in made] == [[7, 8, None], [8, 9, None], [9, 10, None]]
    env.close()
    assert [each.closed for each in made] == [1, 1, 1]


@pytest.mark.parametrize("training", [True, False])
def test_all_that_asks_is_told_of_evaluations(training):
    gym.register("Told-v0", lambda **options: Told(Noted(**options)))
    env = vector_env("Told-v0", 1, 0, experiment(), training=training)
    found, inner = [], env.envs[0]
    while isinstance(inner, gym.Wrapper):
        found += [vars(inner)["training"]] if "training" in vars(inner) else []
        inner = inner.env
    assert found == [training]
    assert inner.training is training


def test_they_are_opened_anew_below_their_monitors():
    env = vector_env(ENV_ID, 2, 7, experiment())
    env.reset()
    monitors = list(env.envs)
    env.renew()
    assert env.envs == monitors
    assert [each.closed for each in made] == [1, 1, 0, 0]
    env.seed(5)
    env.reset()
    assert [each.seeds for each in made] == [[7], [8], [5], [6]]
    other = vector_env(ENV_ID, 1, 6, experiment())
    other.reset()
    assert made[3].action_space.sample() == made[4].action_space.sample()


class Shifted(gym.ObservationWrapper):
    """Has a space of its own."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 2, (2,))

    def observation(self, observation):
        return observation + 1


def test_options_are_passed_on_only_where_there_are_some():
    """As SB3 does: not all wrappers know them."""
    given = []

    class Old(gym.Wrapper):
        def reset(self, seed=None):
            given.append(seed)
            return self.env.reset(seed=seed)

    env = Outermost(Old(Noted()))
    env.reset(seed=3)
    env.reset()
    assert given == [3, None]


def test_what_they_draw_from_their_spaces_follows_from_the_seed(monkeypatch):
    gym.register("Shifted-v0", lambda **options: Shifted(Noted(**options)))

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    monkeypatch.setattr(Noted, "reset", reset)
    monkeypatch.setattr(Noted, "observation_space", gym.spaces.Box(-1, 1, (2,)))
    env = vector_env("Shifted-v0", 2, 7, experiment())
    first, second = env.reset(), env.reset()
    assert not np.array_equal(first, second)
    for seed, same in ((7, True), (8, False)):
        env.renew()
        env.seed(seed)
        assert np.array_equal(env.reset(), first) == same
        assert np.array_equal(env.reset(), second) == same


def test_whatever_draws_has_numbers_of_its_own():
    """Environments, their spaces, wrappers' spaces, and a model's random actions, by one seed."""
    env = Outermost(Shifted(Noted()))
    env.reset(seed=7)
    drawn = [
        env.action_space.sample()[0],
        env.observation_space.sample()[0] - 1,
        env.unwrapped.observation_space.sample()[0],
        gym.spaces.Box(-1, 1, (2,), seed=7).sample()[0],  # as a model seeds its own
    ]
    assert env.np_random.uniform(-1, 1) == pytest.approx(drawn[-1])
    assert len({round(float(each), 5) for each in drawn}) == len(drawn)


class NoSeed(gym.spaces.Box):
    def seed(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    "spaces", [{}, {"action_space": None}, {"action_space": NoSeed(-1, 1, (2,))}]
)
def test_spaces_below_that_cannot_be_seeded_are_left_alone(spaces):
    class Bare(gym.Env):
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(2, np.float32), {}

    class Covers(gym.Wrapper):
        def __init__(self, env):
            super().__init__(env)
            self.action_space = self.observation_space = gym.spaces.Box(-1, 1, (2,))

    bare = Bare()
    vars(bare).update(spaces)
    env = Outermost(Covers(bare))
    env.reset(seed=3)
    first = env.action_space.sample()
    env.reset(seed=3)
    assert np.array_equal(env.action_space.sample(), first)


def test_actions_go_on_where_all_environments_of_a_class_have_one_space(monkeypatch):
    shared = gym.spaces.Discrete(1000)
    monkeypatch.setattr(Noted, "__init__", lambda self, **_: made.append(self))
    monkeypatch.setattr(Noted, "action_space", shared, raising=False)
    monkeypatch.setattr(Noted, "seeds", [], raising=False)
    monkeypatch.setattr(Noted, "closed", 0, raising=False)
    env = vector_env(ENV_ID, 2, 7, experiment())
    env.action_space.seed(3)  # as a model's does, for its random actions
    drawn = [env.action_space.sample() for _ in range(5)]
    env.renew()
    drawn += [env.action_space.sample() for _ in range(5)]
    expected = gym.spaces.Discrete(1000, seed=3)
    assert drawn == [expected.sample() for _ in range(10)]


def test_what_they_raise_is_noted():
    env = vector_env(ENV_ID, 1, 0, experiment())
    env.reset()
    assert env.failure is None
    made[0].fails = True
    with pytest.raises(RuntimeError) as caught:
        env.step([np.zeros(1)])
    assert env.failure is caught.value
    again = vector_env(ENV_ID, 1, 0, experiment())
    assert again.failure is None
    made[1].fails = True
    with pytest.raises(RuntimeError) as caught:
        again.reset()
    assert again.failure is caught.value


def test_what_comes_of_opening_them_anew_is_noted():
    env = vector_env(ENV_ID, 1, 0, experiment())
    gym.registry[ENV_ID].entry_point = fail
    with pytest.raises(ValueError, match="not these") as caught:
        env.renew()
    assert env.failure is caught.value


def test_they_are_wrapped_in_order_and_closed_where_that_fails(tmp_path):
    env = vector_env(ENV_ID, 1, 0, experiment("frame_stack=2"), normalize=VecNormalize)
    assert isinstance(env, VecNormalize)
    assert isinstance(env.venv, VecFrameStack)
    assert env.observation_space.shape == (4,)

    with pytest.raises(ValueError, match="not these"):
        vector_env(ENV_ID, 2, 0, experiment(), normalize=fail)
    assert [each.closed for each in made] == [0, 1, 1]


def test_each_is_drawn_and_has_a_log_of_its_own(tmp_path):
    env = vector_env(ENV_ID, 2, 0, experiment(), monitor=tmp_path, render_mode="rgb_array")
    assert [each.render_mode for each in made] == ["rgb_array"] * 2
    env.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.monitor.csv", "1.monitor.csv"]
    env = vector_env(ENV_ID, 2, 0, experiment(), monitor=tmp_path, continued=20)
    assert [each.total_steps for each in env.envs] == [10, 10]
    env.close()


def test_of_each_environment_the_newest_is_listed():
    for version in (1, 10, 2):
        gym.register(f"Noted-v{version}", Noted)
    gym.register("mine/Noted-v1", Noted)
    found = [name for name in newest_ids() if "Noted" in name]
    assert found == ["Noted-v10", "mine/Noted-v1"]


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    there = environments.find_spec
    monkeypatch.setattr(
        environments, "find_spec", lambda name: None if name == "highway_env" else there(name)
    )
    with pytest.raises(InputError) as caught:
        env_spec("parking-v99")
    assert str(caught.value) == (
        "no environment 'parking-v99': install highway-env with pip install 'pyrl-sb3[highway]'"
    )
