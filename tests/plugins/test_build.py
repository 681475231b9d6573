"""Components built from names: noise for all environments, environments for worker processes."""

from dataclasses import replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import pyrl_sb3
from pyrl_sb3.config import ConfigError, read_experiment, wrapping
from pyrl_sb3.noise.action import GaussianNoise
from pyrl_sb3.plugins import (
    ComponentParameterError,
    NoiseContext,
    NoiseSpec,
    PluginError,
    UnknownComponentError,
    check_buffer,
    environment_spec,
    hookimpl,
    make_noise,
    noise_from_config,
    parse_noise,
)
from pyrl_sb3.plugins.manager import PluginManager
from pyrl_sb3.training.setup import _callback
from pyrl_sb3.training.state import capture, restore
from pyrl_sb3.training.sync.alone import Alone
from pyrl_sb3.training.sync.job import SyncPlan


def context(n_envs=1, dim=3, seed=0):
    space = gym.spaces.Box(-1, 1, (dim,))
    return NoiseContext(action_space=space, n_envs=n_envs, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("ref", ["normal", "ou"])
def test_environments_draw_independently(pyrl_plugins, ref):
    noise = make_noise(pyrl_plugins, ref, {"sigma": 0.3}, context(n_envs=4))
    draws = np.stack([noise() for _ in range(2000)])
    assert draws.shape == (2000, 4, 3)
    assert draws.dtype == np.float32
    correlation = np.corrcoef(draws.reshape(2000, 12).T) - np.eye(12)
    assert np.abs(correlation).max() < 0.3
    assert draws.std() == pytest.approx(0.3, rel=0.1)


def test_one_environment_needs_no_stacking(pyrl_plugins):
    noise = make_noise(pyrl_plugins, "normal", {}, context())
    assert noise().shape == (3,)


@pytest.mark.parametrize(
    ("n_envs", "timesteps", "starts", "told"),
    [(1, 100, 10, (100, 10)), (3, 100, 10, (33, 4)), (4, 2, 0, (1, 0)), (4, None, 8, (None, 2))],
)
def test_the_noise_of_each_environment_is_told_of_its_own_steps(
    pyrl_plugins, n_envs, timesteps, starts, told
):
    contexts = []

    def make(context):
        contexts.append(context)
        return GaussianNoise((3,), 1.0, context.rng)

    class Plugin:
        @hookimpl
        def pyrl_noise_processes(self):
            yield NoiseSpec(name="mine", target=make)

    pyrl_plugins.register(Plugin(), "acme")
    whole = replace(context(n_envs), total_timesteps=timesteps, learning_starts=starts)
    make_noise(pyrl_plugins, "mine", {}, whole)
    assert len({id(each.rng) for each in contexts}) == n_envs
    for each in contexts:
        assert (each.n_envs, each.total_timesteps, each.learning_starts) == (1, *told)


class Joint(ActionNoise):
    """A process for all environments, written as the documentation says."""

    def __init__(self, shape, rng):
        super().__init__()
        self.shape, self.rng, self.resets = shape, rng, []

    def __call__(self):
        return self.rng.standard_normal(self.shape).astype(np.float32)

    def reset(self, indices=None):
        self.resets.append(indices)


class Plain(Joint):
    """One that can only be reset whole."""

    def reset(self):
        self.resets.append(None)


def joint(pyrl_plugins, cls, given):
    """The noise of a plugin whose factory makes one process of `cls`; the contexts it was given."""
    contexts = []

    class Plugin:
        @hookimpl
        def pyrl_noise_processes(self):
            def factory(context):
                contexts.append(context)
                return cls((context.n_envs, *context.action_space.shape), context.rng)

            yield NoiseSpec(name="joint", target=factory, vectorized=True)

    pyrl_plugins.register(Plugin(), "acme")
    return make_noise(pyrl_plugins, "joint", {}, given), contexts


def test_vectorized_factories_are_called_once(pyrl_plugins):
    given = context(n_envs=4)
    noise, contexts = joint(pyrl_plugins, Joint, given)
    assert contexts == [given]
    assert noise().shape == (4, 3)
    assert np.array_equal(noise(), joint_draws(4, 2))


def joint_draws(n_envs, draw):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n_envs, 3)).astype(np.float32) for _ in range(draw)][-1]


