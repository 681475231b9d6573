"""Optimisers that are edited in the middle of a training: what SB3's would do is done."""

import copy
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.logger import configure
from torch import nn

from pyrl_sb3 import algorithms


def make(module: Any, env: Any, activation: Any = nn.ReLU) -> Any:
    """SAC with the same random transitions in every model."""
    policy_kwargs = {"net_arch": [12, 8], "activation_fn": activation}
    keywords = {"policy_kwargs": policy_kwargs, "buffer_size": 64, "seed": 0, "device": "cpu"}
    model = module.SAC("MlpPolicy", env, **keywords)
    model.set_logger(configure(None, []))
    rng, buffer = np.random.default_rng(0), model.replay_buffer
    for array in (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards):
        array[:] = rng.uniform(-1, 1, array.shape)
    buffer.full = True
    return model


def train(model: Any) -> None:
    np.random.seed(1)
    th.manual_seed(1)
    for steps in (1, 3):
        model.train(steps, batch_size=16)


def train_the_heads(model: Any) -> None:
    for network, parts in (("actor", ("mu", "log_std")), ("critic", ("qf0.4", "qf1.4"))):
        module = getattr(model, network)
        heads = [p for part in parts for p in module.get_submodule(part).parameters()]
        module.optimizer.param_groups[0]["params"] = heads


def leave_the_last_parameter(model: Any) -> None:
    del model.critic.optimizer.param_groups[0]["params"][-1]


def put_another_group(model: Any) -> None:
    optimizer = model.critic.optimizer
    optimizer.param_groups = [{**optimizer.param_groups[0], "maximize": True}]


def leave_no_group(model: Any) -> None:
    model.critic.optimizer.param_groups.clear()


def add_a_group(model: Any) -> None:
    optimizer, parameters = model.critic.optimizer, list(model.critic.parameters())
    optimizer.param_groups[0]["params"] = parameters[:-2]
    optimizer.add_param_group({"params": parameters[-2:], "weight_decay": 0.5})


def fix_the_temperature(model: Any) -> None:
    model.ent_coef_optimizer.param_groups[0]["params"] = []


def states(model: Any) -> list[Any]:
    """What optimisers keep of each parameter."""
    owned = [(part.optimizer, list(part.parameters())) for part in (model.actor, model.critic)]
    owned.append((model.ent_coef_optimizer, [model.log_ent_coef]))
    return [optimizer.state.get(p, {}) for optimizer, parameters in owned for p in parameters]


def reset_moments(model: Any) -> None:
    for state in states(model):
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = th.zeros_like(state[name])
        state["step"] = th.tensor(0.0)


def reset_means(model: Any) -> None:
    for state in states(model):
        state["exp_avg"] = th.zeros_like(state["exp_avg"])


def reset_means_data(model: Any) -> None:
    for state in states(model):
        state["exp_avg"].data = th.zeros_like(state["exp_avg"])


def forget_the_last_layers(model: Any) -> None:
    for network in (model.actor, model.critic):
        for parameter in list(network.parameters())[-2:]:
            network.optimizer.state.pop(parameter)


