"""What comes out of the buffers is what went in; oracle: a plain list of transitions."""

import pickle

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecNormalize

from pyrl_sb3.buffers import HerReplayBuffer


def fill(buffer, env, steps, obs=None):
    """Steps the environment as SB3's off-policy algorithms do; returns transitions and last obs."""
    rng = np.random.default_rng(0)
    obs = env.reset() if obs is None else obs
    log = []
    for _ in range(steps):
        action = rng.uniform(-1, 1, (env.num_envs, 1)).astype(np.float32)
        new_obs, rewards, dones, infos = env.step(action)
        next_obs = {key: value.copy() for key, value in new_obs.items()}
        for i in np.flatnonzero(dones):
            for key in next_obs:
                next_obs[key][i] = infos[i]["terminal_observation"][key]
        buffer.add(obs, next_obs, action, rewards, dones, infos)
        log.append((obs, next_obs, action, rewards, dones))
        obs = new_obs
    return log, obs


def make(env, size=1000, **kwargs):
    return HerReplayBuffer(
        size, env.observation_space, env.action_space, env=env, n_envs=env.num_envs, **kwargs
    )


def everything(buffer):
    """Positions and environments of all that is stored."""
    store = buffer.store
    positions, envs = np.meshgrid(np.arange(store.first, store.now), np.arange(buffer.n_envs))
    return positions.ravel(), envs.ravel()


@pytest.mark.parametrize("size", [7, 64, 65, 200, 1000])
@pytest.mark.parametrize("lengths", [(5,), (1,), (70,), (3, 7), (1, 100, 4)])
def test_all_of_the_window_comes_back(counting_env, size, lengths):
    env = counting_env(*lengths)
    buffer = make(env, size * len(lengths), n_sampled_goal=0)
    log, _ = fill(buffer, env, 300)
    positions, envs = everything(buffer)
    assert len(positions) == min(300, size) * len(lengths)
    batch = buffer.sample_at(positions, envs)
    for i, (t, e) in enumerate(zip(positions, envs, strict=True)):
        obs, next_obs, action, rewards, _ = log[t]
        for key in obs:
            assert batch.observations[key][i] == obs[key][e]
            assert batch.next_observations[key][i] == next_obs[key][e]
        assert batch.actions[i] == action[e]
        assert batch.rewards[i] == rewards[e]
        assert batch.dones[i] == 0  # all ends are timeouts


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
def test_goals_come_from_the_same_episode(counting_env, strategy):
    env = counting_env(3, 8)
    buffer = make(env, 2 * 50, goal_selection_strategy=strategy)
    buffer.her_ratio = 1.0
    fill(buffer, env, 130)
    positions, envs = np.tile(everything(buffer), 200)
    where = buffer.store.locate(positions, envs)
    batch = buffer.sample_at(positions, envs)
    goal = batch.observations["desired_goal"].numpy().ravel()
    here = batch.next_observations["achieved_goal"].numpy().ravel()
    ahead = (goal - here).astype(int)  # one step is one number
    starts = buffer.store.table.starts(where.rows)
    low, high = (np.maximum(starts, 80) - positions), where.lasts - positions
    low = {"future": low * 0, "final": high, "episode": low}[strategy]
    assert (low <= ahead).all()
    assert (ahead <= high).all()
    # each admissible goal is drawn: 200 draws each, up to 8 goals
    for position, env_index in zip(*everything(buffer), strict=True):
        mine = (positions == position) & (envs == env_index)
        assert set(ahead[mine]) == set(range(low[mine][0], high[mine][0] + 1))


def test_relabelled_rewards_are_the_owners(counting_env):
    env = counting_env(4, 6, 5)
    buffer = make(env, 300)
    buffer.her_ratio = 1.0
    fill(buffer, env, 50)
    positions, envs = everything(buffer)
    batch = buffer.sample_at(positions, envs)
    achieved = batch.next_observations["achieved_goal"].numpy()
    expected = 1000 * envs[:, None] + achieved - batch.observations["desired_goal"].numpy()
    assert (batch.rewards.numpy() == expected).all()


def test_share_of_relabelled_rows_is_sb3s(counting_env):
    env = counting_env()
    buffer = make(env, n_sampled_goal=4)
    fill(buffer, env, 20)
    goals = buffer.sample(256).observations["desired_goal"]
    assert (goals >= 0).sum() == int(0.8 * 256)