def test_vectorized_noise_of_one_environment_draws_as_any_other(pyrl_plugins):
    noise, _ = joint(pyrl_plugins, Joint, context())
    assert np.array_equal(noise(), joint_draws(1, 1)[0])
    noise.reset()


@pytest.mark.parametrize(("n_envs", "name"), [(1, "JointNoiseOfOne"), (2, "JointNoise")])
def test_vectorized_noise_says_which_process_it_is(pyrl_plugins, monkeypatch, n_envs, name):
    monkeypatch.setattr(Joint, "__repr__", lambda noise: "white")
    noise, _ = joint(pyrl_plugins, Joint, context(n_envs))
    assert repr(noise) == f"{name}(white)"


def test_vectorized_noise_is_told_whose_episode_begins(pyrl_plugins):
    noise, _ = joint(pyrl_plugins, Joint, context(n_envs=2))
    noise.reset(indices=[1])
    noise.reset()
    assert noise.base_noise.resets == [[1], None]


def test_vectorized_noise_that_takes_no_indices_is_reset_for_all_only(pyrl_plugins):
    noise, _ = joint(pyrl_plugins, Plain, context(n_envs=2))
    noise.reset(indices=[1])
    assert noise.base_noise.resets == []
    noise.reset()
    assert noise.base_noise.resets == [None]


@pytest.mark.parametrize("module", [stable_baselines3, pyrl_sb3])
@pytest.mark.parametrize("cls", [Joint, Plain])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_vectorized_noise_trains(pyrl_plugins, module, cls, n_envs):
    noise, _ = joint(pyrl_plugins, cls, context(n_envs, dim=1))
    env = DummyVecEnv([partial(gym.make, "Pendulum-v1", max_episode_steps=5)] * n_envs)
    model = module.TD3("MlpPolicy", env, action_noise=noise, learning_starts=0, gradient_steps=0)
    assert model.learn(8 * n_envs).num_timesteps == 8 * n_envs


def test_vectorized_noise_goes_on_with_no_other_number_of_environments(pyrl_plugins):
    noise, _ = joint(pyrl_plugins, Joint, context(n_envs=2, dim=1))
    env = DummyVecEnv([partial(gym.make, "Pendulum-v1")] * 3)
    model = pyrl_sb3.TD3("MlpPolicy", env, action_noise=noise, learning_starts=0)
    with pytest.raises(ValueError, match="one process for 2 environments together"):
        model.learn(9)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_vectorized_noise_goes_on_from_a_checkpoint(pyrl_plugins, n_envs):
    noise, _ = joint(pyrl_plugins, Joint, context(n_envs))
    noise()
    twin = make_noise(pyrl_plugins, "joint", {}, context(n_envs, seed=1))
    restore(capture(noise, (object,)), twin)
    assert np.array_equal(twin(), noise())


def test_vectorized_noise_of_another_shape_is_named(pyrl_plugins):
    wrong = lambda shape, rng: Joint((3, 2), rng)  # noqa: E731
    noise, _ = joint(pyrl_plugins, wrong, context(n_envs=2))
    with pytest.raises(ValueError, match=r"draws have shape \(3, 2\), not \(2, 3\)"):
        noise()


@pytest.mark.parametrize("vectorized", [False, True])
def test_what_is_no_noise_is_named(pyrl_plugins, vectorized):
    class Plugin:
        @hookimpl
        def pyrl_noise_processes(self):
            yield NoiseSpec(name="three", target=lambda context: 3, vectorized=vectorized)

    pyrl_plugins.register(Plugin(), "acme")
    message = "noise 'acme/three' gives 3, which is no ActionNoise of SB3's"
    for n_envs in (1, 2):
        with pytest.raises(PluginError, match=message):
            make_noise(pyrl_plugins, "three", {}, context(n_envs))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("ou", ("ou", {})),
        ("ou_0.2", ("ou", {"sigma": 0.2})),
        ("pyrl/normal_1e-1", ("pyrl/normal", {"sigma": 0.1})),
        ("my_pkg.mod:Noise_2", ("my_pkg.mod:Noise_2", {})),
    ],
)
def test_spec_strings(pyrl_plugins, text, parsed):
    assert parse_noise(pyrl_plugins, text) == parsed


