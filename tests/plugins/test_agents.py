"""docs/agents.md: its agent, as an installed plugin, is trained by the commands."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pyrl_sb3.cli.app import run
from pyrl_sb3.config import ConfigError
from pyrl_sb3.plugins import get_plugin_manager
from pyrl_sb3.training.agents import find_agent
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.hyperparams import experiment_of
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.seeds import SeedGroup, new_group
from pyrl_sb3.training.sync.job import ELASTIC

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text()
END = "-- the end of a command"
COMMANDS = """
from pyrl_sb3.cli.app import run

for line in {lines}:
    assert run(line.split()) == {code}, line
    print({end!r}, flush=True)
"""
SHORT = "--timesteps 60 --eval-freq 0 --eval-episodes 1 --set learning_starts=20 --set batch_size=4"


@pytest.fixture
def pyrl(tmp_path):
    """Run commands in an interpreter where the page's plugin is installed; what each prints."""
    site = tmp_path / "site-packages"
    for block in re.findall(r"```python\n(# small_dpg.*?)```", PAGE, re.DOTALL):
        path = site / block.split("\n")[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block)
    info = site / "pyrl_small_dpg-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pyrl-small-dpg\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[pyrl_sb3]\nsmall-dpg = small_dpg.plugin\n")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYRL_")}
    environ["PYTHONPATH"] = os.pathsep.join((str(site), str(ROOT)))

    def call(*lines, code=0):
        done = subprocess.run(
            [sys.executable, "-u", "-c", COMMANDS.format(lines=lines, code=code, end=END)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env=environ,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout.split(f"{END}\n")[:-1]

    return call


def module_of(run, entry):
    """Where a class that a saved model was made with is from."""
    with zipfile.ZipFile(run / "model.zip") as model:
        return json.loads(model.read("data"))[entry]["__module__"]


@pytest.mark.learning
def test_the_agent_of_the_page_is_trained_resumed_and_tested(pyrl, tmp_path):
    """Also with hindsight; what trains is another interpreter than what goes on with it."""
    run, hindsight = "small-dpg/Pendulum-v1_1", "her-small-dpg/FetchReach-v4_1"
    pyrl(
        f"small-dpg-train Pendulum-v1 --seed 1 {SHORT}",
        f"her-small-dpg-train FetchReach-v4 --seed 1 {SHORT}",
    )
    for folder in (run, hindsight):
        assert "name: small-dpg/small-dpg" in (tmp_path / folder / "run.yml").read_text()
    assert module_of(tmp_path / hindsight, "replay_buffer_class") == "pyrl_sb3.buffers.her"
    resumed, tested, evaluated, with_hindsight = pyrl(
        f"small-dpg-train --resume {run} --timesteps 100",
        "small-dpg-test Pendulum-v1 --episodes 1",
        f"evaluate {run} --episodes 1",
        f"her-small-dpg-train --resume {hindsight} --timesteps 100",
    )
    assert "100/100 steps" in resumed
    assert "1 episode: return -" in tested
    assert "return -" in evaluated
    assert "100/100 steps" in with_hindsight


OTHERS = """
from pathlib import Path
from pyrl_sb3.plugins import AlgorithmSpec, hookimpl

@hookimpl
def pyrl_algorithms():
    yield AlgorithmSpec(
        name="my-td3",
        target="stable_baselines3:TD3",
        policy="pyrl/td3",
        config=Path(__file__).with_name("my.yml"),
    )
    yield AlgorithmSpec(name="my-ppo", target="stable_baselines3:PPO", off_policy=False)
"""


@pytest.fixture
def others(fake_dist, tmp_path, monkeypatch, capsys):
    """Run a command where these are installed; what it says, and the file of hyperparameters."""
    config = fake_dist("mine", OTHERS) / "my.yml"
    monkeypatch.chdir(tmp_path)

    def call(line, code=0):
        assert run(line.split()) == code
        return "".join(capsys.readouterr())

    return call, config


def test_policy_and_hyperparameters_of_the_plugin(others, tmp_path):
    call, config = others
    policy = "policy: MlpPolicy, policy_kwargs: {net_arch: [4]}"
    config.write_text(f"default: {{n_timesteps: 50, learning_starts: 20, batch_size: 4, {policy}}}")
    call("my-td3-train Pendulum-v1 --eval-freq 0 --eval-episodes 1")
    folder = tmp_path / "my-td3" / "Pendulum-v1_1"
    assert "batch_size: 4" in (folder / "config.yml").read_text()
    assert module_of(folder, "policy_class") == "pyrl_sb3.policies"
    config.write_text("default: {n_timesteps: 50, batch_sise: 4}")
    problem = call("my-td3-train Pendulum-v1", code=2)
    assert "my.yml:1: default.batch_sise: TD3 has no such setting; did you mean" in problem


def test_one_file_of_the_plugin_is_for_both_of_its_commands(fake_dist):
    """MlpPolicy in it stands for all observations, as where no policy is named."""
    serving = OTHERS.replace('policy="pyrl/td3"', 'serves=frozenset({"env"})')
    config = fake_dist("mine", serving) / "my.yml"
    config.write_text("default: {n_timesteps: 50, policy: MlpPolicy, batch_size: 4}")
    request = TrainingRequest(agent="her-my-td3", env_id="FetchReach-v4")
    experiment = experiment_of(request)
    assert experiment.policy == "MultiInputPolicy"
    assert experiment.given == {"n_timesteps": 50, "batch_size": 4}
    assert experiment_of(replace(request, agent="my-td3")).policy == "MlpPolicy"
    # Somebody's own file, and what the command line says, mean what they say.
    other = config.rename(config.with_name("other.yml"))
    config.write_text("default: {n_timesteps: 50}")
    for said in ({"config": other}, {"overrides": ("policy=MlpPolicy",)}):
        with pytest.raises(ConfigError, match="HerReplayBuffer needs MultiInputPolicy"):
            experiment_of(replace(request, **said))


def test_what_has_no_commands_says_why(others):
    call, _ = others
    for command in ("my-ppo-train", "my-ppo-test", "her-my-ppo-train"):
        assert "mine/my-ppo learns from no replay buffer" in call(f"{command} X", code=2)
    problem = call("her-my-td3-train FetchReach-v4", code=2)
    assert "without hindsight use my-td3" in problem
    assert len(problem.splitlines()) == 1


EVERYTHING = """
import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv
from pyrl_sb3.noise.action import gaussian
from pyrl_sb3.plugins import AlgorithmSpec, EngineSpec, EnvironmentSpec, EnvWrapperSpec
from pyrl_sb3.plugins import FeaturesExtractorSpec, NoiseSpec, PolicySpec, SyncCallbackSpec
from pyrl_sb3.plugins import hookimpl
from pyrl_sb3.training.engines import LocalProcesses
from pyrl_sb3.training.sync.callback import mean

class Same(gym.Wrapper):
    pass

@hookimpl
def pyrl_algorithms():
    yield AlgorithmSpec(name="my-td3", target="stable_baselines3:TD3", policy="pyrl/td3")

@hookimpl
def pyrl_policies():
    yield PolicySpec(name="small", target="pyrl_sb3:TD3Policy")

@hookimpl
def pyrl_features_extractors():
    target = "stable_baselines3.common.torch_layers:FlattenExtractor"
    yield FeaturesExtractorSpec(name="flat", target=target)

@hookimpl
def pyrl_environments():
    yield EnvironmentSpec(name="swing", target=PendulumEnv, max_episode_steps=20)

@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="kick", target=gaussian)

@hookimpl
def pyrl_env_wrappers():
    yield EnvWrapperSpec(name="same", target=Same)

@hookimpl
def pyrl_sync_callbacks():
    yield SyncCallbackSpec(name="likewise", target=mean, couples_seeds=True)

@hookimpl
def pyrl_engines():
    yield EngineSpec(name="here", target=LocalProcesses)
"""


@pytest.fixture
def made_with_a_plugin(fake_dist, tmp_path, monkeypatch, capsys):
    """Run a command where a plugin is gone with which there are runs and groups."""
    site = fake_dist("acme", EVERYTHING)
    monkeypatch.chdir(tmp_path)

    def call(line, code=0):
        assert run(line.split()) == code
        return capsys.readouterr().err

    short = "--timesteps 20 --eval-freq 0 --eval-episodes 1 --save-freq 10 --set batch_size=4"
    call(f"my-td3-train Pendulum-v1 {short}")
    call(f"td3-train swing {short}")
    call(f"td3-train Pendulum-v1 --noise kick --set env_wrapper=same {short}")
    for part in ("policy=small", "policy_kwargs.features_extractor_class=flat"):
        call(f"td3-train Pendulum-v1 --save nets --set {part} {short}")
    request = TrainingRequest(agent="td3", env_id="Pendulum-v1", timesteps=20)
    extra = {"sync_every": 10, "sync_params": {}}
    for engine, sync in (("acme/here", None), (ELASTIC, "acme/likewise")):
        group = SeedGroup(folder=Path(), seeds=(0, 1), request=request, engine=engine, sync=sync)
        new_group(tmp_path / "groups", replace(group, extra=extra))
    shutil.rmtree(site / "acme-1.0.dist-info")
    get_plugin_manager.cache_clear()
    return call


def test_runs_say_what_to_install_once_their_plugin_is_gone(made_with_a_plugin):
    extractor = "features-extractor"
    for command, folder, what in (
        ("evaluate RUN", "my-td3/Pendulum-v1_1", "algorithm 'acme/my-td3'"),
        ("my-td3-test Pendulum-v1", "my-td3/Pendulum-v1_1", "algorithm 'acme/my-td3'"),
        ("my-td3-train --resume RUN", "my-td3/Pendulum-v1_1", "algorithm 'acme/my-td3'"),
        ("td3-test acme/swing-v0", "td3/acme-swing-v0_1", "environment 'acme/swing'"),
        ("td3-train --resume RUN", "td3/acme-swing-v0_1", "environment 'acme/swing'"),
        ("td3-train --resume RUN --timesteps 30", "td3/Pendulum-v1_1", "noise 'acme/kick'"),
        ("td3-test Pendulum-v1", "td3/Pendulum-v1_1", "env-wrapper 'acme/same'"),
        ("td3-train --resume RUN --timesteps 30", "nets/Pendulum-v1_1", "policy 'acme/small'"),
        ("td3-train --resume RUN --timesteps 30", "nets/Pendulum-v1_2", f"{extractor} 'acme/flat'"),
        ("td3-train --resume RUN", "groups/Pendulum-v1_1", "engine 'acme/here'"),
        ("td3-train --resume RUN", "groups/Pendulum-v1_2", "sync-callback 'acme/likewise'"),
    ):
        said = made_with_a_plugin(command.replace("RUN", folder), code=2)
        end = f"needs {what}, which is not installed: pip install acme==1.0"
        assert said == f"pyrl: {folder} {end}\n"
    # An error about something else stays what it is.
    assert "no environment 'Walk-v1'" in made_with_a_plugin("td3-test Walk-v1", code=2)


KICK = """
from pyrl_sb3.noise.action import gaussian as kick
from pyrl_sb3.plugins import NoiseSpec, hookimpl

@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="kick", target="acme:kick")
"""


def test_an_upgraded_plugin_is_named_when_a_run_goes_on(fake_dist, tmp_path, monkeypatch, capsys):
    """Before the config is read, which may not be for the new one."""
    site = fake_dist("acme", KICK)
    monkeypatch.chdir(tmp_path)
    short = "--timesteps 20 --eval-freq 0 --eval-episodes 1 --set batch_size=4"
    assert run(f"td3-train Pendulum-v1 --noise kick {short}".split()) == 0
    shutil.rmtree(site / "acme-1.0.dist-info")
    fake_dist("acme", KICK, version="2.0")
    get_plugin_manager.cache_clear()
    capsys.readouterr()
    folder = Path("td3/Pendulum-v1_1")
    assert run(f"td3-train --resume {folder} --timesteps 30".split()) == 0
    assert "acme was 1.0 and is 2.0: numbers may differ" in capsys.readouterr().out
    facts = yaml.safe_load((folder / "run.yml").read_text())
    assert (facts["versions"]["acme"], facts["resumed"][0]["versions"]["acme"]) == ("1.0", "2.0")

    monkeypatch.setattr(sys.modules["acme"], "kick", lambda context, *, power: None)
    assert run(f"td3-train --resume {folder} --timesteps 40".split()) == 2
    said = capsys.readouterr()
    assert "acme was 1.0 and is 2.0: numbers may differ" in said.out
    assert "noise 'acme/kick' needs the parameter 'power'" in said.err


@pytest.mark.learning
def test_its_seeds_train_and_synchronise(pyrl, tmp_path):
    pyrl(f"small-dpg-train Pendulum-v1 --seeds 2 --jobs 1 {SHORT}")
    pyrl(f"small-dpg-train Pendulum-v1 --seeds 2 --sync mean --sync-every 30 {SHORT}")
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.glob("small-dpg/*/*/model.zip"))
    assert len(made) == 4, made


def test_a_name_that_is_not_there_gets_the_nearest(pyrl):
    line = "pyrl: No such command 'smal-dpg-train'. Did you mean 'small-dpg-train'"
    # The last one last: it is for the whole process.
    misspelt, without = pyrl(
        "smal-dpg-train Pendulum-v1", "--no-plugins small-dpg-train Pendulum-v1", code=2
    )
    assert misspelt.startswith(line)
    assert "No such command" in without
    assert "small-dpg" in pyrl("list algos")[0]


@pytest.mark.filterwarnings("ignore::pyrl_sb3.plugins.errors.PluginWarning")
@pytest.mark.parametrize("absent", ["is installed but disabled", "failed at import"])
def test_what_is_not_found_may_be_of_plugins_that_are_absent(
    fake_dist, tmp_path, monkeypatch, capsys, absent
):
    fake_dist("acme", KICK if "disabled" in absent else "import module_nobody_has")
    if "disabled" in absent:
        monkeypatch.setenv("PYRL_DISABLE_PLUGINS", "acme")
    monkeypatch.chdir(tmp_path)
    get_plugin_manager.cache_clear()
    for line in ("td3-train Nowhere-v0", "kick-td3-train Pendulum-v1"):
        assert run(line.split()) == 2
        (said,) = (each for each in capsys.readouterr().err.splitlines() if "pyrl: " in each)
        assert re.search(f"; plugin acme .*{absent}", said), said
    with pytest.raises(InputError, match=f"no algorithm 'kick-td3'; plugin acme .*{absent}"):
        find_agent("kick-td3")
