"""Runs of configs in Python, with objects that a run's own config cannot hold."""

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch as th
import yaml

from pyrl_sb3.config import scripts
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.facts import read_facts
from pyrl_sb3.training.resume import check_configs

MINE = """
import os
import numpy as np, torch as th
from gymnasium.wrappers import TransformReward
from pyrl_sb3 import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise

class Buffer(ReplayBuffer): pass
class Layer(th.nn.ReLU): pass
class Halved(TransformReward):
    def __init__(self, env): super().__init__(env, lambda reward: reward / 2)
class Named(Halved):
    def __init__(self, env, names): super().__init__(env)

class Turns(BaseCallback):
    calls = 0
    def _on_step(self):
        self.calls += 1
        self.model.gradient_steps = 1 + self.calls // 20 % 2
        return True

hyperparams = {"default": {
    "policy": "MlpPolicy", "learning_starts": 20, "batch_size": 8,
    "gamma": float(os.environ.get("GAMMA", 0.9)),
    "policy_kwargs": {"net_arch": [4], "activation_fn": Layer}, "replay_buffer_class": Buffer,
    "learning_rate": lambda left: 1e-3 * left, "env_wrapper": [
        Halved, lambda env: Halved(env), {Named: {"names": {"a", "b", "c", "d", "e", "f"}}}
    ],
    "action_noise": OrnsteinUhlenbeckActionNoise(np.zeros(1), np.ones(1)), "callback": [Turns()],
}}
"""


TRAIN = ("td3-train", "Pendulum-v1", "--config", "mine.py", "--trust", "--seed", 1)
LINE = ("--timesteps", 60, "--save-freq", 20, "--eval-freq", 30, "--eval-episodes", 1)


def weights(run):
    with zipfile.ZipFile(run / "model.zip") as archive, archive.open("policy.pth") as file:
        return th.load(file, weights_only=True)


@pytest.fixture
def killed(pyrl, folder):
    """A run that was killed, beside one that was not."""
    (folder / "mine.py").write_text(MINE)
    begun = pyrl(*TRAIN, *LINE, "--save", "runs")
    assert "--resume and tests need that file as it is now, and --trust" in begun.out
    shutil.copytree(folder / "runs" / "Pendulum-v1_1", folder / "killed")
    shutil.rmtree(folder / "killed" / "checkpoints" / "step_60")
    (folder / "killed" / "model.zip").unlink()
    return folder / "killed"


def test_a_run_goes_on_as_if_nothing_had_been(pyrl, folder, killed):
    resumed = pyrl("td3-train", "--resume", "killed", "--trust")
    assert resumed.code == 0, resumed.err
    whole, found = weights(folder / "runs" / "Pendulum-v1_1"), weights(killed)
    assert all(th.equal(whole[name], found[name]) for name in whole)
    hint = re.search("test it: pyrl (.*)", resumed.out)[1].split()
    tested = pyrl(*hint, "--episodes", 1)
    assert (tested.code, tested.err) == (0, "")


def test_projects_may_be_moved_and_have_modules_beside(folder, monkeypatch):
    """In processes that have neither the working directory nor the config's among their modules."""
    project = folder / "project"
    project.mkdir()
    (project / "mine.py").write_text(MINE.replace("import os\n", "import os, beside\n"))
    (project / "beside.py").write_text("")
    for name in ("PYTHONSAFEPATH", "PYTHONHASHSEED"):
        monkeypatch.setenv(name, "1")

    def pyrl(*arguments):
        line = [sys.executable, "-m", "pyrl_sb3", *map(str, arguments)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    monkeypatch.chdir(project)
    pyrl(*TRAIN, *LINE, "--save", "runs")
    monkeypatch.chdir(folder)
    run = "project/runs/Pendulum-v1_1"
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    pyrl("td3-train", "--resume", run, "--timesteps", 70, "--trust")
    monkeypatch.chdir(project.rename(folder / "moved"))
    pyrl("td3-test", "Pendulum-v1", "runs/Pendulum-v1_1", "--episodes", 1, "--trust")
    pyrl("td3-train", "--resume", "runs/Pendulum-v1_1", "--timesteps", 80, "--trust")


def test_a_finished_one_is_prolonged(pyrl, killed):
    finished = pyrl("td3-train", "--resume", "runs/Pendulum-v1_1", "--timesteps", 70, "--trust")
    assert finished.code == 0, finished.err
    assert read_facts(killed.parent / "runs" / "Pendulum-v1_1").timesteps == 70


NOT_THERE = "cannot hold, and which is not there as it was, nor here; put it back, or .*"


def contents(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "trust", "message"),
    [
        ("", (), "cannot hold; pass --trust to have that file run once more"),
        ("# ", ("--trust",), NOT_THERE),
        (None, ("--trust",), NOT_THERE),
    ],
    ids=["no trust", "changed", "gone"],
)
def test_what_it_takes(pyrl, folder, killed, change, trust, message):
    if change is None:
        (folder / "mine.py").unlink()
    else:
        (folder / "mine.py").write_text(MINE + change)
    said = f"cannot go on: \\S+ has .* of {folder}/mine.py, which config.yml {message}"
    before = contents(killed)
    outcome = pyrl("td3-train", "--resume", "killed", *trust)
    assert outcome.code == 2
    assert re.fullmatch(f"pyrl: killed {said}\n", outcome.err)
    assert contents(killed) == before
    with pytest.raises(InputError, match=said):
        check_configs(replace(read_facts(killed).request, trust=bool(trust)), [killed])


