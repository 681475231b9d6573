"""How learning with demonstrations begins, once in the life of a model."""

import dataclasses

import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common import buffers
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage

import pyrl_sb3
from pyrl_sb3 import SAC, TD3
from pyrl_sb3.algorithms.cloning import Cloning
from pyrl_sb3.buffers.demofiles import save_demonstrations
from pyrl_sb3.buffers.demonstrations import DemonstrationError


def build(env, demonstrations, kind=TD3, **keywords):
    settings = {
        "replay_buffer_class": pyrl_sb3.ReplayBuffer,
        "learning_starts": 5,
        "batch_size": 16,
        "buffer_size": 100,
        "policy_kwargs": {"net_arch": [8]},
        "seed": 0,
        **keywords,
    }
    return kind(kind.policy_aliases["MlpPolicy"], env, demonstrations=demonstrations, **settings)


@pytest.mark.parametrize("kind", ["channels-last", "keyed"])
def test_images_are_recorded_as_the_environment_shows_them(line, demonstrations, kind):
    demos, keyed = demonstrations(kind), kind == "keyed"
    buffer = pyrl_sb3.DictReplayBuffer if keyed else pyrl_sb3.ReplayBuffer
    model = build(
        DummyVecEnv([lambda: line(kind)]),
        demos,
        replay_buffer_class=buffer,
        demonstration_kwargs={"warm_start": 1},
    )
    model.learn(8)
    drawn = model._demo_buffer.sample(50).observations
    views = (drawn["view"] if keyed else drawn).numpy()
    key = "view" if keyed else "observation"
    recorded = np.concatenate([each.observations[key] for each in demos.episodes])
    recorded = recorded.transpose(0, 3, 1, 2)
    assert views.shape[1:] == (3, 36, 37)
    assert all((view == recorded).all(axis=(1, 2, 3)).any() for view in views)


@pytest.mark.parametrize("terminated", [True, False])
def test_an_episode_that_ran_out_of_time_ends_in_a_timeout(line, demonstrations, terminated):
    demos, env = demonstrations("box", 1), line("box")
    episodes = [dataclasses.replace(each, terminated=terminated) for each in demos.episodes]
    buffer = pyrl_sb3.ReplayBuffer(10, env.observation_space, env.action_space)
    dataclasses.replace(demos, episodes=episodes).fill(buffer)
    assert buffer.dones[:5, 0].tolist() == [0, 0, 0, 0, 1]
    assert buffer.timeouts[:5, 0].tolist() == [0, 0, 0, 0, not terminated]
    batch = buffer.sample_at(np.arange(5), np.zeros(5, int))
    assert batch.dones.ravel().tolist() == [0, 0, 0, 0, terminated]


@pytest.mark.parametrize("inside", [True, False])
def test_statistics_of_images_begin_with_demonstrations(line, demonstrations, inside):
    env = DummyVecEnv([lambda: line("channels-last")])
    wrappers = [VecTransposeImage, VecNormalize] if inside else [VecNormalize]
    for wrapper in wrappers:
        env = wrapper(env)
    model = build(env, demonstrations("channels-last"), learning_starts=100)
    if not inside:  # SB3 stores what is not transposed
        model._setup_learn(1)
    else:
        model.learn(1)
    assert env.obs_rms.mean.shape == ((3, 36, 37) if inside else (36, 37, 3))
    assert env.obs_rms.count > 24


@pytest.fixture
def warm_starts(monkeypatch):
    """The models that were started, each time."""
    started, warm_start = [], Cloning._warm_start

    def noted(self):
        started.append(self)
        warm_start(self)

    monkeypatch.setattr(Cloning, "_warm_start", noted)
    return started


def test_a_model_begins_with_them_once(tmp_path, line, demonstrations, warm_starts):
    path = tmp_path / "demos.npz"
    save_demonstrations(demonstrations("box"), path)
    env = VecNormalize(DummyVecEnv([lambda: line("box")]), norm_reward=False)
    model = build(env, str(path), demonstration_kwargs={"warm_start": 2}, learning_starts=1000)
    model.learn(10)
    demonstrated = 4 * 6
    assert env.obs_rms.count == pytest.approx(demonstrated + 12, abs=2)
    model.learn(10)
    model.set_env(env)
    model.learn(10)
    model.save(tmp_path / "model")
    again = TD3.load(tmp_path / "model", env=env)
    again.learn(10)
    assert again._demo_buffer is not None
    assert warm_starts == [model]
    assert env.obs_rms.count == pytest.approx(demonstrated + 4 * 11, abs=3)


