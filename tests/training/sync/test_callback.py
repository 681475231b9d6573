"""The callback, in copies that take turns in one process."""

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import pyrl_sb3
from pyrl_sb3.plugins import SyncContext
from pyrl_sb3.testing.lockstep import Lockstep
from pyrl_sb3.training.checkpoints import Checkpoints
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.sync.alone import Alone
from pyrl_sb3.training.sync.callback import SeedSyncCallback, mean_return


def make(seed, algorithm=pyrl_sb3.TD3, env=None, **kwargs):
    env = env or gym.wrappers.TimeLimit(gym.make("Pendulum-v1").unwrapped, 15)
    return algorithm(
        kwargs.pop("policy", "MlpPolicy"),
        env,
        seed=seed,
        policy_kwargs={"net_arch": [8]},
        learning_starts=10,
        batch_size=8,
        buffer_size=500,
        device="cpu",
        **kwargs,
    )


def contents(model, steps):
    buffer = model.replay_buffer
    if isinstance(buffer, pyrl_sb3.ReplayBuffer):
        at = np.arange(steps)
        batch = buffer.sample_at(at, np.zeros_like(at))
    else:
        batch = buffer._get_samples(np.arange(steps))
    return [np.asarray(part) for part in (batch.observations, batch.actions, batch.rewards)]


@pytest.mark.parametrize("buffer", [pyrl_sb3.ReplayBuffer, None])
def test_shared_replay_gives_every_copy_all_transitions(buffer):
    def train(group):
        model = make(group.rank, replay_buffer_class=buffer)
        model.learn(40, SeedSyncCallback(interval=20, group=group, share_replay=True))
        assert "add" not in vars(model.replay_buffer)
        return model.replay_buffer.pos, contents(model, 120)

    copies = Lockstep(3).run([train] * 3)
    assert [held for held, _ in copies] == [120] * 3
    tables = [np.hstack([part.reshape(120, -1) for part in parts]) for _, parts in copies]
    ordered = [table[np.lexsort(table.T)] for table in tables]
    np.testing.assert_allclose(ordered[0], ordered[1])
    np.testing.assert_allclose(ordered[0], ordered[2])
    assert len(np.unique(ordered[0].round(5), axis=0)) == 120, "a transition came twice"


def test_shared_replay_keeps_episodes_apart():
    """No observation of one copy follows one of another."""

    def train(group):
        model = make(group.rank, replay_buffer_class=pyrl_sb3.ReplayBuffer)
        model.learn(40, SeedSyncCallback(interval=20, group=group, share_replay=True))
        at = np.arange(80)
        batch = model.replay_buffer.sample_at(at, np.zeros_like(at))
        return np.asarray(batch.observations), np.asarray(batch.next_observations)

    observations, following = Lockstep(2).run([train] * 2)[0]
    # A pendulum turns by its speed, at most 8 rad/s, times 0.05 s.
    angles = [np.arctan2(each[:, 1], each[:, 0]) for each in (observations, following)]
    turned = np.angle(np.exp(1j * (angles[1] - angles[0])))
    np.testing.assert_allclose(turned, following[:, 2] * 0.05, atol=1e-4)


def test_stock_hindsight_buffers_are_refused():
    space = gym.spaces.Box(-1, 1, (2,))

    class Goals(gym.Env):
        action_space = space
        observation_space = gym.spaces.Dict(
            dict.fromkeys(("observation", "achieved_goal", "desired_goal"), space)
        )

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 0.0, False, False, {}

        def compute_reward(self, achieved, desired, info):
            return np.zeros(len(achieved))

    def train(group):
        model = make(
            group.rank,
            stable_baselines3.TD3,
            Goals(),
            policy="MultiInputPolicy",
            replay_buffer_class=stable_baselines3.HerReplayBuffer,
        )
        model.learn(20, SeedSyncCallback(interval=5, group=group, share_replay=True))

    with pytest.raises(InputError, match=r"pyrl_sb3\.HerReplayBuffer can"):
        Lockstep(2).run([train] * 2)


def test_statistics_count_the_past_once_and_are_the_same_everywhere():
    def train(group):
        env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
        model = make(group.rank, env=env)
        model.learn(60, SeedSyncCallback(interval=10, group=group))
        return float(env.obs_rms.count), env.obs_rms.mean

    counts, means = zip(*Lockstep(3).run([train] * 3), strict=True)
    # The first reset of the first copy, then 60 steps in each.
    assert counts == (pytest.approx(1 + 3 * 60, abs=0.01),) * 3
    np.testing.assert_array_equal(means[0], means[2])


