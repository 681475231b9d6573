"""`--noise`, `--buffer` and the switches of plugins: names of the registry on the command line."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import pytest
import yaml

import pyrl_sb3
from pyrl_sb3.plugins import PluginWarning, get_plugin_manager
from pyrl_sb3.plugins.saved import read_components

PLUGINS = Path(__file__).parents[2] / "plugins"
SHORT = ("--timesteps", 30, "--eval-freq", 0, "--eval-episodes", 1, "--seed", 1)
SMALL = (
    "--set",
    "learning_starts=20",
    "--set",
    "batch_size=4",
    "--set",
    "policy_kwargs.net_arch=[4]",
)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """The registry as it is without plugins, and the environment's variables restored."""
    for name in ("PYRL_DISABLE_PLUGINS", "PYRL_PLUGIN_MODULES"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PYRL_LOAD_PLUGINS", "")
    get_plugin_manager.cache_clear()
    yield
    get_plugin_manager.cache_clear()


@pytest.fixture
def plugins(monkeypatch):
    """Coloured noise and prioritised replay, as `-p` loads them."""
    options = []
    for name in ("colored_noise", "prioritized_replay"):
        monkeypatch.syspath_prepend(PLUGINS / f"pyrl-{name.replace('_', '-')}" / "src")
        options += ["-p", f"pyrl_{name}.plugin"]
    return options


def config_of(run):
    return yaml.safe_load((run / "config.yml").read_text())["default"]


def test_noise_replaces_the_configs(pyrl, folder):
    line = ("td3-train", "Pendulum-v1", *SHORT, *SMALL)
    assert pyrl(*line, "--noise", "ou_0.3", "--set", "noise.params.theta=1").code == 0
    run = folder / "td3" / "Pendulum-v1_1"
    assert config_of(run)["noise"] == {"name": "ou", "params": {"sigma": 0.3, "theta": 1}}
    assert "noise_type" not in config_of(run)
    model = pyrl_sb3.TD3.load(run / "model.zip")
    assert model.action_noise.sigma == [0.3]
    assert model.action_noise.theta == 1

    assert pyrl(*line, "--noise", "none").code == 0
    assert pyrl_sb3.TD3.load(folder / "td3" / "Pendulum-v1_2" / "model.zip").action_noise is None


def test_noise_and_buffer_of_plugins(pyrl, folder, plugins):
    components = ("--noise", "pink_0.2", "--buffer", "prioritized")
    alpha = ("--set", "replay_buffer_kwargs.alpha=0.7")
    line = ("sac-train", "Pendulum-v1", *SHORT, *SMALL, *components, *alpha)
    outcome = pyrl(*plugins, *line)
    assert (outcome.code, outcome.err) == (0, "")
    model = pyrl_sb3.SAC.load(folder / "sac" / "Pendulum-v1_1" / "model.zip")
    assert type(model.action_noise).__module__ == "pyrl_colored_noise.noise"
    assert model.replay_buffer_class.__name__ == "PrioritizedReplayBuffer"
    assert model.replay_buffer_kwargs == {"alpha": 0.7}

    run = folder / "sac" / "Pendulum-v1_1"
    names = ["colored-noise/pink", "prioritized-replay/prioritized"]
    names = [f"pyrl-{name}" for name in names]  # as loaded with -p
    names += ["pyrl/sac", "pyrl/sac"]  # the policy, and the algorithm
    recorded = {each["name"]: each for each in read_components(run / "model.zip")}
    assert set(names) <= set(recorded)
    assert recorded[names[0]]["params"] == {"sigma": 0.2, "exponent": 1.0}
    facts = yaml.safe_load((run / "run.yml").read_text())
    assert [each["name"] for each in facts["components"]] == names
    assert facts["components"][2]["version"] == pyrl_sb3.__version__

    outcome = pyrl(*line, "--stock")
    assert outcome.code == 2
    assert "needs importance-weights, priority-updates: leave out --stock" in outcome.err


def test_acting_does_without_the_plugins_of_the_training(pyrl, fresh_pyrl, plugins):
    line = (
        "td3-train",
        "Pendulum-v1",
        *SHORT,
        *SMALL,
        "--noise",
        "pink",
        "--buffer",
        "prioritized",
    )
    assert pyrl(*plugins, *line).code == 0
    tested = ("td3-test", "Pendulum-v1", "--episodes", 1)
    there = pyrl(*tested)
    assert (there.code, there.err) == (0, "")
    gone = fresh_pyrl(*tested, PYRL_PLUGIN_MODULES="")
    assert (gone.code, gone.err) == (0, "")
    assert gone.out.endswith(there.out)
    assert "noise 'pyrl-colored-noise/pink' is not installed; acting does without it" in gone.out
    assert "replay-buffer 'pyrl-prioritized-replay/prioritized' is not installed" in gone.out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "sac-train Pendulum-v1 --noise norml_0.1",
            r"--noise norml_0.1: unknown noise 'norml'.* did you mean normal\?",
        ),
        ("sac-train Pendulum-v1 --noise ou_x", "--noise ou_x: noise 'ou_x': 'x' is no number"),
        ("sac-train Pendulum-v1 --noise normal_-1", "noise normal: sigma must be finite"),
        ("sac-train Pendulum-v1 --noise ou --set noise.params.sgima=1", r"did you mean sigma\?"),
        ("sac-train Pendulum-v1 --noise pink_0.3", "pip install ./plugins/pyrl-colored-noise"),
        (
            "sac-train Pendulum-v1 --buffer prioritized",
            "pip install ./plugins/pyrl-prioritized-replay",
        ),
        (
            "sac-train Pendulum-v1 --buffer unifrom",
            r"--buffer unifrom: unknown replay-buffer.* did you mean uniform\?",
        ),
        ("sac-train Pendulum-v1 --buffer her", "is for dict observations, not array"),
        (
            "her-sac-train FetchReach-v4 --buffer dict",
            "--buffer dict: her-sac needs a buffer with hindsight.*use sac",
        ),
        (
            "sac-train Pendulum-v1 --buffer uniform --set replay_buffer_kwargs.alpha=1",
            "--set replay_buffer_kwargs.alpha: ReplayBuffer has no such argument",
        ),
    ],
)
def test_a_mistake_is_found_before_anything_starts(pyrl, folder, line, message):
    outcome = pyrl(*line.split())
    assert outcome.code == 2
    assert outcome.err.startswith("pyrl: ")
    assert re.search(message, outcome.err)
    assert not list(folder.iterdir())


