"""Noise at work in the algorithms."""

import copy
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from pyrl_sb3 import DDPG, SAC, TD3
from pyrl_sb3.noise.parameter import ParameterNoise
from pyrl_sb3.noise.policy import PolicyNoise
from pyrl_sb3.plugins import NoiseContext, get_plugin_manager, noise_from_config


class Steady(gym.Env):
    """Shows the same observation for ever, unless it is random, and notes the actions."""

    def __init__(self, length=10_000, random=False):
        self.observation_space = gym.spaces.Box(-1, 1, (4,))
        self.action_space = gym.spaces.Box(-2, 2, (2,))
        self.length, self.random, self.actions = length, random, []

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.full(4, 0.3, np.float32), {}

    def step(self, action):
        self.steps += 1
        self.actions.append(np.array(action))
        observation = self.np_random.uniform(-1, 1, 4) if self.random else np.full(4, 0.3)
        return observation.astype(np.float32), 0.0, False, self.steps == self.length, {}


def noise_of(config, n_envs=1, seed=0):
    context = NoiseContext(
        action_space=Steady().action_space, rng=np.random.default_rng(seed), n_envs=n_envs
    )
    return noise_from_config(get_plugin_manager(), config, context)


def model_of(kind, noise, n_envs=1, length=10_000, random=False, **keywords):
    env = make_vec_env(lambda: Steady(length, random), n_envs, seed=0)
    settings = {
        "learning_starts": 0,
        "gradient_steps": 0,
        "buffer_size": 2000,
        "seed": 0,
        "policy_kwargs": {"net_arch": [16]},
        **keywords,
    }
    return kind("MlpPolicy", env, action_noise=noise, **settings)


def actions_of(model):
    """``(steps, n_envs, action_dim)``, in [-1, 1]."""
    return np.stack([env.unwrapped.actions for env in model.env.envs], axis=1) / 2


def test_the_warm_up_is_not_perturbed():
    model = model_of(TD3, noise_of("eps_0.5+normal_0.5", 2), 2, learning_starts=100)
    plain = model_of(TD3, None, 2, learning_starts=100)
    for each in (model, plain):
        each.learn(140)
    assert np.array_equal(actions_of(model)[:50], actions_of(plain)[:50])
    assert not np.array_equal(actions_of(model)[50:], actions_of(plain)[50:])


@pytest.mark.parametrize("autograd", [False, True])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_policy_noise_is_the_noise_of_the_policy(n_envs, autograd):
    keywords = {"policy_kwargs": {"net_arch": [16], "optimizer_class": th.optim.AdamW}}
    model = model_of(SAC, noise_of("policy+ou", n_envs), n_envs, **keywords if autograd else {})
    assert (model.gradients == "explicit") != autograd
    model.learn(60 * n_envs)
    with th.no_grad():
        mean, log_std, _ = model.actor.get_action_dist_params(th.full((1, 4), 0.3))
    noise = noise_of("policy+ou", n_envs)
    noise.reset()  # as learn() does
    noises = getattr(noise, "noises", [noise])
    drawn = np.stack([[each.draw() for each in noises] for _ in range(60)])
    actions = np.tanh(mean.numpy() + log_std.exp().numpy() * drawn)
    assert actions_of(model) == pytest.approx(actions, abs=1e-5)


def test_training_draws_independently_and_leaves_the_process_alone():
    model = model_of(SAC, noise_of("policy+ou"), batch_size=256)
    model.learn(50)
    before = repr(model.action_noise.noise.rng.bit_generator.state)
    observations = th.full((256, 4), 0.3)
    sampled, *_ = model._learners[0].sample(observations, observations)
    assert len(sampled.unique(dim=0)) == 256
    correlation = np.corrcoef(np.arctanh(sampled.numpy().astype(float)).T)[0, 1]
    assert abs(correlation) < 0.25
    model.train(3, 256)
    assert repr(model.action_noise.noise.rng.bit_generator.state) == before


def test_policy_noise_is_refused_where_it_has_no_place():
    with pytest.raises(ValueError, match="this TD3 has a deterministic policy"):
        model_of(TD3, noise_of("policy+ou")).learn(1)
    with pytest.raises(ValueError, match="this SAC explores with gSDE"):
        model_of(SAC, noise_of("policy+ou"), use_sde=True).learn(1)
    with pytest.raises(ValueError, match="this SAC explores with gSDE"):
        model_of(SAC, noise_of("param_0.2"), use_sde=True).learn(1)
    with pytest.raises(TypeError, match=r"use it with pyrl_sb3\.SAC"):
        PolicyNoise(noise_of("ou_1.0"))()
    with pytest.raises(TypeError, match="parameter noise is for the actor"):
        noise_of("param_0.2")()


