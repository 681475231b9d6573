"""What scripts for SB3's buffers do to them; oracles: SB3's buffers, and what was put in."""

import pickle
from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common import buffers as sb3

import pyrl_sb3
from pyrl_sb3 import DictReplayBuffer, ReplayBuffer

BOX, ACTION = spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-1, 1, (2,))
ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def walk(buffer, steps):
    """Steps of two environments whose numbers all differ; an episode ends every third step."""
    for i in range(steps):
        obs, action = np.arange(6.0).reshape(2, 3) + 6 * i, np.arange(4.0).reshape(2, 2) / 4
        end = np.full(2, i % 3 == 2)
        late = [{"TimeLimit.truncated": bool(end[0])}] * 2
        buffer.add(obs, obs + 6, action, np.array([i, -i]) + 1, end, late)


def sampled(buffer):
    """All that is stored, as tensors."""
    steps = np.repeat(np.arange(buffer.store.first, buffer.store.now), 2)
    batch = buffer.sample_at(steps, np.arange(len(steps)) % 2)
    return [values for values in batch if values is not None]


@pytest.mark.parametrize("name", ARRAYS)
def test_copies_of_what_is_stored_are_not_written_to_in_silence(name):
    buffer = ReplayBuffer(10, BOX, ACTION, n_envs=2)
    walk(buffer, 7)
    before, batch = getattr(buffer, name), sampled(buffer)
    with pytest.raises(ValueError, match="read-only"):
        getattr(buffer, name)[:] = 7
    with pytest.raises(ValueError, match="read-only"):
        exec(f"buffer.{name} *= 0")
    for each, value in ((name, 7 * before), ("pos", 0), ("full", 0)):
        with pytest.raises(AttributeError, match=rf"^'{each}' follows .*: add\(\) stores, reset"):
            setattr(buffer, each, value)
    assert np.array_equal(getattr(buffer, name), before)
    assert all(map(np.array_equal, sampled(buffer), batch))
    buffer.reset()
    walk(buffer, 3)
    assert buffer.size() == 3


def test_copies_by_key_are_not_written_to_either():
    buffer = DictReplayBuffer(5, spaces.Dict({"x": BOX}), ACTION)
    obs = {"x": np.zeros((1, 3))}
    buffer.add(obs, obs, np.zeros((1, 2)), np.zeros(1), np.zeros(1, bool), [{}])
    for arrays in (buffer.observations, buffer.next_observations):
        with pytest.raises(ValueError, match="read-only"):
            arrays["x"][:] = 1


class OfOlderHabits(ReplayBuffer):
    """Sets what SB3's buffers set, and has an array of its own that is named like one of SB3's."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.timeouts = np.ones(3)

    def reset(self):
        self.pos, self.full = 0, False
        super().reset()


def test_subclasses_may_set_what_sb3s_buffers_set():
    buffer = OfOlderHabits(10, BOX, ACTION, n_envs=2)
    walk(buffer, 7)
    buffer.pos = 0  # from outside of its methods too: the two are not told apart
    assert (buffer.pos, buffer.full, buffer.size()) == (2, True, 5)
    for each in (buffer, pickle.loads(pickle.dumps(buffer)), deepcopy(buffer)):
        each.timeouts[0] = 2
        assert (each.size(), each.timeouts.tolist()) == (5, [2, 1, 1])
        each.reset()
        assert (each.pos, each.full) == (0, False)


def saving_memory(module=stable_baselines3, saves=True):
    keywords = {"optimize_memory_usage": saves, "learning_starts": 99, "seed": 0}
    return module.SAC("MlpPolicy", "Pendulum-v1", replay_buffer_class=ReplayBuffer, **keywords)


def learn_twice(model, steps):
    """Go on with a buffer of `steps`; where the two trainings meet, an episode was cut."""
    with pytest.warns(UserWarning, match="last trajectory in the replay buffer"):
        model.learn(4)  # SB3 marks the end in a copy; the buffer sees the reset by itself
    assert model.replay_buffer.size() == steps + 4
    model.replay_buffer.store.sync()
    assert model.replay_buffer.store.table.fields["end"][0] == 3


def test_models_that_save_memory_write_into_dones_as_ever():
    model = saving_memory()
    model.learn(8)
    learn_twice(model, 8)


@pytest.mark.parametrize("module", [stable_baselines3, pyrl_sb3])
def test_they_do_so_whatever_their_buffer_was_made_with(module, tmp_path):
    other = saving_memory(saves=False)
    other.learn(8)
    other.save_replay_buffer(tmp_path / "replay.pkl")
    loaded, given = saving_memory(module), saving_memory(module)
    loaded.load_replay_buffer(tmp_path / "replay.pkl", truncate_last_traj=False)
    given.replay_buffer = other.replay_buffer
    for model in (loaded, given):
        learn_twice(model, 8)


@pytest.mark.parametrize("module", [stable_baselines3, pyrl_sb3])
def test_the_running_episode_of_a_loaded_buffer_may_be_ended(module, tmp_path):
    other = saving_memory(saves=False)
    other.learn(8)
    other.save_replay_buffer(tmp_path / "replay.pkl")
    loaded = saving_memory(module, saves=False)
    loaded.load_replay_buffer(tmp_path / "replay.pkl")  # SB3 ends those of hindsight buffers alone
    assert loaded.replay_buffer.size() == 8
    loaded.replay_buffer.truncate_last_trajectory()
    store = loaded.replay_buffer.store
    store.sync()
    assert store.table.fields["end"][store.table.newest()].tolist() == [3]  # cut
    loaded.learn(4)
    assert loaded.replay_buffer.size() == 12


def test_only_the_mark_of_a_reset_is_taken_by_dones_and_not_by_what_is_made_of_it():
    buffer = ReplayBuffer(10, BOX, ACTION, n_envs=2)
    walk(buffer, 7)
    newest, dones = (buffer.pos - 1) % buffer.buffer_size, buffer.dones
    dones[newest] = True  # SB3's `learn`, to whose models it means a reset
    assert np.array_equal(buffer.dones, dones)
    for index, value in ((0, True), (newest, False), (newest, 1.0), ((newest, 0), True)):
        with pytest.raises(ValueError, match="read-only"):
            dones[index] = value
    own = dones.copy()
    own[newest] = True
    assert own[newest].tolist() == [1, 1]
    assert (type(dones.mean()), type(dones * 1)) == (np.float32, np.ndarray)


def loop(buffer, env, steps=12, **keywords):
    """Into a buffer as SB3's take it from a loop over one environment."""
    obs, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        action = rng.integers(2) if env.spec.id == "CartPole-v1" else rng.uniform(-1, 1, 1)
        after, reward, over, late, info = env.step(action)
        info["TimeLimit.truncated"] = late
        passed = keywords or {"infos": [info]}
        buffer.add(obs, after, np.array([action]), reward, over or late, **passed)
        obs = env.reset()[0] if over or late else after


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_one_environment_needs_no_batches(env_id):
    both = []
    for module in (sb3, pyrl_sb3):
        env = gym.make(env_id, max_episode_steps=5)
        both.append(module.ReplayBuffer(9, env.observation_space, env.action_space))
        loop(both[-1], env)
    theirs, ours = both
    for name in ARRAYS:
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


