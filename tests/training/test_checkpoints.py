"""Checkpoints: when they are taken, which are kept, and what a training goes on with."""

import errno
import os
import random
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import (
    CallbackList,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pyrl_sb3.buffers import ReplayBuffer
from pyrl_sb3.training.checkpoint import Checkpoint, Moment
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.checkpoints import Checkpoints, restart
from pyrl_sb3.training.randomness import random_states, restore_random_states
from pyrl_sb3.training.renewable import RenewableVecEnv
from pyrl_sb3.training.state import StateError, capture
from pyrl_sb3.training.state_files import read_tree, write_tree


def test_all_generators_go_on(tmp_path):
    space, other = spaces.Box(-1, 1, (2,), seed=1), spaces.Box(-1, 1, (2,), seed=2)
    np.random.normal()  # of the two that it makes, one is kept

    def draw(owned):
        return random.random(), np.random.normal(), th.rand(1).item(), owned.sample().tolist()

    write_tree(random_states(space), tmp_path, "state")
    first = draw(space)
    assert draw(space) != first
    restore_random_states(read_tree(tmp_path, "state"), other)
    assert draw(other) == first


def test_numpys_global_generator_goes_on_of_whatever_kind_it_is():
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(0))
    try:
        states = random_states()
        first = np.random.normal()
        restore_random_states(states)
        assert np.random.normal() == first
    finally:
        np.random.set_bit_generator(before)


@pytest.mark.parametrize(
    ("timesteps", "env_seed", "reset"),
    [(-1, 0, True), (0, -1, True), (1.0, 0, True), (True, 0, True), (0, "1", True), (0, 0, 1)],
)
def test_the_moment_of_a_checkpoint_is_of_whole_numbers_and_a_truth(timesteps, env_seed, reset):
    with pytest.raises(ValueError):
        Moment(timesteps=timesteps, env_seed=env_seed, reset=reset)
    Moment(timesteps=0, env_seed=0, reset=False)


def test_a_checkpoint_of_a_newer_version_asks_for_an_update(tmp_path):
    write_tree({"format": 2}, tmp_path, "state")
    with pytest.raises(StateError) as caught:
        Checkpoint(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has format 2, and this version of pyrl-sb3 reads 1: update pyrl-sb3"
    )


def write(folder, before):
    (folder / "before").write_text(before.name if before else "nothing")


def test_checkpoints_are_kept_in_the_order_of_their_steps_and_what_was_killed_goes(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.by_steps() == {}
    for steps in (9, 20, 100):
        folder.add(steps, write, keep=2)
    assert list(folder.by_steps()) == [20, 100]
    assert folder.latest() == folder.path / "step_100"
    assert (folder.path / "step_100" / "before").read_text() == "step_20"
    for name in (".step_300.part", ".step_9.old"):
        (folder.path / name).mkdir()
    (folder.path / "step_7_of_mine").mkdir()
    folder.add(300, write, keep=2)
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "step_100",
        "step_300",
        "step_7_of_mine",
    ]


def test_a_checkpoint_that_is_there_is_not_written_again_nor_are_others_dropped(tmp_path):
    folder = CheckpointFolder(tmp_path)
    for steps in (1, 2):
        folder.add(steps, write, keep=2)
    assert folder.add(2, lambda *_: pytest.fail("written again"), keep=1) == tmp_path / "step_2"
    assert list(folder.by_steps()) == [1, 2]


