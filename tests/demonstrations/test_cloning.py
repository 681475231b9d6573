"""What demonstrations do to training."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer as StockReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import pyrl_sb3
from pyrl_sb3 import DDPG, SAC, TD3, HerReplayBuffer, losses
from pyrl_sb3.algorithms.cloning_settings import CloningSettings
from pyrl_sb3.algorithms.step import Batch, Metrics
from pyrl_sb3.buffers.demofiles import save_demonstrations
from pyrl_sb3.buffers.demonstrations import DemonstrationError

KINDS = [DDPG, TD3, SAC]


def build(kind, env, buffer=None, n_envs=1, normalize=False, **keywords):
    venv = DummyVecEnv([env] * n_envs)
    if normalize:
        venv = VecNormalize(venv, norm_reward=False)
    settings = {
        "replay_buffer_class": buffer or pyrl_sb3.ReplayBuffer,
        "learning_starts": 5,
        "batch_size": 16,
        "buffer_size": 500,
        "policy_kwargs": {"net_arch": [8]},
        "seed": 0,
        **keywords,
    }
    policy = kind.policy_aliases["MlpPolicy"]
    return kind(policy, venv, **settings)


def test_the_filter_masks_just_the_rows_where_the_demonstration_is_better():
    # Two critics, of which the smaller counts: 1 > 0, 2 < 3, equal is not better.
    demo_q = th.tensor([[[1.0], [2.0], [5.0]], [[4.0], [9.0], [5.0]]])
    q = th.tensor([[[0.0], [3.0], [5.0]], [[7.0], [3.5], [6.0]]])
    assert losses.q_filter(demo_q, q).flatten().tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="demo_q is"):
        losses.q_filter(demo_q, q[:1])


def test_the_loss_of_cloning_and_its_gradient():
    actions = th.tensor([[0.5, 0.0], [1.0, 1.0]], requires_grad=True)
    demo_actions, mask = th.tensor([[0.0, 1.0], [0.0, 0.0]]), th.tensor([[1.0], [0.0]])
    loss = losses.cloning_loss(actions, demo_actions, mask)
    assert loss.item() == pytest.approx((0.25 + 1) / 2)
    loss.backward()
    assert th.equal(actions.grad, losses.cloning_gradient(actions.detach(), demo_actions, mask))
    with pytest.raises(ValueError, match="demo_actions"):
        losses.cloning_loss(actions, demo_actions[:, :1], mask)
    with pytest.raises(ValueError, match=r"actions is \(2, 2\), must be \(1, n\)"):
        losses.cloning_gradient(actions, demo_actions, mask[:1])


class HandMade:
    """A critic that likes actions near 0.5: Q = -(a - 0.5)^2."""

    def q_values(self, observations, actions):
        return -(actions - 0.5).square().unsqueeze(0)


def test_only_rows_that_pass_the_filter_are_cloned(line):
    model = build(
        TD3, line, HerReplayBuffer, demonstration_kwargs={"bc_weight": 2.0, "rl_weight": 0.5}
    )
    a = th.tensor([[0.0], [0.4], [0.0], [1.0]])
    a_demo = th.tensor([[9.0], [9.0], [0.3], [0.6]])
    a_demo[1] = 0.9
    batch = Batch(th.zeros(4, 1), a_demo, None, None, th.zeros(4, 1), 0.9, None, None, demos=3)
    q = HandMade().q_values(None, a)
    da = th.ones(4, 1)
    (out,) = model._cloned(batch, HandMade(), a, q, (da,), Metrics())
    # Row 0 is no demonstration, row 1 is worse than the policy, rows 2 and 3 are better.
    expected = [0.5, 0.5, 0.5 + 2 * 2 * (0.0 - 0.3) / 3, 0.5 + 2 * 2 * (1.0 - 0.6) / 3]
    assert out.flatten().tolist() == pytest.approx(expected)
    assert th.equal(da, th.ones(4, 1))
    model = build(
        TD3, line, HerReplayBuffer, demonstration_kwargs={"q_filter": False, "rl_weight": 1.0}
    )
    (out,) = model._cloned(batch, HandMade(), a, q, (da,), Metrics())
    assert out[1].item() == pytest.approx(1 + 2 * (0.4 - 0.9) / 3)


def weights(model):
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_without_demonstrations_all_is_as_ever(kind, line):
    outcomes = []
    for keywords in ({}, {"demonstration_kwargs": {"bc_weight": 0.0, "share": 0.5}}):
        model = build(kind, lambda: line("box"), **keywords)
        model.learn(40)
        outcomes.append(weights(model))
    plain, other = outcomes
    assert all(th.equal(plain[name], other[name]) for name in plain)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("setting", ["her", "her-normalized", "box", "goal", "image"])
def test_any_algorithm_and_observations(kind, setting, line, demonstrations, monkeypatch):
    if setting == "image" and kind is not SAC:
        pytest.skip("one algorithm is enough for convolutions")
    observations = setting if setting in ("box", "image") else "goal"
    buffer = HerReplayBuffer if setting.startswith("her") else None
    if setting == "goal":
        buffer = pyrl_sb3.DictReplayBuffer
    model = build(
        kind,
        lambda: line(observations),
        buffer,
        n_envs=2 if setting == "her" else 1,
        normalize=setting == "her-normalized",
        demonstrations=demonstrations(observations),
        demonstration_kwargs={"share": 0.25, "warm_start": 2},
        **({"policy_delay": 1} if kind is TD3 else {}),
    )
    batches = []
    take = type(model)._update_priorities
    monkeypatch.setattr(
        type(model), "_update_priorities", lambda self, *a: (batches.append(a[0]), take(self, *a))
    )
    model.learn(20)
    assert batches
    assert all(len(b.actions) == len(b.rewards) == 16 and b.demos == 4 for b in batches)
    demonstrated = np.concatenate([e.actions for e in demonstrations(observations).episodes]) / 2
    for batch in batches:
        for action in batch.actions[-4:].numpy():
            assert np.abs(demonstrated - action).min() < 1e-6
    assert {"train/bc_loss", "train/bc_cloned"} <= model.logger.name_to_value.keys()


class Prioritised(pyrl_sb3.ReplayBuffer):
    """Rows of the agent's own experience weigh 2."""

    told = None

    def sample(self, batch_size, env=None):
        indices, weights = np.arange(batch_size), th.full((batch_size, 1), 2.0)
        samples = super().sample(batch_size, env)._asdict()
        return SimpleNamespace(**samples, weights=weights, indices=indices)

    def update_priorities(self, indices, errors):
        self.told = indices, errors


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_priorities_are_those_of_the_agents_own_rows(kind, line, demonstrations):
    keywords = {"demonstrations": demonstrations("box"), "demonstration_kwargs": {"share": 0.25}}
    model = build(kind, lambda: line("box"), Prioritised, **keywords)
    model.learn(8)
    assert model._sample(16).weights.flatten().tolist() == [2.0] * 12 + [1.0] * 4
    indices, errors = model.replay_buffer.told
    assert indices.shape == errors.shape == (12,)
    assert (errors >= 0).all()


