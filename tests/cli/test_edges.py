"""Uncommon options and paths, each of which once went wrong."""

import io
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from pyrl_sb3.cli import output
from pyrl_sb3.cli.app import run
from pyrl_sb3.config import read_experiment
from pyrl_sb3.training.evaluation import Evaluation
from pyrl_sb3.training.hyperparams import packaged_config
from pyrl_sb3.training.logs import add_evaluation
from pyrl_sb3.training.request import TrainingRequest
from pyrl_sb3.training.seeds import SeedGroup, write_group

SHORT = ("--timesteps", "60", "--eval-episodes", "1", "--set", "policy_kwargs.net_arch=[8]")


def test_commands_that_are_printed_can_be_pasted(pyrl):
    outcome = pyrl("sac-train", "Pendulum-v1", "--save", "with space", *SHORT)
    assert "test it: pyrl sac-test Pendulum-v1 'with space/Pendulum-v1_1'" in outcome.out


@pytest.mark.parametrize("name", ["-dash", "a b"])
def test_folders_are_printed_as_commands_take_them(capsys, name):
    console = output.console_for_log()
    output.say_how_to_test(console, "sac", "Pendulum-v1", Path(name), trust=False)
    output.say_how_to_go_on(console, "sac", Path(name))
    for line in capsys.readouterr().out.splitlines():
        *_, word = shlex.split(line)
        assert (Path(word), word[0] != "-") == (Path(name), True)


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_letters_that_cannot_be_printed_end_no_training(monkeypatch, errors):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=errors)
    monkeypatch.setattr("sys.stdout", out)
    assert run(["sac-train", "Pendulum-v1", "--save", "läuf", *SHORT]) == 0
    out.flush()
    assert rb"model saved: l\xe4uf/Pendulum-v1_1/model.zip" in out.buffer.getvalue()


@pytest.mark.parametrize("closed", [("stdout",), ("stdout", "stderr")], ids=["one", "both"])
def test_an_output_that_is_closed_ends_no_training(monkeypatch, folder, closed):
    for name in closed:
        monkeypatch.setattr(sys, name, None)
    assert run(["sac-train", "Pendulum-v1", *SHORT]) == 0
    assert run(["list", "noises", "--json"]) == 0
    for name in closed:
        getattr(sys, name).close()
    assert (folder / "sac" / "Pendulum-v1_1" / "model.zip").is_file()


def test_lines_of_no_width_are_printed(fresh_pyrl):
    assert "return" in fresh_pyrl("sac-train", "Pendulum-v1", *SHORT, COLUMNS="0").out
    assert "return" in fresh_pyrl("report", "sac/Pendulum-v1_1", COLUMNS="0").out


def test_folders_that_tensorboard_cannot_name_do_without_it(fresh_pyrl):
    """In other processes: pytest's cannot tell each other what is no UTF-8."""
    folder, printed = os.fsdecode(b"l\xe4uf"), {"PYTHONIOENCODING": "utf-8:backslashreplace"}
    begun = fresh_pyrl("sac-train", "Pendulum-v1", "--save", folder, *SHORT, **printed)
    assert (begun.code, begun.err) == (0, "")
    assert "no TensorBoard log: it takes no " in begun.out
    run = f"{folder}/Pendulum-v1_1"
    resumed = fresh_pyrl("sac-train", "--resume", run, "--timesteps", 90, **printed)
    assert (resumed.code, resumed.err) == (0, "")


@pytest.mark.parametrize("overrides", [(), ("use_sde=true",)])
def test_training_that_comes_to_nan_ends_in_one_line(pyrl, overrides):
    wanted = ("learning_rate=1e30", "learning_starts=50", *overrides)
    settings = [word for each in wanted for word in ("--set", each)]
    outcome = pyrl("sac-train", "Pendulum-v1", "--save-freq", 20, "--seed", 1, *settings, *SHORT)
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    found = "would be drawn from" if overrides else "is"
    last = "sac/Pendulum-v1_1/checkpoints/step_40"
    assert re.fullmatch(f"pyrl: an action {found} NaN: .*; the last checkpoint is {last}", line)


@pytest.mark.parametrize("group", ["plugins", "demos"])
def test_commands_of_a_group_are_listed(pyrl, group):
    outcome = pyrl(group)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == pyrl(group, "--help").out


def read(*overrides):
    return read_experiment(packaged_config("td3"), "td3", "Pendulum-v1", overrides=list(overrides))


def test_numbers_with_exponents_are_numbers_everywhere():
    found = read(
        "normalize={clip_obs: 1e1}",
        "policy_kwargs.optimizer_kwargs.eps=1e-8",
        "sync={name: mean, every: 5e2}",
        "buffer_size=1e4",
    )
    assert found.normalize["clip_obs"] == 10
    assert found.arguments["policy_kwargs"]["optimizer_kwargs"]["eps"] == 1e-8
    assert found.sync["every"] == 500
    assert found.arguments["buffer_size"] == 10_000


