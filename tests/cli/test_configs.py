"""`--config`, `--set` and `--trust`: the run is what they say, and its tests see the same."""

import csv
import re
from hashlib import sha256

import gymnasium
import pytest
import yaml
from gymnasium.envs.registration import EnvSpec
from stable_baselines3 import TD3

from pyrl_sb3.training.facts import read_facts

CONFIG = """\
default:
  n_timesteps: !!float 40
  policy: MlpPolicy
  gamma: 0.9
  learning_rate: lin_1e-3
  learning_starts: 20
  n_envs: 2
  frame_stack: 3
  normalize: "dict(norm_reward=True, clip_obs=5.)"
  noise_type: ornstein-uhlenbeck
  noise_std: 0.5
  env_kwargs: {g: 5.0}
  env_wrapper:
    - sb3_contrib.common.wrappers.TimeFeatureWrapper:
        test_mode: true
    - gymnasium.wrappers.OrderEnforcing: {disable_render_order_enforcing: true}
  monitor_kwargs: dict(allow_early_resets=True)
  callback:
    - stable_baselines3.common.callbacks.StopTrainingOnMaxEpisodes:
        max_episodes: 1
  policy_kwargs: "dict(net_arch=[16, 16], activation_fn=nn.ELU)"
"""


@pytest.fixture
def config(folder):
    path = folder / "my.yml"
    path.write_text(CONFIG)
    return path


def test_a_config_is_followed_in_training_and_in_the_test(pyrl, folder, config):
    line = ("--config", config, "--set", "policy_kwargs.net_arch=[8]", "--set", "n_timesteps=60")
    trained = pyrl("td3-train", "Pendulum-v1", *line, "--seed", 4, "--eval-episodes", 2)
    assert (trained.code, trained.err) == (0, "")
    assert "td3 on" not in trained.out
    assert "  learning_rate: lin_1e-3\n" in trained.out
    run = folder / "td3" / "Pendulum-v1_1"
    model = TD3.load(run / "model.zip")
    assert (model.num_timesteps, model.gamma, model.n_envs) == (60, 0.9, 2)
    assert model.observation_space.shape == (12,)  # with the time, three frames
    assert (model.lr_schedule(1.0), model.lr_schedule(0.5)) == (1e-3, 5e-4)
    assert [type(layer).__name__ for layer in model.actor.mu] == ["Linear", "ELU", "Linear", "Tanh"]
    assert model.actor.mu[0].out_features == 8
    assert (run / "1.monitor.csv").exists()
    saved = yaml.safe_load((run / "config.yml").read_text())["default"]
    given = yaml.safe_load(CONFIG)["default"]
    kwargs = {"net_arch": [8], "activation_fn": "torch.nn.modules.activation.ELU"}
    assert saved == {**given, "n_timesteps": 60, "policy_kwargs": kwargs}

    tested = pyrl("td3-test", "Pendulum-v1", "--seed", 6, "--episodes", 2)
    assert (tested.code, tested.err) == (0, "")
    (final,) = [row for row in trained.out.splitlines() if row.startswith("final evaluation: ")]
    assert f"2 episodes: {final.removeprefix('final evaluation: ')}" in tested.out

    again = pyrl("td3-train", "Pendulum-v1", "--config", run / "config.yml", "--eval-episodes", 1)
    assert (again.code, again.err) == (0, "")


def test_callbacks_of_a_config_act(pyrl, folder, config):
    line = ("--config", config, "--timesteps", 1000, "--n-envs", 1, "--set", "frame_stack=null")
    line += ("--set", "train_freq=[1,episode]")  # for one environment only
    assert pyrl("td3-train", "Pendulum-v1", *line, "--eval-freq", 0, "--eval-episodes", 1).code == 0
    with (folder / "td3" / "Pendulum-v1_1" / "0.monitor.csv").open() as file:
        next(file)
        (episode,) = csv.DictReader(file)
    assert episode["l"] == "200"