def test_what_depends_on_something_else_is_refused(pyrl, killed, monkeypatch):
    monkeypatch.setenv("GAMMA", "0.8")
    before = contents(killed)
    outcome = pyrl("td3-train", "--resume", "killed", "--trust")
    assert outcome.code == 2
    assert "has other values than the run was begun with, though it is the same" in outcome.err
    assert contents(killed) == before
    assert yaml.safe_load((killed / "config.yml").read_text())["default"]["gamma"] == 0.9


def test_several_seeds(pyrl, folder):
    (folder / "mine.py").write_text(MINE)
    begun = pyrl(*TRAIN, *LINE, "--seeds", 2, "--save", "several")
    assert begun.code == 0, begun.err
    group = folder / "several" / "Pendulum-v1_1"
    shutil.rmtree(group / "seed_2" / "checkpoints" / "step_60")
    before = weights(group / "seed_2")
    (group / "seed_2" / "model.zip").unlink()
    resumed = pyrl("td3-train", "--resume", group, "--trust")
    assert resumed.code == 0, resumed.err
    assert all(th.equal(each, before[name]) for name, each in weights(group / "seed_2").items())


def test_seeds_of_one_group_begin_with_the_same(pyrl, folder):
    """The second finds a config that was edited once the first had begun."""
    source = MINE.replace("import os\n", "import os, pathlib\nhere = pathlib.Path(__file__)\n")
    edits = "if any(pathlib.Path('one').rglob('seed_1/run.yml')): here.write_text(was + '#')\n"
    (folder / "mine.py").write_text(source + "was = here.read_text().rstrip('#')\n" + edits)
    begun = pyrl(*TRAIN, *LINE, "--seeds", 2, "--jobs", 1, "--save", "one")
    group = folder / "one" / "Pendulum-v1_1"
    assert begun.code == 1
    assert "is not as it was when" in (group / "seed_2.log").read_text()
    assert not (group / "seed_2").exists()
    assert (group / "seed_1" / "model.zip").is_file()


def test_what_is_added_to_a_config_is_added_again(pyrl, folder):
    """Goals are normalised, and the number of environments is that of the command line."""
    (folder / "goals.py").write_text(
        "hyperparams = {'default': {'policy': 'MultiInputPolicy', 'learning_starts': 90,"
        " 'policy_kwargs': {'net_arch': (4,)}, 'learning_rate': lambda left: 1e-3}}"
    )
    line = ("--timesteps", 20, "--eval-freq", 0, "--eval-episodes", 1, "--trust", "--save", "runs")
    begun = pyrl("her-dqn-train", "BitFlipping-v0", "--config", "goals.py", "--n-envs", 2, *line)
    assert begun.code == 0, begun.err
    run = "runs/BitFlipping-v0_1"
    resumed = pyrl("her-dqn-train", "--resume", run, "--timesteps", 30, "--trust")
    assert (resumed.code, resumed.err) == (0, "")


BESIDE = """
import torch as th
from gymnasium.wrappers import TimeLimit

class Short(TimeLimit):
    def __init__(self, env): super().__init__(env, LENGTH)

class Layer(th.nn.ReLU): pass
"""
WITH_BESIDE = """
from beside import Layer, Short

hyperparams = {"default": {
    "policy": "MlpPolicy", "learning_starts": 20, "batch_size": 8,
    "policy_kwargs": {"net_arch": [4], "activation_fn": Layer}, "env_wrapper": [WRAPPER],
}}
"""


def project(folder, length, wrapper="Short"):
    folder.mkdir()
    (folder / "beside.py").write_text(BESIDE.replace("LENGTH", str(length)))
    (folder / "mine.py").write_text(WITH_BESIDE.replace("WRAPPER", wrapper))
    return ("--config", folder / "mine.py", "--trust", "--save", folder / "runs", *LINE)


def as_in_a_new_process():
    sys.path[:] = [place for place in sys.path if place not in scripts._folders]
    scripts._folders.clear()
    del sys.modules["beside"]


