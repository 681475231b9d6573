"""Whole jobs, by the commands that a user types: killed, stopped and resumed, on two machines."""

import csv
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from torch.distributed.elastic.multiprocessing.api import PContext
from torch.torch_version import TorchVersion

from pyrl_sb3.cli import app
from pyrl_sb3.training.checkpoint import Checkpoint
from pyrl_sb3.training.checkpoint_folder import CheckpointFolder
from pyrl_sb3.training.errors import RunStoppedError
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.seeds import SeedGroup
from pyrl_sb3.training.sync import launch

TINY = [
    *("--sync-every", "100", "--save-freq", "200", "--eval-freq", "0", "--eval-episodes", "1"),
    *("--set", "policy_kwargs.net_arch=[8]", "--set", "learning_starts=50"),
]


def environment():
    mine = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**mine, "OMP_NUM_THREADS": "1", "PYRL_LOAD_PLUGINS": ""}


def start(folder, *arguments, launcher=()):
    command = [sys.executable, *launcher, "-m", "pyrl_sb3", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process, code=0):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def command(env, copies, steps, *more):
    return ["td3-train", env, "--seeds", str(copies), "--timesteps", str(steps), *TINY, *more]


def wait_for(condition, process):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.05)


def copies_of(group):
    """The processes of the copies, by seed."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            variables = dict(
                each.split(b"=", 1)
                for each in (entry / "environ").read_bytes().split(b"\0")
                if b"=" in each
            )
        except OSError:
            continue
        if str(group).encode() in words and b"RANK" in variables:
            found[int(variables[b"RANK"])] = int(entry.name)
    return found


def forks_of(folder):
    """The processes of seeds that were started in this folder, by seed."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name = (entry / "comm").read_text().strip()
            if name.startswith("pyrl seed_") and (entry / "cwd").readlink() == folder:
                found[int(name.removeprefix("pyrl seed_"))] = int(entry.name)
    return found


def steps_of(run):
    return Checkpoint(CheckpointFolder(run / "checkpoints").latest()).moment.timesteps


def steps_in_monitor(run):
    with (run / "0.monitor.csv").open() as file:
        return sum(int(row["l"]) for row in csv.DictReader(line for line in file if line[0] != "#"))


def weights(run):
    from stable_baselines3.common.save_util import load_from_zip_file

    policy = load_from_zip_file(run / "model.zip", load_data=False)[1]["policy"]
    return {name: value.numpy() for name, value in policy.items()}


def assert_equal(one, other):
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_copies_are_one_agent_and_runs_are_marked(tmp_path, capsys):
    output = end(start(tmp_path, *command("Pendulum-v1", 2, 400, "--sync", "mean")))
    group = tmp_path / "td3" / "Pendulum-v1_1"
    assert "2 copies synchronised by pyrl/mean" in output
    assert "2 copies, 800 environment steps together" in output
    runs = [group / "seed_0", group / "seed_1"]
    assert_equal(weights(runs[0]), weights(runs[1]))
    assert_equal(weights(runs[0]), weights(group))
    streams = [(run / "0.monitor.csv").read_text().splitlines()[2].split(",")[0] for run in runs]
    assert streams[0] != streams[1], "the copies saw the same"
    for file in (group / "seeds.yml", *(run / "run.yml" for run in runs)):
        assert yaml.safe_load(file.read_text())["couples_seeds"] is True
    assert {steps_of(run) for run in runs} == {400}
    assert app.run(["td3-test", "Pendulum-v1", str(group), "--episodes", "1"]) == 0
    assert "return" in capsys.readouterr().out


# By its path it is an engine like those of plugins: copies meet through a store of the launcher's.
ENGINE = ("--engine", "pyrl_sb3.training.engines:LocalProcesses", "--threads", "1")


@pytest.mark.learning
def test_an_engine_gives_what_the_elastic_agent_gives(tmp_path):
    arguments = command("Pendulum-v1", 2, 400, "--sync", "mean")
    end(start(tmp_path, *arguments))
    output = end(start(tmp_path, *arguments, *ENGINE))
    one, other = (tmp_path / "td3" / f"Pendulum-v1_{n}" for n in (1, 2))
    assert f"what the copies say: {other / 'seed_0.log'}" in output
    assert "2 copies, 800 environment steps together" in (other / "seed_0.log").read_text()
    assert yaml.safe_load((other / "seeds.yml").read_text())["engine"] == ENGINE[1]
    assert_equal(weights(one), weights(other))
    output = end(start(tmp_path, "td3-train", "--resume", str(other), "--timesteps", "600"))
    assert f"what the copies say: {other / 'seed_0.log'}" in output, "another engine went on"
    assert {steps_of(other / f"seed_{seed}") for seed in range(2)} == {600}