def test_demonstrations_are_relabelled_with_goals(line, demonstrations):
    demos = demonstrations("goal")
    nowhere = {"desired_goal": np.full((6, 1), 8.5, np.float32)}  # where none of them gets
    episodes = [
        dataclasses.replace(each, observations={**each.observations, **nowhere}, rewards=None)
        for each in demos.episodes
    ]
    model = build(
        SAC,
        line,
        HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4},
        demonstrations=dataclasses.replace(demos, episodes=episodes),
    )
    model._load_demonstrations()
    batch = model._demo_buffer.sample(200)
    assert (batch.observations["desired_goal"] != 8.5).sum() == 160
    reached = batch.next_observations["achieved_goal"] - batch.next_observations["desired_goal"]
    assert th.equal(batch.rewards, -(reached.abs() > 0.5).float())
    assert 0 < (batch.rewards == 0).sum() < 160


def test_a_new_environment_gives_demonstrations_their_rewards(line, demonstrations):
    class Worse(line):
        def compute_reward(self, achieved, desired, info):
            return super().compute_reward(achieved, desired, info) - 5

    demos = demonstrations("goal", rewards=False)
    model = build(SAC, line, HerReplayBuffer, demonstrations=demos)
    model.learn(10)
    model.set_env(DummyVecEnv([Worse]))
    model.learn(10, reset_num_timesteps=False)
    assert set(model._demo_batch(50).rewards.flatten().tolist()) <= {-6.0, -5.0}