@pytest.mark.parametrize("config", ["ou_0.2", {"name": "ou", "params": {"sigma": 0.2}}])
def test_noise_from_configs(pyrl_plugins, config):
    noise = noise_from_config(pyrl_plugins, config, context())
    expected = make_noise(pyrl_plugins, "ou", {"sigma": 0.2}, context())
    assert repr(noise) == repr(expected)
    assert np.array_equal(noise(), expected())


@pytest.mark.parametrize(
    "config", [{"nme": "ou"}, 0.2, ["ou", 0.2], {"name": "ou", "sigma": 0.7}], ids=str
)
def test_configs_that_name_no_noise(pyrl_plugins, config):
    with pytest.raises(
        ComponentParameterError, match=r"must be text such as 'ou_0\.2', or \{'name"
    ):
        noise_from_config(pyrl_plugins, config, context())


def test_parameters_of_noise_are_a_mapping(pyrl_plugins):
    with pytest.raises(ComponentParameterError, match=r"'ou': params must be a mapping .* \[1\]$"):
        noise_from_config(pyrl_plugins, {"name": "ou", "params": [1]}, context())


def test_no_noise(pyrl_plugins):
    assert noise_from_config(pyrl_plugins, "none", context()) is None
    assert noise_from_config(pyrl_plugins, None, context()) is None


def test_wrong_spec_strings(pyrl_plugins):
    with pytest.raises(ComponentParameterError, match="write for example ou_0"):
        parse_noise(pyrl_plugins, "ou_a")
    with pytest.raises(UnknownComponentError, match=r"pip install \./plugins/pyrl-colored"):
        parse_noise(pyrl_plugins, "pink_0.3")


PLUGIN = """
import gymnasium as gym
from pyrl_sb3.plugins import EnvironmentSpec, hookimpl

@hookimpl
def pyrl_environments():
    yield EnvironmentSpec(
        name="counting", target="acme:Counting", max_episode_steps=3, kwargs={"step_size": 2}
    )

class Counting(gym.Env):
    observation_space = gym.spaces.Box(0, 100)
    action_space = gym.spaces.Box(-1, 1)
    def __init__(self, step_size, render_mode=None):
        self.step_size = step_size
    def reset(self, seed=None, options=None):
        self.state = 0
        return [0], {}
    def step(self, action):
        self.state += self.step_size
        return [self.state], 0.0, False, False, {}
"""


def test_worker_processes_know_the_environment(fake_dist):
    fake_dist("acme", PLUGIN)
    spec = environment_spec(PluginManager(), "counting")
    assert spec.id not in gym.registry
    # A spawned worker starts from nothing, as on every machine but Linux.
    env = SubprocVecEnv([partial(gym.make, spec)], start_method="spawn")
    env.reset()
    steps = [env.step(np.zeros((1, 1))) for _ in range(3)]
    env.close()
    assert [observations.item() for observations, *_ in steps] == [2, 4, 0]
    _, _, dones, infos = steps[-1]
    assert dones.all()
    assert infos[0]["TimeLimit.truncated"]


def test_environment_arguments_are_checked(fake_dist):
    fake_dist("acme", PLUGIN)
    manager = PluginManager()
    assert environment_spec(manager, "counting", step_size=5).kwargs == {"step_size": 5}
    with pytest.raises(ComponentParameterError, match=r"did you mean step_size\?"):
        environment_spec(manager, "counting", stepsize=5)


