"""docs/plugins.md: every hook with its signature and an example that works."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC

import pyrl_sb3
from pyrl_sb3.plugins import NoiseContext, PluginManager, Settings, environment_spec, hookspecs
from pyrl_sb3.plugins.types import SPECS
from pyrl_sb3.testing import check_sync_callback
from pyrl_sb3.testing.buffer_case import buffer_cases
from pyrl_sb3.testing.noise import NOISE_CHECKS, NoiseCase
from pyrl_sb3.testing.replay_buffers import BUFFER_CHECKS, saved_buffers_go_on
from pyrl_sb3.training.state import capture_attributes, restore_attributes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text()
HOOKS = [spec.hook for spec in SPECS.values()]
SMALL = {"learning_starts": 20, "buffer_size": 100, "batch_size": 8, "train_freq": 20, "seed": 0}


def section(hook):
    signature = inspect.signature(getattr(hookspecs, hook))
    returned = re.sub(r"[\w.]+\.", "", str(signature))
    return PAGE.split(f"### `{hook}{returned}`\n")[1].split("\n##")[0]


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """Register the example of a hook; the manager and the reference of its component."""
    monkeypatch.syspath_prepend(str(tmp_path))
    packages = []

    def install(hook):
        for block in blocks(section(hook)):
            path = tmp_path / block.split("\n")[0].removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(block)
        package = path.parent.name
        packages.append(package)
        manager = PluginManager(Settings(load=frozenset()))
        manager.register(importlib.import_module(f"{package}.plugin"), package)
        kind = next(kind for kind, spec in SPECS.items() if spec.hook == hook)
        (found,) = [found for found in manager.components(kind) if "pyrl/" not in found.name]
        return manager, found.name

    yield install
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_signature_and_both_files(hook):
    first, second = blocks(section(hook))
    assert f"def {hook}():" in first
    assert first.startswith("# ")
    assert second.startswith("# ")
    assert "stable_baselines3" not in first


def test_noise(documented):
    manager, ref = documented("pyrl_noise_processes")
    for check in NOISE_CHECKS[:-1]:  # the last starts an interpreter, and the page does so below
        check(NoiseCase(ref=ref, manager=manager))


def test_buffer(documented):
    manager, ref = documented("pyrl_replay_buffers")
    params = manager.check_params("replay-buffer", ref, {"horizon": 10})
    cls = manager.load("replay-buffer", ref)
    env = gym.make("Pendulum-v1")
    model = SAC("MlpPolicy", env, replay_buffer_class=cls, replay_buffer_kwargs=params, **SMALL)
    model.learn(40)
    newest = model.replay_buffer.observations[30:40, 0]
    sampled = model.replay_buffer.sample(50).observations.numpy()
    assert {tuple(row) for row in sampled} <= {tuple(row) for row in newest}


def test_a_buffer_with_priorities():
    (block,) = blocks(PAGE.split("#### Priorities\n")[1].split("\n### ")[0])
    page = {}
    exec(block, page)
    needs = ["priority-updates", "importance-weights"]
    for case in buffer_cases(page["ByError"], needs=needs):
        for check in BUFFER_CHECKS:
            if check is not saved_buffers_go_on:  # of which the text says what it takes
                check(case)
    model = pyrl_sb3.SAC(
        "MlpPolicy", gym.make("Pendulum-v1"), replay_buffer_class=page["ByError"], **SMALL
    )
    model.learn(60)
    assert len(np.unique(model.replay_buffer.priorities)) > 5


def test_sync(documented):
    manager, ref = documented("pyrl_sync_callbacks")
    check_sync_callback(ref, manager=manager)


def test_callback(documented):
    manager, ref = documented("pyrl_callbacks")
    params = manager.check_params("callback", ref, {"seconds": 0.0})
    model = SAC("MlpPolicy", gym.make("Pendulum-v1"), **SMALL)
    model.learn(10, manager.load("callback", ref)(**params))
    assert model.num_timesteps == 1


def test_policy_and_extractor(documented):
    manager, ref = documented("pyrl_policies")
    policy = manager.load("policy", ref)
    manager, ref = documented("pyrl_features_extractors")
    extractor = manager.load("features-extractor", ref)
    model = SAC(
        policy,
        gym.make("Pendulum-v1"),
        policy_kwargs={"features_extractor_class": extractor},
        **SMALL,
    ).learn(21)
    assert [
        layer.in_features for layer in model.actor.latent_pi if hasattr(layer, "in_features")
    ] == [
        24,
        32,
    ]


def test_algorithm(documented):
    manager, ref = documented("pyrl_algorithms")
    algorithm = manager.load("algorithm", ref)
    params = manager.check_params("algorithm", ref, {"gamma": 0.9})
    assert algorithm("MlpPolicy", gym.make("Pendulum-v1"), **params).policy_delay == 10


def test_environment_and_wrapper(documented):
    manager, ref = documented("pyrl_environments")
    env = gym.make(environment_spec(manager, ref, length=3.0))
    manager, ref = documented("pyrl_env_wrappers")
    env = manager.load("env-wrapper", ref)(env, times=2)
    env.reset()
    ahead = np.ones(1, np.float32)
    steps = [env.step(ahead) for _ in range(2)]
    assert [(step[0].item(), *step[1:3]) for step in steps] == [(2.0, 0.0, False), (3.0, 1.0, True)]


def test_toml_is_valid_and_names_what_the_first_example_has():
    tomllib = pytest.importorskip("tomllib")
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (module,) = tomllib.loads(toml)["project"]["entry-points"]["pyrl_sb3"].values()
    first, _ = blocks(section("pyrl_noise_processes"))
    assert first.startswith(f"# {module.replace('.', '/')}.py")


def test_engine(documented, tmp_path):
    _, ref = documented("pyrl_engines")
    log = tmp_path / "log"
    code = f"""
import os, time
from pathlib import Path
from pyrl_sb3.training.engines import Job
import pyrl_sb3
from pyrl_sb3.plugins import NoiseContext, PluginManager, Settings
import polite.plugin
manager = PluginManager(Settings(load=frozenset()))
manager.register(polite.plugin, "polite")
engine = manager.load("engine", {ref!r})()
assert engine.cores() >= 1
process = engine.start(Job(name="version", arguments=("--version",), log=Path({str(log)!r})))
while (code := process.poll()) is None:
    time.sleep(0.05)
assert code == 0
engine.close()
print(os.nice(0))
"""
    places = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    environ = {**os.environ, "PYTHONPATH": places}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) >= 10
    assert log.read_text().startswith("pyrl-sb3 ")


def test_an_attribute_that_follows_the_length_of_the_run_is_not_restored():
    (block,) = blocks(PAGE.split("## Checkpoints\n")[1].split("\n## ")[0])
    page = {}
    exec(block, page)
    context = NoiseContext(
        action_space=spaces.Box(-1, 1, (2,)), rng=np.random.default_rng(0), total_timesteps=4
    )
    noise = page["fading"](context)
    scales = [np.abs(noise()).max() for _ in range(5)]
    assert scales[3] > 0
    assert scales[4] == 0
    longer = page["fading"](replace(context, total_timesteps=20))
    restore_attributes(capture_attributes(noise), longer)
    assert (longer.draws, longer.steps) == (5, 20)
    assert np.abs(longer()).max() > 0
