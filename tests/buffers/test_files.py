"""What is saved is what comes back; nothing else is believed, and nothing is lost by failing."""

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from pyrl_sb3.buffers import DictReplayBuffer, HerReplayBuffer, ReplayBuffer, infos
from pyrl_sb3.buffers.episodes import EpisodeStore

BOX = spaces.Box(-np.inf, np.inf, (2,), np.float64)
KEYS = ("observation", "achieved_goal", "desired_goal")
GOALS = spaces.Dict(dict.fromkeys(KEYS, BOX))
ACTIONS = spaces.Box(-1, 1, (1,), np.float32)


class Player:
    """Feeds episodes of random lengths to a buffer; no two observations are equal.

    `log[t][env]` is `(obs, next_obs, action, reward, terminated, episode)`.
    """

    def __init__(self, n_envs=1, seed=0, constant_goal=True):
        self.rng = np.random.default_rng(seed)
        self.n_envs, self.constant_goal = n_envs, constant_goal
        self.log = []
        self.number = seed * 1_000_000
        self.episodes = 0
        self.goals, self.obs, self.left, self.episode = ([0] * n_envs for _ in range(4))
        for env in range(n_envs):
            self.reset(env)

    def reset(self, env):
        self.episodes += 1
        self.episode[env] = self.episodes
        self.goals[env] = self.rng.normal(size=2)
        self.left[env] = int(self.rng.integers(1, 9))
        self.obs[env] = self.observe(env)

    def observe(self, env):
        self.number += 1
        goal = self.goals[env] if self.constant_goal else self.rng.normal(size=2)
        here = np.array([self.number % 1_000_000, env], float)
        return {"observation": here, "achieved_goal": -here, "desired_goal": goal}

    def play(self, buffer, steps):
        for _ in range(steps):
            obs, after = list(self.obs), [self.observe(env) for env in range(self.n_envs)]
            actions = self.rng.uniform(-1, 1, (self.n_envs, 1)).astype(np.float32)
            rewards = self.rng.normal(size=self.n_envs)
            dones, infos, row = np.zeros(self.n_envs, bool), [], []
            for env in range(self.n_envs):
                self.left[env] -= 1
                dones[env] = self.left[env] == 0 and self.rng.random() < 0.8  # or a silent reset
                truncated = bool(self.rng.random() < 0.5)
                infos.append(
                    {"TimeLimit.truncated": truncated, "number": after[env]["observation"]}
                )
                over = dones[env] and not truncated
                step = obs[env], after[env], actions[env], rewards[env], over, self.episode[env]
                row.append(step)
                self.obs[env] = after[env]
                if self.left[env] == 0:
                    self.reset(env)
            self.log.append(row)
            stack = lambda some: {k: np.stack([x[k] for x in some]) for k in KEYS}  # noqa: E731
            buffer.add(
                *map(self.flat(buffer), (stack(obs), stack(after))), actions, rewards, dones, infos
            )

    def flat(self, buffer):
        return (lambda obs: obs) if buffer.keyed else (lambda obs: obs["observation"])

    def check(self, buffer, steps, n_envs=None):
        """Check that exactly the last `steps` steps are in the buffer, whatever their places."""
        positions, envs = everything(buffer)
        assert len(positions) == steps * self.n_envs
        expected = sorted((s for row in self.log[-steps:] for s in row), key=self.order)
        batch = sample(buffer, positions, envs)
        obs, after = (x if buffer.keyed else {"observation": x} for x in (batch[0], batch[2]))
        place = np.lexsort((obs["observation"][:, 1], obs["observation"][:, 0]))
        for i, step in zip(place, expected, strict=True):
            for key in obs:
                assert np.array_equal(obs[key][i], step[0][key].astype(np.float32))
                assert np.array_equal(after[key][i], step[1][key].astype(np.float32))
            assert np.array_equal(batch[1][i], step[2])
            assert batch[4][i] == np.float32(step[3])
            assert batch[3][i] == step[4]

    @staticmethod
    def order(step):
        return tuple(step[0]["observation"])


def make(cls=HerReplayBuffer, size=1000, n_envs=1, **kwargs):
    if issubclass(cls, HerReplayBuffer):
        kwargs = {"env": None, "n_sampled_goal": 0, **kwargs}
    space = GOALS if cls is not ReplayBuffer else BOX
    return cls(size, space, ACTIONS, n_envs=n_envs, seed=0, **kwargs)


def everything(buffer):
    store = buffer.store
    positions, envs = np.meshgrid(np.arange(store.first, store.now), np.arange(buffer.n_envs))
    return positions.ravel(), envs.ravel()


def sample(buffer, *where):
    batch = buffer.sample_at(*(where or everything(buffer)))
    return [
        {k: v.numpy() for k, v in part.items()} if isinstance(part, dict) else part.numpy()
        for part in batch[:5]
    ]