def test_a_model_that_has_learned_is_not_started_again(line, demonstrations, warm_starts):
    model = build(DummyVecEnv([lambda: line("box")]), None)
    model.learn(20)
    model.demonstrations = demonstrations("box")
    model.learn(10)
    assert not warm_starts
    assert model._demo_buffer is not None


@pytest.mark.parametrize("kind", ["box", "goal"])
def test_the_first_observation_is_normalised_with_the_demonstrations(line, demonstrations, kind):
    class First(BaseCallback):
        def _on_training_start(self):
            self.seen = self.model._last_obs.copy()
            self.expected = env.normalize_obs(self.model._last_original_obs)

        def _on_step(self):
            return True

    env, first = VecNormalize(DummyVecEnv([lambda: line(kind)]), norm_reward=False), First()
    outer = env if kind == "box" else VecTransposeImage(env)  # which finds no image
    model = build(outer, demonstrations(kind), replay_buffer_class=None)
    model.learn(3, callback=first)
    seen, expected = ({"box": o} if kind == "box" else o for o in (first.seen, first.expected))
    for key in expected:
        assert seen[key] == pytest.approx(expected[key])
    assert max(abs(values).max() for values in expected.values()) > 0.05


def test_episodes_that_were_not_saved_are_missed_aloud(tmp_path, line, demonstrations):
    env = DummyVecEnv([lambda: line("box")])
    demos = dataclasses.replace(demonstrations("box"), source="mine.npz")
    model = build(env, demos)
    model.learn(8)
    model.save(tmp_path / "model")
    with pytest.warns(UserWarning, match=r"demonstrations of mine\.npz were not saved"):
        TD3.load(tmp_path / "model", env=env).learn(2)
    again = TD3.load(tmp_path / "model", env=env, demonstrations=demos)
    again.learn(8)
    assert again._demo_buffer is not None
    again.save(tmp_path / "model")
    with pytest.warns(UserWarning, match="load it with demonstrations="):
        TD3.load(tmp_path / "model", env=env).learn(2)


@pytest.mark.parametrize(("batch_size", "share"), [(8, 0.99), (2, 0.9), (2, 0.01)])
def test_a_batch_has_rows_of_both(line, demonstrations, batch_size, share):
    model = build(
        DummyVecEnv([lambda: line("box")]),
        demonstrations("box"),
        batch_size=batch_size,
        demonstration_kwargs={"share": share},
    )
    model.learn(8)
    batch = model._sample(batch_size)
    assert 1 <= batch.demos < batch_size == len(batch.actions)


def test_a_batch_of_one_has_no_room_for_both(line, demonstrations):
    model = build(DummyVecEnv([lambda: line("box")]), demonstrations("box"), batch_size=1)
    with pytest.raises(DemonstrationError, match="batch_size=1 has no room for demonstrations"):
        model.learn(1)


@pytest.mark.parametrize("kind", [TD3, SAC])
def test_returns_of_several_steps(line, demonstrations, kind):
    model = build(
        DummyVecEnv([lambda: line("box")]), demonstrations("box"), kind, n_steps=3, gamma=0.9
    )
    model.learn(10)
    assert model.n_steps == 3
    for buffer in (model.replay_buffer, model._demo_buffer):
        discounts = np.unique(buffer.sample(200).discounts.numpy().round(4))
        assert discounts == pytest.approx([0.729, 0.81, 0.9])


@pytest.mark.parametrize(
    ("kind", "buffer"), [("box", "ReplayBuffer"), ("keyed", "DictReplayBuffer")]
)
def test_the_buffer_is_one_of_ours_where_none_is_named(line, demonstrations, kind, buffer):
    env = DummyVecEnv([lambda: line(kind)])
    given = {"replay_buffer_class": None, "n_steps": 3}
    model = build(env, demonstrations(kind), **given)
    assert type(model.replay_buffer) is getattr(pyrl_sb3, buffer)
    model.learn(8)
    assert type(model._demo_buffer) is type(model.replay_buffer)
    assert model._demo_buffer.n_steps == 3
    without = build(env, None, replay_buffer_class=None)
    assert type(without.replay_buffer).__module__ == "stable_baselines3.common.buffers"


