"""Gradient steps against SB3's own, from the same weights, batches and random state."""

from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.logger import configure
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor
from torch import nn

import pyrl_sb3.policies
from pyrl_sb3 import algorithms

STEPS = 3
POLICY = {"SAC": "SACPolicy", "TD3": "TD3Policy", "DDPG": "TD3Policy"}


def make(module: Any, name: str, env: Any, policy: Any = None, **arguments: Any) -> Any:
    if policy is None:
        policy = getattr(pyrl_sb3.policies, POLICY[name])
    policy_kwargs = {"net_arch": [12, 8], **arguments.pop("policy_kwargs", {})}
    model = getattr(module, name)(
        policy, env, policy_kwargs=policy_kwargs, buffer_size=64, seed=0, device="cpu", **arguments
    )
    model.set_logger(configure(None, []))
    return model


def fill(model: Any) -> None:
    """The same random transitions in every model; some of them end an episode."""
    rng, space = np.random.default_rng(0), model.observation_space
    space.seed(0)
    for i in range(40):
        obs, next_obs = space.sample(), space.sample()
        if isinstance(obs, dict):
            obs, next_obs = ({k: v[None] for k, v in o.items()} for o in (obs, next_obs))
        else:
            obs, next_obs = obs[None], next_obs[None]
        action, reward = rng.uniform(-1, 1, (1, 3)), rng.normal(size=1)
        model.replay_buffer.add(obs, next_obs, action, reward, np.array([i % 7 == 6]), [{}])


def train(model: Any) -> list[dict[str, Any]]:
    np.random.seed(1)
    th.manual_seed(1)
    logs = []
    for steps in (1, STEPS):
        model.train(steps, batch_size=16)
        logs.append(dict(model.logger.name_to_value))
    return logs


def assert_equal_training(name: str, env: Any, close: float = 1e-9, **arguments: Any) -> Any:
    theirs = make(sb3, name, env, **arguments)
    ours = make(algorithms, name, env, **arguments)
    ours.set_parameters(theirs.get_parameters())
    if getattr(theirs, "ent_coef_optimizer", None):
        ours.log_ent_coef.data = theirs.log_ent_coef.data.clone()
    fill(theirs)
    fill(ours)
    expected_logs, logs = train(theirs), train(ours)
    assert [log.keys() for log in logs] == [log.keys() for log in expected_logs]
    for log, expected in zip(logs, expected_logs, strict=True):
        assert log == pytest.approx(expected, rel=close)
    tolerance = {"rtol": 0, "atol": close}
    th.testing.assert_close(ours.policy.state_dict(), theirs.policy.state_dict(), **tolerance)
    for part in ("actor", "critic"):
        a, b = (getattr(model, part).optimizer.state_dict()["state"] for model in (ours, theirs))
        th.testing.assert_close(a, b, check_dtype=False, **tolerance)
    if getattr(theirs, "ent_coef_optimizer", None):
        th.testing.assert_close(ours.log_ent_coef, theirs.log_ent_coef, **tolerance)
    return ours


EXPLICIT = {
    "default": {},
    "tanh": {"policy_kwargs": {"activation_fn": nn.Tanh}},
    "silu": {"policy_kwargs": {"activation_fn": nn.SiLU}},
    "gelu": {"policy_kwargs": {"activation_fn": nn.GELU}},
    "layer_norm": {"policy_kwargs": {"layer_norm": True}},
    "layer_norm_critic": {"policy_kwargs": {"layer_norm": "critic"}},
    "three_critics": {"policy_kwargs": {"n_critics": 3}},
    "one_critic": {"policy_kwargs": {"n_critics": 1}},
    "no_hidden_layer": {"policy_kwargs": {"net_arch": []}},
    "other_critic_net": {"policy_kwargs": {"net_arch": {"pi": [6], "qf": [9, 5, 4]}}},
    "weight_decay": {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1}}},
    "shared_extractor": {"policy_kwargs": {"share_features_extractor": True}},
    "stock_policy": {"policy": "MlpPolicy"},
    "n_steps": {"n_steps": 3},
    "schedule": {"learning_rate": lambda remaining: 0.01 * remaining},
}
OF_SAC = {
    "fixed_temperature": {"ent_coef": 0.2},
    "initial_temperature": {"ent_coef": "auto_0.1", "target_entropy": -1.0},
    "rare_target_updates": {"target_update_interval": 2},
}
OF_TD3 = {"long_delay": {"policy_delay": 3}, "more_noise": {"target_policy_noise": 0.9}}