def test_one_dict_or_stack_needs_no_batch_either():
    space = spaces.Dict({"x": BOX, "n": spaces.Discrete(9)})
    theirs, ours = (kind.DictReplayBuffer(5, space, ACTION) for kind in (sb3, pyrl_sb3))
    stacks = ReplayBuffer(5, BOX, ACTION, frame_stack=3)
    for i in range(4):
        x, after = np.arange(i, i + 3.0), np.arange(i + 1, i + 4.0)
        rest = np.zeros(2), 1.0, i == 3, [{"TimeLimit.truncated": False}]
        for buffer in (theirs, ours):
            buffer.add({"x": x, "n": np.int64(i)}, {"x": after, "n": np.int64(i + 1)}, *rest)
        stacks.add(x, after, *rest)
    for name in ("observations", "next_observations"):
        for key in ("x", "n"):
            assert np.array_equal(getattr(ours, name)[key], getattr(theirs, name)[key])
        assert np.array_equal(getattr(stacks, name), getattr(theirs, name)["x"])


def test_infos_may_be_none_where_nothing_is_read_from_them():
    env = gym.make("Pendulum-v1", max_episode_steps=5)
    args = 20, env.observation_space, env.action_space
    theirs, ours = (
        kind.ReplayBuffer(*args, handle_timeout_termination=False) for kind in (sb3, pyrl_sb3)
    )
    for buffer in (theirs, ours):
        loop(buffer, env, infos=None)  # no warning either: every end is for good
    assert np.array_equal(ours.dones, theirs.dones)


@pytest.mark.parametrize("done", [True, [True], [[False, True]], [True, False], [0.0, 1.0]])
def test_ends_are_dealt_out_to_environments_as_sb3_does(done):
    theirs, ours = (kind.ReplayBuffer(20, BOX, ACTION, n_envs=2) for kind in (sb3, pyrl_sb3))
    for i in range(8):
        obs = np.arange(6.0).reshape(2, 3) + 6 * i
        end = done if i % 3 == 2 else False
        for buffer in (theirs, ours):
            late = [{"TimeLimit.truncated": False}] * 2
            buffer.add(obs, obs + 6, np.zeros((2, 2)), 1.0, np.array(end), late)
    assert np.array_equal(ours.dones, theirs.dones)
    with pytest.raises(ValueError, match="broadcast"):
        ours.add(obs, obs, np.zeros((2, 2)), 1.0, np.ones(3, bool), [{}] * 2)


@pytest.mark.parametrize("copied", [False, True])
def test_one_dict_is_the_info_of_one_environment(copied):
    buffer = ReplayBuffer(20, BOX, ACTION)
    buffer.copy_info_dict = copied
    obs = np.arange(3.0)
    for info in ({"TimeLimit.truncated": True}, {"TimeLimit.truncated": False, "x": 1}, {}):
        buffer.add(obs, obs + 1, np.zeros(2), 1.0, bool(info), info)
    assert buffer.dones[:3].ravel().tolist() == [1, 1, 0]
    assert buffer.timeouts[:3].ravel().tolist() == [1, 0, 0]
    assert not copied or buffer._infos[1] == [{"TimeLimit.truncated": False, "x": 1}]
    two = ReplayBuffer(20, BOX, ACTION, n_envs=2)
    for info in ({}, {"x": 1}, {"x": 1, "y": 2}):
        with pytest.raises(ValueError, match="1 infos for 2 environments: each needs one"):
            two.add(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 2)), np.ones(2), True, info)
