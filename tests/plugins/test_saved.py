"""Saved models name their components."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from stable_baselines3 import TD3
from stable_baselines3.common.env_util import make_vec_env

from pyrl_sb3.plugins import (
    MissingPluginError,
    NoiseContext,
    PluginError,
    PluginManager,
    get_plugin_manager,
    make_noise,
)
from pyrl_sb3.plugins.saved import check_for_acting, load, read_components, save
from pyrl_sb3.training.agents import find_agent
from pyrl_sb3.training.loading import load_model
from pyrl_sb3.training.untrusted.known import find_known_class

PLUGIN = """
from pyrl_sb3.plugins import NoiseSpec, ReplayBufferSpec, hookimpl
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from pyrl_sb3.noise.action import GaussianNoise

@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="loud", target=LoudNoise.make)

@hookimpl
def pyrl_replay_buffers():
    yield ReplayBufferSpec(name="mine", target=MyBuffer)

class LoudNoise(GaussianNoise):
    @classmethod
    def make(cls, context, *, sigma=1.0):
        return cls(context.action_space.shape, sigma, context.rng)

class MyBuffer(ReplayBuffer):
    def __init__(self, *args, extra=0, **kwargs):
        super().__init__(*args, **kwargs)
"""


@pytest.fixture
def saved(fake_dist, tmp_path):
    fake_dist("acme-noise", PLUGIN, version="2.1", entry="acme")
    manager = PluginManager()
    env = make_vec_env("Pendulum-v1", n_envs=2)
    context = NoiseContext(action_space=env.action_space, n_envs=2, rng=np.random.default_rng(0))
    model = TD3(
        "MlpPolicy",
        env,
        action_noise=make_noise(manager, "loud", {"sigma": 0.5}, context),
        replay_buffer_class=manager.load("replay-buffer", "mine"),
        replay_buffer_kwargs={"extra": 3},
        buffer_size=10,
        policy_kwargs={"net_arch": [4]},
        seed=3,
    )
    uses = [
        manager.find("noise", "loud").record({"sigma": 0.5}),
        manager.find("replay-buffer", "mine").record({"extra": 3}),
    ]
    return save(model, tmp_path / "model", uses), model


def act(model):
    return model.predict(np.ones(3, np.float32), deterministic=True)[0]


def test_components_are_named(saved):
    path, _ = saved
    assert path.name == "model.zip"
    records = {record["kind"]: record for record in read_components(path)}
    noise = records["noise"]
    assert (noise["name"], noise["params"]) == ("acme/loud", {"sigma": 0.5})
    assert noise["target"] == "acme_noise:LoudNoise"
    assert (noise["distribution"], noise["version"]) == ("acme-noise", "2.1")
    assert records["algorithm"]["distribution"] == "stable_baselines3"
    assert records["algorithm"]["version"] == stable_baselines3.__version__
    assert not list(path.parent.glob("*.tmp"))


def test_both_loaders_read_it(saved):
    path, model = saved
    for loaded in (load(path), TD3.load(path)):
        assert type(loaded) is TD3
        assert np.array_equal(act(loaded), act(model))
        assert type(loaded.replay_buffer).__name__ == "MyBuffer"
        assert np.array_equal(loaded.action_noise(), TD3.load(path).action_noise())


def test_the_suffix_may_be_left_out(saved, monkeypatch):
    path, model = saved
    monkeypatch.chdir(path.parent)
    for name in ("model", path.with_suffix("")):
        assert np.array_equal(act(load(name)), act(model))
    with pytest.raises(FileNotFoundError, match="other"):
        load("other")


def test_a_new_interpreter_reads_it(saved):
    path, model = saved
    code = (
        "import sys, numpy as np; from pyrl_sb3.plugins.saved import load\n"
        "print(load(sys.argv[1]).predict(np.ones(3, np.float32), deterministic=True)[0].item())"
    )
    environment = {**os.environ, "PYTHONPATH": str(path.parent / "site-packages")}
    run = subprocess.run(
        [sys.executable, "-c", code, path], env=environment, capture_output=True, text=True
    )
    assert float(run.stdout) == act(model).item(), run.stderr


@pytest.fixture
def uninstalled(saved, monkeypatch):
    site = str(saved[0].parent / "site-packages")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != site])
    del sys.modules["acme_noise"]
    get_plugin_manager.cache_clear()  # as in a new process
    return saved


def rewrite(path, content, member="components"):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, before in members.items():
            archive.writestr(name, json.dumps(content) if member in name else before)
    return path


def test_missing_plugin_says_what_to_install(uninstalled):
    path, _ = uninstalled
    with pytest.raises(MissingPluginError, match=r"'acme/.*pip install acme-noise==2\.1; to act"):
        load(path)


def test_missing_noise_and_buffer_can_be_dropped(uninstalled):
    path, model = uninstalled
    loaded = load(path, missing="drop")
    assert loaded.action_noise is None
    assert np.array_equal(act(loaded), act(model))


def test_missing_policies_cannot_be_dropped(uninstalled):
    path, _ = uninstalled
    records = read_components(path)
    records[1] |= {"target": "nowhere:Policy", "distribution": "other", "version": "1"}
    rewrite(path, records)
    with pytest.raises(MissingPluginError, match=r"policy 'nowhere:Policy'.*pip install other==1$"):
        load(path, missing="drop")
    with pytest.raises(MissingPluginError, match=r"policy 'nowhere:Policy'.*pip install other==1$"):
        check_for_acting(path)


@pytest.fixture(scope="module")
def saved_by_a_script(tmp_path_factory):
    script = """