def test_a_copy_of_a_model_goes_on_with_goals_and_demonstrations(line, demonstrations):
    model = build(SAC, line, HerReplayBuffer, demonstrations=demonstrations("goal"))
    model.learn(10)
    other = copy.deepcopy(model)
    for each in (model, other):
        th.manual_seed(0)
        each.learn(10, reset_num_timesteps=False)
    for buffer in (other.replay_buffer, other._demo_buffer):
        assert buffer.env is other.env
    for name, value in model.policy.state_dict().items():
        th.testing.assert_close(other.policy.state_dict()[name], value)


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_copy_needs_no_file_of_demonstrations(forgotten, tmp_path, line, demonstrations):
    path = tmp_path / "demos.npz"
    save_demonstrations(demonstrations("goal"), path)
    model = build(SAC, line, HerReplayBuffer, demonstrations=path)
    model.learn(10)
    path.unlink()
    if forgotten:
        model.demonstrations = None
    other = copy.deepcopy(model)
    other.learn(10, reset_num_timesteps=False)
    assert other._demo_buffer.size() == model._demo_buffer.size()


def test_a_model_without_environment_takes_gradient_steps(line, demonstrations):
    demos = demonstrations("goal")
    model = build(SAC, line, pyrl_sb3.DictReplayBuffer, demonstrations=demos)
    model.learn(10)
    model.env = None
    model.train(1, batch_size=16)


@pytest.mark.parametrize("copied", [False, True])
def test_several_environments_learn_from_all_demonstrations(copied, line, demonstrations):
    demos = demonstrations("goal")
    model = build(SAC, line, HerReplayBuffer, n_envs=3, demonstrations=demos)
    model.learn(9)
    if copied:
        model = copy.deepcopy(model)
        model.learn(9, reset_num_timesteps=False)
    batch = model._demo_buffer.sample(1000)
    drawn = th.cat([batch.observations["observation"], batch.actions], dim=1)
    shown = [(e.observations["observation"][:-1], e.actions / 2) for e in demos.episodes]
    wanted = np.concatenate([np.concatenate(rows, axis=1) for rows in shown])
    assert {*map(tuple, drawn.numpy().round(4))} == {*map(tuple, wanted.round(4))}


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_start_clones(kind, line, demonstrations):
    model = build(
        kind,
        line,
        HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 0},
        demonstrations=demonstrations("goal", 20),
        demonstration_kwargs={"warm_start": 300},
        learning_rate=1e-2,
        policy_kwargs={"net_arch": [32]},
        normalize=True,
        learning_starts=100,
    )
    model.learn(1)
    env = model.get_env()
    observations, successes = env.reset(), []
    while len(successes) < 30:
        observations, _, dones, infos = env.step(model.predict(observations, deterministic=True)[0])
        successes += [infos[0]["is_success"]] if dones[0] else []
    assert np.mean(successes) > 0.5  # at random it is one in twenty
    assert model.get_vec_normalize_env().obs_rms["observation"].count > 100, "begun by them"
    if kind is not SAC:
        pairs = zip(model.actor.parameters(), model.actor_target.parameters(), strict=True)
        assert all(th.equal(own, target) for own, target in pairs)


def test_the_weight_falls():
    assert CloningSettings(bc_weight=2.0).weight_at(10**9) == 2
    falling = CloningSettings(bc_weight=2.0, bc_steps=100)
    assert [falling.weight_at(steps) for steps in (0, 50, 100, 200)] == [2, 1, 0, 0]