def same(a, b):
    """Whether two buffers hold the same, in the same places."""
    pairs = zip(sample(a), sample(b), strict=True)
    whole = [(x, y) for x, y in pairs if not isinstance(x, dict)]
    keyed = [
        (x[k], y[k])
        for x, y in zip(sample(a), sample(b), strict=True)
        if isinstance(x, dict)
        for k in x
    ]
    return a.store.now == b.store.now and all(np.array_equal(x, y) for x, y in whole + keyed)


def files(folder):
    return {file.name: file.stat().st_size for file in Path(folder).iterdir()}


@pytest.mark.parametrize("cls", [ReplayBuffer, DictReplayBuffer, HerReplayBuffer])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("constant_goal", [True, False])
def test_saved_again_and_again(tmp_path, cls, n_envs, constant_goal):
    buffer, player = make(cls, 90 * n_envs, n_envs), Player(n_envs, constant_goal=constant_goal)
    for steps in [0, 1, 2, 1, 60, 5, 70, 40, 1, 200]:
        player.play(buffer, steps)
        buffer.save(tmp_path / "a")
        again = make(cls, 90 * n_envs, n_envs)
        again.load(tmp_path / "a")
        stored = min(len(player.log), 90)
        if stored:
            assert same(again, buffer)
            player.check(again, stored)
        assert (again.size(), again.pos, again.full) == (buffer.size(), buffer.pos, buffer.full)


def test_loading_takes_no_longer_the_more_was_added_before(tmp_path, monkeypatch):
    buffer, player = make(HerReplayBuffer, 90, 1), Player(1)
    player.play(buffer, 1000)
    buffer.save(tmp_path)
    turns, locate = [], EpisodeStore.locate

    def seen(store, positions, envs):
        # Further away numpy's `mode="wrap"` takes a step for each turn of the ring.
        turns.append((int(positions.max() >> 6) - store.bits._turn) // len(store.bits.words))
        return locate(store, positions, envs)

    monkeypatch.setattr(EpisodeStore, "locate", seen)
    make(HerReplayBuffer, 90, 1).load(tmp_path)
    assert set(turns) == {0}


@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_loaded_buffer_goes_on(tmp_path, n_envs):
    buffer, player = make(HerReplayBuffer, 90 * n_envs, n_envs), Player(n_envs)
    for steps in [30, 100, 66, 64, 7] * 4:
        player.play(buffer, steps)
        buffer.save(tmp_path)
        buffer = make(HerReplayBuffer, 90 * n_envs, n_envs)
        buffer.load(tmp_path)
        player.check(buffer, min(len(player.log), 90))
        where = buffer.store.locate(*everything(buffer))
        starts = buffer.store.table.starts(where.rows)
        episodes = np.array([[step[5] for step in row] for row in player.log])
        for t, env, start in zip(where.positions, where.envs, starts, strict=True):
            assert episodes[t, env] == episodes[start, env]
            assert start == 0 or episodes[start - 1, env] != episodes[start, env]


@pytest.mark.parametrize("constant_goal", [True, False])
def test_a_loaded_buffer_adds_to_the_folder(tmp_path, constant_goal):
    player = Player(2, constant_goal=constant_goal)
    for steps in (30, 7, 1):
        buffer = make(n_envs=2)
        if player.log:
            buffer.load(tmp_path)
        player.play(buffer, steps)
        buffer.save(tmp_path)
    again = make(n_envs=2)
    again.load(tmp_path)
    player.check(again, 38)


@pytest.mark.parametrize("size", [1, 10, 64, 89, 91, 200, 1000])
@pytest.mark.parametrize("steps", [20, 300])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_another_capacity_keeps_the_newest(tmp_path, size, steps, n_envs):
    buffer, player = make(HerReplayBuffer, 90 * n_envs, n_envs), Player(n_envs)
    player.play(buffer, steps)
    buffer.save(tmp_path)
    again = make(HerReplayBuffer, size * n_envs, n_envs)
    again.load(tmp_path)
    player.check(again, min(size, steps, 90))
    player.play(again, 150)
    player.check(again, min(size, min(steps, 90) + 150))
    again.save(tmp_path)  # goes on where it was loaded from
    third = make(HerReplayBuffer, size * n_envs, n_envs)
    third.load(tmp_path)
    assert same(third, again)


@pytest.mark.parametrize("more", [0, 1, 2, 9, 10, 11])
def test_a_full_buffer_comes_back_in_a_larger_one(tmp_path, more):
    buffer, again, player = make(size=10), make(size=25), Player()
    player.play(buffer, 10 + more)
    buffer.save(tmp_path)
    again.load(tmp_path)
    player.check(again, 10)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (4, 2), (3, 2)])