@pytest.mark.learning
def test_a_copy_that_is_killed_on_an_engine_comes_back(tmp_path):
    process = start(tmp_path, *command("Pendulum-v1", 2, 2000, "--sync", "mean"), *ENGINE)
    group = tmp_path / "td3" / "Pendulum-v1_1"
    wait_for((group / "seed_1" / "checkpoints" / "step_400").is_dir, process)
    os.kill(forks_of(tmp_path)[1], signal.SIGKILL)
    output = end(process)
    assert "seed 1 ended: exit code -9" in output
    assert "all copies start again" in output
    for seed in range(2):
        run = group / f"seed_{seed}"
        assert steps_of(run) == steps_in_monitor(run) == 2000
    assert_equal(weights(group / "seed_0"), weights(group / "seed_1"))


@pytest.mark.learning
def test_a_copy_that_is_killed_comes_back(tmp_path):
    process = start(tmp_path, *command("Pendulum-v1", 4, 2000, "--sync", "mean"))
    group = tmp_path / "td3" / "Pendulum-v1_1"
    wait_for((group / "seed_2" / "checkpoints" / "step_400").is_dir, process)
    os.kill(copies_of(group)[2], signal.SIGKILL)
    output = end(process)
    assert re.search(r"seed 2 \(process \d+\) ended: SIGKILL", output)
    assert re.search(r"start 2: all 4 copies go on after \d+ steps", output)
    assert "4 copies, 8000 environment steps together" in output
    for seed in range(4):
        run = group / f"seed_{seed}"
        assert steps_of(run) == 2000
        assert steps_in_monitor(run) == 2000
    assert_equal(weights(group / "seed_0"), weights(group / "seed_3"))


STOPPER = """
import os

from stable_baselines3.common.callbacks import BaseCallback


class Stopper(BaseCallback):
    def _on_step(self):
        return not (os.environ["RANK"] == "0" and self.num_timesteps >= 150)
"""


@pytest.mark.learning
def test_the_copies_that_are_left_stand_for_all_when_a_callback_ends_the_first(tmp_path):
    (tmp_path / "stopper.py").write_text(STOPPER)
    more = ("--sync", "mean", "--trust", "--set", "callback=stopper.Stopper")
    output = end(start(tmp_path, *command("Pendulum-v1", 3, 400, *more)))
    group = tmp_path / "td3" / "Pendulum-v1_1"
    assert f"all copies as one: {group / 'model.zip'}" in output
    assert "3 copies, 950 environment steps together" in output
    assert [steps_of(group / f"seed_{seed}") for seed in range(3)] == [150, 400, 400]
    assert_equal(weights(group), weights(group / "seed_1"))
    assert (weights(group)["actor.mu.0.bias"] != weights(group / "seed_0")["actor.mu.0.bias"]).any()


SLOW_STOPPER = STOPPER.replace("return not", "time.sleep(0.02)\n        return not").replace(
    "import os\n", "import os\nimport time\n"
)


@pytest.mark.learning
@pytest.mark.parametrize("how", ["killed", "stopped twice"])
def test_others_go_on_without_a_copy_that_a_callback_has_ended(how, tmp_path):
    (tmp_path / "stopper.py").write_text(SLOW_STOPPER)
    more = ("--sync-every", "50", "--save-freq", "50", "--trust")
    more += ("--sync", "mean", "--set", "callback=stopper.Stopper")
    process = start(tmp_path, *command("Pendulum-v1", 3, 600, *more))
    group = tmp_path / "td3" / "Pendulum-v1_1"
    wait_for((group / "seed_1" / "checkpoints" / "step_350").is_dir, process)
    assert yaml.safe_load((group / "seed_0" / "run.yml").read_text())["ended"] == 150
    resumed = ("td3-train", "--resume", str(group), "--trust")
    if how == "killed":
        os.kill(copies_of(group)[2], signal.SIGKILL)
        output = end(process)
        assert re.search(r"start 2: 2 of 3 copies go on after [34]\d0 steps; callbacks", output)
    else:
        for _ in range(2):  # the first time it is in its training that the copy waits
            os.killpg(process.pid, signal.SIGINT)
            assert f"go on: pyrl td3-train --resume {group}" in end(process, 128 + signal.SIGINT)
            stopped = steps_of(group / "seed_1")
            assert stopped == steps_of(group / "seed_2") < 600
            assert stopped % 50, "they were not stopped in order"
            process = start(tmp_path, *resumed)
            wait_for(lambda: steps_of(group / "seed_1") > stopped, process)  # noqa: B023
        output = end(process)
    assert "3 copies, 1350 environment steps together" in output
    for seed, steps in enumerate((150, 600, 600)):
        run = group / f"seed_{seed}"
        assert steps_of(run) == steps
        noted = yaml.safe_load((run / "run.yml").read_text()).get("ended")
        assert noted == (150 if seed == 0 else None)
    assert_equal(weights(group), weights(group / "seed_1"))