def test_classes_of_modules_beside_a_config_are_found_again(pyrl, folder, monkeypatch):
    """Of the environment, and of the networks; also where the project was moved."""
    begun = pyrl("td3-train", "Pendulum-v1", *project(folder / "one", 5))
    assert begun.code == 0, begun.err
    monkeypatch.chdir((folder / "one").rename(folder / "moved"))
    run = "runs/Pendulum-v1_1"
    for command in [
        ("td3-train", "--resume", run, "--timesteps", 70, "--trust"),
        (*TRAIN, *LINE, "--trained-agent", run),
        ("td3-test", "Pendulum-v1", run, "--episodes", 1, "--trust"),
    ]:
        as_in_a_new_process()
        done = pyrl(*command)
        assert done.code == 0, done.err
    assert "length 5.0 steps" in done.out


@pytest.mark.parametrize("wrapper", ["Short", "lambda env: Short(env)"])
def test_modules_beside_two_configs_may_have_one_name(pyrl, folder, wrapper):
    lengths = {"one": 5, "two": 9}
    for name, length in lengths.items():
        begun = pyrl("td3-train", "Pendulum-v1", *project(folder / name, length, wrapper))
        assert begun.code == 0, begun.err
    for names in (["one", "two"], ["two", "one"]):
        runs = [folder / name / "runs" / "Pendulum-v1_1" for name in names]
        both = pyrl("evaluate", *runs, "--trust", "--episodes", 1)
        found = re.findall(r"length (\d+)", both.out)
        assert [int(each) for each in found] == [lengths[name] for name in names]


@pytest.mark.parametrize(
    ("here", "names"), [("one", ["one", "two", "one"]), ("runs", ["one", "package"])]
)
def test_a_config_has_its_own_modules_wherever_it_is_called(folder, here, names):
    """Before those of the working directory, which come first with `python -m`."""
    for name, length in {"one": 5, "two": 9, "package": 7}.items():
        project(folder / name, length)
    (folder / "runs").mkdir()
    own = folder / "package"
    (own / "beside").mkdir()  # without `__init__.py`, such as any module would go before
    (own / "beside.py").rename(own / "beside" / "part.py")
    config = (own / "mine.py").read_text()
    (own / "mine.py").write_text(config.replace("from beside", "from beside.part"))
    code = """
import sys
from pyrl_sb3.config import read_experiment

for name in sys.argv[1:]:
    (wrapper,) = read_experiment(f"../{name}/mine.py", "td3", "Pendulum-v1", trust=True).env_wrapper
    print(sys.modules[wrapper.load().__module__].__file__)
"""
    line = [sys.executable, "-c", code, *names]
    done = subprocess.run(line, cwd=folder / here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [Path(place).resolve().relative_to(folder).parts[0] for place in done.stdout.split()]
    assert found == names


def test_a_seed_that_had_not_begun_begins_where_the_project_was_moved_to(pyrl, folder, monkeypatch):
    line = project(folder / "one", 5)
    assert pyrl("td3-train", "Pendulum-v1", *line, "--seeds", 2).code == 0
    monkeypatch.chdir((folder / "one").rename(folder / "moved"))
    group = folder / "moved" / "runs" / "Pendulum-v1_1"
    shutil.rmtree(group / "seed_1")
    resumed = pyrl("td3-train", "--resume", group, "--trust")
    assert resumed.code == 0, resumed.err
    assert (group / "seed_1" / "model.zip").is_file()
    shutil.rmtree(group / "seed_1")
    with open("mine.py", "a") as file:
        file.write("# edited")
    refused = pyrl("td3-train", "--resume", group, "--trust")
    assert refused.code == 2
    assert "mine.py: No such file" in refused.err
    monkeypatch.chdir(folder)
    shutil.copytree("moved", "one")
    refused = pyrl("td3-train", "--resume", group, "--trust")
    assert refused.code == 2
    assert f"{folder}/one/mine.py is not as it was when" in refused.err


def test_values_beside_objects_are_not_to_be_others_either(pyrl, folder, monkeypatch):
    wrapper = "lambda env: Short(env), {'gymnasium.wrappers.TimeLimit': {'max_episode_steps': N}}"
    line = project(folder / "one", 5, wrapper.replace("N", "int(os.environ.get('N', 4))"))
    with open("one/mine.py", "r+") as file:
        text = file.read()
        file.seek(0)
        file.write("import os\n" + text)
    assert pyrl("td3-train", "Pendulum-v1", *line).code == 0
    run = "one/runs/Pendulum-v1_1"
    monkeypatch.setenv("N", "3")
    resumed = pyrl("td3-train", "--resume", run, "--timesteps", 70, "--trust")
    assert resumed.code == 2
    assert "has other values than the run was begun with" in resumed.err
    monkeypatch.setenv("N", "4")
    assert pyrl("td3-train", "--resume", run, "--timesteps", 70, "--trust").code == 0