def test_what_cannot_be_renamed_is_dropped_too(tmp_path, monkeypatch):
    """Folders of a lower layer of overlayfs, as in Docker's images."""
    rename = Path.rename

    def refused(path, target):
        if not path.name.endswith(".part"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    folder = CheckpointFolder(tmp_path)
    for steps in (1, 2, 3):
        folder.add(steps, write, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_2", "step_3"]


def test_checkpoints_go_into_a_folder_that_is_not_there_yet(tmp_path):
    folder = CheckpointFolder(tmp_path / "run" / "checkpoints")
    assert folder.add(1, write, keep=1).is_dir()


def test_a_checkpoint_that_cannot_be_written_leaves_no_part(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.add(1, write, keep=1)

    def full(part, before):
        (part / "half").touch()
        raise OSError(28, os.strerror(28), str(part / "half"))

    with pytest.raises(OSError) as caught:
        folder.add(2, full, keep=1)
    assert caught.value.filename == str(tmp_path / "step_2" / "half")
    assert [path.name for path in tmp_path.iterdir()] == ["step_1"]


class Noted(gym.Env):
    """Notes how it was reset, and that it was closed."""

    observation_space = action_space = spaces.Box(-1, 1, (1,))

    def __init__(self):
        self.seeds, self.closed = [], False

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        return np.full(1, 0.5, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def close(self):
        self.closed = True


class Noise:
    resets = 0

    def reset(self):
        self.resets += 1


@pytest.fixture
def training():
    """A model between two rollouts, in three environments, as far as a restart sees it."""
    env = VecNormalize(RenewableVecEnv([Noted] * 3, [None] * 3, {}))
    buffer = ReplayBuffer(9, Noted.observation_space, Noted.action_space, n_envs=3)
    zeros = np.zeros((3, 1))
    buffer.add(zeros, zeros, zeros, zeros[:, 0], zeros[:, 0], [{}] * 3)
    return SimpleNamespace(
        env=env,
        get_env=lambda: env,
        get_vec_normalize_env=lambda: env,
        action_noise=Noise(),
        replay_buffer=buffer,
        num_timesteps=30,
        use_sde=False,
        n_envs=3,
    )


def test_a_restart_depends_on_its_seed_alone(training):
    evaluation = EvalCallback(RenewableVecEnv([Noted], [None], {}))
    old = [each.unwrapped for each in training.env.unwrapped.envs]
    restart(training, [evaluation, StopTrainingOnMaxEpisodes(1)], 100)
    assert all(each.closed for each in old)
    new = [each.unwrapped for each in training.env.unwrapped.envs]
    assert not {*map(id, old)} & {*map(id, new)}
    assert [each.seeds for each in new] == [[100], [101], [102]]
    evaluation.eval_env.reset()
    assert evaluation.eval_env.envs[0].unwrapped.seeds == [103]
    assert training._last_original_obs.tolist() == [[0.5]] * 3
    assert training._last_obs.shape == (3, 1)
    assert training._last_obs is not training._last_original_obs
    assert training.action_noise.resets == 1
    assert training.replay_buffer.timeouts[0].tolist() == [1, 1, 1]


def test_evaluations_within_other_callbacks_begin_anew_too(training):
    made = [EvalCallback(RenewableVecEnv([Noted], [None], {})) for _ in range(3)]
    often = EveryNTimesteps(60, CallbackList([StopTrainingOnMaxEpisodes(1), made[0]]))
    outer = EvalCallback(RenewableVecEnv([Noted], [None], {}), callback_after_eval=made[1])
    restart(training, [often, outer, made[2]], 100)
    seeds = []
    for each in (made[0], outer, made[1], made[2]):
        each.eval_env.reset()
        seeds += each.eval_env.envs[0].unwrapped.seeds
    assert seeds == [103, 106, 109, 112]


class Taking(Checkpoints):
    """Notes what it would write."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.taken = []

    def take(self, *, reset=False):
        self.taken.append((self.model.num_timesteps, reset))


def taken(ends, *, rollout=2, steps=24, **options):
    """When, of so many steps with the ends of episodes at some, checkpoints are taken."""
    callback = Taking(Path("nowhere"), **options)
    callback.model = SimpleNamespace(num_timesteps=0)
    callback.locals = {"dones": np.zeros(2, bool)}
    for step in range(1, steps + 1):
        if step % rollout == 1 or rollout == 1:
            callback.on_rollout_start()
        callback.model.num_timesteps = step
        callback.locals["dones"] = np.array([False, step in ends])
        assert callback.on_step()
    callback.on_rollout_start()
    callback.on_training_end()
    return callback.taken


def test_checkpoints_are_taken_between_rollouts_at_the_ends_of_episodes():
    assert taken({3, 7, 8, 13, 21}, save_freq=6) == [(8, True), (14, True), (22, True)]
    assert taken({5}, save_freq=6, steps=17) == [(12, True)]
    assert taken({9}, save_freq=6, steps=11, exact=False) == [(6, False)]
    assert taken(set(), save_freq=6, steps=13, by_steps=True) == [(6, True), (12, True)]
    assert taken(set(), save_freq=6, steps=13, rollout=4, by_steps=True) == [(8, True), (12, True)]
    assert taken({1, 2, 3}, save_freq=None) == []


def test_the_latest_checkpoint_is_gone_on_from_or_one_that_is_named(tmp_path):
    for steps in (10, 20):
        folder = tmp_path / f"step_{steps}"
        folder.mkdir()
        moment = {"timesteps": steps, "env_seed": 0, "reset": True}
        tree = {"format": 1, "moment": moment, "log_sizes": capture({}), "callbacks": {}}
        write_tree(tree, folder, "state")
    model = SimpleNamespace(num_timesteps=0)
    callback = Checkpoints(tmp_path)
    assert callback.resume(model)
    assert (model.num_timesteps, callback.begin_with.folder) == (20, tmp_path / "step_20")
    assert callback.resume(model, Checkpoint(tmp_path / "step_10"))
    assert (model.num_timesteps, callback.begin_with.folder) == (10, tmp_path / "step_10")
    assert not Checkpoints(tmp_path / "none").resume(model)
    assert model.num_timesteps == 10


def pendulums(n_envs=1, *, normalize=False, size=9):
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")] * n_envs)
    env = VecNormalize(env) if normalize else env
    return SAC("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, buffer_size=size)


WRAPPERS = (
    "it was taken with {} around the environments (VecNormalize is one), and the model has {}: "
    "make the model with those of then"
)
SIZES = (
    "its replay buffer is for {} steps of each environment, and the model's for {}: make the model "
    "with the buffer_size of then"
)
OTHERS = {
    "environments": (
        {"n_envs": 2},
        {"n_envs": 1},
        "it was taken with 2 environments, and the "
        "model has 1: make the model with as many as then",
    ),
    "no wrapper": ({"normalize": True}, {}, WRAPPERS.format("1 wrapper", 0)),
    "a wrapper": ({}, {"normalize": True}, WRAPPERS.format("0 wrappers", 1)),
    "smaller buffer": ({"size": 9}, {"size": 4}, SIZES.format(9, 4)),
    "larger buffer": ({"size": 9}, {"size": 20}, SIZES.format(9, 20)),
}


@pytest.mark.parametrize(("then", "now", "message"), OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_another_build_is_refused_in_plain_words(then, now, message, tmp_path):
    pendulums(**then).learn(4, callback=Checkpoints(tmp_path, save_freq=2, by_steps=True))
    model, callback = pendulums(**now), Checkpoints(tmp_path)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    callback.resume(model)
    with pytest.raises(StateError) as caught:
        model.learn(4, callback=callback, reset_num_timesteps=False)
    assert str(caught.value) == f"{tmp_path / 'step_2'} cannot be resumed from: {message}"
    after = model.policy.state_dict()
    assert all(th.equal(after[name], value) for name, value in before.items())