FAULTY = """
import gymnasium as gym
from pyrl_sb3.plugins import CallbackSpec, EngineSpec, EnvironmentSpec, EnvWrapperSpec
from pyrl_sb3.plugins import NoiseSpec, SyncCallbackSpec, hookimpl

def raising(*given):
    raise RuntimeError("no licence\\nfound")

def exiting(*given):
    raise SystemExit(3)

def three(*given):
    return 3

class NoSpaces(gym.Env):
    pass

@hookimpl
def pyrl_noise_processes():
    yield NoiseSpec(name="three", target=three)
    yield NoiseSpec(name="raising", target=raising)
    yield NoiseSpec(name="exiting", target=exiting)

@hookimpl
def pyrl_environments():
    yield EnvironmentSpec(name="raising", target=raising)
    yield EnvironmentSpec(name="exiting", target=exiting)
    yield EnvironmentSpec(name="no-spaces", target=NoSpaces)

@hookimpl
def pyrl_env_wrappers():
    yield EnvWrapperSpec(name="raising", target=raising)

@hookimpl
def pyrl_callbacks():
    yield CallbackSpec(name="raising", target=raising)
    yield CallbackSpec(name="three", target=three)

@hookimpl
def pyrl_sync_callbacks():
    yield SyncCallbackSpec(name="raising", target=raising, couples_seeds=True)
    yield SyncCallbackSpec(name="three", target=three, couples_seeds=True)

@hookimpl
def pyrl_engines():
    yield EngineSpec(name="raising", target=raising)
    yield EngineSpec(name="three", target=three)
"""
LACKS = "int has no address, close, cores, start"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Pendulum-v1 --noise three", "noise 'faulty/three' gives 3, which is no ActionNoise of"),
        ("Pendulum-v1 --noise raising", "noise raising: RuntimeError: no licence"),
        ("Pendulum-v1 --noise exiting", "noise exiting: SystemExit: 3"),
        ("raising", "environment faulty/raising-v0: RuntimeError: no licence; check env_kwargs"),
        ("exiting", "environment faulty/exiting-v0: SystemExit: 3; check env_kwargs"),
        ("no-spaces", "environment faulty/no-spaces-v0: AttributeError: The environment must"),
        (
            "Pendulum-v1 --set env_wrapper=raising",
            "environment Pendulum-v1: RuntimeError: no licence; check env_kwargs and env_wrapper",
        ),
        (
            "Pendulum-v1 --set callback=raising",
            "--set callback: 'raising': RuntimeError: no licence",
        ),
        ("Pendulum-v1 --set callback=three", "--set callback: 'three' gives int, which is no Base"),
        ("Pendulum-v1 --seeds 2 --sync raising", "sync raising: RuntimeError: no licence"),
        ("Pendulum-v1 --seeds 2 --sync three", "sync three gives int, which is no BaseCallback"),
        ("Pendulum-v1 --seeds 2 --engine raising", "engine raising: RuntimeError: no licence"),
        ("Pendulum-v1 --seeds 2 --engine three", f"engine three: {LACKS}"),
        ("Pendulum-v1 --seeds 2 --sync mean --engine three", f"engine three: {LACKS}"),
    ],
)
def test_what_cannot_be_made_is_named_in_one_line(pyrl, folder, line, message):
    (folder / "faulty.py").write_text(FAULTY)
    outcome = pyrl("-p", "faulty.py", "td3-train", *line.split())
    assert outcome.code == 2
    assert outcome.err.startswith(f"pyrl: {message}")
    assert outcome.err.count("\n") == 1
    assert not (folder / "td3").exists()