@pytest.mark.parametrize("copy_info_dict", [True, False])
@pytest.mark.parametrize("size", [24, 3000])
def test_another_number_of_environments(tmp_path, before, after, size, copy_info_dict):
    buffer = make(HerReplayBuffer, 120, before, copy_info_dict=copy_info_dict)
    player = Player(before)
    player.play(buffer, 24 * after)
    buffer.save(tmp_path)
    again = make(HerReplayBuffer, size, after, copy_info_dict=copy_info_dict)
    again.load(tmp_path)
    stored = min(24 * after, 120 // before, size // before)
    player.check(again, stored)
    assert again.size() * after == stored * before
    if copy_info_dict:
        check_infos(again)


def check_infos(buffer):
    """Every info says which observation it came with."""
    store = buffer.store
    positions, envs = everything(buffer)
    after = store.read_next("observation", positions, store.locate(positions, envs))
    assert len(buffer._infos) == store.now - store.first
    for t, env, obs in zip(positions, envs, after, strict=True):
        assert np.array_equal(buffer._infos[t % buffer.buffer_size][env]["number"], obs)


@pytest.mark.parametrize("size", [40, 90, 200])
def test_infos_come_back(tmp_path, size):
    buffer, player = make(HerReplayBuffer, 180, 2, copy_info_dict=True), Player(2)
    for steps in (30, 40, 50):
        player.play(buffer, steps)
        buffer.save(tmp_path)
        again = make(HerReplayBuffer, 2 * size, 2, copy_info_dict=True)
        again.load(tmp_path)
        check_infos(again)
        player.play(again, 50)
        check_infos(again)
        player.log = player.log[:-50]


def test_an_info_that_cannot_be_written_is_named(tmp_path):
    buffer, player = make(HerReplayBuffer, copy_info_dict=True), Player()
    player.play(buffer, 3)
    buffer.save(tmp_path)
    before = files(tmp_path)
    player.play(buffer, 1)
    buffer._infos[-1][0]["simulator"] = object()
    with pytest.raises(ValueError, match="the info 'simulator' cannot be saved"):
        buffer.save(tmp_path)
    again = make(HerReplayBuffer, copy_info_dict=True)
    again.load(tmp_path)
    assert again.size() == 3
    assert before.items() <= files(tmp_path).items()
    without = make(HerReplayBuffer)
    without.load(tmp_path)
    without.save(tmp_path / "without")
    with pytest.raises(ValueError, match="holds no infos"):
        again.load(tmp_path / "without")


INFOS = [
    {"t": (1, (2, [3])), 3: 4, True: "yes", None: 0, 2.5: (), ("a", 1): 1},
    {"x": {"__array__": "z"}, "y": {"__tuple__": 1}, "z": {"__dict__": [[1]]}},
    {"nan": float("nan"), "large": 2**900, "nested": {"a": {"b": {1: {2: 3}}}}, "empty": {}},
]


@pytest.mark.parametrize("info", INFOS)
def test_infos_come_back_as_they_were(info):
    (back,) = infos.decode(infos.encode([[info]]), 1, 1)[0]
    assert repr(back) == repr(info)


DAMAGED = {
    "not_json": "{",
    "nested": "[" * 200_000,
    "a_number": "3",
    "steps_by_name": '{"0": [{}], "1": [{}], "2": [{}]}',
    "a_step_is_a_number": "[[{}], 1.5, [{}]]",
    "a_step_is_a_dict": '[[{}], {"a": 1}, [{}]]',
    "an_info_is_a_number": "[[{}], [7], [{}]]",
    "an_info_is_a_tuple": '[[{}], [{"__tuple__": []}], [{}]]',
    "too_few": "[[{}], [{}]]",
    "array_of_nothing": '[[{}], [{"a": {"__array__": 1}}], [{}]]',
    "array_of_no_type": '[[{}], [{"a": {"__array__": ["x", [3], ""]}}], [{}]]',
    "tuple_of_nothing": '[[{}], [{"a": {"__tuple__": 3}}], [{}]]',
    "key_that_is_none": '[[{}], [{"a": {"__dict__": [[[], 1]]}}], [{}]]',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("n_envs", [1, 3])  # of the buffer that loads them
def test_damaged_infos_are_refused_by_file_name(tmp_path, monkeypatch, content, n_envs):
    buffer, again = make(copy_info_dict=True), make(copy_info_dict=True, n_envs=n_envs)
    Player().play(buffer, 3)
    monkeypatch.setattr("pyrl_sb3.buffers.saving.encode", lambda _: content.encode())
    buffer.save(tmp_path)
    player, before = Player(n_envs), files(tmp_path)
    player.play(again, 2)
    with pytest.raises(ValueError, match=r"[0-9]-\w+\.bin is damaged: ") as caught:
        again.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == before
    player.check(again, 2)
    check_infos(again)


def circle():
    value = {}
    value["itself"] = value
    return value


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (circle(), "nested too deeply"),
        (2**1001, "of more than 1,000 bits"),
        ({1}, "set is neither"),
    ],
)
def test_infos_that_would_not_come_back_are_named(value, problem):
    with pytest.raises(ValueError, match=f"the info 'odd' cannot be saved .*{problem}"):
        infos.encode([[{"fine": 1, "odd": value}]])