@pytest.mark.learning
def test_stopped_together_and_resumed(tmp_path):
    process = start(tmp_path, *command("Pendulum-v1", 2, 100_000, "--sync", "elastic"))
    group = tmp_path / "td3" / "Pendulum-v1_1"
    wait_for((group / "seed_1" / "checkpoints" / "step_200").is_dir, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output = end(process, 128 + signal.SIGINT)
    assert f"go on: pyrl td3-train --resume {group}" in output
    first, second = (steps_of(group / f"seed_{seed}") for seed in range(2))
    assert first == second
    arguments = ["td3-train", "--resume", str(group), "--timesteps", str(first + 150)]
    output = end(start(tmp_path, *arguments))
    assert {steps_of(group / f"seed_{seed}") for seed in range(2)} == {first + 150}


@pytest.mark.learning
@pytest.mark.parametrize("more", [[], ["--share-replay"]])
def test_a_master_that_is_killed_resumes_to_the_same_end(more, tmp_path):
    """The same job twice, one of them killed with all its copies and resumed: equal to the bit."""
    arguments = command("Pendulum-v1", 2, 900, "--sync", "outer", *more, "--log-dir")
    end(start(tmp_path, *arguments, "whole"))
    process = start(tmp_path, *arguments, "killed")
    group = tmp_path / "killed" / "td3" / "Pendulum-v1_1"
    wait_for((group / "seed_1" / "checkpoints" / "step_400").is_dir, process)
    os.killpg(process.pid, signal.SIGKILL)
    for copy in copies_of(group).values():
        os.kill(copy, signal.SIGKILL)
    process.communicate()
    end(start(tmp_path, "td3-train", "--resume", str(group)))
    for run in ("seed_0", "seed_1", "."):
        name = Path("td3") / "Pendulum-v1_1" / run
        assert_equal(weights(tmp_path / "whole" / name), weights(tmp_path / "killed" / name))


@pytest.mark.learning
def test_two_machines_by_torchrun(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    machines = []
    for node in range(2):
        folder = tmp_path / f"machine_{node}"
        folder.mkdir()
        launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(node)]
        launcher += ["--nproc-per-node", "1", "--master-addr", "127.0.0.1"]
        launcher += ["--master-port", str(port)]
        more = ["--timesteps", "250", "--seed", "5", "--save", str(tmp_path / "runs")]
        arguments = ["td3-train", "Pendulum-v1", "--sync", "mean", *TINY, *more]
        machines.append(start(folder, *arguments, launcher=launcher))
    outputs = [end(machine) for machine in machines]
    assert "2 copies, 500 environment steps together" in outputs[0]
    group = tmp_path / "runs" / "Pendulum-v1_1"
    assert_equal(weights(group / "seed_5"), weights(group / "seed_6"))
    assert not (tmp_path / "runs" / "Pendulum-v1_2").exists()


def handlers():
    numbers = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM]
    return {number: signal.getsignal(number) for number in numbers}


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """Launch copies that are a script of the shell; handlers of signals are put back."""

    def launch_script(script):
        (tmp_path / "copy").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "copy").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "copy"))
        request = TrainingRequest(agent="td3", env_id="Pendulum-v1")
        seeds = SeedGroup(folder=tmp_path, seeds=(0, 1), request=request, engine="", jobs=2)
        return launch.launch(seeds, [])

    before = handlers()
    with mock.patch.dict(os.environ):
        yield launch_script
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("end", "starts"), [("exit 1", 2), pytest.param("kill -KILL $$", 4, marks=pytest.mark.learning)]
)
def test_a_copy_that_comes_to_the_same_error_again_is_not_started_a_third_time(
    end, starts, launched, tmp_path
):
    script = f'[ "$RANK" = 0 ] || exec sleep 60\necho >>"{tmp_path}/starts"\n{end}'
    with pytest.raises(RunStoppedError, match=f"copies ended {starts} times; go on with `pyrl td3"):
        launched(script)
    assert (tmp_path / "starts").read_text() == starts * "\n"