@pytest.mark.parametrize("kind", [DDPG, TD3, SAC])
def test_each_episode_and_environment_has_an_actor_of_its_own(kind):
    keywords = {"policy_kwargs": {"net_arch": [16], "layer_norm": "actor"}}
    model = model_of(kind, noise_of("param_0.2", 2), 2, length=1001, **keywords)
    model.env.envs[0].unwrapped.length = 30  # the first environment has two episodes, of 30 steps
    own = {name: value.clone() for name, value in model.actor.state_dict().items()}
    model.learn(2 * 60)
    first, second = actions_of(model).swapaxes(0, 1)
    if kind is not SAC:  # which draws besides
        assert np.ptp(first[:30], axis=0).max() == np.ptp(second, axis=0).max() == 0
        assert np.ptp(first[30:], axis=0).max() == 0
        assert len({tuple(row) for row in (first[0], first[30], second[0])}) == 3
        assert not np.allclose(first[0], model.predict(np.full((1, 4), 0.3))[0][0] / 2)
    for name, value in model.actor.state_dict().items():
        assert th.equal(value, own[name]), "the actor itself stays as it is"
    other = copy.deepcopy(model.actor)
    parameters = th.as_tensor(model.action_noise.noises[1].parameters)
    nn.utils.vector_to_parameters(parameters, other.parameters())
    perturbed = other.state_dict()
    for name, value in own.items():
        assert th.equal(value, perturbed[name]) == (".1." in name), name  # its layer norm


def put_other_activations(model):
    model.actor.mu[1] = nn.Tanh()


def hook_a_layer(model):
    model.actor.mu[0].register_forward_hook(lambda net, args, out: out + 1)


def put_a_method(model):
    forward = model.actor.mu.forward
    model.actor.mu.forward = lambda features: forward(features) / 2


def put_a_method_on_the_policy(model):
    predict = model.policy._predict
    model.policy._predict = lambda *args, **kwargs: predict(*args, **kwargs) / 2


def put_other_layers(model):
    model.actor.mu = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2), nn.Tanh())


def put_another_actor(model):
    optimizer = model.actor.optimizer
    model.policy.actor = model.policy.make_actor()
    model.policy.actor.optimizer = optimizer
    model._create_aliases()


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize(
    "edit",
    [
        put_other_activations,
        hook_a_layer,
        put_a_method,
        put_a_method_on_the_policy,
        put_other_layers,
        put_another_actor,
    ],
)
def test_an_actor_that_is_changed_is_the_one_that_is_perturbed(edit, n_envs):
    model = model_of(TD3, noise_of("param_0.2", n_envs), n_envs)
    noises = getattr(model.action_noise, "noises", [model.action_noise])
    for noise in noises:
        noise.sigma = 1e-9
    expected = []
    for _ in range(2):  # in the middle of an episode too
        edit(model)
        model.learn(3 * n_envs, reset_num_timesteps=False)
        expected += [model.policy.predict(np.full((1, 4), 0.3, np.float32))[0] / 2] * 3
    assert actions_of(model) == pytest.approx(np.repeat(expected, n_envs, axis=1), abs=1e-6)
    assert model._distance(noises[0]) == pytest.approx(0, abs=1e-6)
    noises[0].sigma = 1.0
    noises[0].reset()
    model.learn(n_envs, reset_num_timesteps=False)
    assert not np.allclose(actions_of(model)[-1, 0], expected[-1], atol=1e-2)


@pytest.mark.parametrize("edit", [put_other_layers, put_another_actor])
def test_a_copy_whose_actor_is_changed_perturbs_that(edit):
    model = model_of(TD3, noise_of("param_0.2"))
    model.learn(2)
    model = copy.deepcopy(model)
    edit(model)
    model.action_noise.sigma = 1e-9
    expected = model.policy.predict(np.full((1, 4), 0.3, np.float32))[0] / 2
    model.learn(1, reset_num_timesteps=False)
    assert actions_of(model)[-1] == pytest.approx(expected, abs=1e-6)


def test_ctrl_c_does_not_come_while_parameters_are_given_back():
    model = model_of(TD3, noise_of("param_0.2"))
    model.learn(2)
    before = [p.detach().clone() for p in model.actor.parameters()]

    def interrupted(moment):
        """At so many lines and returns of what lends and gives back."""
        seen = []

        def trace(frame, event, arg):
            if frame.f_code.co_name != "_lend":
                return None
            if event != "call":
                seen.append(event)
                if len(seen) == moment:
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            model._explore_perturbed([model.action_noise])
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    moment = 1
    while interrupted(moment):
        own = list(map(th.equal, before, model.actor.parameters()))
        assert all(own) or not any(own), "some of the one, some of the other"
        for parameter, data in zip(model.actor.parameters(), before, strict=True):
            parameter.data = data.clone()
        moment += 1
    assert moment > 4


def test_the_actor_has_its_own_parameters_again_where_a_perturbed_one_fails():
    model = model_of(TD3, noise_of("param_0.2"))
    model.learn(2)
    before = [p.detach().clone() for p in model.actor.parameters()]

    def fail(net, args, out):
        raise RuntimeError("on purpose")

    model.actor.mu[2].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        model.learn(2, reset_num_timesteps=False)
    assert all(map(th.equal, before, model.actor.parameters()))


