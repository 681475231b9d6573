"""What explicit gradient steps rely on, changed after a model was made: SB3's numbers still."""

from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.logger import configure
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.sac.policies import SACPolicy
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

import pyrl_sb3
from pyrl_sb3 import algorithms


def make(module: Any, env: Any, policy: Any = pyrl_sb3.SACPolicy, **policy_kwargs: Any) -> Any:
    """SAC with the same random transitions in every model, and large steps."""
    policy_kwargs = {"net_arch": [12, 8], **policy_kwargs}
    keywords = {"buffer_size": 64, "learning_rate": 1e-2, "seed": 0, "device": "cpu"}
    model = module.SAC(policy, env, policy_kwargs=policy_kwargs, **keywords)
    model.set_logger(configure(None, []))
    rng, buffer = np.random.default_rng(0), model.replay_buffer
    for array in (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards):
        array[:] = rng.uniform(-1, 1, array.shape)
    buffer.full = True
    return model


def train(model: Any) -> None:
    np.random.seed(1)
    th.manual_seed(1)
    model.train(3, batch_size=16)


class Tripled(SquashedDiagGaussianDistribution):
    def log_prob(self, actions: th.Tensor, gaussian_actions: Any = None) -> th.Tensor:
        return 3 * super().log_prob(actions, gaussian_actions)


class Doubled(ContinuousCritic):
    def forward(self, *args: Any) -> Any:
        return tuple(2 * q for q in super().forward(*args))


class Sluggish(th.optim.Adam):
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad *= 1e-9
        return super().step(closure)


class Halved(nn.Linear):
    def forward(self, x: th.Tensor) -> th.Tensor:
        return super().forward(x) / 2


def put_a_distribution(model: Any) -> None:
    model.actor.action_dist = Tripled(3)


def put_a_wider_epsilon(model: Any) -> None:
    model.actor.action_dist = SquashedDiagGaussianDistribution(3, epsilon=0.5)


def widen_epsilon(model: Any) -> None:
    model.actor.action_dist.epsilon = 0.5


def put_epsilons(model: Any) -> None:
    model.actor.action_dist.epsilon = th.tensor([0.5, 0.1, 0.1])


def put_a_method_on_the_distribution(model: Any) -> None:
    drawn = model.actor.action_dist
    log_prob = drawn.log_prob
    drawn.log_prob = lambda *args: 3 * log_prob(*args)


def make_the_distribution_another(model: Any) -> None:
    model.actor.action_dist.__class__ = Tripled


def drop_a_critic(model: Any) -> None:
    for critic in (model.critic, model.critic_target):
        del critic.q_networks[1]


def list_one_critic(model: Any) -> None:
    for critic in (model.critic, model.critic_target):
        critic.q_networks = critic.q_networks[:1]


def make_the_critic_another(model: Any) -> None:
    model.critic.__class__ = Doubled


def make_a_layer_another(model: Any) -> None:
    model.actor.latent_pi[2].__class__ = Halved


def make_the_optimizer_another(model: Any) -> None:
    model.actor.optimizer.__class__ = Sluggish


EDITS = [
    put_a_distribution,
    put_a_wider_epsilon,
    widen_epsilon,
    put_epsilons,
    put_a_method_on_the_distribution,
    make_the_distribution_another,
    drop_a_critic,
    list_one_critic,
    make_the_critic_another,
    make_a_layer_another,
    make_the_optimizer_another,
]


def assert_same_numbers(ours: Any, theirs: Any) -> None:
    close = {"rtol": 0, "atol": 1e-9}
    th.testing.assert_close(ours.policy.state_dict(), theirs.policy.state_dict(), **close)
    th.testing.assert_close(ours.log_ent_coef, theirs.log_ent_coef, **close)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
@pytest.mark.parametrize("edit", EDITS)
def test_what_is_put_in_later_counts(edit: Any, trained: bool, make_env: Any) -> None:
    theirs, ours = (make(module, make_env()) for module in (sb3, algorithms))
    for model in (theirs, ours):
        if trained:
            train(model)
        edit(model)
        train(model)
    assert_same_numbers(ours, theirs)
    assert ours.gradients.startswith("autograd: the ")