def noting(at, group):
    """Notes at which steps it synchronises; not in itself, where a checkpoint would keep them."""

    class Noting(SeedSyncCallback):
        def synchronise(self):
            at.append(self.num_timesteps)
            super().synchronise()

    return Noting("outer", interval=20, group=group)


@pytest.mark.parametrize(("steps", "expected"), [(40, [20, 40]), (50, [20, 40, 50])])
def test_the_end_is_one_synchronisation(steps, expected):
    """Neither is momentum applied twice nor patience lost in the last step."""

    def train(group):
        at = []
        make(group.rank).learn(steps, noting(at, group))
        return at

    assert Lockstep(2).run([train] * 2) == [expected] * 2


def test_a_training_that_is_made_longer_synchronises_at_the_same_steps(tmp_path):
    """The synchronisation at its first end is the one that was due there."""

    def train(group):
        at = []
        for steps in (40, 80):
            checkpoints = Checkpoints(tmp_path / str(group.rank))
            model, sync = make(group.rank), noting(at, group)
            goes_on = checkpoints.resume(model)
            left = steps - model.num_timesteps
            model.learn(left, [checkpoints, sync], reset_num_timesteps=not goes_on)
            checkpoints.take()
        return at

    assert Lockstep(2).run([train] * 2) == [[20, 40, 60, 80]] * 2


class Drawing(BaseCallback):
    """Draws from the generator that it is given, which it has in its context alone."""

    def __init__(self, context):
        super().__init__()
        self.context = context
        self.drawn = []

    def _on_step(self):
        self.drawn.append(self.context.rng.random())
        return True


def test_of_a_context_its_generator_goes_on_and_the_rest_is_of_the_new_run(tmp_path):
    for steps in (5, 9):
        rng = np.random.default_rng(0)
        context = SyncContext(group=Alone(), interval=steps, rng=rng, total_timesteps=steps)
        checkpoints, drawing = Checkpoints(tmp_path), Drawing(context)
        model = make(0)
        goes_on = checkpoints.resume(model)
        left = steps - model.num_timesteps
        model.learn(left, [checkpoints, drawing], reset_num_timesteps=not goes_on)
        checkpoints.take()
    assert drawing.drawn == np.random.default_rng(0).random(9).tolist()
    assert drawing.context is context
    assert (context.interval, context.total_timesteps, context.rng) == (9, 9, rng)


def test_copies_that_are_told_to_stop_stay_as_they_are():
    def train(group):
        sync = SeedSyncCallback("best", interval=20, group=group)

        class Stop(BaseCallback):
            def _on_step(self):
                group.stop = 2 if self.num_timesteps == 25 else 0
                return not group.stop

        make(group.rank).learn(40, [sync, Stop()])
        return sync.rounds

    assert Lockstep(2).run([train] * 2) == [1] * 2


def test_steps_of_all_copies_are_logged():
    def train(group):
        model = make(group.rank)
        sync = SeedSyncCallback(interval=20, group=group)
        model.learn(40, sync)
        return sync.rounds, model.logger.name_to_value["sync/total_timesteps"]

    assert Lockstep(2).run([train] * 2) == [(2, 80)] * 2


def test_steps_of_copies_that_have_ended_are_counted_too():
    def train(group):
        model = make(group.rank)
        model.learn(40 if group.rank else 20, SeedSyncCallback(interval=10, group=group))
        return model.logger.name_to_value["sync/total_timesteps"]

    assert Lockstep(2).run([train] * 2)[1] == 60


def test_the_score_is_the_mean_of_the_last_episodes():
    model = make(0)
    assert np.isnan(mean_return(model))
    model.learn(45)
    returns = [episode["r"] for episode in model.ep_info_buffer]
    assert len(returns) == 3
    assert mean_return(model, episodes=2) == pytest.approx(np.mean(returns[-2:]))


def test_without_copies_the_callback_says_how_to_start_them(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="torchrun --nproc-per-node 4"):
        make(0).learn(5, SeedSyncCallback())


def test_no_such_strategy():
    with pytest.raises(InputError, match="no strategy 'median'; there are mean, weighted"):
        SeedSyncCallback("median")
