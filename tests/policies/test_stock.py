"""What the policies spare stock algorithms, against what SB3's own compute."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import ContinuousCritic

from pyrl_sb3.policies import CrossQPolicy, DDPGPolicy, SACPolicy, TD3Policy, TQCPolicy
from pyrl_sb3.stock import SquashedGaussian

KINDS: dict[str, tuple[Any, Any]] = {
    "sac": (sb3.SAC, SACPolicy),
    "td3": (sb3.TD3, TD3Policy),
    "ddpg": (sb3.DDPG, DDPGPolicy),
    "tqc": (sb3_contrib.TQC, TQCPolicy),
    "crossq": (sb3_contrib.CrossQ, CrossQPolicy),
}


def make(kind: str, policy: Any = None, **kwargs: Any) -> Any:
    """A stock model with a policy from here, or another."""
    algorithm, ours = KINDS[kind]
    policy_kwargs = {"net_arch": [8], **kwargs}
    settings: Any = {"seed": 0, "learning_starts": 8, "batch_size": 8, "buffer_size": 100}
    return algorithm(policy or ours, "Pendulum-v1", policy_kwargs=policy_kwargs, **settings)


def batch() -> tuple[th.Tensor, th.Tensor]:
    rng = th.Generator().manual_seed(1)
    return th.rand(8, 3, generator=rng), th.rand(8, 1, generator=rng)


def judge(model: Any) -> None:
    """Gradients of what the critics say of the policy's actions."""
    model.policy.set_training_mode(True)
    observations, _ = batch()
    th.manual_seed(2)
    actions = model.actor(observations)
    q = model.critic(observations, actions)
    (q if isinstance(q, th.Tensor) else th.cat(q, dim=1)).mean().backward()