def cases(of_all: dict[str, Any], of_sac: dict[str, Any], of_td3: dict[str, Any]) -> Any:
    return [
        pytest.param(name, arguments, id=f"{name}-{case}")
        for name, own in (("SAC", of_sac), ("TD3", of_td3), ("DDPG", {}))
        for case, arguments in (of_all | own).items()
    ]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "arguments"), cases(EXPLICIT, OF_SAC, OF_TD3))
def test_explicit_steps_are_sb3s(name: str, arguments: dict[str, Any], make_env: Any) -> None:
    ours = assert_equal_training(name, make_env(), **arguments)
    assert ours.gradients == "explicit"


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["SAC", "TD3", "DDPG"])
@pytest.mark.parametrize("net_arch", [[0], [4, 0]])
def test_layers_without_units_are_sb3s(name: str, net_arch: list[int], make_env: Any) -> None:
    ours = assert_equal_training(name, make_env(), policy_kwargs={"net_arch": net_arch})
    assert ours.gradients == "explicit"


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["SAC", "TD3", "DDPG"])
@pytest.mark.parametrize("space", ["dict", "matrix"])
def test_explicit_steps_on_other_observations(name: str, space: str, make_env: Any) -> None:
    assert assert_equal_training(name, make_env(space)).gradients == "explicit"


class OwnAdam(th.optim.Adam):
    pass


class Swish(nn.SiLU):
    pass


class Halved(nn.Sequential):
    def forward(self, x: th.Tensor) -> th.Tensor:
        return super().forward(x) * 0.5


