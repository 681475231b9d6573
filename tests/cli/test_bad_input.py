"""The user's mistakes: one line, exit code 2, nothing written."""

import re
import shutil

import gymnasium as gym
import numpy as np
import pytest

MISTAKES = {
    "unknown environment": (
        "sac-train Pendulm-v1",
        "no environment 'Pendulm-v1'; did you mean Pendulum-v1?",
    ),
    "another's environment": (
        "sac-train PandaReach-v3",
        "'PandaReach-v3'; did you mean HandReach-v3. -p MODULE, or a .py file, loads what",
    ),
    "other case": ("sac-train pendulum-v1", "did you mean Pendulum-v1?"),
    "version that never was": ("ddpg-train BipedalWalker-v9", "did you mean BipedalWalker-v3?"),
    "version no longer supported": ("her-sac-train FetchReach-v1", "did you mean FetchReach-v4?"),
    "nothing like it": (
        "sac-train qqqqqq",
        "no environment 'qqqqqq'; -p MODULE, or a .py file, loads",
    ),
    "a module": (
        "sac-train my_module:MyEnv-v0",
        "imports no module such as my_module; a plugin that offers MyEnv-v0 by the hook",
    ),
    "a long word beside a misspelt command": (
        f"sca-train Pendulum-v1 --set x={'a' * 300}",
        "No such command 'sca-train'. Did you mean 'sac-train'",
    ),
    "no goal": ("her-td3-train Pendulum-v1", "Pendulum-v1 has no goal.*use td3"),
    "discrete actions": (
        "sac-train CartPole-v1",
        "Discrete actions.*dqn, qrdqn and sac-discrete fit",
    ),
    "layers normalised twice": (
        "her-crossq-train FetchReach-v4 --set policy_kwargs.layer_norm=true",
        "layer_norm=True: CrossQ's layers are normalised by batch renormalisation already",
    ),
    "no steps": ("sac-train Pendulum-v1 --timesteps 0", "--timesteps 0: must be at least 1"),
    "negative steps": ("sac-train Pendulum-v1 --timesteps -5", "--timesteps -5: must be at least"),
    "no number": ("sac-train Pendulum-v1 --timesteps many", "'--timesteps'.*integer"),
    "no environments": ("sac-train Pendulum-v1 --n-envs 0", "--n-envs 0: must be at least 1"),
    "episodes of several environments": (
        "sac-train Pendulum-v1 --n-envs 2 --set train_freq=[1,episode]",
        "--set train_freq: counting in episodes needs n_envs: 1",
    ),
    "no episodes": ("sac-train Pendulum-v1 --eval-episodes 0", "--eval-episodes 0: must be"),
    "negative seed": ("sac-train Pendulum-v1 --seed -1", "--seed -1: must be at least 0"),
    "no threads": ("sac-train Pendulum-v1 --threads 0", "--threads 0: must be at least 1"),
    "threads of text": ("td3-train Pendulum-v1 --threads x", "'x' is not a valid integer, nor"),
    "no layer": (
        "td3-train Pendulum-v1 --set policy_kwargs.net_arch=[-3]",
        "--set policy_kwargs.net_arch: layers have a whole number of units from 1 on, not -3",
    ),
    "no argument of Adam": (
        "td3-train Pendulum-v1 --set policy_kwargs.optimizer_kwargs.epz=1",
        "TD3 cannot be made of .*td3.yml: Pendulum-v1: .* unexpected keyword argument 'epz'",
    ),
    "no such normalisation": (
        "her-td3-train FetchReach-v4 --set normalize={norm_obs_keys:[nothing]}",
        "norm_obs_keys: observations have no 'nothing'",
    ),
    "no stack of so many": (
        "sac-train Pendulum-v1 --set replay_buffer_kwargs.frame_stack=4",
        r"SAC cannot be made of .*sac.yml: Pendulum-v1: frame_stack=4 does not divide .*, \(3,\); ",
    ),
    "unknown device": (
        "sac-train Pendulum-v1 --device gpu",
        "no device 'gpu'; there are auto, cpu",
    ),
    "device that holds no numbers": (
        "sac-train Pendulum-v1 --device meta",
        "no device 'meta'; there are auto, cpu",
    ),
    "command without what it does": (
        "sac Pendulum-v1",
        "No such command 'sac'. There are sac-train and sac-test.",
    ),
    "no plugin": ("plugins show pyr", "no plugin or component 'pyr'; plugins: .*; did you mean py"),
    "no ENV": ("sac-train", "Missing argument 'ENV': the environment, or --resume RUN"),
    "no ENV beside a config": ("sac-train --config file", "Missing argument 'ENV': the environ"),
    "no ENV of seeds": ("sac-train --seeds 2", "Missing argument 'ENV': the environment, or --r"),
    "no ENV of copies": (
        "sac-train --seeds 2 --sync mean",
        "Missing argument 'ENV': the environment, or --resume RUN",
    ),
    "unknown option": ("sac-train Pendulum-v1 --timestep 5", "No such option.*--timesteps"),
    "save below a file": ("sac-train Pendulum-v1 --save file/x", "cannot write to file/x: Not a"),
    "save in a file": ("sac-train Pendulum-v1 --save file", "cannot write to file: .*--save"),
    "save where nobody may": ("sac-train Pendulum-v1 --save /proc/x", "cannot write to /proc/x"),
    "no model yet": ("sac-test Pendulum-v1", "no model at sac; `pyrl sac-train Pendulum-v1` makes"),
    "misspelt path": ("sac-test Pendulum-v1 fil", "no model at fil; did you mean file?"),
    "empty folder": ("sac-test Pendulum-v1 empty", "no model of Pendulum-v1 in empty"),
    "no test episodes": ("sac-test Pendulum-v1 --episodes 0", "--episodes 0: must be at least 1"),
    "film of another kind": ("sac-test Pendulum-v1 --gif a.mp4", "must end in .gif, such as a.gif"),
    "film nowhere": ("sac-test Pendulum-v1 --gif no/a.gif", "cannot write to no"),
    "film that is a folder": (
        "sac-test Pendulum-v1 --gif .",
        r"--gif \.: is a folder; name a file, such as ",
    ),
    "demonstrations that are a folder": (
        "demos record FetchReach-v4 --out .",
        r"--out \.: is a folder; name a file, such as ",
    ),
    "demo in a file": ("demo --save file", "cannot write to file"),
}


