"""Several seeds from one command: real processes, one of which may fail, or all be stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pyrl_sb3.training.command_line import arguments
from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.folders import held
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.seeds import parse_seeds
from pyrl_sb3.training.threads import share_cores
from pyrl_sb3.training.unfinished import is_finished

SHORT = ["--eval-episodes", "1", "--eval-freq", "200", "--save-freq", "200"]
SHORT += ["--set", "learning_starts=100000"]


def test_what_seeds_mean():
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("3", 5) == (5, 6, 7)
    assert parse_seeds("3,7, 11") == (3, 7, 11)
    for text, first in (("0", None), ("a", None), ("3,3", None), ("1,2", 4), ("-1", None)):
        with pytest.raises(InputError, match="--seed"):
            parse_seeds(text, first)


def test_a_seeds_process_is_told_by_the_options_that_differ():
    request = TrainingRequest(
        agent="td3",
        env_id="A-v0",
        seed=0,
        folder=Path("a b"),
        overrides=("gamma=0.5", "tau=1"),
        exact=False,
        trust=True,
        save_freq=0,
        keep_last=2,
    )
    command, env_id, *words = arguments(request)
    assert (command, env_id) == ("td3-train", "A-v0")
    assert words[:4] == ["--set", "gamma=0.5", "--set", "tau=1"]
    said = {"--no-exact", "--trust", "--seed", "--run-folder", "--save-freq"}
    assert {word for word in words[4:] if word.startswith("--")} == said
    assert words[words.index("--run-folder") + 1] == "a b"


def test_seeds_are_those_that_numpy_takes(pyrl, folder):
    line = ("td3-train", "Pendulum-v1")
    for more, problem in [
        (("--seeds", "1,2,4294967296"), "--seeds 1,2,4294967296: 4294967296 must be at most"),
        (("--seeds", 2, "--seed", 4294967295), "--seed 4294967295: must be at most 4294967294"),
        (("--seeds", 2, "--seed", -1), "--seed -1: must be at least 0"),
        (
            ("--seeds", 2, "--sync", "mean", "--seed", 4294967295),
            "at most 4294967294 with --seeds 2",
        ),
        (("--seed", 4294967296), "--seed 4294967296: must be at most 4294967295"),
        (("--seeds", "1," + 5000 * "9"), "9...: seeds must be at most 4294967295"),
    ]:
        outcome = pyrl(*line, *more)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert problem in outcome.err
    assert not list(folder.iterdir())
    assert parse_seeds("2", 4294967294) == (4294967294, 4294967295)


@pytest.mark.parametrize(
    ("cores", "jobs", "threads", "shared"),
    [
        (2, None, None, (2, 1)),
        (8, 2, None, (2, 4)),
        (8, None, 3, (2, 3)),
        (4, None, None, (4, 1)),
        (1, None, None, (1, 1)),
    ],
)
def test_processes_times_threads_never_exceed_the_cores(cores, jobs, threads, shared):
    assert share_cores(10, cores, jobs=jobs, threads=threads) == shared


@pytest.mark.parametrize(("jobs", "threads"), [(3, None), (2, 2), (None, 3)])
def test_more_than_the_cores_are_refused(jobs, threads):
    with pytest.raises(InputError, match="threads on 2 cores"):
        share_cores(10, 2, jobs=jobs, threads=threads)


@pytest.mark.learning
def test_the_failure_of_one_leaves_the_others_and_resume_runs_only_what_is_unfinished(pyrl, folder):
    # Seed 1's file in the way of its run's folder makes its process fail.
    group = folder / "runs/Pendulum-v1_1"
    command = [sys.executable, "-m", "pyrl_sb3", "td3-train", "Pendulum-v1", "--seeds", "2"]
    command += ["--jobs", "1", "--timesteps", "400", "--save", "runs", *SHORT]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not (group / "seeds.yml").is_file():
        assert process.poll() is None
        time.sleep(0.02)
    (group / "seed_1").touch()
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert "failed: 1 of 2 seeds: 1 (exit code 2, runs/Pendulum-v1_1/seed_1.log)" in out
    assert "cannot write to" in (group / "seed_1.log").read_text()
    assert is_finished(group / "seed_0")
    assert yaml.safe_load((group / "seeds.yml").read_text())["couples_seeds"] is False
    before = (group / "seed_0/model.zip").read_bytes()

    (group / "seed_1").unlink()
    outcome = pyrl("td3-train", "--resume", group)
    assert outcome.code == 0, outcome.out
    assert "2 seeds, 1 to run" in outcome.out
    assert is_finished(group / "seed_1")
    assert (group / "seed_0/model.zip").read_bytes() == before

    outcome = pyrl("report", group, "--json", "--reps", 200)
    (summary,) = json.loads(outcome.out)["groups"]
    assert (summary["runs"], summary["failed"]) == (2, 0)
    assert summary["iqm"]["low"] <= summary["iqm"]["value"] <= summary["iqm"]["high"]
    assert pyrl("plot", "runs").out.startswith("learning curves of 2 runs")
    assert "seed_" in pyrl("td3-test", "Pendulum-v1", group, "--episodes", 1).out
    assert pyrl("td3-train", "--resume", group, "--seed", 3).code == 2


HERE = """
from contextlib import redirect_stdout
from pyrl_sb3.cli.app import run
from pyrl_sb3.training.engines import LocalProcesses