AUTOGRAD = {
    "optimizer": {"policy_kwargs": {"optimizer_class": th.optim.RMSprop}},
    "optimizer_subclass": {"policy_kwargs": {"optimizer_class": OwnAdam}},
    "amsgrad": {"policy_kwargs": {"optimizer_kwargs": {"amsgrad": True}}},
    "activation": {"policy_kwargs": {"activation_fn": nn.ELU}},
    "activation_subclass": {"policy_kwargs": {"activation_fn": Swish}},
}
GSDE = {"gsde": {"use_sde": True}, "gsde_stock": {"use_sde": True, "policy": "MlpPolicy"}}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "arguments"), cases(AUTOGRAD, GSDE | OF_SAC, {}))
def test_autograd_steps_are_sb3s(
    name: str, arguments: dict[str, Any], make_env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if arguments in OF_SAC.values():
        monkeypatch.setattr("pyrl_sb3.algorithms.step.find_obstacle", lambda model: "forced")
    ours = assert_equal_training(name, make_env(), **arguments)
    assert ours.gradients.startswith("autograd: ")


@pytest.mark.parametrize("name", ["SAC", "TD3"])
@pytest.mark.parametrize("shared", [False, True])
def test_autograd_steps_on_images(name: str, shared: bool, make_env: Any) -> None:
    # SB3's convolutions insist on single precision; gradient descent, unlike Adam, does not turn
    # a rounding error into a step.
    kwargs = {"share_features_extractor": shared, "optimizer_class": th.optim.SGD}
    ours = assert_equal_training(name, make_env("image"), close=1e-5, policy_kwargs=kwargs)
    assert "features extractor" in ours.gradients


def freeze(model: Any) -> None:
    model.actor.latent_pi.requires_grad_(False)


def replace_layer(model: Any) -> None:
    th.manual_seed(7)
    model.actor.latent_pi[0] = nn.Linear(5, 12)
    model.actor.optimizer = th.optim.Adam(model.actor.parameters(), lr=3e-4)


def replace_critic_layer(model: Any) -> None:
    th.manual_seed(7)
    model.critic.qf0[0] = nn.Linear(8, 12)
    model.critic.optimizer = th.optim.Adam(model.critic.parameters(), lr=3e-4)


def hook_gradients(model: Any) -> None:
    for parameter in model.actor.parameters():
        parameter.register_hook(lambda g: g * 0)


def hook_layer(model: Any) -> None:
    model.critic.qf0[0].register_forward_hook(lambda layer, args, out: out * 2)


def other_optimizer(model: Any) -> None:
    model.actor.optimizer = th.optim.SGD(model.actor.parameters(), lr=0.1)


def fix_temperature(model: Any) -> None:
    model.ent_coef_optimizer = None
    model.ent_coef_tensor = th.tensor(0.01)


def freeze_actor(model: Any) -> None:
    model.actor.requires_grad_(False)


def decay_temperature(model: Any) -> None:
    model.ent_coef_optimizer = th.optim.AdamW([model.log_ent_coef], lr=1e-2, weight_decay=0.5)


def raise_temperature(model: Any) -> None:
    model.ent_coef_optimizer = th.optim.Adam([model.log_ent_coef], lr=1e-2, maximize=True)


def descend_temperature(model: Any) -> None:
    model.ent_coef_optimizer = th.optim.SGD([model.log_ent_coef], lr=0.1)


def hook_temperature(model: Any) -> None:
    def set_it(*args: Any) -> None:
        model.log_ent_coef.data.fill_(0.3)

    model.ent_coef_optimizer.register_step_post_hook(set_it)


def ascend(model: Any) -> None:
    model.actor.optimizer.param_groups[0]["maximize"] = True


def decouple_decay(model: Any) -> None:
    group = model.critic.optimizer.param_groups[0]
    group.update(decoupled_weight_decay=True, weight_decay=0.5)


def clone_means(model: Any) -> None:
    """Train the actor, except for its deviations, whose Adam then is behind."""
    observations = th.linspace(-1, 1, 50).view(10, 5)
    for _ in range(20):
        model.actor.optimizer.zero_grad()
        means = model.actor(observations, deterministic=True)
        (means - 0.3).square().mean().backward()
        model.actor.optimizer.step()


def own_forward(model: Any) -> None:
    forward = model.critic.forward
    model.critic.forward = lambda *args: tuple(q * 2 for q in forward(*args))


def own_layer_forward(model: Any) -> None:
    layer = model.critic.qf0[0]
    layer.forward = lambda x: nn.functional.linear(x, layer.weight)


def hook_sequential(model: Any) -> None:
    model.critic.qf0.register_forward_hook(lambda net, args, out: out * 0.5)


def own_sequential_forward(model: Any) -> None:
    qf0 = model.critic.qf0
    qf0.forward = lambda x: qf0[-1](qf0[:-1](x)) * 0.5


def other_sequential(model: Any) -> None:
    model.actor.latent_pi = Halved(*model.actor.latent_pi)


def hook_extractor(model: Any) -> None:
    model.critic.features_extractor.register_forward_hook(lambda net, args, out: out * 0.5)


def hook_gradient_of_sequential(model: Any) -> None:
    model.critic.qf1.register_full_backward_pre_hook(lambda net, grad: (grad[0] * 0.5,))


def own_step(model: Any) -> None:
    """The usual way to clip gradients without a subclass."""
    step = model.critic.optimizer.step

    def clip_and_step() -> None:
        nn.utils.clip_grad_norm_(model.critic.parameters(), 0.01)
        step()

    model.critic.optimizer.step = clip_and_step


def own_step_of_temperature(model: Any) -> None:
    model.ent_coef_optimizer.step = lambda: model.log_ent_coef.data.fill_(0.3)


def use_amsgrad_for_a_while(model: Any) -> None:
    for amsgrad in (True, False):
        for network in (model.actor, model.critic):
            network.optimizer.param_groups[0]["amsgrad"] = amsgrad
            if amsgrad:
                network.optimizer.state.clear()
        if amsgrad:
            train(model)


def put_another_actor_into_the_policy(model: Any) -> None:
    th.manual_seed(7)
    model.policy.actor = model.policy.make_actor()
    model.policy.actor.optimizer = th.optim.Adam(model.policy.actor.parameters())


EDITS = [
    freeze,
    freeze_actor,
    decay_temperature,
    raise_temperature,
    descend_temperature,
    hook_temperature,
    ascend,
    decouple_decay,
    clone_means,
    own_forward,
    own_layer_forward,
    hook_sequential,
    own_sequential_forward,
    other_sequential,
    hook_extractor,
    hook_gradient_of_sequential,
    own_step,
    own_step_of_temperature,
    use_amsgrad_for_a_while,
    put_another_actor_into_the_policy,
    replace_layer,
    replace_critic_layer,
    hook_gradients,
    hook_layer,
    other_optimizer,
    fix_temperature,
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU])  # the second is left to autograd
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_edits_of_a_model_count(edit: Any, activation: Any, make_env: Any) -> None:
    models = []
    for module in (sb3, algorithms):
        model = make(module, "SAC", make_env(), policy_kwargs={"activation_fn": activation})
        fill(model)
        train(model)
        edit(model)
        before = {name: value.clone() for name, value in model.policy.state_dict().items()}
        train(model)
        models.append(model)
    temperatures = [getattr(model, "log_ent_coef", None) for model in models]
    th.testing.assert_close(*temperatures, rtol=0, atol=1e-9)
    theirs, ours = (model.policy.state_dict() for model in models)
    th.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    assert any(not th.equal(before[name], value) for name, value in ours.items())


