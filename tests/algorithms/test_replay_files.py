"""Replay buffers of our models: folders on disk, and a changed environment."""

import errno
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import pyrl_sb3
from pyrl_sb3 import DQN, SAC, HerReplayBuffer, ReplayBuffer

GOAL_SPACE = spaces.Dict(
    dict.fromkeys(
        ("observation", "achieved_goal", "desired_goal"), spaces.Box(-9, 9, (1,), np.float32)
    )
)


class Line(gym.Env[Any, Any]):
    """Walk along a line to a goal; the reward is ``hit`` within 0.5 of it, else 0."""

    observation_space = GOAL_SPACE
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, hit: float = 1.0) -> None:
        self.hit = hit

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return self.hit * (np.abs(achieved - desired)[..., 0] < 0.5)

    def _see(self) -> dict[str, Any]:
        here = np.array([self.x], np.float32)
        return {
            "observation": here,
            "achieved_goal": here,
            "desired_goal": np.array([5], np.float32),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.t = 0.0, 0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        self.x += float(action[0])
        self.t += 1
        seen = self._see()
        reward = self.compute_reward(seen["achieved_goal"], seen["desired_goal"], {})
        return seen, float(reward), False, self.t == 6, {}


def make(hit: float = 1.0, n_envs: int = 1, buffer: Any = HerReplayBuffer, **keywords: Any) -> SAC:
    env = DummyVecEnv([lambda: Line(hit) for _ in range(n_envs)])
    return SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=buffer,
        policy_kwargs={"net_arch": [8]},
        learning_starts=10,
        batch_size=8,
        seed=1,
        **keywords,
    )


def test_a_saved_buffer_comes_back_and_keeps_the_settings_of_the_model(tmp_path: Any) -> None:
    model = make(buffer_size=200)
    model.learn(40)
    model.save_replay_buffer(tmp_path / "replay")
    assert (tmp_path / "replay" / "header.json").is_file()
    other = make(buffer_size=30, replay_buffer_kwargs={"n_sampled_goal": 1})
    other.load_replay_buffer(tmp_path / "replay")
    assert other.replay_buffer.buffer_size == 30
    assert other.replay_buffer.n_sampled_goal == 1
    newest = other.replay_buffer.observations["observation"].ravel()
    stored = model.replay_buffer.observations["observation"].ravel()
    assert sorted(newest) == sorted(stored[10:40])
    other.learn(20)


def test_a_running_episode_ends_at_loading_or_goes_on(tmp_path: Any) -> None:
    model = make(buffer_size=50)
    model.learn(15)  # in the middle of the third episode
    model.save_replay_buffer(tmp_path / "replay")
    for truncate, ends in ((True, [2, 2, 3]), (False, [2, 2, 0])):
        other = make(buffer_size=50)
        other.load_replay_buffer(tmp_path / "replay", truncate_last_traj=truncate)
        store = other.replay_buffer.store
        store.sync()
        assert store.table.fields["end"][:3].tolist() == ends


def test_a_folder_is_not_loaded_into_another_kind_of_buffer(tmp_path: Any) -> None:
    model = make(buffer_size=50)
    model.learn(12)
    model.save_replay_buffer(tmp_path / "replay")
    other = make(buffer=None, buffer_size=50)
    with pytest.raises(ValueError, match=r"this model has stable_baselines3.*DictReplayBuffer"):
        other.load_replay_buffer(tmp_path / "replay")


def test_sb3s_own_buffers_are_saved_as_ever(tmp_path: Any) -> None:
    model = make(buffer=None, buffer_size=50)
    model.learn(12)
    model.save_replay_buffer(tmp_path / "replay.pkl")
    other = stable_baselines3.SAC("MultiInputPolicy", make().get_env(), buffer_size=50)
    other.load_replay_buffer(tmp_path / "replay.pkl")
    assert other.replay_buffer.pos == 12