def raise_eps(model: Any) -> None:
    for part in model.policy.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = 0.5


def approximate(model: Any) -> None:
    for part in model.policy.modules():
        if isinstance(part, nn.GELU):
            part.approximate = "tanh"


def list_critics_in_a_module(model: Any) -> None:
    model.critic.q_networks = nn.ModuleList(model.critic.q_networks)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("edit", [raise_eps, approximate, list_critics_in_a_module])
def test_settings_of_networks_are_followed(edit: Any, make_env: Any) -> None:
    networks = {"layer_norm": True, "activation_fn": nn.GELU}
    theirs, ours = (make(module, make_env(), **networks) for module in (sb3, algorithms))
    for model in (theirs, ours):
        train(model)
        edit(model)
        train(model)
    assert_same_numbers(ours, theirs)
    assert ours.gradients == "explicit"


def hook_steps(calls: list[int]) -> Any:
    return register_optimizer_step_pre_hook(lambda *args: calls.append(1))


def hook_modules(calls: list[int]) -> Any:
    return register_module_forward_hook(lambda *args: calls.append(1))


@pytest.mark.parametrize("hook", [hook_steps, hook_modules])
def test_hooks_on_everything_are_called_until_they_are_removed(hook: Any, make_env: Any) -> None:
    model, calls = make(algorithms, make_env()), []
    train(model)
    handle = hook(calls)
    try:
        train(model)
        assert calls
        assert model.gradients.startswith("autograd: ")
    finally:
        handle.remove()
    train(model)
    assert model.gradients == "explicit"


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "put_on", [th.Tensor.register_hook, th.Tensor.register_post_accumulate_grad_hook]
)
def test_hooks_on_a_parameter_that_had_one_before_are_called(put_on: Any, make_env: Any) -> None:
    theirs, ours = (make(module, make_env()) for module in (sb3, algorithms))
    for model in (theirs, ours):
        hooked = next(model.critic.parameters())
        put_on(hooked, lambda grad: None).remove()  # leaves an empty dictionary behind
        train(model)
        handle = put_on(hooked, scale_gradient)
        train(model)
    assert_same_numbers(ours, theirs)
    assert ours.gradients.startswith("autograd: ")
    handle.remove()
    train(ours)
    assert ours.gradients == "explicit"


def scale_gradient(grad: th.Tensor) -> th.Tensor | None:
    if grad.grad is None:  # the gradient, not the parameter that has got one
        return grad / 10
    grad.grad /= 10
    return None


def test_a_distribution_that_is_put_in_later_is_acted_by(make_env: Any) -> None:
    model = algorithms.SAC(SACPolicy, make_env(), learning_starts=0, seed=0, device="cpu")
    model.learn(2)
    drawn = model.actor.action_dist
    drawn.sample = lambda: drawn.distribution.mean * 0 + 0.25
    model.learn(3, reset_num_timesteps=False)
    np.testing.assert_allclose(model.replay_buffer.actions[2:5], 0.25)


@pytest.mark.usefixtures("float64")
def test_bounds_of_the_deviation_are_sb3s(make_env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stable_baselines3.sac.policies.LOG_STD_MAX", -3.0)
    theirs, ours = (make(module, make_env()) for module in (sb3, algorithms))
    for model in (theirs, ours):
        train(model)
    assert_same_numbers(ours, theirs)
    assert ours.gradients == "explicit"
    drawn = [ours._learners[0].explore(np.zeros((1, 5))) for _ in range(50)]
    assert np.arctanh(drawn).std(axis=0).max() < 0.1


def test_what_a_distribution_keeps_of_its_work_changes_nothing(make_env: Any) -> None:
    model = make(algorithms, make_env())
    model.actor.action_log_prob(th.zeros(1, 5))
    train(model)
    learners = model._learners
    model.actor.action_log_prob(th.ones(1, 5))
    train(model)
    assert model._learners is learners
    assert model.gradients == "explicit"
