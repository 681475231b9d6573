"""Critics that are constants for policies, against what SB3's compute."""

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.sac import policies as sac

import pyrl_sb3
from pyrl_sb3.policies import (
    CrossQPolicy,
    DDPGPolicy,
    LeanPolicy,
    SACPolicy,
    TD3Policy,
    TQCPolicy,
)

KINDS: dict[str, tuple[Any, Any]] = {
    "sac": (sb3.SAC, SACPolicy),
    "td3": (sb3.TD3, TD3Policy),
    "ddpg": (sb3.DDPG, DDPGPolicy),
    "tqc": (sb3_contrib.TQC, TQCPolicy),
    "crossq": (sb3_contrib.CrossQ, CrossQPolicy),
}


def make(kind: str, policy: Any = None, **kwargs: Any) -> Any:
    """A stock model with a policy from here whose critic is constant, or another."""
    algorithm, ours = KINDS[kind]
    policy_kwargs = {"net_arch": [8], **kwargs}
    if policy != "MlpPolicy":
        policy_kwargs.setdefault("constant_critic", True)
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


@pytest.mark.parametrize("kind", ["td3", "ddpg"])
def test_the_first_critics_judgement_is_the_first_of_all(kind: str) -> None:
    model = make(kind)
    model.policy.set_training_mode(True)
    observations, _ = batch()
    actions = model.actor(observations)
    q1 = model.critic.q1_forward(observations, actions)
    assert th.equal(q1, model.critic(observations, actions)[0])


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
        kwargs: dict[str, Any] = {"share_features_extractor": True}
        if policy is None:
            kwargs |= {"optimizer_kwargs": {"fused": False}, "constant_critic": True}
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


def test_critics_of_a_users_class_are_refused() -> None:
    class Mine(ContinuousCritic):
        pass

    class Policy(SACPolicy):
        def make_critic(self, features_extractor: Any = None) -> Any:
            critic = super().make_critic(features_extractor)
            critic.__class__ = Mine
            return critic

    class Own(sac.SACPolicy):
        def make_critic(self, features_extractor: Any = None) -> Any:
            kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
            return Mine(**kwargs).to(self.device)

    class Mixed(LeanPolicy, Own):
        plain_network = sac.Actor

    assert type(make("sac", Policy).critic) is Mine
    with pytest.raises(TypeError, match="constant_critic: a Mine of its own kind"):
        make("sac", Mixed)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_constant_unless_asked_for_nor_outside_of_training(kind: str) -> None:
    """So that losses of one's own train critics by actions that a network has computed."""
    for constant in (False, True):
        model = make(kind, constant_critic=constant)
        model.learn(10)
        model.critic.optimizer.zero_grad()
        judge(model)
        assert all((p.grad is None) == constant for p in model.critic.parameters())
        model.predict(np.zeros(3, np.float32))
        q = model.critic(batch()[0], model.actor(batch()[0]))
        (q if isinstance(q, th.Tensor) else th.cat(q, dim=1)).mean().backward()
        assert all(p.grad is not None for p in model.critic.parameters())


def test_a_policy_keeps_what_it_was_asked_for(tmp_path: Path) -> None:
    policy = make("td3").policy
    policy.save(tmp_path / "policy.pth")
    loaded = TD3Policy.load(tmp_path / "policy.pth")
    assert type(loaded.critic) is type(policy.critic) is not ContinuousCritic
    assert loaded.state_dict().keys() == make("td3", "MlpPolicy").policy.state_dict().keys()


def test_the_algorithms_from_here_take_such_a_policy() -> None:
    """They need no gradients by autograd at all."""
    kwargs = {"net_arch": [8], "constant_critic": True}
    model = pyrl_sb3.SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, learning_starts=8)
    model.learn(10)
    assert model.gradients == "explicit"


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_takes_its_own_parameters_as_constants(kind: str) -> None:
    model = make(kind)
    model.learn(10)
    twin = copy.deepcopy(model.policy)
    own = set(twin.critic.parameters())
    twin.set_training_mode(True)
    assert twin.critic.constants
    assert own == set(twin.critic.constants)
