"""Random histories against a list of transitions per environment."""

import functools
import os
import pickle
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrl_sb3.buffers import HerReplayBuffer

GAMMA = 0.5
EXAMPLES = int(os.environ.get("PYRL_TEST_EXAMPLES", "2000"))
SIZES = st.one_of(st.integers(1, 30), st.integers(60, 140))
Step = st.tuples(st.just("step"), st.integers(1, 40))
OPS = st.lists(
    st.one_of(
        Step,
        Step,
        st.tuples(st.just("reset"), st.integers(0, 2)),
        st.tuples(st.just("goal"), st.integers(0, 2)),
        st.tuples(st.sampled_from(["check", "pickle", "cut"]), st.just(0)),
        st.tuples(st.just("resize"), st.integers(1, 3)),
        st.tuples(st.just("save"), st.just(0)),
        st.tuples(st.just("save"), st.just(0)),
        st.tuples(st.just("load"), st.tuples(st.integers(0, 3), SIZES)),
        st.tuples(st.just("load"), st.tuples(st.just(0), SIZES)),
    ),
    min_size=1,
    max_size=10,
)


class Transition(NamedTuple):
    obs: int
    next_obs: int
    goal: int
    next_goal: int
    action: float
    reward: float
    episode: int
    terminated: bool


def lists(samples: Any) -> dict[str, Any]:
    """Samples as lists of numbers, which are much quicker to look at one by one."""
    flat = {k: v for k, v in samples._asdict().items() if v is not None}
    for key, value in flat.items():
        if isinstance(value, dict):
            flat[key] = {k: v.ravel().tolist() for k, v in value.items()}
        else:
            flat[key] = value.ravel().tolist()
    return flat