class LayerFirst(pyrl_sb3.policies.TD3Policy):
    def make_critic(self, features_extractor: Any = None) -> Any:
        critic = super().make_critic(features_extractor)
        for q in critic.q_networks:
            q.insert(0, nn.LayerNorm(8))
        return critic


class ActivationFirst(pyrl_sb3.policies.TD3Policy):
    def make_actor(self, features_extractor: Any = None) -> Any:
        actor = super().make_actor(features_extractor)
        actor.mu.insert(0, nn.Tanh())
        return actor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 3)

    def forward(self, x: th.Tensor) -> th.Tensor:
        return self.inner(x).sin()


class NoSequence(pyrl_sb3.policies.TD3Policy):
    def make_actor(self, features_extractor: Any = None) -> Any:
        actor = super().make_actor(features_extractor)
        actor.mu = Net()
        return actor


class OneLayerForTwo(pyrl_sb3.policies.TD3Policy):
    """Critic and actor share a layer that only the critic's loss reaches."""

    def make_critic(self, features_extractor: Any = None) -> Any:
        critic = super().make_critic(features_extractor)
        if not hasattr(self, "critic"):  # the target has its own
            critic.qf1[2] = self.actor.mu[2]
        return critic


class UnequalCritics(pyrl_sb3.policies.TD3Policy):
    def make_critic(self, features_extractor: Any = None) -> Any:
        critic = super().make_critic(features_extractor)
        critic.qf1[1] = nn.Tanh()
        return critic


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "policy", [LayerFirst, ActivationFirst, UnequalCritics, NoSequence, OneLayerForTwo]
)
def test_unusual_networks_are_trained_as_in_sb3(policy: Any, make_env: Any) -> None:
    ours = assert_equal_training("TD3", make_env(), policy=policy)
    assert ours.gradients.startswith("autograd")


class Wider(SquashedDiagGaussianDistribution):
    def proba_distribution(self, mean_actions: th.Tensor, log_std: th.Tensor) -> Any:
        return super().proba_distribution(mean_actions, log_std + 0.5)


class OwnDistribution(pyrl_sb3.policies.SACPolicy):
    def make_actor(self, features_extractor: Any = None) -> Any:
        actor = super().make_actor(features_extractor)
        actor.action_dist = Wider(3)
        return actor


@pytest.mark.usefixtures("float64")
def test_a_distribution_of_ones_own_is_trained_and_acted_by(make_env: Any) -> None:
    ours = assert_equal_training("SAC", make_env(), policy=OwnDistribution)
    observation, drawn = th.zeros(1, 5), []
    for act in (ours.policy._predict, lambda o: ours.policy.predict(o.numpy())[0]):
        th.manual_seed(0)
        drawn.append(act(observation))
    expected = ours.policy.unscale_action(drawn[0].detach().numpy())
    np.testing.assert_allclose(drawn[1], expected, rtol=1e-9)


class Encoder(BaseFeaturesExtractor):
    def __init__(self, space: Any) -> None:
        super().__init__(space, 6)
        self.layer = nn.Linear(5, 6)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(observations).tanh()


class Frozen(Encoder):
    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.requires_grad_(False)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("encoder", [Encoder, Frozen])
@pytest.mark.parametrize("name", ["SAC", "TD3"])
def test_an_encoder_learns_from_both_losses_where_both_reach_it(
    name: str, encoder: Any, make_env: Any
) -> None:
    class OneEncoder(getattr(pyrl_sb3.policies, POLICY[name])):  # type: ignore[misc]
        def make_critic(self, features_extractor: Any = None) -> Any:
            has_one = hasattr(self, "critic")  # the target's is its own
            return super().make_critic(None if has_one else self.actor.features_extractor)

    kwargs = {"features_extractor_class": encoder}
    assert_equal_training(name, make_env(), policy=OneEncoder, policy_kwargs=kwargs)


class Asymmetric(pyrl_sb3.policies.SACPolicy):
    """The actor reads less than the critics."""

    def make_actor(self, features_extractor: Any = None) -> Any:
        return super().make_actor(CombinedExtractor(self._only("achieved_goal")))

    def _only(self, key: str) -> Any:
        return spaces.Dict({key: self.observation_space[key]})


class Crossed(Asymmetric):
    """As much as the critics, but something else."""

    def make_critic(self, features_extractor: Any = None) -> Any:
        return super().make_critic(CombinedExtractor(self._only("desired_goal")))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("policy", [Asymmetric, Crossed])
def test_actors_and_critics_may_read_different_keys(policy: Any, make_env: Any) -> None:
    ours = assert_equal_training("SAC", make_env("dict"), policy=policy)
    assert "different observations" in ours.gradients