def test_plugins_can_be_left_out_and_brought_along(pyrl, folder, plugins):
    assert "pink" not in pyrl("list", "noises").out
    assert "pink" in pyrl(*plugins, "list", "noises").out
    assert "pink" in pyrl("list", "noises").out  # stays, for worker processes
    (folder / "noise_of_mine.py").write_text(
        "from pyrl_sb3.plugins import NoiseSpec, hookimpl\n"
        "@hookimpl\ndef pyrl_noise_processes():\n"
        "    yield NoiseSpec(name='mine', target='pyrl_sb3.noise.action:gaussian')\n"
    )
    assert "noise-of-mine/mine" in pyrl("-p", "noise_of_mine.py", "list", "noises").out


TALKING = """
import os
from pyrl_sb3.noise.action import gaussian
from pyrl_sb3.plugins import NoiseSpec, hookimpl

os.write(1, b"as C libraries print")

def loud(context):
    print("made")
    return gaussian(context)

@hookimpl
def pyrl_noise_processes():
    print("asked")
    yield NoiseSpec(name="loud", target=loud)
"""


def test_what_plugins_print_is_not_among_the_json(pyrl, folder):
    (folder / "talking.py").write_text(TALKING)
    outcome = pyrl("-p", "talking.py", "plugins", "check", "talking", "--json")
    assert list(json.loads(outcome.out)) == ["noise talking/loud"]
    assert {"asked", "made"} <= set(outcome.err.splitlines())


def test_what_c_libraries_print_is_not_among_the_json(fresh_pyrl, folder):
    (folder / "talking.py").write_text(TALKING)
    outcome = fresh_pyrl("-p", "talking.py", "list", "noises", "--json")
    assert "talking/loud" in [each["name"] for each in json.loads(outcome.out)]
    assert "as C libraries print" in outcome.err


def test_hints_load_the_same_plugin(pyrl, folder):
    (folder / "mine.py").write_text(
        "from pyrl_sb3.plugins import EnvironmentSpec, hookimpl\n"
        "@hookimpl\ndef pyrl_environments():\n"
        "    target = 'gymnasium.envs.classic_control:PendulumEnv'\n"
        "    yield EnvironmentSpec(name='swing', target=target, max_episode_steps=20)\n"
    )
    small = ("--timesteps", 40, "--eval-episodes", 1, "--set", "policy_kwargs.net_arch=[8]")
    outcome = pyrl("-p", "mine.py", "sac-train", "swing", *small)
    hint = outcome.out.partition("test it: pyrl ")[2].split("\n")[0]
    assert hint == "-p mine.py sac-test mine/swing-v0 sac/mine-swing-v0_1"
    assert not pyrl(*hint.split(), "--episodes", 1).code
    assert "test it: pyrl sac-test" in pyrl("sac-train", "Pendulum-v1", *small).out


REGISTERING = """
import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv

class Swing(PendulumEnv):
    pass

gym.register("Swing-v0", Swing, max_episode_steps=20)
"""
HOOK = """
from pyrl_sb3.plugins import hookimpl

@hookimpl
def pyrl_environments():
    return []
"""


OTHERS = """
import gymnasium as gym

target = "gymnasium.envs.classic_control.pendulum:PendulumEnv"
gym.register("Swing-v0", target, max_episode_steps=20, kwargs={"g": 5.0})
"""