def test_files_are_found_with_and_without_their_suffix(tmp_path: Any) -> None:
    model = make(buffer_size=50)
    saving = CheckpointCallback(12, str(tmp_path / "ck"), save_replay_buffer=True)
    model.learn(12, callback=saving)
    model.save_replay_buffer(tmp_path / "short")
    model.save_replay_buffer(str(tmp_path / "v1.5.pkl"))
    for name in ("ck/rl_model_replay_buffer_12_steps", "short", "v1.5"):
        for suffix in ("", ".pkl"):
            other = make(buffer_size=50)
            other.load_replay_buffer(f"{tmp_path / name}{suffix}")
            assert other.replay_buffer.size() in (
                11,
                12,
            )  # callbacks come before the step is stored
    with pytest.raises(FileNotFoundError):
        model.load_replay_buffer(tmp_path / "none")


@pytest.mark.parametrize("names", [("replay.pkl", "replay"), ("replay", "replay.pkl")])
@pytest.mark.parametrize("first", [None, HerReplayBuffer])
def test_both_names_are_of_one_buffer(tmp_path: Any, names: Any, first: Any) -> None:
    before, model = make(buffer=first, buffer_size=50), make(buffer_size=50)
    before.learn(8)
    before.save_replay_buffer(tmp_path / names[0])
    model.learn(18)
    model.save_replay_buffer(str(tmp_path / names[1]))
    assert len(list(tmp_path.iterdir())) == 1
    for name in names:
        other = make(buffer_size=50)
        other.load_replay_buffer(tmp_path / name)
        assert (type(other.replay_buffer), other.replay_buffer.size()) == (HerReplayBuffer, 18)


def test_names_that_sb3_does_not_lengthen_are_of_two(tmp_path: Any) -> None:
    model = make(buffer_size=50)
    for name in ("v1.5.pkl", "v1.5"):
        model.learn(6, reset_num_timesteps=False)
        model.save_replay_buffer(tmp_path / name)
    for name, size in (("v1.5.pkl", 6), ("v1.5", 12)):
        model.load_replay_buffer(tmp_path / name)
        assert model.replay_buffer.size() == size


@pytest.mark.parametrize("buffer", [None, HerReplayBuffer])
def test_a_folder_of_other_things_beside_it_is_passed_over(tmp_path: Any, buffer: Any) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events").write_text("log")
    model = make(buffer=buffer, buffer_size=50)
    model.learn(12)
    with pytest.raises(
        ValueError, match=r"run is no replay buffer's folder: it has no header\.json"
    ):
        model.load_replay_buffer(tmp_path / "run")
    for _ in range(2):
        model.save_replay_buffer(tmp_path / "run.pkl")
        model.load_replay_buffer(tmp_path / "run")
        assert model.replay_buffer.size() == 12
        model.save_replay_buffer(tmp_path / ("run.pkl" if buffer is None else "run"))
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["events"]