def listing(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("line", "message"), MISTAKES.values(), ids=MISTAKES)
def test_one_line_and_nothing_written(pyrl, folder, line, message):
    (folder / "file").write_text("precious")
    (folder / "empty").mkdir()
    before = set(folder.rglob("*"))
    outcome = pyrl(*line.split())
    assert outcome.code == 2
    assert re.fullmatch(f"pyrl: .*{message}.*\n", outcome.err)
    assert set(folder.rglob("*")) == before
    assert (folder / "file").read_text() == "precious"


@pytest.mark.parametrize(
    "options", [("--save", "runs/of/them"), (), ("--n-envs", 2)], ids=["--save", "none", "--n-envs"]
)
def test_what_is_no_stack_is_told_by_the_first_step(pyrl, folder, options):
    line = ["sac-train", "Pendulum-v1", "--set", "replay_buffer_kwargs.frame_stack=3"]
    outcome = pyrl(*line, "--timesteps", 2, *options)
    assert outcome.code == 2
    *before, last = outcome.err.splitlines()
    assert re.fullmatch("pyrl: 'observation' is no stack of 3 .*; leave out frame_stack", last)
    assert not any("failed" in each for each in [*before, *outcome.out.splitlines()])
    assert not list(folder.iterdir())


class StackedForAWhile(gym.Env):
    observation_space, action_space = gym.spaces.Box(0, 9, (3,)), gym.spaces.Box(-1, 1)

    def reset(self, *, seed=None, options=None):
        self.steps = 2
        return np.arange(3, dtype=np.float32), {}

    def step(self, action):
        self.steps += 1
        frames = np.arange(self.steps - 2, self.steps + 1, dtype=np.float32)
        return frames[:: 1 if self.steps < 6 else -1].copy(), 0.0, False, self.steps == 9, {}


@pytest.fixture
def stacked_for_a_while():
    gym.register("StackedForAWhile-v0", StackedForAWhile)
    yield "StackedForAWhile-v0"
    del gym.registry["StackedForAWhile-v0"]


@pytest.mark.parametrize(
    ("options", "steps", "kept"),
    [
        (("--save-freq", 0), 4, "there is no checkpoint yet"),
        (("--save-freq", 2, "--no-exact"), 4, "the last checkpoint is {}/checkpoints/step_2"),
        (("--save-freq", 0, "--n-envs", 2), 8, "there is no checkpoint yet"),
    ],
    ids=["no checkpoint", "a checkpoint", "two environments"],
)
def test_what_is_no_stack_later_leaves_what_was_learned(
    pyrl, stacked_for_a_while, options, steps, kept
):
    line = ["sac-train", stacked_for_a_while, "--set", "replay_buffer_kwargs.frame_stack=3"]
    outcome = pyrl(*line, "--timesteps", 9, *options, "--save", "runs")
    run = "runs/StackedForAWhile-v0_1"
    assert outcome.code == 2
    (said,) = outcome.err.splitlines()
    assert re.fullmatch("pyrl: 'observation' is no stack of 3 .*; leave out frame_stack", said)
    told = f"the training failed after {steps} steps; model saved: {run}/model.zip; "
    assert f"{told}{kept.format(run)}\n" in outcome.out
    tested = pyrl("sac-test", stacked_for_a_while, run, "--episodes", 1)
    assert f"trained for {steps} steps" in tested.out
    assert pyrl("sac-train", "--resume", run).code == 2