def test_buffers_must_fit_observations_and_algorithm(pyrl_plugins):
    import pyrl_sb3.plugins as api

    class Plugin:
        @api.hookimpl
        def pyrl_replay_buffers(self):
            needs = frozenset({"priority-updates", "env"})
            yield api.ReplayBufferSpec(name="picky", target="m:A", needs=needs)

        @api.hookimpl
        def pyrl_algorithms(self):
            yield api.AlgorithmSpec(name="plain", target="m:B", serves=frozenset({"env"}))

    pyrl_plugins.register(Plugin(), "acme")
    check_buffer(pyrl_plugins, "picky", algorithm="sac", observations="array")
    check_buffer(pyrl_plugins, "picky", algorithm="m:Unknown", observations="array")
    check_buffer(pyrl_plugins, "m:Unknown", algorithm="plain", observations="dict")
    with pytest.raises(ComponentParameterError, match="'pyrl/her' is for dict observations"):
        check_buffer(pyrl_plugins, "her", algorithm="sac", observations="array")
    with pytest.raises(
        ComponentParameterError, match="needs priority-updates, which 'acme/plain' does not do"
    ):
        check_buffer(pyrl_plugins, "picky", algorithm="plain", observations="array")


DEFAULTS = """
import gymnasium
from pyrl_sb3.plugins import AlgorithmSpec, CallbackSpec, EnvWrapperSpec, FeaturesExtractorSpec
from pyrl_sb3.plugins import PolicySpec, SyncCallbackSpec, hookimpl
from stable_baselines3.common.torch_layers import FlattenExtractor

class Scaled(gymnasium.Wrapper):
    def __init__(self, env, factor: float = 1.0, times: int = 1):
        super().__init__(env)
        self.factor, self.times = factor, times

class Extractor(FlattenExtractor):
    def __init__(self, observation_space, width: int = 1, depth: int = 1):
        super().__init__(observation_space)

def coupling(context, *, pull, patience=1):
    from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes
    return StopTrainingOnMaxEpisodes(pull)

@hookimpl
def pyrl_env_wrappers():
    yield EnvWrapperSpec(name="scaled", target=Scaled, defaults={"factor": 0.1, "times": 2})

@hookimpl
def pyrl_callbacks():
    target = "stable_baselines3.common.callbacks:StopTrainingOnMaxEpisodes"
    yield CallbackSpec(name="stop", target=target, defaults={"max_episodes": 1})

@hookimpl
def pyrl_features_extractors():
    yield FeaturesExtractorSpec(name="wide", target=Extractor, defaults={"width": 8, "depth": 2})

@hookimpl
def pyrl_policies():
    yield PolicySpec(name="small", target="pyrl_sb3:TD3Policy", defaults={"net_arch": [8]})

@hookimpl
def pyrl_algorithms():
    defaults = {"policy_kwargs": {"n_critics": 1}}
    yield AlgorithmSpec(
        name="small-td3", target="pyrl_sb3:TD3", policy="acme/small", defaults=defaults
    )

@hookimpl
def pyrl_sync_callbacks():
    yield SyncCallbackSpec(
        name="coupling", target=coupling, couples_seeds=True, defaults={"pull": 3, "patience": 2}
    )
"""


def test_runs_record_policy_and_features_extractor(fake_dist, tmp_path):
    fake_dist("acme", DEFAULTS)
    (tmp_path / "my.yml").write_text("default: {}")

    def recorded(*given, algorithm="td3"):
        experiment = read_experiment(tmp_path / "my.yml", algorithm, "Pendulum-v1", overrides=given)
        return {(each["kind"], each["name"]): each["params"] for each in experiment.records()}

    extractor = "policy_kwargs.features_extractor_class=wide"
    both = recorded("policy=small", extractor)
    assert both["features-extractor", "acme/wide"] == {"width": 8, "depth": 2}
    assert both["policy", "acme/small"]["net_arch"] == [8]
    assert ("policy", "pyrl/td3") in recorded("policy=MlpPolicy")
    assert ("policy", "acme/small") in recorded(algorithm="small-td3")
    assert not recorded("policy=pyrl_sb3.policies.TD3Policy")