class History:
    """A buffer and what it should hold."""

    def __init__(
        self, make: Any, folder: Path, n_envs: int, size: int, seed: int, **kwargs: Any
    ) -> None:
        self.make, self.folder, self.kwargs = make, folder, kwargs
        self.saved: list[list[Any]] = []
        self.buffer = self.new_buffer(size, n_envs, seed)
        self.rng = np.random.default_rng(seed)
        self.serial = self.episodes = 0
        self.columns: list[list[Transition]] = [[] for _ in range(n_envs)]
        self.begin(range(n_envs), fresh=True)

    def new_buffer(self, size: int, n_envs: int, seed: int) -> HerReplayBuffer:
        env = self.make(n_envs)
        space, action = env.observation_space, env.action_space
        return HerReplayBuffer(
            size, space, action, env=env, n_envs=n_envs, seed=seed, **self.kwargs
        )

    def do(self, name: str, argument: Any) -> None:
        if name == "step":
            for _ in range(argument):
                self.step()
        elif name == "goal":
            self.step(change_goal=True)
        elif name == "reset":
            self.begin([argument % len(self.columns)])
        elif name in ("resize", "pickle"):
            self.resize(argument or len(self.columns))
        elif name == "load":
            self.load(*argument)
        else:
            {"cut": self.cut, "save": self.save, "check": self.check}[name]()

    def fresh(self) -> int:
        self.serial += 1
        return self.serial

    def begin(self, envs: Any, fresh: bool = False) -> None:
        n = len(self.columns)
        if fresh:
            self.now, self.goal, self.episode = [0] * n, [0] * n, [0] * n
        for e in envs:
            self.episodes += 1
            self.now[e], self.goal[e], self.episode[e] = self.fresh(), -self.fresh(), self.episodes

    def obs(self, numbers: list[int], goals: list[int]) -> dict[str, np.ndarray]:
        column = np.array(numbers, float)[:, None]
        goal = np.array(goals, float)[:, None]
        return {"observation": column + 0.5, "achieved_goal": column, "desired_goal": goal}

    def step(self, change_goal: bool = False) -> None:
        n = len(self.columns)
        after = [self.fresh() for _ in range(n)]
        goals = [-self.fresh() if change_goal else goal for goal in self.goal]
        done = self.rng.random(n) < 0.15
        truncated = done & (self.rng.random(n) < 0.5)
        action, reward = self.rng.random((n, 1)).astype(np.float32), self.rng.integers(9, size=n)
        self.buffer.add(
            self.obs(self.now, self.goal),
            self.obs(after, goals),
            action,
            reward,
            done,
            [{"TimeLimit.truncated": bool(t)} for t in truncated],
        )
        for e in range(n):
            over = bool(done[e] and not truncated[e])
            kept = (self.now[e], after[e], self.goal[e], goals[e], float(action[e, 0]), reward[e])
            self.columns[e].append(Transition(*kept, self.episode[e], over))
            del self.columns[e][: -self.buffer.buffer_size]
        self.now, self.goal = after, goals
        self.begin(np.flatnonzero(done))

    def cut(self) -> None:
        """The buffer is told of the reset that the next step shows."""
        self.buffer.truncate_last_trajectory()
        self.begin(range(len(self.columns)))

    def resize(self, n_envs: int) -> None:
        self.buffer = pickle.loads(pickle.dumps(self.buffer))
        self.buffer.set_env(self.make(n_envs))
        if n_envs != len(self.columns):
            self.dealt(n_envs)
        self.begin(range(n_envs), fresh=True)

    def dealt(self, n_envs: int) -> None:
        """Read how the transitions were dealt out: each is one of those there were, only once."""
        known = {t.obs: t for column in self.columns for t in column}
        length, slots = self.buffer.store.now, self.buffer.buffer_size
        assert len(known) - length * n_envs < n_envs or length >= slots
        self.columns = [[] for _ in range(n_envs)]
        for e in range(n_envs if length else 0):
            index = np.arange(self.buffer.store.first, length)
            batch = self.buffer.store.locate(index, np.full(len(index), e))
            numbers = self.buffer.store.read(batch, batch.positions)[0]["achieved_goal"]
            follows = None
            for number in numbers[:, 0]:
                transition = known.pop(int(number))  # each only once
                if (transition.obs, transition.episode) != follows:
                    self.episodes += 1
                follows = transition.next_obs, transition.episode
                self.columns[e].append(transition._replace(episode=self.episodes))

    def save(self) -> None:
        self.buffer.save(self.folder)
        state = [*self.columns, self.now, self.goal, self.episode]
        self.saved = [values.copy() for values in state]

    def load(self, n_envs: int, size: int) -> None:
        """Into a new buffer; with as many environments, their episodes go on."""
        if not self.saved:
            self.save()
        *self.columns, self.now, self.goal, self.episode = [x.copy() for x in self.saved]
        n_envs = n_envs or len(self.columns)
        self.buffer = self.new_buffer(size, n_envs, 0)
        self.buffer.load(self.folder)
        if n_envs != len(self.columns):
            self.dealt(n_envs)
            self.begin(range(n_envs), fresh=True)
        for column in self.columns:
            del column[: -self.buffer.buffer_size]

    def check(self) -> None:
        buffer, store = self.buffer, self.buffer.store
        held = len(self.columns[0])
        assert buffer.size() == held
        if not held:
            return
        envs, index = (x.ravel() for x in np.indices((len(self.columns), held)))
        for new_goals in (False, True):
            buffer.her_ratio = float(new_goals)
            batch = lists(buffer.sample_at(index + store.first, envs))
            for row, (e, i) in enumerate(zip(envs, index, strict=True)):
                self.check_row(batch, row, e, i, new_goals)
        drawn = Counter(buffer.sample(20).actions.ravel().tolist())
        assert set(drawn) <= {t.action for column in self.columns for t in column}

    def check_row(self, batch: Any, row: int, e: int, i: int, new_goals: bool) -> None:
        buffer, column = self.buffer, self.columns[e]
        first = column[i]
        later = [t for t in column[i:] if t.episode == first.episode]
        whole = [t for t in column if t.episode == first.episode]
        obs, after = batch["observations"], batch["next_observations"]
        goal = obs["desired_goal"][row]
        segment = later[: buffer.n_steps]
        rewards = [t.reward for t in segment]
        if new_goals:
            strategy = buffer.goal_selection_strategy.name
            pool = {"FUTURE": later, "FINAL": later[-1:], "EPISODE": whole}[strategy]
            assert goal in {t.next_obs for t in pool}
            rewards = [1000 * e + t.next_obs - goal for t in segment]
        else:
            assert (goal, after["desired_goal"][row]) == (first.goal, segment[-1].next_goal)
        assert obs["achieved_goal"][row] == obs["observation"][row] - 0.5 == first.obs
        assert after["achieved_goal"][row] == segment[-1].next_obs
        assert batch["actions"][row] == first.action
        expected = sum(GAMMA**j * reward for j, reward in enumerate(rewards))
        assert abs(batch["rewards"][row] - expected) < 1e-3
        assert batch["dones"][row] == segment[-1].terminated
        if buffer.n_steps > 1:
            assert batch["discounts"][row] == GAMMA ** len(segment)


@pytest.fixture(scope="module")
def make(counting_env):
    return functools.cache(lambda n_envs: counting_env(*[5] * n_envs))


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk():
    """Only who pulls the plug can tell the difference."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # which is about the machine
)
@given(
    n_envs=st.integers(1, 3),
    size=SIZES,
    seed=st.integers(0, 2**31),
    n_steps=st.sampled_from([1, 1, 2, 3]),
    strategy=st.sampled_from(["future", "final", "episode"]),
    ops=OPS,
)
def test_what_is_sampled_has_happened(make, n_envs, size, seed, n_steps, strategy, ops):
    options = {"n_steps": n_steps, "gamma": GAMMA, "goal_selection_strategy": strategy}
    with TemporaryDirectory() as folder:
        history = History(make, Path(folder, "buffer"), n_envs, size, seed, **options)
        for name, argument in ops:
            history.do(name, argument)
        history.check()
