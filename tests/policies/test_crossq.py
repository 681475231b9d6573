"""CrossQ: sb3-contrib's policy as the oracle on vectors, vectors as the oracle for dicts."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import CrossQ, crossq
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from pyrl_sb3.buffers import DictReplayBuffer, HerReplayBuffer, ReplayBuffer
from pyrl_sb3.buffers.batches import Observations
from pyrl_sb3.policies import CrossQPolicy

GOALS = spaces.Dict(
    {key: spaces.Box(-1.0, 1.0, (2,), np.float32) for key in ("achieved_goal", "desired_goal")}
    | {"observation": spaces.Box(-1.0, 1.0, (4,), np.float32)}
)


class Goals(gym.Env[Any, Any]):
    """Observations and rewards drawn from the environment's generator; 7-step episodes."""

    observation_space = GOALS
    action_space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 0.5], np.float32))

    def _observation(self) -> dict[str, Any]:
        return {
            key: self.np_random.uniform(-1, 1, space.shape).astype(np.float32)
            for key, space in GOALS.items()
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        reward = float(self.np_random.normal())
        return self._observation(), reward, False, self.steps == 7, {}

    def compute_reward(self, achieved: Any, desired: Any, infos: Any) -> Any:
        return -np.linalg.norm(achieved - desired, axis=-1)


def vectors() -> gym.Env[Any, Any]:
    return gym.wrappers.FlattenObservation(Goals())


def make(policy: Any, env: Any, n_envs: int = 1, **keywords: Any) -> CrossQ:
    policy_kwargs = {"net_arch": [16, 16], "optimizer_kwargs": {"fused": False}}
    if policy == "MlpPolicy":
        policy_kwargs["optimizer_kwargs"] = {}
    vec = env if isinstance(env, VecNormalize) else DummyVecEnv([env] * n_envs)
    sizes = {"seed": 3, "buffer_size": 500, "learning_starts": 20, "batch_size": 16}
    return CrossQ(policy, vec, policy_kwargs=policy_kwargs, **sizes, **keywords)


def assert_same_after_training(ours: CrossQ, theirs: CrossQ) -> None:
    for name, weights in theirs.policy.state_dict().items():
        assert th.equal(weights, ours.policy.state_dict()[name]), name
    for model in (theirs, ours):
        model.set_random_seed(5)
        model.learn(29)
    assert theirs.logger.name_to_value["train/critic_loss"] != 0
    for key in ("train/critic_loss", "train/actor_loss", "train/ent_coef"):
        assert theirs.logger.name_to_value[key] == ours.logger.name_to_value[key]
    for name, weights in theirs.policy.state_dict().items():
        th.testing.assert_close(weights, ours.policy.state_dict()[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("use_sde", [False, True])
def test_trains_and_acts_on_vectors_as_sb3_contribs(use_sde: bool) -> None:
    theirs, ours = (make(each, vectors, 3, use_sde=use_sde) for each in ("MlpPolicy", CrossQPolicy))
    assert_same_after_training(ours, theirs)
    observations = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    for deterministic in (True, False):
        actions = []
        for model in (theirs, ours):
            th.manual_seed(0)
            actions.append(model.predict(observations, deterministic=deterministic)[0])
        np.testing.assert_allclose(*actions, rtol=1e-5, atol=1e-6)


def test_trains_on_dicts_as_on_the_same_numbers_in_vectors() -> None:
    theirs = make(CrossQPolicy, vectors, replay_buffer_class=ReplayBuffer)
    ours = make(CrossQPolicy, Goals, replay_buffer_class=DictReplayBuffer)
    assert_same_after_training(ours, theirs)


def test_learns_with_hindsight_from_normalised_observations() -> None:
    env = VecNormalize(DummyVecEnv([Goals]), norm_reward=False)
    model = make(CrossQPolicy, env, replay_buffer_class=HerReplayBuffer)
    before = [weights.clone() for weights in model.critic.parameters()]
    model.learn(40)
    after = list(model.critic.parameters())
    assert all(bool(weights.isfinite().all()) for weights in after)
    assert not any(th.equal(*weights) for weights in zip(before, after, strict=True))


def test_a_renormalising_layer_left_in_training_mode_is_noticed() -> None:
    model = make(CrossQPolicy, vectors)
    observations = np.ones((1, 8), np.float32)
    expected = model.predict(observations, deterministic=True)[0]
    model.actor.set_bn_training_mode(True)
    np.testing.assert_array_equal(model.predict(observations, deterministic=True)[0], expected)


def test_layer_norm_is_refused() -> None:
    with pytest.raises(
        ValueError, match="layer_norm=True: CrossQ's layers are normalised by batch"
    ):
        CrossQPolicy(GOALS, Goals.action_space, lambda _: 1e-3, layer_norm=True)


def test_a_policy_saved_alone_loads(tmp_path: Any) -> None:
    policy = make(CrossQPolicy, Goals).policy
    policy.save(tmp_path / "policy")
    loaded = CrossQPolicy.load(tmp_path / "policy")
    observation = {key: np.ones((1, *space.shape), np.float32) for key, space in GOALS.items()}
    actions = [each.predict(observation, deterministic=True)[0] for each in (policy, loaded)]
    np.testing.assert_array_equal(*actions)


def test_a_policy_saved_alone_loads_with_the_class_of_sb3_contrib(tmp_path: Any) -> None:
    model = make(CrossQPolicy, vectors)
    model.policy.save(tmp_path / "policy")
    loaded = crossq.MlpPolicy.load(tmp_path / "policy")
    observation = model.get_env().reset()
    actions = [each.predict(observation, deterministic=True)[0] for each in (model, loaded)]
    np.testing.assert_allclose(*actions, rtol=1e-5)


def test_observations_are_joined_key_by_key_and_by_nothing_else() -> None:
    a, b = (Observations(x=th.full((2, 1), value), y=th.zeros(2, 3)) for value in (1.0, 2.0))
    joined = th.cat([a, b], dim=0)
    assert joined["x"].flatten().tolist() == [1.0, 1.0, 2.0, 2.0]
    assert joined["y"].shape == (4, 3)
    assert th.cat([a, b], dim=1)["y"].shape == (2, 6)
    with pytest.raises(TypeError):
        th.stack([a, b])