def put_other_states(model: Any) -> None:
    for parameter in list(model.critic.parameters())[-2:]:
        zeros = {name: th.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        model.critic.optimizer.state[parameter] = {"step": th.tensor(0.0), **zeros}


def put_an_empty_state(model: Any) -> None:
    model.critic.optimizer.state = defaultdict(dict)


def load_an_earlier_state(model: Any) -> None:
    earlier = th.optim.Adam(model.critic.parameters(), weight_decay=0.5)
    model.critic.optimizer.load_state_dict(earlier.state_dict())


def keep_ages(model: Any) -> None:
    """Of neurons, as in continual learning: numbers beside Adam's tensors."""
    for state in states(model):
        state["age"] = 0
    train(model)


def reset_means_beside_ages(model: Any) -> None:
    keep_ages(model)
    reset_means(model)


def load_zeros_beside_ages(model: Any) -> None:
    keep_ages(model)
    for optimizer in (model.actor.optimizer, model.critic.optimizer):
        saved = copy.deepcopy(optimizer.state_dict())
        for state in saved["state"].values():
            state["exp_avg"].zero_()
        optimizer.load_state_dict(saved)


def put_other_data(model: Any) -> None:
    for parameter in (*model.actor.parameters(), *model.critic_target.parameters()):
        parameter.data = parameter.data * 0.5
    model.log_ent_coef.data = th.full((1,), 0.3, dtype=model.log_ent_coef.dtype)


def put_another_target(model: Any) -> None:
    th.manual_seed(7)
    model.critic_target = model.policy.critic_target = model.policy.make_critic()


def train_a_critic_of_the_models_own(model: Any) -> None:
    """That the policy does not know; with another optimiser after the first steps."""
    th.manual_seed(7)
    model.critic = model.policy.make_critic()
    model.critic.optimizer = th.optim.Adam(model.critic.parameters(), lr=1e-3)
    train(model)
    model.critic.optimizer = th.optim.SGD(model.critic.parameters(), lr=0.1)


class Clipping:
    """An optimiser around another, by nothing but what a training calls."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.zero_grad = optimizer, optimizer.zero_grad
        self.param_groups, self.state = optimizer.param_groups, optimizer.state

    def step(self) -> None:
        parameters = self.param_groups[0]["params"]
        nn.utils.clip_grad_norm_(parameters, 0.01)
        self.optimizer.step()


def wrap_an_optimizer(model: Any) -> None:
    model.critic.optimizer = Clipping(model.critic.optimizer)


def hook_log_ent_coef(model: Any) -> None:
    model.log_ent_coef.register_hook(lambda g: -g)


EDITS = [
    train_the_heads,
    leave_the_last_parameter,
    put_another_group,
    leave_no_group,
    add_a_group,
    fix_the_temperature,
    reset_moments,
    reset_means,
    reset_means_data,
    forget_the_last_layers,
    put_other_states,
    put_an_empty_state,
    load_an_earlier_state,
    reset_means_beside_ages,
    load_zeros_beside_ages,
    put_other_data,
    put_another_target,
    train_a_critic_of_the_models_own,
    wrap_an_optimizer,
    hook_log_ent_coef,
]


def trained_before_and_after(module: Any, edit: Any, env: Any, activation: Any) -> Any:
    model = make(module, env, activation)
    train(model)
    edit(model)
    train(model)
    return model


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU])  # the second is left to autograd
@pytest.mark.parametrize("edit", EDITS)
def test_edits_of_optimizers_count(edit: Any, activation: Any, make_env: Any) -> None:
    theirs, ours = (
        trained_before_and_after(module, edit, make_env(), activation)
        for module in (sb3, algorithms)
    )
    close = {"rtol": 0, "atol": 1e-9}
    th.testing.assert_close(ours.policy.state_dict(), theirs.policy.state_dict(), **close)
    th.testing.assert_close(ours.critic.state_dict(), theirs.critic.state_dict(), **close)
    th.testing.assert_close(ours.log_ent_coef, theirs.log_ent_coef, **close)
    th.testing.assert_close(states(ours), states(theirs), check_dtype=False, **close)


def test_a_reset_of_moments_is_trained_with_and_saved(make_env: Any, tmp_path: Any) -> None:
    model = make(algorithms, make_env())
    train(model)
    reset_moments(model)
    forget_the_last_layers(model)
    model.train(3, batch_size=16)
    model.save(tmp_path / "model")
    saved = states(sb3.SAC.load(tmp_path / "model", device="cpu"))
    assert [float(state["step"]) for state in saved] == [3.0] * len(saved)
    th.testing.assert_close(saved, states(model), check_dtype=False)


def test_what_is_left_as_it_was_is_not_bound_anew(make_env: Any) -> None:
    model = make(algorithms, make_env())
    model.train(3, batch_size=16)
    learners = model._learners
    for state in states(model):
        for value in state.values():
            value.zero_()
    model.train(3, batch_size=16)
    assert model._learners is learners


def test_ages_beside_moments_cost_no_binding(make_env: Any) -> None:
    model = make(algorithms, make_env())
    keep_ages(model)
    learners = model._learners
    for state in states(model):
        state["age"] += 1000
    train(model)
    assert model._learners is learners


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU])
def test_a_frozen_temperature_stays(activation: Any, make_env: Any) -> None:
    model = make(algorithms, make_env(), activation)
    train(model)
    model.log_ent_coef.requires_grad_(False)
    before = model.log_ent_coef.clone()
    train(model)
    assert th.equal(model.log_ent_coef, before)


class Wrapped(nn.Module):
    """What forwards to a policy, as ``torch.compile`` wraps one."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.wrapped = policy

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.wrapped, name)


@pytest.mark.parametrize("name", ["SAC", "TD3"])
def test_a_wrapped_policy_is_trained_and_acts(name: str, make_env: Any) -> None:
    models = []
    for module in (sb3, algorithms):
        model = getattr(module, name)("MlpPolicy", make_env(), learning_starts=5, seed=0)
        model.learn(7)
        model.policy = Wrapped(model.policy)
        model.learn(7, reset_num_timesteps=False)
        model.actor.optimizer = th.optim.SGD(model.actor.parameters(), lr=1e-3)
        model.learn(7, reset_num_timesteps=False)
        models.append(model)
    theirs, ours = models
    th.testing.assert_close(ours.policy.state_dict(), theirs.policy.state_dict())
    assert ours.gradients == "autograd: the policy is a Wrapped"
