"""One test per defect of SB3 2.9.2's replay buffers, named after the project's list of them.

Where the defect shows through the public interface the same test is run on SB3's class, and must
fail there in the way that is said: so the claim stays checked.
"""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3 import HerReplayBuffer as SB3Her
from stable_baselines3.common import buffers as sb3
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pyrl_sb3.buffers import DictReplayBuffer, HerReplayBuffer, ReplayBuffer, memory


def both(ours, theirs, raises=AssertionError):
    """Parametrise with our class, and with SB3's, where the test is to fail with `raises`."""
    mark = pytest.mark.xfail(strict=True, raises=raises, reason="defect of SB3 2.9.2")
    return pytest.mark.parametrize("cls", [ours, pytest.param(theirs, marks=mark, id="sb3")])


def sac(env, cls, size=200, **kwargs):
    """A stock model that only collects."""
    return SAC(
        "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy",
        env,
        replay_buffer_class=cls,
        replay_buffer_kwargs=kwargs,
        buffer_size=size,
        learning_starts=10**6,
        policy_kwargs={"net_arch": [4]},
        device="cpu",
        seed=0,
    )


def her(env, cls=HerReplayBuffer, size=100, **kwargs):
    return cls(
        size, env.observation_space, env.action_space, env=env, n_envs=env.num_envs, **kwargs
    )


def step(buffer, obs, next_obs, done=False, truncated=False, reward=0.0, **info):
    """Add one step of one environment whose observation is a number for every key."""
    keys = buffer.observation_space.spaces
    as_obs = [{k: np.full((1, *keys[k].shape), float(x)) for k in keys} for x in (obs, next_obs)]
    for each in as_obs:
        each["desired_goal"][:] = -1
    infos = [{"TimeLimit.truncated": truncated, **info}]
    done = np.array([done or truncated])
    buffer.add(*as_obs, np.zeros((1, 1), np.float32), np.array([reward]), done, infos)


def goals_are_from_the_same_episode(model, env):
    model.replay_buffer.her_ratio = 1.0
    batch = model.replay_buffer.sample(500)
    episode_of = env.envs[0].episode_of
    numbers = zip(
        batch.observations["observation"], batch.observations["desired_goal"], strict=True
    )
    return all(episode_of[int(here)] == episode_of[int(goal)] for here, goal in numbers)


@both(HerReplayBuffer, SB3Her)
def test_b01_a_second_learn_begins_a_new_episode(counting_env, cls):
    env = counting_env(10)
    model = sac(env, cls)
    model.learn(15)
    model.learn(15)
    assert goals_are_from_the_same_episode(model, env)


@both(HerReplayBuffer, SB3Her)
def test_b01_set_env_begins_a_new_episode(counting_env, cls):
    env = counting_env(10)
    model = sac(env, cls)
    model.learn(15)
    model.set_env(env)
    model.learn(15, reset_num_timesteps=False)
    assert goals_are_from_the_same_episode(model, env)


@both(HerReplayBuffer, SB3Her)
def test_b01_a_loaded_buffer_begins_a_new_episode(counting_env, tmp_path, cls):
    env = counting_env(10)
    model = sac(env, cls)
    model.learn(15)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    model = SAC.load(tmp_path / "model", env)
    model.load_replay_buffer(tmp_path / "buffer", truncate_last_traj=False)
    model.learn(15, reset_num_timesteps=False)
    assert goals_are_from_the_same_episode(model, env)


