"""Goals: normalised in the policy, and as ends of episodes."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pyrl_sb3 import SAC, TD3, HerReplayBuffer
from pyrl_sb3.algorithms.normalized import NormalizedGoals
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.training.wrappers import GoalDifference, NeverDone, TerminateOnSuccess


def her(kind, env, **keywords):
    policy = kind.policy_aliases["MlpPolicy"]
    settings = {"learning_starts": 5, "batch_size": 32, "buffer_size": 500, "seed": 0}
    venv = DummyVecEnv([env])
    return kind(policy, venv, replay_buffer_class=HerReplayBuffer, **{**settings, **keywords})


def test_statistics_are_those_of_all_batches_and_one_for_both_goals(line):
    extractor = NormalizedGoals(line().observation_space, clip=2.0)
    rng = np.random.default_rng(0)
    batches = [
        {key: rng.normal(3 * i, 1 + i, (size, 1)).astype(np.float32) for i, key in enumerate(keys)}
        for size in (5, 40, 17)
        for keys in [extractor.keys]
    ]
    for batch in batches:
        extractor({key: th.as_tensor(values) for key, values in batch.items()})
    goals = np.concatenate([b[key] for b in batches for key in ("achieved_goal", "desired_goal")])
    others = np.concatenate([b["observation"] for b in batches])
    for name, values in (("goal", goals), ("observation", others)):
        norm = extractor.norms[name]
        assert norm.running_mean.item() == pytest.approx(values.mean(), rel=1e-4)
        assert norm.running_var.item() == pytest.approx(values.var(), rel=1e-4)
    extractor.eval()
    same = {key: th.full((1, 1), 4.0) for key in extractor.keys}
    out = dict(zip(extractor.keys, extractor(same)[0].tolist(), strict=True))
    assert out["achieved_goal"] == out["desired_goal"] != out["observation"]
    assert out["observation"] == pytest.approx((4 - others.mean()) / others.std(), abs=1e-3)
    assert extractor({key: th.full((1, 1), 99.0) for key in extractor.keys}).max() == 2.0
    assert extractor.norms["goal"].running_count == 2 * 62


@pytest.mark.parametrize("kind", [TD3, SAC])
def test_policies_normalise_saved_and_loaded_alike(kind, line, tmp_path):
    extractor = get_plugin_manager().load("features-extractor", "normalized-goals")
    keywords = {"net_arch": [8], "features_extractor_class": extractor}
    model = her(kind, line, policy_kwargs=keywords, replay_buffer_kwargs={"n_sampled_goal": 4})
    assert "features extractor" in model.gradients
    model.learn(40)
    norm = model.actor.features_extractor.norms["goal"]
    # Of 35 batches of 32, of which TD3 shows its actor every other, both goals in each row.
    assert norm.running_count >= 17 * 32 * 2
    assert norm.running_var.item() != 1
    online, target = (
        net.features_extractor.norms["goal"] for net in (model.critic, model.critic_target)
    )
    # TD3 moves its targets every other step.
    assert target.running_mean.item() == pytest.approx(online.running_mean.item(), rel=0.05)
    observation = model.get_env().reset()
    before = norm.running_count.clone()
    action = model.predict(observation, deterministic=True)[0]
    assert th.equal(norm.running_count, before), "acting is not training"
    model.save(tmp_path / "model")
    again = kind.load(tmp_path / "model", env=model.get_env())
    assert np.array_equal(again.predict(observation, deterministic=True)[0], action)
    assert again.actor.features_extractor.norms["goal"].running_count == before


def test_other_spaces_are_refused():
    with pytest.raises(ValueError, match="dicts of vectors with achieved_goal and desired_goal"):
        NormalizedGoals(spaces.Dict(observation=spaces.Box(-1, 1, (2,))))
    with pytest.raises(ValueError, match="dicts of vectors"):
        NormalizedGoals(spaces.Box(-1, 1, (2,)))


@pytest.mark.parametrize("clip", [0, -1.0, float("nan")])
def test_a_clip_that_leaves_nothing_is_refused(clip, line):
    with pytest.raises(ValueError, match=f"clip must be positive, not {clip}"):
        NormalizedGoals(line().observation_space, clip=clip)


def walked(env):
    """A model whose buffer has 200 steps to the right, at random lengths."""
    model = her(SAC, lambda: env, learning_starts=300, replay_buffer_kwargs={"n_sampled_goal": 4})
    model.learn(200)
    return model.replay_buffer


def test_success_ends_episodes_for_good_in_hindsight_too(line):
    env = TerminateOnSuccess(line())
    env.reset(seed=0)
    env.unwrapped.goal = np.array([1.0], np.float32)
    assert env.step(np.array([1.0]))[2:4] == (True, False)
    batch = walked(TerminateOnSuccess(line())).sample(300)
    assert th.equal(batch.dones, (batch.rewards == 0).float())
    assert 0 < batch.dones.mean() < 1


@pytest.mark.parametrize("shape", [(1,), (5, 1), (3, 5, 1)])
def test_ends_have_the_shape_of_their_goals(line, shape):
    goals, reached = np.zeros(shape), TerminateOnSuccess(line())
    found = reached.compute_terminated(goals, goals, {})
    assert (found.shape, found.all()) == (shape[:-1], True)
    found = NeverDone(reached).compute_terminated(goals, goals, {})
    assert (found.shape, found.any()) == (shape[:-1], False)


def test_no_end_is_for_good(line):
    env = NeverDone(TerminateOnSuccess(line()))
    env.reset(seed=0)
    env.unwrapped.goal = np.array([1.0], np.float32)
    assert env.step(np.array([1.0]))[2:4] == (False, True)
    batch = walked(NeverDone(TerminateOnSuccess(line()))).sample(300)
    assert (batch.rewards == 0).any()
    assert not batch.dones.any()


@pytest.mark.parametrize("n_steps", [1, 3])
def test_differences_are_those_of_new_goals(line, n_steps):
    env = GoalDifference(line())
    seen, _ = env.reset(seed=0)
    assert seen["difference"] == seen["desired_goal"] - seen["achieved_goal"]
    seen = env.step(np.array([1.0]))[0]
    assert seen["difference"] == seen["desired_goal"] - 1
    keywords = {"n_sampled_goal": 4, "n_steps": n_steps}
    model = her(SAC, lambda: GoalDifference(line()), replay_buffer_kwargs=keywords)
    model.learn(100)
    batch = model.replay_buffer.sample(200)
    for each in (batch.observations, batch.next_observations):
        assert th.equal(each["difference"], each["desired_goal"] - each["achieved_goal"])
    assert len(set(batch.observations["desired_goal"].flatten().tolist())) > 30
    env = VecNormalize(model.get_env(), norm_reward=False)
    for statistics in env.obs_rms.values():
        statistics.mean[:], statistics.var[:] = 3, 25
    env.obs_rms["difference"].mean[:], env.obs_rms["difference"].var[:] = 5, 4
    seen = model.replay_buffer.sample(200, env=env).observations
    plain = env.unnormalize_obs({key: value.numpy() for key, value in seen.items()})
    wanted = plain["desired_goal"] - plain["achieved_goal"]
    assert 2 * seen["difference"].numpy() + 5 == pytest.approx(wanted, abs=1e-4)


def test_goals_of_other_shapes_have_no_difference(line):
    with pytest.raises(ValueError, match="of one length"):
        GoalDifference(line("box"))
    env = line()
    env.observation_space["desired_goal"] = spaces.Box(-1, 1, (2,))
    with pytest.raises(ValueError, match="of one length"):
        GoalDifference(env)


def test_the_registry_has_them():
    manager = get_plugin_manager()
    assert manager.load("env-wrapper", "goal-difference") is GoalDifference
    assert manager.load("env-wrapper", "terminate-on-success") is TerminateOnSuccess
    assert manager.load("env-wrapper", "never-done") is NeverDone