def gradients(network: Any) -> list[th.Tensor | None]:
    return [p.grad for p in network.parameters()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_a_policy_has_gradients_for_the_policy_alone(kind: str) -> None:
    ours, theirs = make(kind), make(kind, "MlpPolicy")
    for model in (ours, theirs):
        judge(model)
    expected = gradients(theirs.actor)
    assert any(each is not None for each in expected)
    for found, right in zip(gradients(ours.actor), expected, strict=True):
        assert (found is None) == (right is None)
        assert found is None or th.equal(found, right)
    assert all(each is None for each in gradients(ours.critic))
    assert any(each is not None for each in gradients(theirs.critic))
    assert all(p.requires_grad for p in ours.critic.parameters())


@pytest.mark.parametrize("kind", ["td3", "ddpg"])
def test_so_has_the_first_critics_judgement(kind: str) -> None:
    model = make(kind)
    model.policy.set_training_mode(True)
    observations, _ = batch()
    model.critic.q1_forward(observations, model.actor(observations)).mean().backward()
    assert all(each is None for each in gradients(model.critic))
    assert all(each is not None for each in gradients(model.actor))


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_step_critics_hold_the_gradients_of_their_own_loss(kind: str) -> None:
    """With a learning rate of 0 these can be computed again afterwards."""
    model = make(kind)
    model.learn(8)
    steps: list[list[th.Tensor]] = []
    model.critic.optimizer.register_step_pre_hook(
        lambda *_: steps.append([p.grad.clone() for p in model.critic.parameters()])
    )
    model.train(1, 8)
    (own,) = steps
    for kept, right in zip(gradients(model.critic), own, strict=True):
        assert kept is not None
        assert th.equal(kept, right)


@pytest.mark.parametrize("kind", KINDS)
def test_a_penalty_on_the_gradient_by_actions_trains_the_critics(kind: str) -> None:
    model = make(kind)
    model.policy.set_training_mode(True)
    observations, actions = batch()
    q = model.critic(observations, actions.requires_grad_())
    q = q if isinstance(q, th.Tensor) else th.cat(q, dim=1)
    (slope,) = th.autograd.grad(q.sum(), actions, create_graph=True)
    slope.square().mean().backward()
    assert any(each is not None and each.any() for each in gradients(model.critic))


def give_an_encoder(model: Any) -> None:
    encoder = th.nn.Sequential(th.nn.Flatten(), th.nn.Linear(3, 3))
    for network in (model.actor, model.critic):
        network.features_extractor = encoder


def lend_a_layer(model: Any) -> None:
    model.actor.mu = model.critic.q_networks[0][-1]


@pytest.mark.parametrize("share", [give_an_encoder, lend_a_layer])
def test_nothing_is_constant_that_the_policy_trains_too(share: Any) -> None:
    """What is shared by hand has the gradients that it has with SB3's policy."""
    models = [make("sac"), make("sac", "MlpPolicy")]
    for model in models:
        th.manual_seed(4)
        share(model)
        model.actor.optimizer = th.optim.Adam(model.actor.parameters())
        judge(model)
    shared = set(models[0].actor.parameters()) & set(models[0].critic.parameters())
    assert shared
    assert all(p.grad is not None for p in shared)
    expected = gradients(models[1].actor)
    for found, right in zip(gradients(models[0].actor), expected, strict=True):
        assert (found is None) == (right is None)
        assert found is None or th.equal(found, right)


def test_a_shared_extractor_is_trained_as_with_sb3s_policy() -> None:
    weights = []
    for policy in (None, "CnnPolicy"):
        env = gym.wrappers.ReshapeObservation(
            gym.wrappers.TransformObservation(
                gym.make("Pendulum-v1"),
                lambda x: np.resize(x * 10 + 100, 36 * 36).astype(np.uint8),
                gym.spaces.Box(0, 255, (36 * 36,), np.uint8),
            ),
            (1, 36, 36),
        )
        kwargs = {"share_features_extractor": True, "optimizer_kwargs": {"fused": False}}
        model = sb3.SAC(
            policy or SACPolicy, env, seed=0, learning_starts=8, batch_size=8, buffer_size=100,
            policy_kwargs={"net_arch": [8], **kwargs},
        )  # fmt: skip
        model.learn(12)
        weights.append(list(model.policy.state_dict().values()))
    for found, right in zip(*weights, strict=True):
        th.testing.assert_close(found, right, rtol=1e-5, atol=1e-6)


def test_what_was_frozen_stays_frozen_and_errors_leave_nothing_frozen() -> None:
    model = make("sac")
    model.critic.qf0[0].weight.requires_grad_(False)
    judge(model)
    assert [p.requires_grad for p in model.critic.parameters()].count(False) == 1
    observations, _ = batch()
    actions = model.actor(observations)
    with pytest.raises(RuntimeError):
        model.critic(observations[:3], actions)
    assert [p.requires_grad for p in model.critic.parameters()].count(False) == 1


def test_critics_of_a_users_class_are_left_alone() -> None:
    class Mine(ContinuousCritic):
        pass

    class Policy(SACPolicy):
        def make_critic(self, features_extractor: Any = None) -> Any:
            kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
            return Mine(**kwargs).to(self.device)

    model = make("sac", Policy)
    model.learn(12)
    assert type(model.critic) is Mine


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_takes_its_own_parameters_as_constants(kind: str) -> None:
    model = make(kind)
    model.learn(10)
    twin = copy.deepcopy(model.policy)
    own = set(twin.critic.parameters())
    twin.set_training_mode(True)
    assert twin.critic.constants
    assert own == set(twin.critic.constants)


@pytest.mark.parametrize("log_std", [-30.0, -1.0, 5.0])
def test_the_gaussian_is_sb3s_to_the_bit(log_std: float) -> None:
    results = []
    for kind in (SquashedDiagGaussianDistribution, SquashedGaussian):
        th.manual_seed(0)
        mean = (5 * th.randn(64, 3)).requires_grad_()
        deviation = (th.randn(64, 3) + log_std).requires_grad_()
        drawn = kind(3)
        actions, log_prob = drawn.log_prob_from_params(mean, deviation.clamp(-20, 2))
        (actions.sin().sum() + (log_prob * th.arange(64)).sum()).backward()
        results.append((actions, log_prob, mean.grad, deviation.grad))
        results[-1] += (drawn.gaussian_actions, drawn.distribution.scale, drawn.log_prob(actions))
    for found, right in zip(*results, strict=True):
        th.testing.assert_close(found, right, rtol=0, atol=0, equal_nan=True)


def test_a_policy_that_has_become_nan_stops_training_as_with_sb3s() -> None:
    for policy in (None, "MlpPolicy"):
        model = make("sac", policy)
        model.learn(8)
        with th.no_grad():
            model.actor.mu.weight.fill_(float("nan"))
        with pytest.raises(ValueError, match=r"NaN|nan"):
            model.train(1, 8)