from pyrl_sb3 import TD3, TD3Policy
from pyrl_sb3.plugins.saved import save

class Mine(TD3Policy):
    pass

model = TD3(Mine, "Pendulum-v1", buffer_size=10, policy_kwargs={"net_arch": [4]})
save(model, "model.zip")
"""
    folder = tmp_path_factory.mktemp("script")
    subprocess.run([sys.executable, "-c", script], check=True, cwd=folder)
    return folder / "model.zip"


@pytest.fixture
def of_a_script(saved_by_a_script, tmp_path):
    """A model with a policy of the script that has saved it."""
    return shutil.copy(saved_by_a_script, tmp_path)


RAISING = {TypeError: b"cbuiltins\nlen\n)R.", ImportError: b"cnumpy.no_such\nx\n."}


def spoil(path, key, error):
    """Have what the model's file has of that name raise an error where it is read."""
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    data[key][":serialized:"] = base64.b64encode(RAISING[error]).decode()
    return rewrite(path, data, "data")


def test_classes_of_scripts_are_in_the_file(of_a_script):
    assert type(load(of_a_script).policy).__name__ == "Mine"
    spoil(of_a_script, "lr_schedule", TypeError)
    with pytest.warns(UserWarning, match="Could not deserialize object lr_schedule"):
        assert type(load(of_a_script).policy).__name__ == "Mine"
    spoil(of_a_script, "policy_class", TypeError)
    with pytest.raises(MissingPluginError, match=r"needs policy '__main__:Mine'.* takes exactly"):
        load(of_a_script)


@pytest.mark.parametrize("key", ["action_space", "observation_space"])
def test_spaces_that_cannot_be_read_are_no_missing_classes(of_a_script, key):
    spoil(of_a_script, key, TypeError)
    told = pytest.warns(UserWarning, match=f"Could not deserialize object {key}")
    with told, pytest.raises(KeyError, match="observation_space and action_space were not given"):
        load(of_a_script)


@pytest.mark.parametrize("key", ["policy_class", "lr_schedule"])
def test_what_a_file_needs_besides_its_own_classes_is_named(of_a_script, key):
    spoil(of_a_script, key, ImportError)
    with pytest.raises(MissingPluginError, match=r"^[^\n]*'numpy\.no_such'$"):
        load(of_a_script)


def test_classes_of_scripts_that_are_not_in_the_file_are_missing(uninstalled):
    path, _ = uninstalled
    records = read_components(path)
    for record in records[1:]:
        record |= {"target": "acme_nowhere:Class", "distribution": None}
    rewrite(path, records)
    with pytest.raises(MissingPluginError, match="which cannot be imported here and is in no pack"):
        load(path)


def test_our_own_plugins_are_installed_by_folder(uninstalled):
    path, _ = uninstalled
    records = read_components(path)
    for record in records:
        record["distribution"] = "pyrl-colored-noise"
    rewrite(path, records)
    install = r"pip install \./plugins/pyrl-colored-noise, in a clone"
    for line in check_for_acting(path):
        assert re.search(rf" acting does without it \({install}\)$", line)
    with pytest.raises(MissingPluginError, match=rf"which is not installed: {install}; to act"):
        load(path)


def test_what_acting_does_without_is_listed(saved, tmp_path, request):
    path, model = saved
    assert check_for_acting(path) == []
    request.getfixturevalue("uninstalled")
    advice = "is not installed; acting does without it (pip install acme-noise==2.1)"
    assert check_for_acting(path) == [
        f"replay-buffer 'acme/mine' {advice}",
        f"noise 'acme/loud' {advice}",
    ]
    model.replay_buffer_class = model.action_noise = None
    stable_baselines3.TD3.save(model, tmp_path / "plain.zip")
    assert check_for_acting(tmp_path / "plain.zip") == []


def test_a_class_that_moved_is_found_by_its_name(saved, monkeypatch):
    path, _ = saved
    site = path.parent / "site-packages"
    (site / "acme_elsewhere.py").write_text((site / "acme_noise.py").read_text())
    (site / "acme_noise.py").write_text(
        "from acme_elsewhere import pyrl_noise_processes, pyrl_replay_buffers"
    )
    del sys.modules["acme_noise"]
    get_plugin_manager.cache_clear()  # as in a new process
    loaded = load(path, env=make_vec_env("Pendulum-v1", n_envs=2))
    assert type(loaded.replay_buffer).__module__ == "acme_elsewhere"
    assert type(loaded.action_noise.base_noise).__module__ == "acme_elsewhere"
    assert loaded.action_noise().shape == (2, 1)
    del sys.modules["acme_elsewhere"]