class Ended:
    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code

class OneByOne(LocalProcesses):
    def start(self, job):
        with open(job.log, "a") as log, redirect_stdout(log):
            return Ended(run(list(job.arguments)))
"""


def test_an_engine_by_its_path_is_noted_and_used_again(pyrl, folder, monkeypatch):
    (folder / "here.py").write_text(HERE)
    monkeypatch.syspath_prepend(folder)
    path = "here:OneByOne"
    group = folder / "runs/Pendulum-v1_1"
    command = ["td3-train", "Pendulum-v1", "--seeds", "2", "--timesteps", "200", "--save", "runs"]
    assert pyrl(*command, *SHORT, "--engine", path).code == 0
    assert yaml.safe_load((group / "seeds.yml").read_text())["engine"] == path
    assert pyrl("td3-train", "--resume", group, "--timesteps", 400, "--trust").code == 0
    assert yaml.safe_load((group / "seeds.yml").read_text())["engine"] == path
    assert all(is_finished(group / f"seed_{seed}", 400) for seed in range(2))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--seeds", "2", "--engine", "proceses"], "did you mean processes?"),
        (["--seeds", "2", "--engine", "ray"], "pip install ./plugins/pyrl-ray"),
        (["--engine", "processes"], "--engine processes needs --seeds"),
    ],
)
def test_an_engine_that_cannot_be_is_said_in_one_line(pyrl, folder, arguments, problem):
    outcome = pyrl("td3-train", "Pendulum-v1", *arguments)
    assert outcome.code == 2
    assert problem in outcome.err
    assert not list(folder.iterdir())


@pytest.mark.learning
def test_ctrl_c_stops_all_and_all_can_go_on(folder):
    command = [sys.executable, "-m", "pyrl_sb3", "td3-train", "Pendulum-v1", "--seeds", "3"]
    command += ["--jobs", "1", "--timesteps", "1000000", "--save", "runs", *SHORT[:2]]
    command += SHORT[-2:]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    status = folder / "runs/Pendulum-v1_1/seed_0/status.json"
    while not status.is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 130
    assert "SIGINT: stopped" in out
    assert list((folder / "runs/Pendulum-v1_1/seed_0/checkpoints").glob("step_*"))
    assert not (folder / "runs/Pendulum-v1_1/seed_1").exists()


SYNCHRONISED = pytest.param(["--sync", "mean", "--sync-every", "100"], marks=pytest.mark.learning)


@pytest.mark.parametrize("more", [[], SYNCHRONISED])
def test_seeds_stop_and_save_when_what_started_them_is_killed(folder, more):
    command = [sys.executable, "-m", "pyrl_sb3", "td3-train", "Pendulum-v1", "--seeds", "2"]
    command += ["--timesteps", "1000000", "--save", "runs", "--save-freq", "1000000", *SHORT[-2:]]
    process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL)
    runs = [folder / "runs/Pendulum-v1_1" / name for name in ("seed_0", "seed_1")]
    while not all(_episodes(run) for run in runs):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    for run in runs:
        while _is_held(run):
            assert time.monotonic() < end, f"{run} goes on"
            time.sleep(0.1)
        assert (run / "model.zip").is_file()
        assert list((run / "checkpoints").glob("step_*"))


def _episodes(run):
    return sum(len(path.read_text().splitlines()[2:]) for path in run.glob("*.monitor.csv"))


def _is_held(run):
    try:
        with held(run):
            return False
    except InputError:
        return True


@pytest.mark.learning
def test_a_stopped_group_goes_on_to_its_end_and_further(pyrl, folder):
    command = [sys.executable, "-m", "pyrl_sb3", "td3-train", "Pendulum-v1", "--seeds", "2"]
    command += ["--jobs", "1", "--timesteps", "8000", "--save", "runs", "--eval-episodes", "1"]
    command += ["--eval-freq", "4000", "--save-freq", "4000", "--set", "learning_starts=100000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    group = folder / "runs/Pendulum-v1_1"
    while not (group / "seed_0/0.monitor.csv").is_file():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    runs = [group / "seed_0", group / "seed_1"]
    assert not any(is_finished(run) for run in runs)

    for more, timesteps in ([], 8_000), (["--timesteps", 8_400], 8_400):
        outcome = pyrl("td3-train", "--resume", group, "--jobs", 2, *more)
        assert outcome.code == 0, outcome.out
        assert "2 seeds, 2 to run" in outcome.out
        assert all(is_finished(run, timesteps) for run in runs)
        assert not any(is_finished(run, timesteps + 1) for run in runs)
    assert "2 seeds, 0 to run" in pyrl("td3-train", "--resume", group).out
    outcome = pyrl("report", group, "--json", "--reps", 200)
    (summary,) = json.loads(outcome.out)["groups"]
    assert (summary["runs"], summary["failed"]) == (2, 0)


_RUN = """
request: {agent: td3, env_id: Pendulum-v1, timesteps: 9}
resumed: []
components: []
versions: {}
"""
_GROUP = "seeds: [0]\nengine: processes\nsync: null\ncouples_seeds: false\n"
DAMAGED = {
    "not YAML": "seeds: [0, 1\nengine: {",
    "binary": "\x00\x01",
    "a list": "- 1\n- 2\n",
    "empty": "",
    "without a request": _GROUP,
    "seeds that are no numbers": _GROUP.replace("[0]", "[a]") + "request: {}\n",
    "a seed for seeds": _GROUP.replace("[0]", "0") + "request: {}\n",
    "no seeds": _GROUP.replace("[0]", "[]") + "request: {agent: td3, env_id: Pendulum-v1}\n",
    "an unknown key": _GROUP + "request: {agent: td3, env_id: Pendulum-v1, gama: 1}\n",
    "a request of text": _GROUP + "request: td3\n",
    "a Python tag": "!!python/object/apply:os.mkdir [executed]",
    "nested too deeply": "[" * 3000,
}


@pytest.mark.parametrize("line", ["td3-train --resume group", "report group"])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_group_gets_one_line(pyrl, folder, content, line):
    (folder / "group/seed_0").mkdir(parents=True)
    (folder / "group/seed_0/run.yml").write_text(_RUN)
    (folder / "group/seeds.yml").write_text(content)
    before = set(folder.rglob("*"))
    outcome = pyrl(*line.split())
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith("pyrl: group/seeds.yml cannot be read as a group's: ")
    assert set(folder.rglob("*")) == before


def test_curves_are_drawn_whatever_a_group_says(pyrl, folder):
    (folder / "group/seed_0").mkdir(parents=True)
    (folder / "group/seed_0/run.yml").write_text(_RUN)
    (folder / "group/seeds.yml").write_text(DAMAGED["not YAML"])
    outcome = pyrl("plot", "group").err
    assert outcome.count("\n") == 1
    assert outcome.startswith("pyrl: group/seed_0")  # which has none yet


@pytest.mark.learning
def test_the_end_of_what_starts_the_seeds_is_one_line(folder):
    command = [sys.executable, "-m", "pyrl_sb3", "td3-train", "Pendulum-v1", "--seeds", "2"]
    command += ["--timesteps", "1000000", "--save", "runs", *SHORT]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    runs = [folder / "runs/Pendulum-v1_1" / name for name in ("seed_0", "seed_1")]
    while not all(_episodes(run) for run in runs):
        assert process.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (server,) = map(int, children)
    os.kill(server, signal.SIGKILL)
    error = process.communicate(timeout=60)[1]
    assert (process.returncode, error.count("\n")) == (1, 1)
    assert error.startswith("pyrl: what starts the seeds has ended; those that run save and end")
    end = time.monotonic() + 60
    while not all((run / "model.zip").is_file() for run in runs):
        assert time.monotonic() < end
        time.sleep(0.1)
