"""Options of the buffers; oracles: SB3's buffers, and what was put in."""

import inspect
import itertools
import pickle
import tracemalloc
import warnings
from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common import buffers as sb3
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage

from pyrl_sb3.buffers import DictReplayBuffer, HerReplayBuffer, ReplayBuffer, stacks
from pyrl_sb3.buffers.columns import Field
from pyrl_sb3.buffers.goal_mix import shares

BOX, ACTION = spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-1, 1, (2,))


def everything(buffer):
    store = buffer.store
    positions, envs = np.meshgrid(np.arange(store.first, store.now), np.arange(buffer.n_envs))
    return positions.ravel(), envs.ravel()


def walk(buffers, steps, n_envs=2, seed=0, p_end=0.2):
    """The same random episodes into every buffer."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(n_envs, 3))
    for _ in range(steps):
        after = rng.normal(size=(n_envs, 3))
        ends = rng.random(n_envs) < p_end
        infos = [{"TimeLimit.truncated": bool(end and rng.random() < 0.5)} for end in ends]
        action, reward = rng.uniform(-1, 1, (n_envs, 2)), rng.normal(size=n_envs)
        for buffer in buffers:
            buffer.add(obs, after, action, reward, ends, infos)
        obs = np.where(ends[:, None], rng.normal(size=(n_envs, 3)), after)


def rows(samples):
    """Samples as a sorted array, one row per transition."""
    columns = [x for x in samples if x is not None]
    return np.unique(np.concatenate([x.numpy() for x in columns], axis=1), axis=0)


def test_how_much_is_stored_is_not_set_from_outside():
    buffer = ReplayBuffer(10, BOX, ACTION, n_envs=2)
    vars(buffer).update(pos=3, full=False)  # as older pickles of ours had it
    walk([buffer], 7)
    with pytest.raises(AttributeError, match=r"^'pos' follows from .*: .* reset\(\) forgets"):
        buffer.pos, buffer.full = 0, False
    with pytest.raises(AttributeError, match=r"^'full' follows from "):
        buffer.full = False
    assert (buffer.pos, buffer.full, buffer.size()) == (2, True, 5)


@pytest.mark.parametrize("name", ["pos", "full", "observations", "dones"])
def test_what_is_stored_may_be_looked_up_in_the_class(name):
    assert getattr(ReplayBuffer, name) is inspect.getattr_static(ReplayBuffer, name)


@pytest.mark.parametrize("steps", [1, 30, 77])
@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_plain_and_n_step_returns_are_sb3s(steps, n_steps):
    ours = ReplayBuffer(80, BOX, ACTION, n_envs=2, n_steps=n_steps, gamma=0.9)
    if n_steps == 1:
        theirs = sb3.ReplayBuffer(80, BOX, ACTION, n_envs=2)
    else:
        theirs = sb3.NStepReplayBuffer(80, BOX, ACTION, n_envs=2, n_steps=n_steps, gamma=0.9)
    walk([ours, theirs], steps)
    assert (ours.pos, ours.full, ours.size()) == (theirs.pos, theirs.full, theirs.size())
    expected = rows(theirs.sample(3000))
    assert len(expected) == 2 * min(steps, 40)
    assert np.allclose(rows(ours.sample_at(*everything(ours))), expected, atol=1e-6)


def test_arrays_are_laid_out_as_in_sb3():
    ours, theirs = (cls(80, BOX, ACTION, n_envs=2) for cls in (ReplayBuffer, sb3.ReplayBuffer))
    walk([ours, theirs], 55)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        assert np.allclose(getattr(ours, name), getattr(theirs, name)), name


def test_extend_and_reset():
    ours = ReplayBuffer(80, BOX, ACTION)
    x, a = np.ones((5, 1, 3)), np.ones((5, 1, 2))
    ours.extend(x, x, a, np.ones((5, 1)), np.zeros((5, 1)), [[{}]] * 5)
    assert ours.size() == 5
    ours.reset()
    assert ours.size() == 0
    with pytest.raises(RuntimeError, match="empty"):
        ours.sample(1)


@pytest.mark.parametrize("dtype", ["float16", {"x": np.float16}])
def test_stored_dtype(dtype):
    space = spaces.Dict({"x": spaces.Box(-1, 1, (8,), np.float64), "n": spaces.Discrete(9)})
    buffer = DictReplayBuffer(100, space, ACTION, dtype=dtype)
    obs = {"x": np.full((1, 8), 0.1), "n": np.array([7])}
    buffer.add(obs, obs, np.zeros((1, 2)), np.zeros(1), np.zeros(1, bool), [{}])
    batch = buffer.sample(4)
    assert batch.observations["x"].dtype.is_floating_point
    assert batch.observations["x"][0, 0] == np.float32(np.float16(0.1))
    assert str(batch.observations["x"].dtype) == "torch.float32"
    assert str(batch.observations["n"].dtype) == "torch.int64"
    assert batch.observations["n"].tolist() == [[7]] * 4


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float64])
def test_scaled_actions_are_floats_whatever_the_space_counts_in(dtype, tmp_path):
    space = spaces.Box(0, 10, (2,), dtype)
    first, action = ReplayBuffer(9, BOX, space), np.array([[-0.4, 0.75]])
    first.add(np.zeros((1, 3)), np.ones((1, 3)), action, np.zeros(1), np.zeros(1, bool), [{}])
    first.save(tmp_path / "folder")
    again = ReplayBuffer(9, BOX, space)
    again.load(tmp_path / "folder")
    for buffer in (first, again, pickle.loads(pickle.dumps(first))):
        actions = buffer.sample(1).actions.numpy()
        assert (actions.tolist(), actions.dtype) == (action.astype("f").tolist(), np.float32)


@contextmanager
def in_whole_numbers(monkeypatch, dtype, steps=5):
    """A buffer as older versions had it: its actions cast to what the space counts in."""
    with monkeypatch.context() as older:
        older.setattr(ReplayBuffer, "_action", Field((2,), np.dtype(dtype)))
        buffer = ReplayBuffer(9, BOX, spaces.Box(0, 10, (2,), dtype))
        for i in range(steps):
            seen, after = np.full((1, 3), i), np.full((1, 3), i + 1)
            action = np.array([[(-1.0) ** i, 0.75]]).astype("i8")  # floats may not wrap so
            buffer.add(seen, after, action, np.zeros(1), np.zeros(1, bool), [{}])
        assert buffer.actions.dtype == dtype
        yield buffer


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("by", ["folder", "fewer", "pickle"])
def test_actions_that_were_stored_as_whole_numbers_go_on_as_floats(
    dtype, by, tmp_path, monkeypatch
):
    with in_whole_numbers(monkeypatch, dtype) as old:
        old.save(tmp_path)
        pickled = pickle.dumps(old)
    again = ReplayBuffer(2 if by == "fewer" else 9, BOX, old.action_space)
    read = partial(pickle.loads, pickled) if by == "pickle" else partial(again.load, tmp_path)
    with pytest.warns(UserWarning, match="were stored as whole numbers") as told:
        again = read() or again
    assert len(told) == 1
    assert told[0].filename == __file__
    assert again.buffer_size == len(again.actions)
    again.add(*np.zeros((2, 1, 3)), np.array([[-0.4, 0.75]]), np.zeros(1), np.zeros(1), [{}])
    again.save(tmp_path)
    third = ReplayBuffer(9, BOX, old.action_space)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third.load(tmp_path)
        fourth = pickle.loads(pickle.dumps(again))
        fourth.change_n_envs(1)
    stored = [[1, 0], [-1, 0], [1, 0], [-1, 0], [1, 0], [np.float32(-0.4), 0.75]]
    if by == "fewer":
        stored = stored[-2:]
    for buffer in (again, third, fourth):
        assert buffer.sample_at(*everything(buffer)).actions.tolist() == stored


def test_actions_of_another_kind_are_still_refused(tmp_path, monkeypatch):
    with in_whole_numbers(monkeypatch, np.int64) as old:
        old.save(tmp_path)
    for space in (ACTION, spaces.Box(0, 10, (2,), np.int8), spaces.Box(0, 10, (3,), np.int64)):
        with pytest.raises(ValueError, match=r"'action' is int64 of shape .* and float32 of shape"):
            ReplayBuffer(9, BOX, space).load(tmp_path)


def test_numbers_of_choices_stay_whole():
    many = spaces.Discrete(2**40), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)
    for space in many:
        assert ReplayBuffer(9, BOX, space).store.actions.dtype == space.dtype


def test_all_of_a_batch_goes_to_another_device():
    buffer = DictReplayBuffer(10, spaces.Dict(a=BOX, b=BOX), ACTION, device="meta")
    obs = dict.fromkeys("ab", np.zeros((1, 3)))
    buffer.add(obs, obs, np.zeros((1, 2)), np.zeros(1), np.zeros(1, bool), [{}])
    before, actions, after, *rest = buffer.sample(4)[:5]
    tensors = [*before.values(), *after.values(), actions, *rest]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_bad_options_are_named():
    space = spaces.Dict({"x": BOX})
    with pytest.raises(ValueError, match=r"dtype names 'y', which is none of \['x'\]"):
        DictReplayBuffer(10, space, ACTION, dtype={"y": "float16"})
    with pytest.raises(ValueError, match="dtype 'uint8' cannot hold 'x'"):
        DictReplayBuffer(10, space, ACTION, dtype="uint8")
    with pytest.raises(ValueError, match="frame_stack=4 does not say of which key"):
        DictReplayBuffer(10, space, ACTION, frame_stack=4)
    for n in (0, -1, 1.5, "3", None, True):
        with pytest.raises(ValueError, match=f"^n_steps={n!r} .* choose a whole one from 1 on$"):
            ReplayBuffer(10, BOX, ACTION, n_steps=n)
        with pytest.raises(ValueError, match=f"^frame_stack={n!r} .* choose a whole one from 1 on"):
            ReplayBuffer(10, BOX, ACTION, frame_stack=n)
        with pytest.raises(ValueError, match=f"^frame_stack={n!r} "):
            DictReplayBuffer(10, space, ACTION, frame_stack={"x": n})
    for two, one in ((np.int64(2), np.int64(1)), (2.0, 1.0)):
        counted = ReplayBuffer(10, BOX, ACTION, n_envs=2, n_steps=two, frame_stack=one)
        walk([counted], 4)
        assert counted.sample(5).discounts.shape == (5, 1)
    with pytest.raises(ValueError, match="path"):
        ReplayBuffer(10, BOX, ACTION, storage="memmap")
    with pytest.raises(ValueError, match="unknown storage 'disk'"):
        ReplayBuffer(10, BOX, ACTION, storage="disk")
    buffer = ReplayBuffer(10, BOX, ACTION)
    wrong = np.zeros((1, 2))
    with pytest.raises(ValueError, match=r"shape \(1, 2\) instead of \(1, 3\)"):
        buffer.add(wrong, wrong, np.zeros((1, 2)), np.zeros(1), np.zeros(1, bool), [{}])


def test_bad_goal_options_are_named(counting_env):
    env = counting_env(5)

    def make(**kwargs):
        HerReplayBuffer(10, env.observation_space, env.action_space, env=env, **kwargs)

    with pytest.raises(ValueError, match="goal_mix names 'past'"):
        make(goal_mix={"past": 1})
    with pytest.raises(ValueError, match="is no ratio"):
        make(goal_mix={"real": 0})
    with pytest.raises(ValueError, match="unknown goal_selection_strategy 'best'"):
        make(goal_selection_strategy="best")
    env.observation_space = spaces.Dict({"observation": BOX, "achieved_goal": BOX})
    with pytest.raises(ValueError, match="needs an observation key 'desired_goal'"):
        make()


def test_goal_mix(counting_env):
    env = counting_env(1000)
    buffer = HerReplayBuffer(
        1000,
        env.observation_space,
        env.action_space,
        env=env,
        goal_mix={"real": 1, "future": 2, "final": 1, "episode": 4},
    )
    obs = env.reset()
    for _ in range(999):
        after, reward, done, infos = env.step(np.zeros((1, 1)))
        buffer.add(obs, after, np.zeros((1, 1)), reward, done, infos)
        obs = after
    batch = buffer.sample(800)
    goal = batch.observations["desired_goal"].numpy().ravel()
    here = batch.next_observations["achieved_goal"].numpy().ravel()
    assert (goal[:100] < 0).all()  # the real ones
    assert (goal[100:300] >= here[100:300]).all()
    assert (goal[300:400] == 999).all()
    assert (goal[400:] >= 1).all()
    assert 100 < (goal[400:] < here[400:]).sum() < 300  # half of them


def test_weights_of_goals_may_be_below_one():
    ratio, mix = shares({"real": 0.2, "future": 0.5, "final": 0.3})
    assert ratio == pytest.approx(0.8)
    assert mix == pytest.approx({"future": 0.625, "final": 0.375})


class Frames(gym.Env):
    """Frames of random bytes, seven steps per episode; the first `blank` frames are dark."""

    def __init__(self, shape, dtype=np.uint8, blank=0):
        self.blank = blank
        high = 255 if dtype == np.uint8 else 1.0
        self.observation_space = spaces.Box(0, high, shape, dtype)
        self.action_space = spaces.Box(-1, 1, (2,))
        self.observation_space.seed(0)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return self._frame(), {}

    def _frame(self):
        self.blank -= 1
        return self.observation_space.sample() * (self.blank < 0)

    def step(self, action):
        self.steps += 1
        return self._frame(), 0.0, False, self.steps == 7, {}


def gymnasium_stack(shape):
    return DummyVecEnv([lambda: gym.wrappers.FrameStackObservation(Frames(shape), 4)] * 1)


STACKED = {
    "channels last": lambda: VecFrameStack(DummyVecEnv([lambda: Frames((36, 40, 1))] * 2), 4),
    "colour": lambda: VecFrameStack(DummyVecEnv([lambda: Frames((36, 40, 3))]), 4),
    "transposed": lambda: VecTransposeImage(
        VecFrameStack(DummyVecEnv([lambda: Frames((36, 40, 1))]), 4)
    ),
    "gymnasium": lambda: gymnasium_stack((36, 40)),
    "vector": lambda: VecFrameStack(DummyVecEnv([lambda: Frames((5,), np.float32)] * 2), 4),
    # Of these the first axis could be that of the frames too, and is shorter.
    "matrix": lambda: VecFrameStack(DummyVecEnv([lambda: Frames((4, 6))] * 2), 4),
    "floats": lambda: VecFrameStack(DummyVecEnv([lambda: Frames((4, 6, 3), np.float32)]), 4),
    "dark at first": lambda: VecFrameStack(DummyVecEnv([lambda: Frames((4, 6), blank=10)]), 4),
    "all dark": lambda: VecFrameStack(DummyVecEnv([lambda: Frames((4, 6), blank=99)]), 4),
}


def played(env, buffer):
    """33 steps, and what each was: its observations and those after it, `(n_envs, ...)`."""
    n = env.num_envs
    obs, log = env.reset().copy(), []
    for t in range(33):
        if t == 12:
            obs = env.reset().copy()  # unannounced
        new, reward, done, infos = env.step(np.zeros((n, 2)))
        after = new.copy()
        for i in np.flatnonzero(done):
            after[i] = infos[i]["terminal_observation"]
        buffer.add(obs, after, np.zeros((n, 2)), reward, done, infos)
        log.append((obs, after))
        obs = new.copy()
    return log


@pytest.mark.parametrize("kind", STACKED)
@pytest.mark.parametrize("slots", [10, 40])
def test_frames_are_stored_once_and_stacks_come_back(kind, slots):
    env = STACKED[kind]()
    n, space = env.num_envs, env.observation_space
    buffer = ReplayBuffer(slots * n, space, env.action_space, n_envs=n, frame_stack=4)
    log = played(env, buffer)
    positions, envs = everything(buffer)
    batch = buffer.sample_at(positions, envs)
    for i, (t, e) in enumerate(zip(positions, envs, strict=True)):
        assert np.array_equal(batch.observations[i].numpy(), log[t][0][e])
        assert np.array_equal(batch.next_observations[i].numpy(), log[t][1][e])
    size = int(np.prod(space.shape)) * space.dtype.itemsize
    assert buffer.store.columns[0].ring.nbytes == (slots + 3) * n * size // 4


def random_stacks(shape, axis, n_stack, n_envs, seed):
    """Steps of every environment, by the definition of a stack: before, after, ends; the frames
    older than an episode are of any kind, and one reset in five is unannounced.
    """
    rng = np.random.default_rng(seed)

    def frame():
        frame_shape = [s // n_stack if i == axis else s for i, s in enumerate(shape)]
        return rng.integers(0, 256, frame_shape)

    last = [[frame() for _ in range(n_stack)] for _ in range(n_envs)]
    while True:
        new = [[*frames[1:], frame()] for frames in last]
        ends, resets = rng.random(n_envs) < 0.15, rng.random(n_envs) < 0.2
        yield (
            *(np.array([np.concatenate(frames, axis) for frames in each]) for each in (last, new)),
            ends & ~resets,
        )
        last = [
            [frame() for _ in range(n_stack)] if ends[i] else frames for i, frames in enumerate(new)
        ]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((4, 6, 5), 0), ((6, 5, 4), 2), ((6, 5, 12), 2), ((5, 8), 1), ((20,), 0)],
    ids=str,
)
def test_stacks_are_what_was_added_bit_by_bit(shape, axis, n_envs, dtype):
    space = spaces.Box(0, 255, shape, dtype)
    buffer = ReplayBuffer(30 * n_envs, space, ACTION, n_envs=n_envs, frame_stack=4)
    truncated, log = {"TimeLimit.truncated": True}, []
    steps = random_stacks(shape, axis, 4, n_envs, seed=0)
    for t, (before, after, ends) in enumerate(itertools.islice(steps, 100)):
        before, after = before.astype(dtype), after.astype(dtype)
        log.append((before, after))
        infos = [{**truncated, "terminal_observation": each} for each in after]
        buffer.add(before, after, np.zeros((n_envs, 2)), np.zeros(n_envs), ends, infos)
        if t not in (0, 2, 20, 64, 99):
            continue
        store, (positions, envs) = buffer.store, everything(buffer)
        wanted = [[log[p][i][e] for p, e in zip(positions, envs, strict=True)] for i in (0, 1)]
        batch = buffer.sample_at(positions, envs)
        for found, there in zip(batch[0:3:2], wanted, strict=True):
            assert found.numpy().dtype == dtype
            assert found.is_contiguous()
            assert found.numpy().tobytes() == np.array(there).tobytes()
        # The last of these steps' episodes: what `HerReplayBuffer` and `n_steps` ask for.
        where, key = store.locate(positions, envs), store.columns[0].key
        lasts = where.lasts
        both, every = store.read_both_and(where, lasts, key, lasts[-5:])
        ends_of = np.array([log[p][1][e] for p, e in zip(lasts, envs, strict=True)])
        assert both[key].tobytes() == np.concatenate([wanted[0], ends_of]).tobytes()
        assert every.tobytes() == both[key].tobytes() + ends_of[-5:].tobytes()


@pytest.mark.parametrize("kind", ["channels last", "transposed", "vector"])
def test_stacks_pickled_frame_after_frame_go_on(kind):
    env = STACKED[kind]()
    n, space = env.num_envs, env.observation_space
    buffer = ReplayBuffer(40 * n, space, env.action_space, n_envs=n, frame_stack=4)
    (_, obs), log = played(env, buffer)[-1], []
    old = deepcopy(buffer)
    column = old.store.columns[0]
    state = column.__getstate__()
    for here, there in (("latest", "current"), ("pending", "pending")):  # as they once were
        state[there] = np.stack(np.split(state.pop(here), 4, axis=column.axis + 1), 1)
        state[there] = state[there].reshape(n, 4, -1)
    del column.latest
    column.__setstate__(state)
    frame = np.split(obs, 4, axis=column.axis + 1)
    after = np.concatenate([*frame[1:], frame[0]], axis=column.axis + 1)
    for each in (buffer, old):
        each.add(obs, after, np.zeros((n, 2)), np.zeros(n), np.zeros(n, bool), [{}] * n)
        log.append(each.sample_at(*everything(each)))
    assert buffer.store.table.counts.tolist() == old.store.table.counts.tolist()
    assert np.array_equal(log[0].observations, log[1].observations)
    assert np.array_equal(log[0].next_observations, log[1].next_observations)


@pytest.mark.parametrize("kind", ["channels last", "matrix", "dark at first", "all dark"])
def test_the_axis_of_frames_is_kept_with_them(kind, tmp_path):
    env = STACKED[kind]()
    n, space = env.num_envs, (env.observation_space, env.action_space)

    def make(n_envs):
        return ReplayBuffer(40 * n, *space, n_envs=n_envs, frame_stack=4)

    buffer = make(n)
    log = np.array(played(env, buffer)).swapaxes(1, 2).reshape(33 * n, -1)
    buffer.save(tmp_path)
    again, dealt, pickled = make(n), make(n + 1), pickle.loads(pickle.dumps(buffer))
    for other in (again, dealt):
        other.load(tmp_path)
    more = deepcopy(buffer)
    more.change_n_envs(3 - n)
    for other in (again, dealt, pickled, more):
        batch = other.sample_at(*everything(other))
        found = np.hstack([each.numpy().reshape(len(each), -1) for each in batch[0:3:2]])
        left_out = 33 * n % other.n_envs  # of the oldest
        assert len(found) == len(log) - left_out
        assert {*map(bytes, found)} <= {*map(bytes, log)}
    again.save(tmp_path)
    played(env, again)
    again.save(tmp_path)
    again.load(tmp_path)


def test_the_axis_of_frames_stays_once_an_episode_has_told():
    buffer = ReplayBuffer(20, spaces.Box(0, 9, (2, 4)), ACTION, frame_stack=2)
    still, down, right = (np.zeros((1, 2, 4), np.float32) for _ in range(3))
    down[0, 1, 0] = right[0, 0, 2] = 1
    rest = np.zeros((1, 2)), np.zeros(1)
    buffer.add(still, down, *rest, np.ones(1, bool), [{"TimeLimit.truncated": False}])
    with pytest.raises(ValueError, match="no stack of 2 frames along axis 0"):
        buffer.add(still, right, *rest, np.zeros(1, bool), [{}])
    assert np.array_equal(buffer.sample_at(*everything(buffer)).next_observations, down)


def test_the_axis_of_frames_is_taken_back_with_a_step_that_fails():
    space = spaces.Dict(a=spaces.Box(0, 9, (2, 4)), b=spaces.Box(0, 9, (1,)))
    buffer = DictReplayBuffer(20, space, ACTION, frame_stack={"a": 2})
    still, moved = np.zeros((1, 2, 4), np.float32), np.zeros((1, 2, 4), np.float32)
    moved[0, 0, 2] = 1
    rest = np.zeros((1, 2)), np.zeros(1), np.zeros(1, bool), [{}]
    b = np.zeros((1, 1), np.float32)
    buffer.add({"a": still, "b": b}, {"a": still, "b": b}, *rest)
    with pytest.raises(ValueError, match="'b' has shape"):
        buffer.add({"a": still, "b": b}, {"a": moved, "b": np.zeros((1, 3))}, *rest)
    buffer.add({"a": still, "b": b}, {"a": moved, "b": b}, *rest)
    later = np.concatenate([moved[..., 2:], moved[..., :2]], axis=-1)
    buffer.add({"a": moved, "b": b}, {"a": later, "b": b}, *rest)
    batch = buffer.sample_at(*everything(buffer))
    assert np.array_equal(batch.observations["a"], np.concatenate([still, still, moved]))
    assert np.array_equal(batch.next_observations["a"], np.concatenate([still, moved, later]))
    assert buffer.store.table.counts.tolist() == [1]


def pushed(stack, *values):
    """The stack `(8, 24)` after these frames `(8, 6)`."""
    for value in values:
        stack = np.concatenate([stack[:, 6:], np.full((8, 6), value, np.float32)], axis=1)
    return stack


DARK = pushed(np.zeros((8, 24), np.float32))
BEFORE_LIGHT = {  # episodes, before the first step that tells along which axis the frames lie
    "a step": [[DARK, DARK]],
    "an episode": [[DARK] * 4, [pushed(DARK, 0.9)]],
    "episodes of one step": [[DARK] * 2, [pushed(DARK, 0.9)]],
    "more than there is room for": [[DARK] * 30],
    "nothing": [[pushed(DARK, 0.9)]],
}


@pytest.mark.parametrize("at_a_time", [1, 2**22])
@pytest.mark.parametrize("go_on", ["same", "loaded", "pickled"])
@pytest.mark.parametrize("kind", BEFORE_LIGHT)
def test_the_axis_of_frames_may_be_told_late(kind, go_on, at_a_time, tmp_path, monkeypatch):
    monkeypatch.setattr(stacks, "_CHUNK_BYTES", at_a_time)

    def make():
        return ReplayBuffer(20, spaces.Box(0, 1, (8, 24)), ACTION, frame_stack=4)

    buffer, log = make(), []
    episodes = [list(each) for each in BEFORE_LIGHT[kind]]
    for value in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        episodes[-1].append(pushed(episodes[-1][-1], value))
    for episode in episodes:
        for t, (obs, after) in enumerate(itertools.pairwise(episode)):
            done = np.array([t == len(episode) - 2])
            infos = [{"terminal_observation": after, "TimeLimit.truncated": False}]
            buffer.add(obs[None], after[None], np.zeros((1, 2)), np.zeros(1), done, infos)
            log.append((obs, after))
            if go_on == "loaded":
                buffer.save(tmp_path)
                buffer = make()
                buffer.load(tmp_path)
            elif go_on == "pickled":
                buffer = pickle.loads(pickle.dumps(buffer))
    batch = buffer.sample_at(*everything(buffer))
    kept = log[-20:]
    assert len(batch.rewards) == len(kept)
    assert np.array_equal(batch.observations, [obs for obs, _ in kept])
    assert np.array_equal(batch.next_observations, [after for _, after in kept])


def test_another_axis_of_frames_takes_little_memory(monkeypatch):
    monkeypatch.setattr(stacks, "_CHUNK_BYTES", 2**14)
    buffer = ReplayBuffer(400, spaces.Box(0, 1, (8, 480)), ACTION, frame_stack=4)
    still = np.zeros((1, 8, 480), np.float32)
    rest = np.zeros((1, 2)), np.zeros(1), np.zeros(1, bool), [{}]
    for _ in range(399):
        buffer.add(still, still, *rest)
    moved = still.copy()
    moved[..., -120:] = 1
    tracemalloc.start()
    try:
        buffer.add(still, moved, *rest)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(buffer.sample_at(*everything(buffer)).next_observations[-1:], moved)
    assert peak < buffer.store.columns[0].ring.nbytes / 2


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_stacks_of_doubles_come_back_in_the_stored_dtype(dtype, tmp_path):
    env = VecFrameStack(DummyVecEnv([lambda: Frames((5,), np.float64)] * 2), 3)

    def make(n_envs):
        space = env.observation_space, env.action_space
        return ReplayBuffer(100, *space, n_envs=n_envs, frame_stack=3, dtype=dtype)

    buffers = [make(n_envs) for n_envs in (2, 2, 3)]
    log = np.array(played(env, buffers[0])).swapaxes(1, 2).reshape(66, 30)
    log = log.astype(dtype).astype(np.float32)
    buffers[0].save(tmp_path)
    for buffer in buffers[1:]:
        buffer.load(tmp_path)
    buffers[1].change_n_envs(1)
    for buffer in buffers:
        batch = buffer.sample_at(*everything(buffer))
        found = np.hstack([batch.observations.numpy(), batch.next_observations.numpy()])
        assert sorted(found.tolist()) == sorted(log.tolist())


def test_what_is_no_stack_is_refused():
    buffer = ReplayBuffer(20, spaces.Box(0, 1, (8,)), ACTION, frame_stack=4)
    x = np.arange(8.0)[None]
    with pytest.raises(ValueError, match="'observation' is no stack of 4 frames along axis 0"):
        buffer.add(x, x, np.zeros((1, 2)), np.zeros(1), np.zeros(1, bool), [{}])
    with pytest.raises(ValueError, match="does not divide"):
        ReplayBuffer(20, BOX, ACTION, frame_stack=4)
    with pytest.raises(ValueError, match=r"does not divide the first or last axis of 'x', \(3,\)"):
        DictReplayBuffer(20, spaces.Dict(x=BOX, y=BOX), ACTION, frame_stack={"y": 3, "x": 2})


def test_a_stack_of_another_shape_is_refused_by_name():
    buffer = ReplayBuffer(20, spaces.Box(0, 1, (8,)), ACTION, frame_stack=4)
    x = np.zeros((1, 2, 4))  # as many numbers: nothing else would notice
    with pytest.raises(
        ValueError, match=r"'observation' has shape \(1, 2, 4\) instead of \(1, 8\)"
    ):
        buffer.add(x, x, np.zeros((1, 2)), np.zeros(1), np.zeros(1, bool), [{}])
    assert buffer.size() == 0


def test_memory_mapped_storage(tmp_path, mapped_files):
    kept, mapped = (
        ReplayBuffer(60, BOX, ACTION, n_envs=2, **kwargs)
        for kwargs in ({}, {"storage": "memmap", "path": tmp_path / "new"})
    )
    assert not (tmp_path / "new").exists()
    walk([kept, mapped], 50)
    again = pickle.loads(pickle.dumps(mapped))
    for buffer in (mapped, again):
        assert np.array_equal(
            rows(kept.sample_at(*everything(kept))), rows(buffer.sample_at(*everything(buffer)))
        )
        walk([buffer], 3)
    sizes = [file.st_size for file in mapped_files(tmp_path / "new")]
    assert sum(sizes) == 2 * 60 * (12 + 8 + 4)
    assert list((tmp_path / "new").iterdir()) == []  # they have no names
    del buffer, again, mapped
    assert list((tmp_path / "new").iterdir()) == []


def test_infos_are_given_to_the_reward(counting_env):
    env = counting_env(4, 6)
    for one in env.envs:
        one.compute_reward = lambda a, g, infos: np.array([info["number"] for info in infos])
    buffer = HerReplayBuffer(
        2 * 20, env.observation_space, env.action_space, env=env, n_envs=2, copy_info_dict=True
    )
    obs = env.reset()
    for _ in range(33):
        new, reward, done, infos = env.step(np.zeros((2, 1)))
        after = {k: v.copy() for k, v in new.items()}
        for i in np.flatnonzero(done):
            for k in after:
                after[k][i] = infos[i]["terminal_observation"][k]
        buffer.add(obs, after, np.zeros((2, 1)), reward, done, infos)
        obs = new
    buffer.her_ratio = 1.0
    buffer.change_n_envs(1)
    buffer._oracle.env = DummyVecEnv([lambda: env.envs[0]])
    batch = buffer.sample(300)
    assert (batch.rewards == batch.next_observations["achieved_goal"]).all()
    assert all("terminal_observation" not in info for row in buffer._infos for info in row)


@pytest.mark.parametrize("keys", [["start", "end"], ["a", "b", "a+b"]])
def test_keys_may_have_any_name(keys):
    space = spaces.Dict({k: spaces.Box(0, 9, (1,), np.int64 if "+" in k else float) for k in keys})
    buffer = DictReplayBuffer(10, space, ACTION)
    for t in range(15):
        obs, after = ({k: np.array([[t + j + i]]) for i, k in enumerate(keys)} for j in (0, 1))
        done = np.array([t % 4 == 3])
        info = {"TimeLimit.truncated": True}
        buffer.add(obs, after, np.zeros((1, 2)), np.zeros(1), done, [info])
    batch = buffer.sample_at(*everything(buffer))
    for i, key in enumerate(keys):
        assert batch.observations[key].ravel().tolist() == list(range(5 + i, 15 + i))
        assert batch.next_observations[key].ravel().tolist() == list(range(6 + i, 16 + i))


@pytest.mark.filterwarnings("error")
def test_stacked_goals_are_warned_of(counting_env):
    def buffer(n_stack):
        env = VecFrameStack(counting_env(5), n_stack)
        return HerReplayBuffer(20, env.observation_space, env.action_space, env=env)

    assert buffer(1).env is not None
    with pytest.warns(UserWarning, match=r"VecFrameStack stacks goals too, \(1,\) to \(2,\)"):
        buffer(2)


class Doubled(gym.RewardWrapper):
    """Of new goals too."""

    def reward(self, reward):
        return 2 * reward

    def compute_reward(self, *args):
        return 2 * self.env.get_wrapper_attr("compute_reward")(*args)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrapper", ["TransformReward", "NormalizeReward"])
def test_rewards_that_are_changed_for_the_own_goal_only_are_warned_of(counting_env, wrapper):
    def buffer(wrap):
        env = DummyVecEnv([lambda: wrap(counting_env(5).envs[0])])
        return HerReplayBuffer(20, env.observation_space, env.action_space, env=env)

    def changing(env):
        arguments = [lambda reward: 2 * reward] if wrapper == "TransformReward" else []
        return gym.wrappers.TimeLimit(getattr(gym.wrappers, wrapper)(env, *arguments), 5)

    assert buffer(Doubled).env is not None
    assert buffer(lambda env: Doubled(changing(env))).env is not None
    with pytest.warns(UserWarning, match=f"{wrapper} changes rewards, and compute_reward"):
        buffer(changing)