NETWORKS = """
import torch as th
from pyrl_sb3.plugins import AlgorithmSpec, FeaturesExtractorSpec, PolicySpec, hookimpl
from pyrl_sb3.policies import TD3Policy
from stable_baselines3 import TD3
from stable_baselines3.common.torch_layers import FlattenExtractor

class Policy(TD3Policy):
    pass

class Extractor(FlattenExtractor):
    pass

class Algorithm(TD3):
    pass

@hookimpl
def pyrl_policies():
    yield PolicySpec(name="mine", target=Policy)

@hookimpl
def pyrl_features_extractors():
    yield FeaturesExtractorSpec(name="flat", target=Extractor)

@hookimpl
def pyrl_algorithms():
    yield AlgorithmSpec(name="slow-td3", target=Algorithm)
"""
KINDS = ("policy", "features-extractor", "algorithm")


@pytest.fixture
def moved(fake_dist, tmp_path):
    """A model whose policy, features extractor and algorithm have moved since; how it acted."""
    site = fake_dist("acme-nets", NETWORKS, entry="acme")
    manager = PluginManager()
    names = dict(zip(KINDS, ("mine", "flat", "slow-td3"), strict=True))
    policy, extractor, algorithm = (manager.load(kind, name) for kind, name in names.items())
    model = algorithm(
        policy,
        make_vec_env("Pendulum-v1"),
        buffer_size=10,
        policy_kwargs={"net_arch": [4], "features_extractor_class": extractor},
    )
    uses = [manager.find(kind, name).record() for kind, name in names.items()]
    path, acts = save(model, tmp_path / "model", uses), act(model)
    (site / "acme_elsewhere.py").write_text(NETWORKS)
    hooks = "pyrl_policies, pyrl_features_extractors, pyrl_algorithms"
    (site / "acme_nets.py").write_text(f"from acme_elsewhere import {hooks}")
    del sys.modules["acme_nets"]
    get_plugin_manager.cache_clear()  # as in a new process
    yield path, acts
    sys.modules.pop("acme_elsewhere", None)


def test_networks_and_algorithms_that_moved_are_found_by_their_names(moved):
    path, acts = moved
    loaded = load(path)
    for cls in (type(loaded), type(loaded.policy), type(loaded.actor.features_extractor)):
        assert cls.__module__ == "acme_elsewhere"
    assert loaded.policy_kwargs["net_arch"] == [4]
    assert np.array_equal(act(loaded), acts)


@pytest.mark.parametrize("trust", [False, True])
def test_commands_find_networks_that_moved(moved, trust):
    path, acts = moved
    env = make_vec_env("Pendulum-v1")
    loaded = load_model(path, find_agent("slow-td3"), env, "cpu", trust=trust)
    assert type(loaded.policy).__module__ == "acme_elsewhere"
    assert np.array_equal(act(loaded), acts)


def test_models_without_names_are_refused(tmp_path):
    model = TD3(
        "MlpPolicy", gym.make("Pendulum-v1"), buffer_size=1, policy_kwargs={"net_arch": [4]}
    )
    model.save(tmp_path / "plain")
    with pytest.raises(PluginError, match="does not name its components"):
        load(tmp_path / "plain.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(PluginError, match=r"is damaged: pyrl_components\.json"):
        load(tmp_path / "text.zip")


PACKAGE = """
from pyrl_sb3.plugins import FeaturesExtractorSpec, hookimpl

@hookimpl
def pyrl_features_extractors():
    yield FeaturesExtractorSpec(name="gone", target="acme_nets.gone:Net")
    yield FeaturesExtractorSpec(name="deep", target="acme_nets.nets:Net")
"""
MODULE = """
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch.nn import Linear

class Net(FlattenExtractor):
    pass

class Plain:
    pass
"""


def test_of_a_plugin_only_what_its_components_bring_may_be_named(fake_dist, monkeypatch):
    package = fake_dist("acme-nets", "") / "acme_nets"
    package.mkdir()
    (package / "__init__.py").write_text(PACKAGE)
    names = ("acme_nets.nets", "acme_nets.more")
    for name in names:
        (package / f"{name.partition('.')[2]}.py").write_text(MODULE)
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = find_known_class("acme_nets.nets", "Net")
    assert (found.__module__, found.__qualname__) == ("acme_nets.nets", "Net")
    assert find_known_class("acme_nets.nets", "Plain") is None
    assert find_known_class("acme_nets.nets", "Linear") is None
    assert find_known_class("acme_nets.more", "Net") is None
    assert "acme_nets.more" not in sys.modules
    for name in names:
        sys.modules.pop(name, None)