def test_signals_mean_what_they_did_once_the_copies_have_ended(launched):
    before = handlers()
    assert launched("exit 0") is None
    assert handlers() == before


@pytest.mark.skipif(torch.__version__ < (2, 10), reason="torch hears of it all the same")
def test_a_terminal_that_is_closed_stops_no_copies_under_nohup(launched):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert launched("kill -HUP $PPID $$") is None


@pytest.mark.parametrize(("version", "lines"), [("2.9.1", 1), ("2.10.0", 0)])
def test_it_is_said_where_torch_stops_copies_under_nohup(
    version, lines, launched, monkeypatch, caplog
):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    assert launched("exit 0") is None
    assert caplog.text.count(f"torch {version} stops copies when the terminal is closed") == lines


def test_copies_that_are_stopped_have_time_to_save(launched, monkeypatch):
    given, close = [], PContext.close

    def noting(context, death_sig, timeout=30):
        given.append(timeout)
        close(context, death_sig, timeout)

    monkeypatch.setattr(PContext, "close", noting)
    stop = partial(signal.raise_signal, signal.SIGINT)
    monkeypatch.setattr(launch._ElasticAgent, "_monitor_workers", lambda *_: stop())
    assert launched("exec sleep 60") is signal.SIGINT
    assert given[0] == launch._WAIT == 600


def test_nothing_of_the_log_of_torch_is_seen_when_copies_are_stopped(launched, monkeypatch):
    said, watch = [], logging.Handler(logging.WARNING)
    monkeypatch.setattr(watch, "emit", said.append)
    monkeypatch.setattr(logging.getLogger("torch.distributed"), "handlers", [watch])
    stop = partial(signal.raise_signal, signal.SIGINT)
    monkeypatch.setattr(launch._ElasticAgent, "_monitor_workers", lambda *_: stop())
    assert launched("exec sleep 60") is signal.SIGINT
    assert not said


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["Pendulum-v1", "--sync", "mena", "--seeds", "2"], "did you mean mean?"),
        (["Pendulum-v1", "--sync", "mean"], "say how many copies with --seeds"),
        (["Pendulum-v1", "--sync", "mean", "--seeds", "1"], "give at least 2"),
        (["Pendulum-v1", "--sync-every", "10"], "--sync-every: only with --sync"),
        (["Pendulum-v1", "--share-replay"], "--share-replay: only with --sync"),
        (
            ["Pendulum-v1", "--sync", "mean", "--seeds", "2", "--jobs", "1"],
            "--jobs 1: copies that synchronise run all at a time; leave it out",
        ),
        (["Pendulum-v1", "--sync", "mean", "--seeds", "2", "--sync-every", "0"], "at least 1"),
        (
            ["Pendulum-v1", "--sync", "best", "--seeds", "2", "--set", "sync.params.patiense=3"],
            "patience",
        ),
        (
            ["Pendulum-v1", "--sync", "mean", "--seeds", "2", "--set", "train_freq=[1,episode]"],
            "train_freq=64",
        ),
        (
            ["Pendulum-v1", "--sync", "mean", "--seeds", "99", *ENGINE],
            "99 copies with --threads 1 each need 99",
        ),
        (
            ["Pendulum-v1", "--sync", "mean", "--seeds", "2", "--engine", "proceses"],
            "did you mean processes?",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line_and_nothing_is_written(
    arguments, problem, tmp_path, monkeypatch, capsys
):
    from pyrl_sb3.cli.app import run

    monkeypatch.chdir(tmp_path)
    assert run(["td3-train", *arguments]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--engine", "processes"], "--engine processes: torchrun has started this copy already"),
        (["--seeds", "3"], "--seeds 3: torchrun has started 1 processes"),
    ],
)
def test_what_torchrun_has_decided_is_not_to_be_said_otherwise(
    options, problem, tmp_path, monkeypatch, capsys
):
    from pyrl_sb3.cli.app import run

    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    assert run(["td3-train", "Pendulum-v1", "--sync", "mean", *options]) == 2
    assert capsys.readouterr().err == f"pyrl: {problem}\n"
    assert not list(tmp_path.iterdir())