POLICIES = """
from pyrl_sb3.plugins import AlgorithmSpec, PolicySpec, hookimpl

@hookimpl
def pyrl_policies():
    for name in ("td3", "her-td3", "my-td3", "acme/my-td3"):
        target, fits = "pyrl_sb3:TD3Policy", frozenset({name})
        yield PolicySpec(name="of-" + name.replace("/", "-"), target=target, algorithms=fits)
    yield PolicySpec(name="lost", target="nowhere:Policy")

@hookimpl
def pyrl_algorithms():
    yield AlgorithmSpec(name="my-td3", target="pyrl_sb3:TD3")
    yield AlgorithmSpec(name="your-td3", target="pyrl_sb3:TD3", policy="pyrl/td3")
"""


def test_policies_are_for_the_algorithms_that_they_name(fake_dist, tmp_path):
    fake_dist("acme", POLICIES)
    (tmp_path / "my.yml").write_text("default: {}")

    def refused(algorithm, policy):
        change = [f"policy={policy}"]
        try:
            read_experiment(tmp_path / "my.yml", algorithm, "Pendulum-v1", overrides=change)
        except ConfigError as error:
            return str(error).removeprefix("--set policy: ")
        return ""

    for algorithm, policy in (
        ("td3", "of-td3"),
        ("her-td3", "of-td3"),
        ("her-td3", "of-her-td3"),
        ("my-td3", "of-my-td3"),
        ("my-td3", "acme/of-acme-my-td3"),
        ("her-my-td3", "of-my-td3"),
        ("my-td3", "pyrl_sb3.policies:TD3Policy"),  # of which nobody says anything
        ("your-td3", "td3"),  # the algorithm names it
        ("your-td3", "pyrl/td3"),
    ):
        assert not refused(algorithm, policy), (algorithm, policy)
    assert refused("td3", "of-her-td3") == "'acme/of-her-td3' is for her-td3, not td3"
    assert refused("my-td3", "td3") == "'pyrl/td3' is for ddpg or td3, not my-td3"
    assert refused("your-td3", "acme/of-td3") == "'acme/of-td3' is for td3, not your-td3"
    assert "policy 'acme/lost' from plugin acme" in refused("td3", "lost")


def test_defaults_of_every_kind_are_passed_unless_the_user_sets_them(fake_dist, tmp_path):
    fake_dist("acme", DEFAULTS)

    def read(*given, algorithm="td3"):
        (tmp_path / "my.yml").write_text("default: {}")
        return read_experiment(tmp_path / "my.yml", algorithm, "Pendulum-v1", overrides=given)

    experiment = read("env_wrapper={acme/scaled: {times: 3.0}}", "callback=acme/stop")
    env = wrapping(experiment.env_wrapper)(gym.make("Pendulum-v1"))
    assert (env.factor, env.times, type(env.times)) == (0.1, 3, int)
    assert _callback(experiment.callback[0]).max_episodes == 1
    noted = [each["params"] for each in experiment.records()]
    assert noted == [{"factor": 0.1, "times": 3.0}, {"max_episodes": 1}, {}]  # the policy's
    extractor = "policy_kwargs.features_extractor_class=acme/wide"
    keywords = read(extractor, "policy_kwargs.features_extractor_kwargs.depth=3")
    assert keywords.arguments["policy_kwargs"]["features_extractor_kwargs"] == {
        "width": 8,
        "depth": 3,
    }
    for given in (["policy=acme/small"], ["policy=small", "policy_kwargs.n_critics=1"]):
        assert read(*given).arguments["policy_kwargs"]["net_arch"] == [8]
    own = read("policy_kwargs.net_arch=[4]", algorithm="small-td3")
    assert own.arguments["policy_kwargs"] == {"net_arch": [4]}
    both = {"net_arch": [8], "n_critics": 1}
    assert read(algorithm="small-td3").arguments["policy_kwargs"] == both
    plan = SyncPlan(name="acme/coupling", params={"patience": 5})
    assert plan.params == {"pull": 3, "patience": 5}
    assert plan.callback(Alone(), 0, None).max_episodes == 3