def test_a_file_of_sb3s_is_replaced_as_sb3_does(tmp_path: Any) -> None:
    path = tmp_path / "replay.pkl"
    theirs = make(buffer=None, buffer_size=50)
    theirs.learn(8)
    theirs.save_replay_buffer(path)
    model, other = make(buffer_size=50), make(buffer_size=50)
    for steps in (12, 24):  # the file, then the folder in its place
        model.learn(12, reset_num_timesteps=False)
        model.save_replay_buffer(path)
        assert [file.name for file in tmp_path.iterdir()] == ["replay.pkl"]
        other.load_replay_buffer(path)
        assert other.replay_buffer.size() == steps
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt is a file"):
        model.save_replay_buffer(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_stays_where_the_folder_for_its_place_is_not_whole(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "replay.pkl").write_bytes(b"theirs")
    model = make(buffer_size=50)
    model.learn(12)

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    rename = Path.rename

    def full_for_the_folder(file: Path, to: Path) -> Any:
        return full() if file.is_dir() else rename(file, to)

    for name, failing in (
        ("pyrl_sb3.buffers.saving.commit", full),
        ("pathlib.Path.rename", full),
        ("pathlib.Path.rename", full_for_the_folder),  # when the file has made room for it
    ):
        with monkeypatch.context() as patched:
            patched.setattr(name, failing)
            with pytest.raises(OSError, match="No space left"):
                model.save_replay_buffer(tmp_path / "replay.pkl")
        assert [file.name for file in tmp_path.iterdir()] == ["replay.pkl"]
        assert (tmp_path / "replay.pkl").read_bytes() == b"theirs"


def test_a_new_environment_computes_the_rewards_from_then_on() -> None:
    """B7: SB3's hindsight buffer keeps the old one, and fails when that is closed."""
    model = make(hit=1.0, buffer_size=50)
    model.learn(12)
    assert set(model.replay_buffer.sample(200).rewards.flatten().tolist()) <= {0.0, 1.0}
    model.set_env(DummyVecEnv([lambda: Line(7.0)]))
    rewards = set(model.replay_buffer.sample(200).rewards[40:].flatten().tolist())
    assert 7.0 in rewards
    assert 1.0 not in rewards


def test_plain_buffers_of_ours_serve_too() -> None:
    env = gym.make("Pendulum-v1")
    model = SAC("MlpPolicy", env, replay_buffer_class=ReplayBuffer, learning_starts=10, seed=0)
    model.learn(20)
    assert model.replay_buffer.size() == 20


@pytest.mark.parametrize("kind", [SAC, DQN])
def test_a_models_n_steps_and_gamma_are_the_buffers(kind: Any) -> None:
    env = "Pendulum-v1" if kind is SAC else "CartPole-v1"
    policy = kind.policy_aliases["MlpPolicy"]
    keywords = {"replay_buffer_class": ReplayBuffer, "gamma": 0.8}
    model = kind(policy, env, n_steps=3, **keywords)
    assert (model.replay_buffer.n_steps, model.replay_buffer.gamma) == (3, 0.8)
    plain = kind(policy, env, replay_buffer_kwargs={"n_steps": 2, "gamma": 0.7}, **keywords)
    assert (plain.replay_buffer.n_steps, plain.replay_buffer.gamma) == (2, 0.7)
    only = kind(policy, env, replay_buffer_kwargs={"n_steps": 2}, **keywords)
    assert (only.replay_buffer.n_steps, only.replay_buffer.gamma) == (2, 0.8)
    with pytest.raises(ValueError, match="n_steps=3, and replay_buffer_kwargs has n_steps=2: give"):
        kind(policy, env, n_steps=3, replay_buffer_kwargs={"n_steps": 2}, **keywords)


def test_a_model_is_loaded_with_other_n_steps_and_gamma(tmp_path: Any) -> None:
    keywords = {"replay_buffer_class": ReplayBuffer, "buffer_size": 9}
    SAC("MlpPolicy", "Pendulum-v1", n_steps=3, **keywords).save(tmp_path / "model")
    for changes in ({"n_steps": 5}, {"n_steps": 1}, {"gamma": 0.5}):
        model = SAC.load(tmp_path / "model", env=gym.make("Pendulum-v1"), **changes)
        expected = {"n_steps": 3, "gamma": 0.99, **changes}
        assert {name: getattr(model.replay_buffer, name) for name in expected} == expected


class Third(Line):
    """Observations that normalising and computing back does not give again exactly."""

    observation_space = spaces.Box(-9, 9, (1,), np.float32)

    def _see(self) -> Any:
        return np.array([self.t + 1 / 3], np.float32)

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._see(), 0.0, False, self.t == 6, {}


@pytest.mark.parametrize("name", ["SAC", "TD3"])
def test_the_first_terminal_observation_is_stored_as_it_was(name: str) -> None:
    env = VecNormalize(DummyVecEnv([Third]), clip_obs=1.0)
    kind = getattr(pyrl_sb3, name)
    model = kind("MlpPolicy", env, replay_buffer_class=ReplayBuffer, buffer_size=99, seed=0)
    model.learn(8)
    expected = np.float32(6 + 1 / 3)
    assert model.replay_buffer.next_observations[5, 0, 0] == expected
