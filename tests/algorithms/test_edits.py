"""Models that are changed after they were made: trained and acting as SB3's would be."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.td3 import policies as td3
from torch import nn

import pyrl_sb3
from pyrl_sb3 import algorithms
from pyrl_sb3.algorithms.normalized import NormalizedGoals
from pyrl_sb3.errors import NotANumberError
from pyrl_sb3.noise.action import GaussianNoise
from pyrl_sb3.noise.greedy import EpsilonGreedy
from pyrl_sb3.noise.parameter import ParameterNoise

KEYWORDS = {"learning_starts": 5, "batch_size": 16, "buffer_size": 200, "seed": 0, "device": "cpu"}
SIZES = {"net_arch": [8, 8]}


def make(module: Any, name: str, env: Any, policy: Any = "MlpPolicy", **arguments: Any) -> Any:
    policy_kwargs = {**SIZES, **arguments.pop("policy_kwargs", {})}
    return getattr(module, name)(
        policy, env, policy_kwargs=policy_kwargs, **{**KEYWORDS, **arguments}
    )


def test_an_optimizers_hook_is_called(make_env: Any) -> None:
    model, calls = make(algorithms, "SAC", make_env()), []
    model.learn(10)
    model.critic.optimizer.register_step_pre_hook(lambda *args: calls.append(1))
    model.learn(10, reset_num_timesteps=False)
    assert len(calls) == 10


def test_a_change_of_the_gradients_is_printed(make_env: Any, capsys: Any) -> None:
    model = make(algorithms, "SAC", make_env(), verbose=1)
    model.learn(10)
    model.actor.requires_grad_(False)
    model.learn(10, reset_num_timesteps=False)
    model.actor.requires_grad_(True)
    model.learn(10, reset_num_timesteps=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if "Gradients" in line]
    explicit, frozen, again = lines
    assert explicit == again == "Gradients: explicit"
    assert frozen.startswith("Gradients: autograd: ")
    model.verbose = 0
    model.actor.requires_grad_(False)
    model.learn(10, reset_num_timesteps=False)
    assert "Gradients" not in capsys.readouterr().out


def test_half_precision_is_left_to_autograd(make_env: Any) -> None:
    model = make(algorithms, "TD3", make_env())
    model.policy.to(th.bfloat16)
    model._ensure_bound()
    assert "not in float32 or float64 throughout, but in torch.bfloat16" in model.gradients


@pytest.mark.parametrize("name", ["TD3", "DDPG"])
def test_a_frozen_actor_leaves_the_critic_to_train(name: str, make_env: Any) -> None:
    model = make(algorithms, name, make_env())
    model.actor.requires_grad_(False)
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(10)
    changed = {k for k, v in model.policy.state_dict().items() if not th.equal(v, before[k])}
    assert {key.split(".")[0] for key in changed} == {"critic", "critic_target"}


@pytest.mark.parametrize("frequency", [0, -1, (0, "episode")])
def test_rollouts_of_nothing_are_refused(frequency: Any, make_env: Any) -> None:
    with pytest.raises(ValueError, match=r"train_freq=\(.*'\): collect at least one step"):
        make(algorithms, "SAC", make_env(), train_freq=frequency).learn(5)


def test_a_method_put_on_the_actor_acts(make_env: Any) -> None:
    model = make(algorithms, "TD3", make_env(), learning_starts=0)
    model.learn(2)
    model.actor.forward = lambda observation: th.full((len(observation), 3), 0.25)
    model.learn(3, reset_num_timesteps=False)
    assert np.allclose(model.replay_buffer.actions[2:5], 0.25)
    expected = model.policy.unscale_action(np.full((2, 3), 0.25, np.float32))
    assert np.allclose(model.predict(np.zeros((2, 5), np.float32))[0], expected)


@pytest.mark.parametrize("name", ["SAC", "TD3"])
def test_observations_that_are_nan_are_not_acted_on(name: str, make_env: Any) -> None:
    class Env(make_env):  # type: ignore[misc, valid-type]
        def step(self, action: Any) -> Any:
            assert not np.isnan(action).any()
            obs, *rest = super().step(action)
            return (obs * np.nan if self.steps == 3 else obs, *rest)

    model = make(algorithms, name, Env(), learning_starts=0)
    with pytest.raises(ValueError, match="an action is NaN"):
        model.predict(np.full((2, 5), np.nan, np.float32))
    with pytest.raises(ValueError, match="is NaN"):
        model.learn(20)


def test_noise_that_is_nan_is_named(make_env: Any) -> None:
    noise = NormalActionNoise(np.zeros(3), np.full(3, np.nan))
    model = make(algorithms, "TD3", make_env(), learning_starts=0, action_noise=noise)
    with pytest.raises(NotANumberError, match=r"action is NaN: .* or the action noise is$"):
        model.learn(2)


class HalfActor(td3.Actor):
    def forward(self, obs: Any) -> th.Tensor:
        return super().forward(obs) * 0 + 0.25


class OwnActor(pyrl_sb3.TD3Policy):
    def make_actor(self, features_extractor: Any = None) -> Any:
        keywords = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return HalfActor(**keywords).to(self.device)


class OwnPredict(td3.TD3Policy):
    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        return super()._predict(observation, deterministic) * 0 + 0.25


class OwnLeanPredict(pyrl_sb3.TD3Policy):
    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        return super()._predict(observation, deterministic) * 0 + 0.25


class OwnTensor(pyrl_sb3.TD3Policy):
    """Sees 1 everywhere, which is 0.25 as an action."""

    def obs_to_tensor(self, observation: Any) -> Any:
        found, vectorized = super().obs_to_tensor(observation)
        return th.ones_like(found), vectorized

    def make_actor(self, features_extractor: Any = None) -> Any:
        actor = super().make_actor(features_extractor)
        actor.mu = nn.Sequential(nn.Linear(5, 3))
        nn.init.constant_(actor.mu[0].weight, 0.05)
        nn.init.zeros_(actor.mu[0].bias)
        return actor


@pytest.mark.parametrize("policy", [OwnActor, OwnPredict, OwnLeanPredict, OwnTensor])
def test_an_own_way_to_act_is_acted_by(policy: Any, make_env: Any) -> None:
    model = make(algorithms, "TD3", make_env(), policy, learning_starts=0, learning_rate=0.0)
    model.learn(5)
    assert np.allclose(model.replay_buffer.actions[:5], 0.25)
    observation = np.zeros((2, 5), np.float32)
    expected = model.policy.unscale_action(np.full((2, 3), 0.25, np.float32))
    assert np.allclose(model.predict(observation)[0], expected)


@pytest.mark.parametrize("shape", [(5,), (1, 5)])
@pytest.mark.parametrize("policy", ["MlpPolicy", td3.MlpPolicy, OwnLeanPredict])
def test_whoever_acts_no_action_is_nan(policy: Any, shape: Any, make_env: Any) -> None:
    noise = ParameterNoise(0.1, np.random.default_rng(0))
    for action_noise in (None, noise):
        model = make(
            algorithms, "TD3", make_env(), policy, learning_starts=0, action_noise=action_noise
        )
        with th.no_grad():
            next(model.actor.parameters()).fill_(th.nan)
        if policy is not td3.MlpPolicy:  # SB3's own
            with pytest.raises(ValueError, match="an action is NaN"):
                model.predict(np.zeros(shape, np.float32))
        with pytest.raises(ValueError, match="an action is NaN"):
            model.learn(1)


def test_a_models_own_predict_is_explored_by(make_env: Any) -> None:
    class Model(algorithms.TD3):
        def predict(self, observation: Any, *args: Any, **kwargs: Any) -> Any:
            return np.zeros((1, 3), np.float32), None

    model = make(type("M", (), {"TD3": Model}), "TD3", make_env(), learning_starts=0)
    model.learn(5)
    expected = model.policy.scale_action(np.zeros(3, np.float32))
    assert np.allclose(model.replay_buffer.actions[:5, 0], expected)


def test_ways_to_act_that_are_put_on_a_model_are_noticed(make_env: Any) -> None:
    model = make(algorithms, "TD3", make_env(), learning_starts=0)
    model.learn(2)
    model.policy._predict = lambda observation, deterministic: th.full((1, 3), 0.25)
    middle = model.policy.unscale_action(np.full((1, 3), 0.25, np.float32))
    assert np.allclose(model.policy.predict(np.zeros((1, 5), np.float32))[0], middle)
    model.learn(2, reset_num_timesteps=False)
    model.predict = lambda *args, **kwargs: (middle * 0, None)
    model.learn(2, reset_num_timesteps=False)
    expected = [0.25, 0.25, *[model.policy.scale_action(np.zeros(3))[0]] * 2]
    assert np.allclose(model.replay_buffer.actions[2:6, 0, 0], expected)


@pytest.mark.parametrize("part", ["", "mu", "mu.0", "features_extractor.flatten"])
@pytest.mark.parametrize("edit", ["hook", "method"])
def test_hooks_and_methods_on_the_actor_act(part: str, edit: str, make_env: Any) -> None:
    model = make(sb3, "TD3", make_env(), pyrl_sb3.TD3Policy)
    module = model.actor.get_submodule(part)
    if edit == "hook":
        module.register_forward_hook(lambda net, args, out: out * 0)
    else:
        forward = module.forward
        module.forward = lambda *args: forward(*args) * 0
    for layer in model.actor.mu:
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    assert np.allclose(model.predict(np.ones((1, 5), np.float32))[0], -0.5)  # of [-2, 1]


def test_a_hook_on_a_q_network_acts(make_env: Any) -> None:
    class Env(make_env):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.Discrete(3)

    model = make(algorithms, "DQN", Env())
    model.q_net.q_net.register_forward_hook(lambda net, args, out: out * 0 + th.eye(3)[2])
    assert model.predict(np.ones((4, 5), np.float32), deterministic=True)[0].tolist() == [2] * 4


@pytest.mark.parametrize("best", [0, 1, 2])
def test_a_q_network_of_ones_own_acts(best: int, make_env: Any) -> None:
    class Env(make_env):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.Discrete(3)

    class Own(sb3.dqn.policies.QNetwork):
        def forward(self, obs: Any) -> th.Tensor:
            return super().forward(obs) + 100 * th.eye(3)[best]

    class Policy(pyrl_sb3.DQNPolicy):
        def make_q_net(self) -> Any:
            keywords = self._update_features_extractor(self.net_args, features_extractor=None)
            return Own(**keywords).to(self.device)

    model = make(algorithms, "DQN", Env(), Policy)
    actions, _ = model.predict(np.random.default_rng(0).normal(size=(9, 5)), deterministic=True)
    assert actions.tolist() == [best] * 9


def test_memory_that_processes_share_stays_shared(make_env: Any) -> None:
    model = make(algorithms, "TD3", make_env())
    model.learn(10)
    model.policy.share_memory()
    model.learn(10, reset_num_timesteps=False)
    assert all(parameter.is_shared() for parameter in model.policy.parameters())
    assert "memory" in model.gradients


def test_a_replaced_sample_is_drawn_from(make_env: Any) -> None:
    model, calls = make(algorithms, "TD3", make_env()), []
    original = model.replay_buffer.sample
    model.replay_buffer.sample = lambda *a, **k: calls.append(1) or original(*a, **k)
    model.learn(10)
    assert len(calls) == 5


def test_parameter_noise_shares_running_statistics(make_env: Any) -> None:
    noise = ParameterNoise(1e-6, np.random.default_rng(0), sigma=1e-6)
    model = make(
        algorithms,
        "TD3",
        make_env("dict"),
        "MultiInputPolicy",
        action_noise=noise,
        policy_kwargs={"features_extractor_class": NormalizedGoals},
    )
    model.learn(60)
    assert model.actor.features_extractor.norms["goal"].running_count > 0
    noise.reset()
    expected = model.policy.scale_action(model.policy.predict(model._last_obs)[0])
    assert np.allclose(model._explore_with(noise), expected, atol=1e-3)
    assert model._distance(noise) < 1e-3


@pytest.mark.parametrize("module", [sb3, algorithms])
def test_random_actions_survive_sb3s_vectorised_noise(module: Any, make_env: Any) -> None:
    greedy = EpsilonGreedy((3,), 1.0, None, np.random.default_rng(0))
    envs, noise = DummyVecEnv([make_env] * 2), VectorizedActionNoise(greedy, 2)
    model = make(module, "TD3", envs, action_noise=noise, learning_starts=0)
    model.learn(200)
    assert np.std(model.replay_buffer.actions[:100], axis=0) == pytest.approx(0.577, abs=0.15)


def test_sb3s_vectorised_noise_gets_a_generator_for_each_environment(make_env: Any) -> None:
    gaussian = GaussianNoise((3,), 0.3, np.random.default_rng(0))
    envs, noise = DummyVecEnv([make_env] * 2), VectorizedActionNoise(gaussian, 2)
    model = make(algorithms, "TD3", envs, action_noise=noise)
    model.learn(4)
    first, second = model.action_noise()
    assert not np.allclose(first, second)


@pytest.mark.parametrize("name", ["SAC", "TD3", "DDPG"])
def test_nan_ends_training_with_its_name(name: str, make_env: Any) -> None:
    class Env(make_env):  # type: ignore[misc, valid-type]
        def step(self, action: Any) -> Any:
            obs, _, *rest = super().step(action)
            return (obs, float("nan"), *rest)

    with pytest.raises(ValueError, match=r"_loss is NaN after 1 gradient step:"):
        make(algorithms, name, Env()).learn(50)


def test_actions_and_arguments_that_are_nan_are_named(make_env: Any) -> None:
    model = make(algorithms, "TD3", make_env())
    model.learn(5)
    model.replay_buffer.actions[:] = np.nan  # such as a demonstration's
    with pytest.raises(NotANumberError, match="an observation, action, reward or argument was NaN"):
        model.train(1, batch_size=4)
    model = make(algorithms, "SAC", make_env(), ent_coef=float("nan"))
    with pytest.raises(NotANumberError, match=r"^ent_coef is NaN .* argument was NaN"):
        model.learn(120)


@pytest.mark.parametrize("name", ["SAC", "TD3"])
def test_an_action_that_cannot_vary_is_refused(name: str, make_env: Any) -> None:
    env = make_env()
    env.action_space = spaces.Box(np.array([-1, 2, 0], "f4"), np.array([1, 2, 1], "f4"))
    with pytest.raises(ValueError, match=r"^action 1 is always 2\.0: "):
        make(algorithms, name, env)


@pytest.mark.parametrize("batch_size", [0, -1])
@pytest.mark.parametrize("name", ["SAC", "TD3", "DDPG"])
def test_batches_of_nothing_are_refused(name: str, batch_size: int, make_env: Any) -> None:
    with pytest.raises(ValueError, match=f"^batch_size={batch_size}: "):
        make(algorithms, name, make_env(), batch_size=batch_size)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_models_train_alike(copied: Any, activation: Any, make_env: Any) -> None:
    model = make(algorithms, "SAC", make_env(), policy_kwargs={"activation_fn": activation})
    model.learn(20)
    other = copied(model)
    for each in (model, other):
        np.random.seed(0)
        th.manual_seed(0)
        each.train(3, 16)
    for name, expected in model.policy.state_dict().items():
        th.testing.assert_close(other.policy.state_dict()[name], expected)


def test_parameters_written_before_a_rollout_are_acted_on(make_env: Any) -> None:
    class Zeros(BaseCallback):
        def _on_rollout_start(self) -> None:
            for parameter in self.model.actor.parameters():
                parameter.data = th.zeros_like(parameter)

        def _on_step(self) -> bool:
            return True

    model = make(algorithms, "TD3", make_env(), learning_starts=0)
    model.learn(1, callback=Zeros())
    assert np.allclose(model.replay_buffer.actions[0], 0)


def put_a_copy(model: Any, zeros: list[th.Tensor]) -> None:
    model.policy = copy.deepcopy(model.policy)
    model._create_aliases()
    nn.utils.vector_to_parameters(th.cat([z.flatten() for z in zeros]), model.actor.parameters())


def write_anew(model: Any, zeros: list[th.Tensor]) -> None:
    for parameter, zero in zip(model.actor.parameters(), zeros, strict=True):
        parameter.data = zero


@pytest.mark.parametrize("change", [put_a_copy, write_anew])
def test_an_actor_changed_inside_a_rollout_is_acted_by(change: Any, make_env: Any) -> None:
    class Change(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 3:
                change(self.model, [th.zeros_like(p) for p in self.model.actor.parameters()])
            return True

    model = make(algorithms, "TD3", make_env(), learning_starts=0, train_freq=6)
    model.learn(6, callback=Change())
    at_rest = (model.replay_buffer.actions[:6, 0] == 0).all(axis=1)
    assert at_rest.tolist() == [False] * 3 + [True] * 3


def test_what_is_passed_in_stays_as_it_is(make_env: Any) -> None:
    keywords = {"weight_decay": 1e-4}
    policy_kwargs = {"optimizer_kwargs": keywords}
    make(algorithms, "SAC", make_env(), policy_kwargs=policy_kwargs)
    assert keywords == {"weight_decay": 1e-4}


@pytest.mark.parametrize("name", ["SAC", "TD3"])
def test_no_gradient_steps_and_no_observations(name: str, make_env: Any) -> None:
    model = make(algorithms, name, make_env())
    model.learn(6)
    model.train(0, 8)
    assert model.predict(np.zeros((0, 5), np.float32))[0].shape == (0, 3)


@pytest.mark.parametrize("kind", [pyrl_sb3.DQNPolicy, pyrl_sb3.QRDQNPolicy])
def test_no_observations_have_no_discrete_actions(kind: Any) -> None:
    policy = kind(spaces.Box(-1, 1, (5,)), spaces.Discrete(3), lambda _: 1e-3, net_arch=[8])
    assert policy.predict(np.zeros((0, 5), np.float32))[0].shape == (0,)


def test_copies_of_dqn_train_too(make_env: Any) -> None:
    class Env(make_env):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.Discrete(3)

    model = make(algorithms, "DQN", Env())
    model.learn(10)
    other, before = copy.deepcopy(model), model._n_updates
    other.learn(20, reset_num_timesteps=False)
    assert other._n_updates > before == model._n_updates


def test_policies_that_were_pickled_before_act(make_env: Any) -> None:
    policy = make(algorithms, "SAC", make_env()).policy
    expected, _ = policy.predict(np.zeros((1, 5), np.float32), deterministic=True)
    for name in ("_anchors", "_own_predict"):
        del vars(policy)[name]
    found, _ = policy.predict(np.zeros((1, 5), np.float32), deterministic=True)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["DQN", "DiscreteSAC"])
def test_actions_that_are_not_counted_from_0_are_refused(name: str, make_env: Any) -> None:
    class Env(make_env):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.Discrete(3, start=1)

    with pytest.raises(ValueError, match="counts its actions from 1: SB3 counts from 0"):
        make(pyrl_sb3, name, Env())