@pytest.mark.parametrize("kind", [TD3, SAC])
def test_sigma_is_adapted_until_the_actions_differ_by_the_target(kind):
    # From far too much noise; a factor that is quick, to keep the test so.
    config = {
        "name": "param",
        "params": {"target": 0.1, "sigma": 0.8, "factor": 1.05, "adapt_every": 1},
    }
    model = model_of(
        kind, noise_of(config, 2), 2, length=50, random=True, gradient_steps=1, batch_size=32
    )
    model.learn(2 * 150)
    noises = model.action_noise.noises
    measured = np.mean([model._distance(noises[0]) for _ in range(20)])
    assert measured == pytest.approx(0.1, rel=0.2)
    assert noises[0].sigma == noises[1].sigma != 0.8
    assert model.logger.name_to_value["rollout/parameter_noise_sigma"] == noises[0].sigma


@pytest.mark.parametrize("kind", [TD3, SAC])
def test_many_gradient_steps_at_once_adapt_many_times(kind):
    noise, distances = noise_of("param_0.2"), []
    noise.adapt = distances.append
    model = model_of(kind, noise, train_freq=20, gradient_steps=100, batch_size=8, random=True)
    model.learn(60)
    assert model._n_updates == 300
    assert len(distances) == 300 // 50
    assert len(set(distances)) == len(distances), "each is measured"
    later = noise_of("param_0.2")  # which knows nothing of those steps
    later.adapt = distances.append
    model.action_noise = later
    model.learn(20, reset_num_timesteps=False)
    assert len(distances) == 400 // 50


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("config", ["ou_0.5", "param_0.2"])
def test_noise_goes_on_in_the_middle_of_an_episode(config, n_envs):
    model, undisturbed = (model_of(TD3, noise_of(config, n_envs), n_envs) for _ in range(2))
    for more in range(3):
        model.learn(10 * n_envs, reset_num_timesteps=not more)
    undisturbed.learn(30 * n_envs)
    assert np.array_equal(actions_of(model), actions_of(undisturbed))
    model.learn(10 * n_envs)  # resets the environments, and the noise
    assert not np.array_equal(actions_of(model)[30:], actions_of(model)[:10])


class NewNoise(BaseCallback):
    def __init__(self, found, new):
        super().__init__()
        self.found, self.new = found, new

    def _init_callback(self):
        self.found.append(self.model.action_noise)
        self.model.action_noise = self.new

    def _on_step(self):
        return True


def test_callbacks_find_and_replace_the_noise_as_training_goes_on():
    old, new, found = noise_of("ou_0.5"), noise_of("normal_0.1"), []
    model = model_of(TD3, old)
    model.learn(5)
    model.learn(5, NewNoise(found, old), reset_num_timesteps=False)
    assert model.action_noise is old
    assert "reset" not in vars(old)
    model.learn(5, NewNoise(found, new), reset_num_timesteps=False)
    assert found == [old, old]
    assert model.action_noise is new


@pytest.mark.parametrize("n_envs", [1, 4])
def test_a_schedule_ends_with_the_training_that_begins_with_a_warm_up(n_envs):
    context = NoiseContext(
        action_space=Steady().action_space,
        rng=np.random.default_rng(0),
        n_envs=n_envs,
        total_timesteps=400,
        learning_starts=100,
    )
    noise = noise_from_config(get_plugin_manager(), "normal_0.4..0.1", context)
    process = getattr(noise, "noises", [noise])[0]
    assert process.factor == 1
    model_of(TD3, noise, n_envs, learning_starts=100).learn(400)
    assert process.draws == process.steps == 300 // n_envs
    assert process.factor == pytest.approx(0.25)


def test_parameter_noise_goes_on_after_saving(tmp_path):
    model = model_of(TD3, noise_of("param_0.2"), gradient_steps=1, length=30)
    model.learn(45)
    model.save(tmp_path / "model")
    noise = model.action_noise
    again = TD3.load(tmp_path / "model", env=model.get_env())
    assert again.action_noise.sigma == noise.sigma
    assert np.array_equal(again.action_noise.parameters, noise.parameters)
    assert np.array_equal(*(each.rng.random(3) for each in (noise, again.action_noise)))


def test_models_take_their_noise_to_more_environments():
    model = model_of(TD3, noise_of("ou_0.3"))
    model.learn(20)
    model.set_env(make_vec_env(Steady, 1))
    again = model_of(TD3, model.action_noise, 4)
    again.learn(40)
    actions = actions_of(again)
    assert all(not np.allclose(actions[:, 0], actions[:, i]) for i in (1, 2, 3))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": 0}, "target must be positive, not 0"),
        ({"target": 0.1, "factor": 1.0}, "factor must be above 1, not 1.0"),
        ({"target": 0.1, "sigma": -1}, "sigma must be positive, not -1"),
        ({"target": 0.1, "adapt_every": 0}, "adapt_every must be at least 1, not 0"),
        ({"target": 0.1, "adapt_every": 1.5}, r"adapt_every must be a whole number, not 1\.5"),
        ({"target": 0.1, "adapt_every": float("nan")}, "adapt_every must be a whole number"),
    ],
)
def test_bad_parameters(changed, message):
    with pytest.raises(ValueError, match=message):
        ParameterNoise(rng=np.random.default_rng(0), **changed)