def test_copies_hear_what_changes_when_they_are_resumed(tmp_path, monkeypatch):
    from pyrl_sb3.cli.app import run

    monkeypatch.chdir(tmp_path)
    heard = []
    monkeypatch.setattr(launch, "launch", lambda group, words: heard.append(words))
    assert run(["td3-train", "Pendulum-v1", "--sync", "mean", "--seeds", "2"]) == 0
    group = tmp_path / "td3" / "Pendulum-v1_1"
    changes = ["--timesteps", "900", "--device", "cpu", "--keep-last", "3", "--trust"]
    assert run(["td3-train", "--resume", str(group), *changes]) == 0
    again = ["td3-train", "--resume", str(group)]
    assert heard == [again, [*again, *changes]]


def test_copies_that_are_resumed_run_all_at_a_time(tmp_path, monkeypatch, capsys):
    from pyrl_sb3.cli.app import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "launch", lambda *_: None)
    assert run(["td3-train", "Pendulum-v1", "--sync", "mean", "--seeds", "2"]) == 0
    before = Path("td3/Pendulum-v1_1/seeds.yml").read_bytes()
    capsys.readouterr()
    assert run(["td3-train", "--resume", "td3/Pendulum-v1_1", "--jobs", "2"]) == 2
    assert capsys.readouterr().err == (
        "pyrl: --jobs 2: copies that synchronise run all at a time; leave it out\n"
    )
    assert Path("td3/Pendulum-v1_1/seeds.yml").read_bytes() == before


CONFIG = "default: {policy: MlpPolicy, sync: {name: best, every: 150, params: {patience: 3}}}\n"
BEST = {"name": "best", "every": 150, "params": {"patience": 3}}


@pytest.mark.parametrize(
    ("options", "plan"),
    [
        ([], BEST),
        (["--sync", "best"], BEST),
        (["--sync-every", "70"], {**BEST, "every": 70}),
        (["--set", "sync.params.episodes=2"], {**BEST, "params": {"patience": 3, "episodes": 2}}),
        (["--share-replay"], {**BEST, "params": {"patience": 3, "share_replay": True}}),
        (["--sync", "mean"], {"name": "mean"}),
    ],
)
def test_a_config_says_how_copies_are_synchronised(options, plan, tmp_path, monkeypatch):
    from pyrl_sb3.cli import synchronised
    from pyrl_sb3.cli.app import run

    (tmp_path / "my.yml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(synchronised, "run", lambda given: asked.append(given.plan) or 0)
    words = ["td3-train", "Pendulum-v1", "--config", "my.yml", "--seeds", "2", *options]
    assert run(words) == 0
    assert asked == [plan]


@pytest.mark.learning
def test_a_job_by_its_config(tmp_path):
    (tmp_path / "my.yml").write_text(CONFIG)
    words = ["td3-train", "Pendulum-v1", "--config", "my.yml", "--timesteps", "300", *TINY[2:]]
    alone = end(start(tmp_path, *words), code=2)
    assert "say how many copies with --seeds" in alone
    end(start(tmp_path, *words, "--set", "sync=null"))
    assert not (tmp_path / "td3/Pendulum-v1_1/seeds.yml").exists()
    end(start(tmp_path, *words, "--seeds", "2"))
    facts = yaml.safe_load((tmp_path / "td3/Pendulum-v1_2/seeds.yml").read_text())
    assert facts["sync"] == "pyrl/best"
    assert (facts["sync_every"], facts["sync_params"]) == (150, {"patience": 3})


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("meen", "did you mean mean?"),
        ("[mean]", "must be a name such as mean"),
        ("{name: best, evry: 2}", "must be a name such as mean"),
        ("{name: best, every: 0}", "every: must be a whole number of steps from 1 on, not 0"),
        ("{name: best, params: 3}", "params: must be a mapping"),
        ("{name: best, params: {patiense: 3}}", "patience"),
        ("os.path:join", "--trust"),
        ("torch.hub:load", "is no sync-callback: it must be a subclass of BaseCallback"),
    ],
)
def test_mistakes_in_the_key_sync(value, problem, tmp_path, monkeypatch, capsys):
    from pyrl_sb3.cli.app import run

    (tmp_path / "my.yml").write_text(f"default: {{policy: MlpPolicy, sync: {value}}}\n")
    monkeypatch.chdir(tmp_path)
    assert run(["td3-train", "Pendulum-v1", "--config", "my.yml", "--seeds", "2"]) == 2
    error = capsys.readouterr().err
    assert "my.yml:1: default.sync: " in error
    assert problem in error
    assert [path.name for path in tmp_path.iterdir()] == ["my.yml"]