@both(ReplayBuffer, sb3.NStepReplayBuffer)
def test_b02_n_step_returns_stop_at_a_reset(counting_env, cls):
    env = counting_env(10)
    only = [
        gym.wrappers.TransformObservation(
            e, lambda o: o["observation"], e.observation_space["observation"]
        )
        for e in env.envs
    ]
    model = sac(DummyVecEnv([lambda: only[0]]), cls, n_steps=3, gamma=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.learn(15)
        model.learn(15)
    batch = model.replay_buffer.sample(500)
    episode_of = env.envs[0].episode_of
    for before, after in zip(batch.observations, batch.next_observations, strict=True):
        assert episode_of[int(before)] == episode_of[int(after)]
        assert 1 <= after - before <= 3


@both(HerReplayBuffer, SB3Her)
def test_b03_terminal_observations_are_exact_under_vec_normalize(counting_env, cls):
    env = VecNormalize(counting_env(10), clip_obs=0.5, norm_reward=False)
    model = sac(env, cls)
    model.learn(60)
    model.replay_buffer.her_ratio = 0.0
    batch = model.replay_buffer.sample(500)
    step = batch.next_observations["observation"] - batch.observations["observation"]
    assert np.allclose(step, 1, atol=1e-3)


def test_b03_plain_buffers_too_once_sampled_with_vec_normalize(counting_env):
    env = VecNormalize(counting_env(10), clip_obs=0.5, norm_reward=False)
    model = sac(env, DictReplayBuffer)
    model.learn(5)
    model.replay_buffer.sample(1, env=env)
    model.learn(55, reset_num_timesteps=False)
    batch = model.replay_buffer.sample(500)
    assert (batch.next_observations["observation"] - batch.observations["observation"] == 1).all()


@pytest.mark.filterwarnings("ignore:The last trajectory")
@both(HerReplayBuffer, SB3Her, raises=(ValueError, IndexError))
@pytest.mark.parametrize("n_envs", [1, 2, 5])
def test_b05_a_buffer_loaded_for_another_number_of_environments(
    counting_env, tmp_path, cls, n_envs
):
    model = sac(counting_env(10, 7, 4), cls, size=300)
    model.learn(3 * 25)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    model = SAC.load(tmp_path / "model", counting_env(*range(3, 3 + n_envs)))
    model.load_replay_buffer(tmp_path / "buffer")
    model.learn(n_envs, reset_num_timesteps=False)
    buffer = model.replay_buffer
    assert buffer.n_envs == n_envs
    if cls is SB3Her:
        return
    assert buffer.size() == 75 // n_envs + 1
    buffer.her_ratio = 0.0
    batch = buffer.sample(2000)
    assert (batch.next_observations["observation"] - batch.observations["observation"] == 1).all()
    kept = {int(x) for x in batch.observations["observation"]}
    assert len({x for x in kept if x % 10_000 < 100}) >= 75 - 75 % n_envs


def test_b05_a_buffer_of_other_observations_is_refused_by_name(counting_env):
    buffer = pickle.loads(pickle.dumps(her(counting_env(5))))
    env = counting_env(5)
    box = spaces.Box(-1, 1, (2,))
    env.observation_space = spaces.Dict({**env.observation_space.spaces, "achieved_goal": box})
    with pytest.raises(ValueError, match="'achieved_goal' has shape"):
        buffer.set_env(env)
    env.observation_space = spaces.Dict({**env.observation_space.spaces, "camera": box})
    with pytest.raises(ValueError, match="'camera' is only in the environment"):
        buffer.set_env(env)


@both(HerReplayBuffer, SB3Her, raises=ValueError)
def test_b07_a_new_environment_computes_the_rewards(counting_env, cls):
    env = counting_env(5)
    model = sac(env, cls)
    model.learn(10)
    other = counting_env(5)
    other.envs[0].owner = 7
    model.set_env(other)
    model.replay_buffer.set_env(model.env)
    model.replay_buffer.her_ratio = 1.0
    assert (model.replay_buffer.sample(5).rewards > 6900).all()


def test_b07_a_new_vec_normalize_is_noticed(counting_env):
    model = sac(VecNormalize(counting_env(5)), HerReplayBuffer)
    model.learn(10)
    other = VecNormalize(counting_env(5), norm_reward=False)
    other.venv.envs[0].owner = 7
    model.set_env(other)
    model.replay_buffer.her_ratio = 1.0
    assert (model.replay_buffer.sample(5, env=model._vec_normalize_env).rewards > 6900).all()


@both(HerReplayBuffer, SB3Her, raises=(RuntimeError, AssertionError))
@pytest.mark.parametrize("length", [20, 33])
def test_b08_episodes_as_long_as_the_buffer_or_longer(counting_env, cls, length):
    model = sac(counting_env(length), cls, size=20)
    model.learn(90)
    observations = model.replay_buffer.sample(1000).observations["observation"]
    assert len(np.unique(observations.numpy())) == 20


@both(HerReplayBuffer, SB3Her, raises=RuntimeError)
def test_b09_the_first_step_can_be_sampled(counting_env, tmp_path, cls):
    model = sac(counting_env(50), cls)
    model.learning_starts = 5
    model.num_timesteps = 10  # resumed without its buffer
    model.learn(3, reset_num_timesteps=False)
    assert model._n_updates == 3


class ReachEnv(gym.Env):
    """Terminates when the goal is reached; a step of "fall" terminates whatever the goal."""

    observation_space = spaces.Dict(
        {k: spaces.Box(-99, 99, (1,)) for k in ("observation", "achieved_goal", "desired_goal")}
    )
    action_space = spaces.Box(-1, 1, (1,))

    def compute_reward(self, achieved, desired, info):
        return np.float32(np.abs(achieved - desired)[..., 0] < 0.5)

    def compute_terminated(self, achieved, desired, info):
        return np.abs(achieved - desired)[..., 0] < 0.5


class ScalarReachEnv(ReachEnv):
    """The same, one transition at a time."""

    def compute_reward(self, achieved, desired, info):
        return 1.0 if abs(float(achieved[0]) - float(desired[0])) < 0.5 else 0.0

    def compute_terminated(self, achieved, desired, info):
        return bool(np.linalg.norm(achieved - desired) < 0.5)


@both(HerReplayBuffer, SB3Her)
def test_b10_dones_follow_the_new_goal(cls):
    buffer = her(DummyVecEnv([ReachEnv]), cls, goal_selection_strategy="final")
    for i in range(4):
        step(buffer, i, i + 1, truncated=i == 3)
    buffer.her_ratio = 1.0
    batch = buffer.sample(200)
    reached = batch.next_observations["achieved_goal"] == batch.observations["desired_goal"]
    assert reached.any()
    assert (batch.dones.bool() == reached).all()


def test_b10_an_end_of_another_cause_stays():
    for goal_reached in (False, True):
        buffer = her(DummyVecEnv([ReachEnv]), goal_mix={"episode": 1}, seed=0)
        for i in range(4):
            step(buffer, i, -1 if goal_reached and i == 3 else i + 1, done=i == 3)
        batch = buffer.sample_at(np.full(100, 3), np.zeros(100, int))
        achieved = batch.next_observations["achieved_goal"]
        reached = (achieved - batch.observations["desired_goal"]).abs() < 0.5
        # Where the real goal (-1) had been reached, another goal would not have ended the episode.
        assert (batch.dones.bool() == (reached | (not goal_reached))).all()
        assert not reached.all()


def test_b10_a_compute_terminated_that_never_ends_is_not_asked():
    class Fetch(ReachEnv):
        asked = 0

        def compute_terminated(self, achieved, desired, info):
            Fetch.asked += 1
            return False

    buffer = her(DummyVecEnv([Fetch]))
    step(buffer, 0, 1)
    assert not [buffer.sample(50).dones.sum() for _ in range(5) if buffer.sample(50).dones.any()]
    assert Fetch.asked < 5


@both(HerReplayBuffer, SB3Her)
def test_b11_the_owner_computes_the_reward(counting_env, cls):
    model = sac(counting_env(5, 5), cls)
    model.learn(40)
    model.replay_buffer.her_ratio = 1.0
    batch = model.replay_buffer.sample(100)
    owner = (batch.observations["observation"] >= 9000).numpy()
    assert ((batch.rewards.numpy() >= 900) == owner).all()


@both(HerReplayBuffer, SB3Her, raises=ZeroDivisionError)
@pytest.mark.parametrize(("n_sampled_goal", "batch"), [(0, 8), (4, 1)])
def test_b12_no_rows_are_never_asked_about(cls, n_sampled_goal, batch):
    class Fussy(ReachEnv):
        def compute_reward(self, achieved, desired, info):
            assert len(achieved) or 1 / 0
            return super().compute_reward(achieved, desired, info)

    buffer = her(DummyVecEnv([Fussy]), cls, n_sampled_goal=n_sampled_goal)
    step(buffer, 0, 1, done=True)
    assert len(buffer.sample(batch).rewards) == batch


def test_b12_bit_flipping():
    buffer = her(DummyVecEnv([lambda: BitFlippingEnv(continuous=True)]), n_sampled_goal=0)
    keys = buffer.observation_space.spaces
    obs = {key: np.zeros((1, *keys[key].shape)) for key in keys}
    buffer.add(obs, obs, np.zeros((1, 10)), np.zeros(1), np.array([False]), [{}])
    assert buffer.sample(3).rewards.shape == (3, 1)


# The last is of the numpy that only warns of an array in the place of a number.
@both(HerReplayBuffer, SB3Her, raises=(TypeError, AttributeError, DeprecationWarning))
def test_b13_rewards_of_one_transition_at_a_time(cls):
    buffer = her(DummyVecEnv([ScalarReachEnv]), cls, n_sampled_goal=10**6)
    for i in range(4):
        step(buffer, i, i + 1, truncated=i == 3)
    batch = buffer.sample(100)
    reached = batch.next_observations["achieved_goal"] == batch.next_observations["desired_goal"]
    assert (batch.rewards.bool() == reached).all()
    assert (batch.dones.bool() == reached).all()


def test_b13_rewards_of_one_transition_that_look_like_a_batch():
    class Plane(ReachEnv):
        observation_space = spaces.Dict(
            {k: spaces.Box(-99, 99, (2,)) for k in ReachEnv.observation_space.spaces}
        )

        def compute_reward(self, achieved, desired, info):
            return achieved[0] - desired[0]  # of a batch of two, that is an array of two

        def compute_terminated(self, achieved, desired, info):
            return False

    buffer = her(DummyVecEnv([Plane]), goal_mix={"episode": 1})
    for i in range(4):
        step(buffer, i, i + 1, truncated=i == 3)
    batch = buffer.sample(100)
    achieved, desired = (batch.next_observations[f"{k}_goal"] for k in ("achieved", "desired"))
    assert (batch.rewards == (achieved - desired)[:, :1]).all()


@both(DictReplayBuffer, sb3.DictReplayBuffer, raises=IndexError)
def test_b14_keys_without_dimensions(cls):
    space = spaces.Dict({"time": spaces.Box(0, 9, ()), "level": spaces.Discrete(5)})
    buffer = cls(10, space, spaces.Box(-1, 1, (1,)), n_envs=2)
    obs = {"time": np.array([1.0, 2.0]), "level": np.array([3, 4])}
    buffer.add(obs, obs, np.zeros((2, 1)), np.zeros(2), np.zeros(2, bool), [{}, {}])
    batch = buffer.sample(100)
    assert (batch.observations["time"] + 2 == batch.observations["level"][:, 0]).all()


def test_b14_nested_keys_are_refused_by_name():
    space = spaces.Dict({"arm": spaces.Dict({"joint": spaces.Box(0, 1)})})
    with pytest.raises(ValueError, match="'arm' is a Dict of its own"):
        DictReplayBuffer(10, space, spaces.Box(-1, 1))


@both(DictReplayBuffer, sb3.DictReplayBuffer)
def test_b15_the_callers_arrays_stay_as_they_are(cls):
    space = spaces.Dict({"level": spaces.Discrete(5), "x": spaces.Box(0, 9, (2,))})
    buffer = cls(10, space, spaces.Box(-1, 1, (1,)), n_envs=2)
    obs = {"level": np.array([3, 4]), "x": np.ones((2, 2))}
    after = {"level": np.array([0, 1]), "x": np.zeros((2, 2))}
    buffer.add(obs, after, np.zeros((2, 1)), np.zeros(2), np.zeros(2, bool), [{}, {}])
    assert [obs["level"].tolist(), after["level"].tolist()] == [[3, 4], [0, 1]]
    assert obs["level"].shape == (2,)
    obs["x"][:] = after["x"][:] = 5
    assert (buffer.sample(9).observations["x"] == 1).all()
    assert (buffer.sample(9).next_observations["x"] == 0).all()


@both(HerReplayBuffer, SB3Her)
def test_b16_batches_do_not_depend_on_what_others_draw(counting_env, cls):
    def batch(draws):
        np.random.seed(0)
        model = sac(counting_env(5), cls)
        model.learn(50)
        np.random.random(draws)
        return model.replay_buffer.sample(20).observations["observation"]

    assert (batch(0) == batch(1)).all()


@both(HerReplayBuffer, SB3Her)
def test_b16_a_saved_buffer_goes_on_with_the_same_batches(counting_env, cls):
    model = sac(counting_env(5), cls)
    model.learn(50)
    again = pickle.loads(pickle.dumps(model.replay_buffer))
    again.set_env(model.env)
    mine, theirs = (b.sample(20).observations["observation"] for b in (model.replay_buffer, again))
    assert (mine == theirs).all()


@both(ReplayBuffer, sb3.ReplayBuffer, raises=pytest.fail.Exception)
def test_b19_ends_that_may_be_timeouts_are_told_once(cls):
    buffer = cls(10, spaces.Box(0, 9, (1,)), spaces.Box(-1, 1, (1,)))

    def add(**info):
        one = np.ones((1, 1))
        buffer.add(one, one, one, one[0], np.array([True]), [info])

    add(**{"TimeLimit.truncated": False})
    with pytest.warns(UserWarning, match=r"without 'TimeLimit.truncated'"):
        add()
    add()  # a second warning would be an error


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_b20_memory_is_told_before_it_is_spent(monkeypatch, tmp_path, file, n_envs):
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("100000000\n")
    space, action = spaces.Box(-1, 1, (25,)), spaces.Box(-1, 1, (4,))
    ReplayBuffer(800_000, space, action, n_envs=n_envs)  # 120 bytes each
    with pytest.warns(UserWarning, match=r"0\.11 GB, more than the container's limit of 0\.10 GB"):
        ReplayBuffer(900_000, space, action, n_envs=n_envs)
    (tmp_path / file).write_text("max\n")
    ReplayBuffer(900_000, space, action, n_envs=n_envs)


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
def test_b21_n_steps_with_hindsight(counting_env, strategy):
    env = counting_env(6, 9)
    model = sac(env, HerReplayBuffer, n_steps=4, gamma=0.5, goal_selection_strategy=strategy)
    model.learn(80)
    model.replay_buffer.her_ratio = 1.0
    buffer = model.replay_buffer
    batch = buffer.sample(300)
    for i in range(300):
        obs, after = int(batch.observations["observation"][i]), batch.next_observations
        goal = float(batch.observations["desired_goal"][i])
        owner = obs // 9_999
        end = int(after["observation"][i])
        rewards = [1000 * owner + (number - goal) for number in range(obs + 1, end + 1)]
        expected = sum(0.5**j * reward for j, reward in enumerate(rewards))
        assert float(batch.rewards[i]) == pytest.approx(expected)
        assert float(batch.discounts[i]) == 0.5 ** len(rewards)
        episode_of = env.envs[owner].episode_of
        assert episode_of[obs] == episode_of[end]
        assert len(rewards) == 4 or episode_of.get(end + 1) != episode_of[end]
        assert after["desired_goal"][i] == goal


def test_b21_a_virtual_end_ends_the_segment():
    buffer = her(DummyVecEnv([ReachEnv]), n_steps=3, gamma=0.5, goal_mix={"future": 1}, seed=0)
    for i in range(6):
        step(buffer, i, i + 1, truncated=i == 5)
    batch = buffer.sample_at(np.tile(np.arange(6), 30), np.zeros(180, int))
    ahead = batch.observations["desired_goal"] - batch.observations["observation"]
    length = batch.next_observations["observation"] - batch.observations["observation"]
    left = 6 - batch.observations["observation"]
    assert (length == ahead.clamp(max=3).minimum(left)).all()
    assert (batch.dones == (ahead <= 3).float()).all()
    assert (batch.rewards == batch.dones * 0.5 ** (length - 1)).all()
    assert (batch.discounts == 0.5**length).all()


class WholeActions(gym.Env):
    """Takes whole numbers from 0 to 10, and notes them."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(0, 10, (2,), np.int64)

    def __init__(self):
        self.taken = []

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.taken.append(np.array(action))
        return np.zeros(1, np.float32), 0.0, False, False, {}


@both(ReplayBuffer, sb3.ReplayBuffer)
def test_b22_actions_of_whole_numbers_are_scaled_as_they_were_taken(cls):
    env = WholeActions()
    model = sac(env, cls)
    model.learn(20)
    assert np.allclose(model.replay_buffer.actions[:20, 0], np.array(env.taken) / 5 - 1)