def test_every_mistake_gets_a_line_and_nothing_is_written(pyrl, folder, config):
    config.write_text(
        "default:\n  gama: 0.9\n  tau: 2\n  policy_kwargs: open('x', 'w')\n"
        "  env_wrapper: mine.Wrapper\n"
    )
    outcome = pyrl("sac-train", "Pendulum-v1", "--config", config, "--set", "batch_size=0")
    assert outcome.code == 2
    lines = [line.replace(str(folder), "") for line in outcome.err.splitlines()]
    assert [line.split(": ")[:2] for line in lines] == [
        ["pyrl", "/my.yml:2"],
        ["pyrl", "/my.yml:3"],
        ["pyrl", "/my.yml:4"],
        ["pyrl", "/my.yml:5"],
        ["pyrl", "--set batch_size"],
    ]
    assert [path.name for path in folder.iterdir()] == ["my.yml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{env_kwargs: {gravity: 1}, n_timesteps: 10}", "unexpected keyword argument 'gravity'"),
        ("{policy: MlpPolicy}", "has no n_timesteps; say --timesteps N"),
        ("{env_wrapper: gymnasium.wrappers.RescaleAction}", "'min_action'.*check env_kwargs"),
        ("{env_wrapper: gymnasium.wrappers.ClipAction}", "unbounded actions"),
        ("{env_wrapper: gymnasium.wrappers.ClipActoin}", r"did you mean ClipAction\?"),
        (
            "{callback: stable_baselines3.common.callbacks.BaseCallback, n_timesteps: 9}",
            "my.yml:1: default.callback: '.*BaseCallback': Can't instantiate abstract class",
        ),
    ],
)
def test_what_shows_only_when_it_is_built(pyrl, folder, config, text, message):
    config.write_text(f"default: {text}")
    outcome = pyrl("sac-train", "Pendulum-v1", "--config", config)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert re.search(message, outcome.err)
    assert [path.name for path in folder.iterdir()] == ["my.yml"]