@pytest.mark.parametrize("lengths", [(4, 7), (4,)])
def test_uniform_over_the_window(counting_env, lengths):
    env, n = counting_env(*lengths), 30 * len(lengths)
    buffer = make(env, n, n_sampled_goal=0, seed=0)
    fill(buffer, env, 100)
    batch = buffer.sample(1000 * n)
    _, counts = np.unique(batch.actions.numpy().ravel(), return_counts=True)
    assert len(counts) == n
    assert (abs(counts - 1000) < 5 * np.sqrt(1000)).all()
    step = batch.next_observations["observation"] - batch.observations["observation"]
    assert (step == 1).all(), "at the ends of episodes too"


def test_terminations_are_dones_and_timeouts_are_not(counting_env):
    for truncate in (True, False):
        env = counting_env(5, truncate=truncate)
        buffer = make(env, n_sampled_goal=0)
        fill(buffer, env, 12)
        dones = buffer.sample_at(*everything(buffer)).dones.numpy().ravel()
        assert list(np.flatnonzero(dones)) == ([] if truncate else [4, 9])


def test_timeouts_are_dones_when_not_handled(counting_env):
    env = counting_env(5)
    buffer = make(env, n_sampled_goal=0, handle_timeout_termination=False)
    fill(buffer, env, 12)
    dones = buffer.sample_at(*everything(buffer)).dones.numpy().ravel()
    assert list(np.flatnonzero(dones)) == [4, 9]


def test_raw_terminal_observations_under_vec_normalize(counting_env):
    env = VecNormalize(counting_env(5, 3), clip_obs=0.5)
    buffer = make(env, n_sampled_goal=0)
    obs = env.reset()
    raw = env.get_original_obs()
    for _ in range(30):
        _, rewards, dones, infos = env.step(np.zeros((2, 1), np.float32))
        new = env.get_original_obs()
        after = {key: value.copy() for key, value in new.items()}
        for i in np.flatnonzero(dones):
            back = env.unnormalize_obs(infos[i]["terminal_observation"])
            for key in after:
                after[key][i] = back[key]
        buffer.add(raw, after, np.zeros((2, 1)), rewards, dones, infos)
        raw = new
    assert set(obs) == set(raw)
    batch = buffer.sample_at(*everything(buffer))
    step = batch.next_observations["observation"] - batch.observations["observation"]
    assert (step == 1).all()


@pytest.mark.parametrize("steps", [23, 90])
def test_pickle_keeps_what_is_filled(counting_env, steps):
    env = counting_env(5, 7)
    buffer = make(env, 2 * 40, n_sampled_goal=0)
    log, obs = fill(buffer, env, steps)
    again = pickle.loads(pickle.dumps(buffer))
    again.set_env(env)
    for mine, theirs in zip(
        buffer.sample_at(*everything(buffer))[1:5:3],
        again.sample_at(*everything(again))[1:5:3],
        strict=True,
    ):
        assert (mine == theirs).all()
    assert (again.sample(5).actions == buffer.sample(5).actions).all()  # the generator goes on
    more, _ = fill(again, env, 60, obs)
    numbers = again.sample_at(*everything(again)).observations["observation"].numpy()
    expected = [t[0]["observation"][e] for e in range(2) for t in (log + more)[-40:]]
    assert (numbers == expected).all()
    empty = make(env, 1_000_000)
    fill(empty, env, 10)
    assert len(pickle.dumps(empty)) < 10_000 + empty.store.bits.words.nbytes * 2


def test_a_goal_that_changes_within_an_episode(counting_env):
    env = counting_env(6, 6)
    buffer = make(env, 2 * 20, n_sampled_goal=0)
    obs = env.reset()
    goals = []
    for t in range(35):
        action = np.zeros((2, 1), np.float32)
        goal = obs["desired_goal"].copy()
        obs, rewards, dones, infos = env.step(action)
        after = {k: v.copy() for k, v in obs.items()}
        for i in np.flatnonzero(dones):
            after = {
                k: np.where(dones[:, None], infos[i]["terminal_observation"][k], v)
                for k, v in after.items()
            }
        before = {
            "observation": after["observation"] - 1,
            "achieved_goal": after["observation"] - 1,
        }
        if t > 25:  # by then the buffer has wrapped
            after["desired_goal"] = np.array([[t + 0.5], [t + 0.5]])
            obs["desired_goal"] = np.where(dones[:, None], obs["desired_goal"], t + 0.5)
        goals.append((goal, after["desired_goal"]))
        buffer.add({**before, "desired_goal": goal}, after, action, rewards, dones, infos)
    positions, envs = everything(buffer)
    batch = buffer.sample_at(positions, envs)
    for i, (t, e) in enumerate(zip(positions, envs, strict=True)):
        assert batch.observations["desired_goal"][i] == goals[t][0][e]
        assert batch.next_observations["desired_goal"][i] == goals[t][1][e]