DEFAULTS = [
    ("box", "MlpPolicy", "ReplayBuffer"),
    ("keyed", "MultiInputPolicy", "DictReplayBuffer"),
]


@pytest.mark.parametrize("made_by", [TD3, stable_baselines3.TD3], ids=["ours", "sb3"])
@pytest.mark.parametrize(("kind", "policy", "name"), DEFAULTS, ids=["box", "keyed"])
def test_a_model_without_demonstrations_may_be_given_them_as_it_is_loaded(
    tmp_path, line, demonstrations, made_by, kind, policy, name
):
    env, settings = DummyVecEnv([lambda: line(kind)]), {"buffer_size": 100, "learning_starts": 5}
    made_by(policy, env, **settings).learn(4).save(tmp_path / "unnamed")
    again = TD3.load(tmp_path / "unnamed", env=env, demonstrations=demonstrations(kind))
    again.learn(8)
    assert type(again.replay_buffer) is type(again._demo_buffer) is getattr(pyrl_sb3, name)
    without = TD3.load(tmp_path / "unnamed", env=env)
    assert type(without.replay_buffer) is getattr(buffers, name)
    n_steps = 3 if kind == "box" else 1  # SB3 has none of several steps for dictionaries
    made_by(policy, env, **settings, n_steps=n_steps).save(tmp_path / "unnamed")
    again = TD3.load(tmp_path / "unnamed", env=env, demonstrations=demonstrations(kind))
    assert again.learn(8)._demo_buffer.n_steps == n_steps
    # A class that was named stays.
    named = {**settings, "replay_buffer_class": getattr(buffers, name)}
    TD3(policy, env, **named).save(tmp_path / "named")
    made_by(policy, env, **settings).save(tmp_path / "unnamed")
    for file, told in {
        "named": {},
        "unnamed": {"replay_buffer_class": getattr(buffers, name)},
    }.items():
        again = TD3.load(tmp_path / file, env=env, demonstrations=demonstrations(kind), **told)
        with pytest.raises(DemonstrationError, match=rf"set replay_buffer_class=pyrl_sb3\.{name}"):
            again.learn(8)


@pytest.mark.parametrize("made_by", [TD3, stable_baselines3.TD3], ids=["ours", "sb3"])
def test_what_a_model_is_loaded_with_is_its_buffers(tmp_path, line, demonstrations, made_by):
    env, demos = DummyVecEnv([lambda: line("box")]), demonstrations("box")
    settings = {"buffer_size": 100, "batch_size": 8, "policy_kwargs": {"net_arch": [8]}}
    settings["learning_starts"] = 5

    def steps_and_gamma(name, **changes):
        model = TD3.load(tmp_path / name, env=env, demonstrations=demos, **changes).learn(8)
        model.save(tmp_path / "again")
        known = [model.replay_buffer, model._demo_buffer, TD3.load(tmp_path / "again", env=env)]
        return {(each.n_steps, each.gamma) for each in (model, *known)}

    made_by("MlpPolicy", env, **settings, n_steps=3).save(tmp_path / "default")
    assert steps_and_gamma("default") == {(3, 0.99)}
    assert steps_and_gamma("again", n_steps=4) == {(4, 0.99)}
    assert steps_and_gamma("default", n_steps=5) == {(5, 0.99)}
    assert steps_and_gamma("default", n_steps=1) == {(1, 0.99)}
    assert steps_and_gamma("default", gamma=0.5) == {(3, 0.5)}
    named = {"replay_buffer_class": pyrl_sb3.ReplayBuffer, "custom_objects": {"gamma": 0.5}}
    assert steps_and_gamma("default", n_steps=5, **named) == {(5, 0.5)}
    # What is chosen for the buffer stays.
    with pytest.raises(ValueError, match="n_steps=3, and replay_buffer_kwargs has n_steps=2: give"):
        steps_and_gamma("default", replay_buffer_kwargs={"n_steps": 2})


@pytest.mark.parametrize("name", ["HerReplayBuffer", "DictReplayBuffer"])
def test_the_buffer_that_has_the_place_of_sb3s_is_named(line, demonstrations, name):
    stock = getattr(stable_baselines3, name, None) or getattr(buffers, name)
    model = build(DummyVecEnv([line]), demonstrations("goal"), replay_buffer_class=stock)
    with pytest.raises(DemonstrationError, match=rf"set replay_buffer_class=pyrl_sb3\.{name}$"):
        model.learn(8)