def test_what_is_no_number_stays_as_it_is_when_written_and_read_again(tmp_path):
    mapping = 'policy_kwargs.optimizer_kwargs={mode: "1e5", x: !!float 3, y: 1e5}'
    found = read(mapping)
    again = tmp_path / "config.yml"
    again.write_text(found.as_yaml())
    second = read_experiment(again, "td3", "Pendulum-v1")
    for experiment in (found, second):
        keywords = experiment.given["policy_kwargs"]["optimizer_kwargs"]
        assert keywords == {"mode": "1e5", "x": 3.0, "y": 100_000}
        assert list(map(type, keywords.values())) == [str, float, int]


@pytest.mark.parametrize("successes", [None, np.array([True]), np.array([True, False])])
def test_evaluations_that_differ_do_not_end_a_run(successes, tmp_path):
    path, returns = tmp_path / "evaluations.npz", np.ones(2)
    for timesteps, each in ((10, None), (20, successes), (30, np.array([True, True]))):
        add_evaluation(path, timesteps, Evaluation(returns, returns.astype(int), each))
    with np.load(path) as found:
        assert found["timesteps"].tolist() == [10, 20, 30]
    add_evaluation(path, 40, Evaluation(np.ones(3), np.ones(3, int), None))
    with np.load(path) as found:
        assert found["timesteps"].tolist() == [40]


def test_parameters_of_a_strategy_in_short():
    assert read("sync=best", "sync.params.patience=3").sync["params"] == {"patience": 3}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("noise={name: ou, params: [1]}", r"params: must be a mapping of names, not \[1\]"),
        (
            "callback=stable_baselines3.common.callbacks.CheckpointCallback",
            "needs the argument 'save_freq'",
        ),
    ],
)
def test_mistakes_are_found_before_anything_starts(override, message, pyrl, folder):
    outcome = pyrl("td3-train", "Pendulum-v1", "--timesteps", 5, "--set", override)
    assert outcome.code == 2
    assert re.search(message, outcome.err)
    assert not list(folder.iterdir())


def test_memory_that_there_is_not_is_one_line(pyrl, monkeypatch):
    def spend(env_id):
        raise MemoryError("no memory:\nchoose a smaller buffer_size")

    monkeypatch.setattr("pyrl_sb3.training.run.env_spec", spend)
    outcome = pyrl("td3-train", "Pendulum-v1")
    assert outcome.err == "pyrl: no memory: choose a smaller buffer_size\n"
    assert outcome.code == 1


def test_a_plugin_that_is_named_and_not_there_stops_the_command(pyrl, folder):
    outcome = pyrl("-p", "nofile.py", "sac-train", "Pendulum-v1", *SHORT)
    assert outcome.code == 2
    assert "there is no file nofile.py" in outcome.err
    assert not list(folder.iterdir())


def test_a_group_whose_strategy_is_gone_starts_no_copies(pyrl, folder):
    request = TrainingRequest(agent="td3", env_id="Pendulum-v1", timesteps=500)
    extra = {"sync_every": 200, "sync_params": {}}
    group = SeedGroup(
        folder=folder / "group", seeds=(0, 1), request=request, sync="acme/mean-actor", extra=extra
    )
    group.folder.mkdir()
    write_group(group)
    outcome = pyrl("td3-train", "--resume", group.folder)
    assert outcome.code == 2
    assert "acme/mean-actor" in outcome.err
    assert not list(group.folder.glob("seed_*"))


@pytest.mark.parametrize(
    "entry",
    [
        "env_wrapper: [stable_baselines3.common.monitor.Monitor: {filename: mine/0}]",
        "env_wrapper: [gymnasium.wrappers.RecordVideo: {video_folder: mine}]",
        "vec_env_wrapper: [stable_baselines3.common.vec_env.VecMonitor: {filename: mine/0}]",
    ],
)
def test_a_strangers_run_cannot_write_where_it_wants(pyrl, folder, entry):
    assert not pyrl("sac-train", "Pendulum-v1", "--eval-freq", 0, *SHORT).code
    (folder / "mine").mkdir()
    (folder / "mine" / "0.monitor.csv").write_text("my log")
    (folder / "sac" / "Pendulum-v1_1" / "config.yml").write_text(f"default: {{{entry}}}")
    for command in (("sac-test", "Pendulum-v1"), ("evaluate", "sac/Pendulum-v1_1")):
        outcome = pyrl(*command, "--episodes", 1)
        assert outcome.code == 2
        assert "writes files where a config tells it to; pass --trust" in outcome.err
    assert [path.read_text() for path in (folder / "mine").iterdir()] == ["my log"]


@pytest.mark.parametrize(
    ("wrappers", "message"),
    [
        ("[goal-difference,relay-goals]", "goals that GoalDifference around env does not know"),
        ("[terminate-on-success,relay-goals]", "goes inside of TerminateOnSuccess"),
    ],
)
def test_wrappers_in_an_order_that_cannot_work_are_refused(pyrl, folder, wrappers, message):
    pytest.importorskip("gymnasium_robotics")
    wrapped = f"env_wrapper={wrappers}"
    outcome = pyrl("her-sac-train", "FetchPush-v4", "--timesteps", 50, "--set", wrapped)
    assert outcome.code == 2
    assert message in outcome.err


def test_long_lines_are_not_broken(capsys):
    output.console_for_log().print("word " * 100)
    assert capsys.readouterr().out.count("\n") == 1