def test_code_of_other_packages_needs_trust_each_time(pyrl, folder, config, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (folder / "wrappers_of_theirs.py").write_text(
        "import gymnasium\nclass Wrapper(gymnasium.ActionWrapper):\n"
        "    def action(self, action):\n        return action\n"
    )
    config.write_text("default: {n_timesteps: 5, env_wrapper: wrappers_of_theirs.Wrapper}")
    line = ("sac-train", "Pendulum-v1", "--config", config, "--eval-episodes", 1)
    assert "pass --trust if you trust it" in pyrl(*line).err
    assert pyrl(*line, "--trust").code == 0
    tested = ("sac-test", "Pendulum-v1", "--episodes", 1)
    assert "pass --trust if you trust it" in pyrl(*tested).err
    assert pyrl(*tested, "--trust").code == 0


def test_a_wrapper_that_ends_episodes_ends_them_in_evaluations(pyrl, folder, config):
    config.write_text(
        "default: {n_timesteps: 60, learning_starts: 50, policy_kwargs: {net_arch: [4]},\n"
        "  env_wrapper: [gymnasium.wrappers.TimeLimit: {max_episode_steps: 7}]}"
    )
    line = ("td3-train", "Pendulum-v1", "--config", config, "--eval-freq", 30)
    trained = pyrl(*line, "--eval-episodes", 2)
    assert (trained.code, trained.err) == (0, "")
    assert re.search("final evaluation: .*length 7.0 steps", trained.out)
    assert re.search(
        "2 episodes: .*length 7.0 steps", pyrl("td3-test", "Pendulum-v1", "--episodes", 2).out
    )
    with (folder / "td3" / "Pendulum-v1_1" / "0.monitor.csv").open() as file:
        next(file)
        assert {episode["l"] for episode in csv.DictReader(file)} == {"7"}


OBJECTS = """\
import functools, gymnasium, numpy as np
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.noise import NormalActionNoise
hyperparams = {"default": {"policy": "MlpPolicy", "learning_starts": 90,
    "policy_kwargs": {"net_arch": [4]}, %s}}
"""
SHORT = ("--trust", "--timesteps", 8, "--eval-freq", 0, "--eval-episodes", 1, "--save", "runs")


def test_a_run_is_tested_without_what_its_config_could_not_hold_of_the_training(pyrl, folder):
    rate = "'learning_rate': lambda left: 1e-3"
    noise = "'action_noise': NormalActionNoise(np.zeros(1), np.ones(1))"
    (folder / "mine.py").write_text(OBJECTS % f"{rate}, {noise}, 'env_kwargs': {{'g': 9.0}}")
    begun = pyrl("sac-train", "Pendulum-v1", "--config", "mine.py", *SHORT)
    assert "cannot hold it: --resume needs that file as it is now, and --trust" in begun.out
    (folder / "mine.py").rename(folder / "other.py")
    tested = pyrl("sac-test", "Pendulum-v1", "runs/Pendulum-v1_1", "--episodes", 1)
    assert (tested.code, tested.err) == (0, "")
    facts = read_facts(folder / "runs" / "Pendulum-v1_1")
    assert facts.config_sha256 == sha256((folder / "other.py").read_bytes()).hexdigest()


def test_a_policy_that_a_config_defines_is_in_the_model(pyrl, folder):
    source = OBJECTS.replace('"MlpPolicy"', "Mine") % "'gamma': 0.9"
    classes = "from stable_baselines3.sac.policies import SACPolicy\nclass Mine(SACPolicy): pass\n"
    (folder / "mine.py").write_text(classes + source)
    begun = pyrl("sac-train", "Pendulum-v1", "--config", "mine.py", *SHORT)
    (hint,) = re.findall("test it: pyrl (.*)", begun.out)
    assert hint == "sac-test Pendulum-v1 runs/Pendulum-v1_1 --trust"
    assert "--trust" in pyrl(*hint.split()[:-1], "--episodes", 1).err
    tested = pyrl(*hint.split(), "--episodes", 1)
    assert (tested.code, tested.err) == (0, "")


def test_environments_that_a_config_could_not_hold_are_made_as_they_were(pyrl, folder):
    wrapper = "'env_wrapper': [functools.partial(TimeLimit, max_episode_steps=9)]"
    (folder / "mine.py").write_text(OBJECTS % f"'learning_rate': lambda left: 1e-3, {wrapper}")
    begun = pyrl("sac-train", "Pendulum-v1", "--config", "mine.py", *SHORT)
    assert "--resume and tests need that file as it is now, and --trust" in begun.out
    run = "runs/Pendulum-v1_1"
    lacks = f"{run} cannot be tried out: env_wrapper has .* of {folder}/mine.py, which config.yml"
    commands = (("sac-test", "Pendulum-v1", run), ("evaluate", run), ("record", run))
    for command in commands[:2]:
        tested = pyrl(*command, "--episodes", 1, "--trust")
        assert "9.0" in tested.out
    for command in commands:
        outcome = pyrl(*command, "--episodes", 1)
        assert outcome.code == 2
        assert re.fullmatch(
            f"pyrl: {lacks} cannot hold; pass --trust to have that file run once more\n",
            outcome.err,
        )
    (folder / "mine.py").write_text((folder / "mine.py").read_text() + "# changed")
    for command in commands:
        outcome = pyrl(*command, "--episodes", 1, "--trust")
        assert outcome.code == 2
        assert re.fullmatch(
            f"pyrl: {lacks} cannot hold, and which is not there as it was, nor here; put it back, "
            "or begin a new run with text, numbers, and classes that can be imported, their "
            "arguments beside them\n",
            outcome.err,
        )


def test_trials_elsewhere_have_the_entry_of_the_training(pyrl, folder, monkeypatch):
    wrapper = "'env_wrapper': [functools.partial(TimeLimit, max_episode_steps=9)]"
    source = OBJECTS.replace("default", "Pendulum-v1") % wrapper
    (folder / "mine.py").write_text(source + "hyperparams['default'] = {'n_timesteps': 1}\n")
    begun = pyrl("sac-train", "Pendulum-v1", "--config", "mine.py", "--n-envs", 2, *SHORT)
    assert begun.code == 0
    run = "runs/Pendulum-v1_1"
    elsewhere = EnvSpec("Other-v0", entry_point=gymnasium.spec("Pendulum-v1").entry_point)
    monkeypatch.setitem(gymnasium.registry, "Other-v0", elsewhere)
    tested = pyrl("sac-test", "Other-v0", run, "--episodes", 1, "--trust")
    assert "9.0" in tested.out


@pytest.mark.parametrize("more", [(), ("--seeds", 2), ("--seeds", 2, "--sync", "mean")])
def test_a_config_in_python_that_fails_is_a_mistake(pyrl, folder, more):
    (folder / "my.py").write_text("import nothing_here")
    line = ("td3-train", "Pendulum-v1", "--config", "my.py", "--trust", *more)
    said = "pyrl: my.py:1: ModuleNotFoundError: No module named 'nothing_here'; --verbose shows "
    outcome = pyrl(*line)
    assert (outcome.code, outcome.err) == (2, f"{said}the traceback\n")
    shown = pyrl(*line, "--verbose").err
    assert 'my.py", line 1, in <module>\n    import nothing_here\n' in shown
    assert shown.endswith(f"{said}the traceback\n")
    assert [path.name for path in folder.iterdir()] == ["my.py"]