@pytest.mark.parametrize(
    "text",
    [REGISTERING, REGISTERING + HOOK, OTHERS],
    ids=["alone", "with hooks", "of a class of others"],
)
def test_environments_that_a_module_registers_with_gymnasium_are_found(pyrl, folder, text):
    (folder / "swinging.py").write_text(text)
    commands = (
        ("sac-train", "Swing-v0", *SHORT, *SMALL),
        ("sac-test", "Swing-v0", "--episodes", 1),
        ("evaluate", "sac/Swing-v0_1", "--episodes", 1),
    )
    for line in commands:  # each in a registry as in a process of its own
        outcome = pyrl("-p", "swinging.py", *line)
        assert (outcome.code, outcome.err) == (0, "")
        del gym.registry["Swing-v0"]


@pytest.mark.parametrize("first", ["", "import pyrl_swings"], ids=["fresh", "imported before"])
def test_a_module_may_leave_registering_to_another(fresh_pyrl, folder, first):
    (folder / "pyrl_swing.py").write_text(OTHERS)
    (folder / "pyrl_swings.py").write_text("import pyrl_swing")
    before = f"import sys; sys.path.append('')\n{first}"
    outcome = fresh_pyrl("-p", "pyrl_swings", "plugins", "doctor", before=before)
    assert (outcome.code, "ok      pyrl-swings" in outcome.out) == (0, True)


def test_what_failed_is_listed_below_an_unknown_name(pyrl, folder, monkeypatch):
    (folder / "broken.py").write_text("import nothing_like_it")
    monkeypatch.setenv("PYRL_PLUGINS_STRICT", "0")
    with pytest.warns(PluginWarning, match="broken"):
        outcome = pyrl("-p", "broken.py", "sac-train", "Pendulum-v1", "--noise", "mine")
    assert outcome.code == 2
    first, note = outcome.err.splitlines()
    assert first.startswith("pyrl: --noise mine: unknown noise 'mine'")
    assert note.startswith("  note: plugin broken failed at import: ModuleNotFoundError")


@pytest.mark.parametrize(
    "text", ["import nothing_like_it", "def f(:", "raise SystemExit(0)", "x = 1"], ids=range(4)
)
@pytest.mark.parametrize("line", ["sac-train Pendulum-v1", "list noises", "plugins list"])
def test_a_module_that_is_named_and_fails_stops_the_command(pyrl, folder, line, text):
    (folder / "my own").mkdir()
    (folder / "my own" / "bad.py").write_text(text)
    outcome = pyrl("-p", "my own/bad.py", *line.split())
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith("pyrl: plugin bad failed at ")
    advice = outcome.err.partition("`pyrl ")[2].partition("`")[0]
    assert advice == "-p 'my own/bad.py' plugins doctor"
    assert [path.name for path in folder.iterdir()] == ["my own"]
    advised = pyrl(*shlex.split(advice))
    assert advised.code == 1
    assert "broken  plugin bad failed at " in advised.out


def test_plugins_are_loaded_before_a_run_begins_not_when_its_model_is_saved(
    pyrl, folder, monkeypatch
):
    """By then one that fails would cost the training, and one that draws would change it."""
    (folder / "broken.py").write_text("import nothing_like_it")
    monkeypatch.setenv("PYRL_PLUGINS_STRICT", "1")
    outcome = pyrl("-p", "broken.py", "td3-train", "Pendulum-v1", *SHORT, *SMALL)
    assert outcome.code == 2
    assert outcome.err.startswith("pyrl: plugin broken failed at import: ModuleNotFoundError")
    assert not (folder / "td3").exists()


def test_what_is_said_of_demonstrations_is_passed_on(pyrl, folder, monkeypatch):
    told = []

    def record(*words, **options):
        told.append((words, {name: options[name] for name in said}))
        return SimpleNamespace(success_rate=None, kept=1, steps=2)

    monkeypatch.setattr("pyrl_sb3.training.demos.record", record)
    said = {"episodes": 2, "seed": 3, "failures": True, "trust": True}
    options = ("--episodes", 2, "--seed", 3, "--failures", "--trust")
    outcome = pyrl("demos", "record", "ns/Env-v0", *options)
    out = Path("ns-Env-v0-demos.npz")
    assert told == [(("ns/Env-v0", "scripted", out), said)]
    assert outcome.out == f"written: {out}, 1 episode, 2 steps\n"