def test_what_is_advised_loads_the_same_plugins(pyrl, folder, monkeypatch):
    monkeypatch.setattr("pyrl_sb3.cli.plugin_options.pyrl", lambda: "pyrl -p mine.py")
    said = "pyrl: no model at sac; `pyrl -p mine.py sac-train Pendulum-v1` makes one\n"
    assert pyrl("sac-test", "Pendulum-v1").err == said


def test_verbose_shows_where(pyrl):
    outcome = pyrl("sac-train", "Pendulm-v1", "--verbose")
    assert outcome.code == 2
    assert "in env_spec" in outcome.err


PLACE = ("sac-train", "Pendulm-v1", "--save")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ((*PLACE, "folder"), False),
        ((*PLACE, "folder", "--verbose"), True),
        ((*PLACE, "--verbose"), False),  # a folder of that name
        (("sac-train", "--seed", 1, "--", "--verbose"), False),  # an environment of that name
        (("evaluate", "nothing", "--verbose"), True),
        (("demos", "record", "nothing", "--verbose"), True),
        # Where no command has read its options:
        (("sac-train", "Pendulum-v1", "--timestep", 5, "--verbose"), True),
        (("sca-train", "--verbose"), True),
        (("--verbose", *PLACE, "folder"), True),  # and is no option
    ],
)
def test_where_an_error_comes_from_is_shown_if_that_is_asked_for(pyrl, line, shown):
    outcome = pyrl(*line)
    assert outcome.code == 2
    assert ("Traceback" in outcome.err) == shown
    assert outcome.err.splitlines()[-1].startswith("pyrl: ")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of TD3 in Pendulum, without statistics."""
    from pyrl_sb3.training.request import TrainingRequest
    from pyrl_sb3.training.run import train

    return train(
        TrainingRequest(
            agent="td3",
            env_id="Pendulum-v1",
            timesteps=1,
            eval_episodes=1,
            threads=1,
            save=tmp_path_factory.mktemp("td3"),
        )
    ).model


def damaged_copy(model, path, damage):
    data = bytearray(model.read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    elif damage == "empty":
        data.clear()
    elif damage == "text":
        data = bytearray(b"not a model")
    elif damage == "flipped":
        middle = data.index(b"actor.optimizer.pth") + 500
        data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "no model, or a truncated one"),
        ("empty", "no model, or a truncated one"),
        ("text", "no model, or a truncated one"),
        ("flipped", "is damaged"),
    ],
)
def test_damaged_models(pyrl, folder, model, damage, message):
    damaged_copy(model, folder / "model.zip", damage)
    before = listing(folder)
    outcome = pyrl("td3-test", "Pendulum-v1", "model.zip")
    assert outcome.code == 2
    assert re.fullmatch(f"pyrl: model.zip .*{message}.*\n", outcome.err)
    assert listing(folder) == before


def test_an_archive_of_something_else(pyrl, folder):
    (folder / "things").mkdir()
    (folder / "things" / "a.txt").write_text("a")
    shutil.make_archive("things", "zip", "things")
    outcome = pyrl("td3-test", "Pendulum-v1", "things.zip")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "things.zip is no model of Stable-Baselines3" in outcome.err


def test_a_model_of_another_algorithm(pyrl, model):
    outcome = pyrl("sac-test", "Pendulum-v1", model)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "is no SAC model; try td3-test" in outcome.err


def test_a_model_of_another_environment(pyrl, model):
    outcome = pyrl("td3-test", "MountainCarContinuous-v0", model)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "cannot be loaded: Observation spaces do not match" in outcome.err


def test_damaged_statistics(pyrl, folder, model):
    shutil.copy(model, "model.zip")
    (folder / "vecnormalize.pkl").write_bytes(b"junk")
    outcome = pyrl("td3-test", "Pendulum-v1", "model.zip")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "vecnormalize.pkl cannot be read" in outcome.err


MISSING = {
    "gymnasium_robotics": ("her-sac-train FetchReach-v4", "robotics"),
    "highway_env": ("her-sac-train parking-v0", "highway"),
    "Box2D": ("ddpg-train BipedalWalker-v3", "box2d"),
    "matplotlib": ("demo", "report"),
    "imageio": ("sac-test Pendulum-v1 --gif a.gif", "report"),
}


def test_a_missing_package_is_named_with_its_extra(fresh_pyrl, folder):
    """All in one interpreter, whose start takes seconds."""
    lines = [line.split() for line, _ in MISSING.values()]
    before = f"""
import sys
from pyrl_sb3.cli.app import run

sys.modules.update(dict.fromkeys({list(MISSING)}))
assert [run(line) for line in {lines}] == {[2] * len(lines)}
"""
    outcome = fresh_pyrl("--version", before=before)
    assert outcome.code == 0, outcome.err
    for said, (line, extra) in zip(outcome.err.splitlines(), MISSING.values(), strict=True):
        assert f"pip install 'pyrl-sb3[{extra}]'" in said, line
    assert not list(folder.iterdir())