@pytest.mark.parametrize("settings", [{"bc_weight": 0.0}, {"bc_steps": 100}])
def test_without_a_weight_the_actor_has_its_own_loss_alone(line, settings):
    model = build(TD3, line, HerReplayBuffer, demonstration_kwargs=settings)
    model.num_timesteps = 100
    rows, da = th.zeros(4, 1), th.ones(4, 1)
    batch = Batch(rows, rows, None, None, rows, 0.9, None, None, demos=3)
    assert model._cloned(batch, HandMade(), rows, rows[None], (da,), Metrics()) == (da,)


def test_a_saved_model_goes_on_with_its_file(tmp_path, line, demonstrations):
    save_demonstrations(demonstrations("goal"), tmp_path / "demos.npz")
    model = build(SAC, line, HerReplayBuffer, demonstrations=str(tmp_path / "demos.npz"))
    model.learn(15)
    model.save(tmp_path / "model")
    again = SAC.load(tmp_path / "model", env=model.get_env())
    again.set_parameters(model.get_parameters())
    again.learn(15, reset_num_timesteps=False)
    assert again._demo_buffer is not None
    (tmp_path / "demos.npz").unlink()
    SAC.load(tmp_path / "model", env=model.get_env()).predict(model.get_env().reset())


def test_clipped_targets_keep_to_what_returns_can_be(line):
    q = th.tensor([[[3.0]], [[-30.0]], [[-4.0]]])
    assert losses.clipped_to_sparse_returns(q, 0.9).flatten().tolist() == pytest.approx(
        [0, -10, -4]
    )
    assert losses.clipped_to_sparse_returns(q, 1.0).flatten().tolist() == [0, -30, -4]
    model = build(TD3, line, HerReplayBuffer, clip_targets=True, gamma=0.9)
    assert model._clip_target_q(q).amin().item() == pytest.approx(-10)
    assert build(TD3, line, HerReplayBuffer)._clip_target_q(q) is q


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0}, "share=0: must be above 0 and below 1"),
        ({"share": 1}, "share=1: must be above 0 and below 1"),
        ({"share": "abc"}, "share='abc': must be a number"),
        ({"share": None}, "share=None: must be a number"),
        ({"warm_start": 2.5}, r"warm_start=2\.5: must be a whole number"),
        ({"bc_steps": True}, "bc_steps=True: must be a whole number"),
        ({"q_filter": "no"}, "q_filter='no': must be true or false"),
        ({"bc_weight": float("nan")}, "bc_weight=nan: must be 0 or more"),
        ({"bc_weight": -1}, "bc_weight=-1: must be 0 or more"),
        ({"bc_steps": 0}, "bc_steps=0: must be at least 1 environment step"),
        ({"warmstart": 3}, "demonstration_kwargs has no 'warmstart': choose share, bc_weight"),
    ],
)
def test_bad_settings(line, settings, message):
    with pytest.raises(ValueError, match=message):
        build(SAC, line, HerReplayBuffer, demonstration_kwargs=settings)


@pytest.mark.parametrize("given", [["a.npz", "b.npz"], 123, b"a.npz", {}])
def test_what_are_no_demonstrations_is_refused_at_once(line, given):
    with pytest.raises(DemonstrationError) as refused:
        build(SAC, line, HerReplayBuffer, demonstrations=given)
    assert str(refused.value).startswith(f"demonstrations={given!r}: must be one file, or ")
    assert ("for several, Demonstrations(episodes=[*" in str(refused.value)) == (
        type(given) is list
    )


def test_the_refusal_of_many_episodes_is_one_line(line, demonstrations):
    with pytest.raises(DemonstrationError) as refused:
        build(SAC, line, HerReplayBuffer, demonstrations=demonstrations("goal").episodes * 9)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_demonstrations_of_something_else_are_refused_before_the_first_step(line, demonstrations):
    model = build(SAC, line, HerReplayBuffer, demonstrations=demonstrations("box"))
    with pytest.raises(DemonstrationError, match="key 'achieved_goal' is missing"):
        model.learn(10)
    model = build(SAC, lambda: line("box"), StockReplayBuffer, demonstrations=demonstrations("box"))
    with pytest.raises(DemonstrationError, match=r"set replay_buffer_class=pyrl_sb3\.ReplayBuffer"):
        model.learn(10)
