"""What `--resume` of several seeds starts, by what is on the disk; no process is started."""

import json
import os
import re
import shutil
import signal
import zipfile
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from pyrl_sb3.cli import seeds as command
from pyrl_sb3.cli.seed_table import Seed, SeedTable
from pyrl_sb3.training.errors import InputError, RunStoppedError
from pyrl_sb3.training.facts import request_written
from pyrl_sb3.training.folders import held
from pyrl_sb3.training.jobs import State, Task
from pyrl_sb3.training.request import TrainingRequest, TrainingResult
from pyrl_sb3.training.seeds import SeedGroup, read_group, write_group

SYNCHRONISED = {"sync": "pyrl/mean", "extra": {"sync_every": 100, "sync_params": {}}}
REQUEST = TrainingRequest(agent="td3", env_id="Pendulum-v1", timesteps=600, threads=1)


def begin(run, done, *, total=600, checkpoint=True, evaluated=True):
    """A run as it is after so many steps."""
    run.mkdir()
    asked = {**request_written(REQUEST), "timesteps": total, "seed": 0, "n_envs": 1, "save_freq": 0}
    facts = {"request": asked, "resumed": []}
    facts |= {"components": [], "versions": {}}
    (run / "run.yml").write_text(yaml.safe_dump(facts))
    if checkpoint:
        (run / f"checkpoints/step_{done}").mkdir(parents=True)
    with zipfile.ZipFile(run / "model.zip", "w") as model:
        model.writestr("data", json.dumps({"num_timesteps": done}))
    if evaluated:
        np.savez(run / "evaluations.npz", timesteps=[done], results=[[1.0]], ep_lengths=[[1]])


@pytest.fixture
def group(folder):
    (folder / "G").mkdir()
    group = SeedGroup(folder=folder / "G", seeds=(0, 1, 2), request=REQUEST, jobs=1)
    write_group(group)
    return group


@pytest.fixture
def resumed(group, pyrl, monkeypatch):
    """The commands of the seeds that a line starts, and how many of them at a time."""

    def call(*words):
        started = []

        def run_jobs(tasks, engine, at_a_time, watch):
            for task in tasks:
                started.append((task.job.name, task.job.arguments, at_a_time))
                task.state = State.FINISHED

        monkeypatch.setattr(command, "run_jobs", run_jobs)
        outcome = pyrl("td3-train", "--resume", "G", *words)
        assert outcome.code == 0, outcome.err
        return {int(name.split()[1]): (words, jobs) for name, words, jobs in started}

    return call


def steps_asked(words):
    return int(words[words.index("--timesteps") + 1])


def test_seeds_that_waited_when_an_extension_was_interrupted_are_extended(group, resumed):
    for seed in group.seeds:
        begin(group.run(seed), 600)
    assert set(resumed("--timesteps", 6000)) == {0, 1, 2}
    shutil.rmtree(group.run(0))
    begin(group.run(0), 6000, total=6000)  # it has come to its end, the others not to their turn
    found = resumed()
    assert {seed: steps_asked(words) for seed, (words, _) in found.items()} == {1: 6000, 2: 6000}


def test_seeds_that_their_callbacks_ended_are_finished(group, resumed):
    for seed, done in enumerate((300, 300, 400)):
        begin(group.run(seed), done)
        facts = group.run(seed) / "run.yml"
        facts.write_text(facts.read_text() + "ended: 300\n" * (seed != 1))
    # The last was ended, then made longer by more than it has had.
    assert set(resumed()) == {1, 2}
    assert set(resumed("--timesteps", 700)) == {0, 1, 2}


def test_a_seed_that_was_made_longer_alone_keeps_its_length(group, resumed):
    for seed in group.seeds:
        begin(group.run(seed), 600)
    shutil.rmtree(group.run(1))
    begin(group.run(1), 700, total=900)
    found = resumed()
    assert {seed: steps_asked(words) for seed, (words, _) in found.items()} == {1: 900}


def test_a_seed_that_has_had_more_steps_than_are_asked_for_is_not_refused_for_that(group, resumed):
    for seed in group.seeds:
        begin(group.run(seed), 300 + 100 * seed, evaluated=seed != 2)
    found = resumed("--timesteps", 400)
    assert {seed: steps_asked(words) for seed, (words, _) in found.items()} == {0: 400, 2: 500}


def test_as_many_at_a_time_as_at_first(group, resumed):
    begin(group.run(0), 600)
    assert {jobs for _, jobs in resumed().values()} == {1}
    begin(group.run(1), 600)
    assert {jobs for _, jobs in resumed("--jobs", 2).values()} == {1}  # there is only one left
    assert read_group(group.folder).jobs == 2
    assert {jobs for _, jobs in resumed("--timesteps", 900).values()} == {2}


def test_a_seed_that_lacks_its_last_evaluation_goes_on_to_it(group, resumed):
    begin(group.run(0), 600)
    begin(group.run(1), 600, evaluated=False)
    begin(group.run(2), 600, checkpoint=False, evaluated=False)
    found = resumed()
    assert set(found) == {1, 2}
    assert all("--resume" in words for words, _ in found.values())
    assert (group.run(2) / "model.zip").is_file()


@pytest.mark.parametrize(
    "damaged", ["run.yml", "evaluations.npz", "checkpoints/step_300/state.npz"]
)
def test_a_damaged_file_of_one_seed_leaves_the_others_alone(damaged, group, resumed):
    begin(group.run(0), 300)
    begin(group.run(1), 300)
    (group.run(1) / damaged).write_bytes(b"")
    found = resumed()
    assert set(found) == {0, 1, 2}
    assert found[1][0][1:3] == ("--resume", "G/seed_1")
    assert (group.run(1) / "checkpoints/step_300").is_dir()


STATUS = {"timesteps": 30, "total": 60, "speed": 9.0, "return": -1.0, "success": None}


def shown(run):
    """What is said of a seed in a pipe, and in a terminal."""
    console = Console(file=StringIO(), width=80)
    table = SeedTable(console, [Seed(1, run, None)])
    table.update()
    console.print(table._table())
    return console.file.getvalue()


@pytest.mark.parametrize(
    "status",
    [
        *({**STATUS, name: {"a": 1}} for name in STATUS),
        {**STATUS, "total": None},
        {**STATUS, "speed": None},
        {**STATUS, "return": 10**400},
        {name: STATUS[name] for name in STATUS if name != "total"},
        [],
        "[" * 100_000,
    ],
    ids=lambda status: str(status)[:90],
)
def test_a_status_of_another_form_is_as_none(status, folder):
    (folder / "status.json").write_text(status if isinstance(status, str) else json.dumps(status))
    nothing = shown(folder / "not there")
    assert nothing.startswith("seed 1: finished\n")
    assert shown(folder) == nothing
    (folder / "status.json").write_text(json.dumps(STATUS))
    assert shown(folder).startswith("seed 1: finished  30/60 steps  return -1.00  9 steps/s\n")


@pytest.mark.parametrize(
    "kind", [{"_environ": {"TERM": "dumb"}}, {"force_interactive": False}], ids=str
)
def test_seeds_have_lines_where_no_table_can_or_is_to_be_redrawn(kind, folder):
    console = Console(file=StringIO(), force_terminal=True, color_system=None, width=80, **kind)
    with SeedTable(console, [Seed(1, folder, None)]) as table:
        table.update()
    assert console.file.getvalue() == "seed 1: finished\n"


def test_a_seed_without_an_episode_has_no_return(folder):
    (folder / "status.json").write_text(json.dumps({**STATUS, "return": None, "success": 0.5}))
    line, *table = shown(folder).splitlines()
    assert line == "seed 1: finished  30/60 steps  success 0.50  9 steps/s"
    assert [row.split() for row in table] == [
        ["seed", "state", "steps", "return", "success", "steps/s"],
        ["1", "finished", "30/60", "0.50", "9"],
    ]


def test_checkpoints_of_a_seed_without_its_facts_are_kept(group, resumed):
    begin(group.run(0), 300)
    (group.run(0) / "run.yml").unlink()
    assert resumed()[0][0][1:3] == ("--resume", "G/seed_0")
    assert (group.run(0) / "checkpoints/step_300").is_dir()


LINE = ("td3-train", "Pendulum-v1", "--timesteps", 600, "--set", "learning_starts=50")
SYNC = ("--sync", "outer", "--sync-every", 100, "--set", "sync.params.momentum=0.5")


@pytest.mark.parametrize("more", [(), SYNC], ids=["apart", "together"])
def test_the_whole_line_may_be_said_again(more, pyrl, folder, monkeypatch):
    from pyrl_sb3.training.sync import launch

    started = []
    monkeypatch.setattr(command, "run_jobs", lambda *_: started.append("apart"))
    monkeypatch.setattr(launch, "launch", lambda *_: started.append("together"))
    line = (*LINE, "--seeds", "3", "--seed", 4, "--save", "my runs", "--save-freq", 50, *more)
    assert pyrl(*line).code == 0
    assert started == ["together" if more else "apart"]
    outcome = pyrl(*line, "--resume", "my runs/Pendulum-v1_1")
    assert (outcome.code, outcome.err) == (0, "")
    assert len(started) == 2
    assert read_group(folder / "my runs/Pendulum-v1_1").seeds == (4, 5, 6)
    (folder / "my runs").rename("moved")
    line = [{"my runs": "moved"}.get(word, word) for word in line]
    assert pyrl(*line, "--resume", "moved/Pendulum-v1_1").code == 0
    if more:  # what is of the strategy may be said alone
        said = ("--resume", "moved/Pendulum-v1_1", *more)
        assert pyrl("td3-train", *said).code == 0


@pytest.mark.parametrize("kind", [{}, SYNCHRONISED], ids=["apart", "together"])
@pytest.mark.parametrize(
    "words", [("--seed", 7), ("--seeds", 2), ("--seeds", "0,1,7"), ("--seeds", 3, "--seed", 1)]
)
def test_other_seeds_than_its_own_are_refused(kind, words, group, pyrl):
    write_group(replace(group, **kind))
    outcome = pyrl("td3-train", "--resume", "G", *words)
    assert (outcome.code, outcome.err) == (
        2,
        f"pyrl: {words[0]} {words[1]}: G has the seeds 0, 1, 2, and --resume goes on with all of "
        "them; leave it out\n",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sync", "best"), "--sync pyrl/best: G was begun with pyrl/mean"),
        (("--sync-every", 7), "--sync-every 7: G was begun with 100"),
        (("--set", "sync.params.momentum=0.5"), "momentum=0.5: G was begun without it"),
        (("--share-replay",), "pyrl: --share-replay: G was begun without it"),
        (("--set", "gamma=0.9"), "--set gamma=0.9: G was begun without it"),
        (("--save", "elsewhere"), "--save elsewhere: G was begun with "),
        (("--save-freq", 900), "--save-freq 900: G was begun without it"),
        (("--n-envs", 4), "--n-envs 4: G was begun without it"),
    ],
)
def test_other_options_of_synchronised_copies_are_refused(words, said, group, pyrl):
    write_group(replace(group, **SYNCHRONISED))
    outcome = pyrl("td3-train", "--resume", "G", *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.endswith(", and --resume takes that from there; leave it out\n")
    assert outcome.err.count("\n") == 1


def test_seeds_are_of_groups_only(pyrl, folder):
    begin(folder / "single", 600)
    outcome = pyrl("td3-train", "--resume", "single", "--seeds", 2)
    said = "pyrl: Invalid value: --seeds 2: single is a single run; leave it out\n"
    assert (outcome.code, outcome.err) == (2, said)
    outcome = pyrl("td3-train", "--resume", "singel", "--seeds", 2)
    said = "pyrl: no run at singel; did you mean single?\n"
    assert (outcome.code, outcome.err) == (2, said)
    outcome = pyrl("td3-train", "--resume", "single", "--sync", "mean")
    said = "pyrl: --sync: single is a single run, which learns alone; leave it out\n"
    assert (outcome.code, outcome.err) == (2, said)


def test_settings_of_a_strategy_have_one_name(group, pyrl):
    write_group(replace(group, **SYNCHRONISED))
    outcome = pyrl("td3-train", "--resume", "G", "--set", "sync.params.a.b=1")
    said = "--set sync.params.a.b=1: parameters of strategies are sync.params.NAME=VALUE"
    assert (outcome.code, outcome.err) == (2, f"pyrl: {said}\n")


def test_a_report_counts_a_seed_that_waits_for_its_extension_as_failed(group, pyrl):
    for seed in group.seeds:
        begin(group.run(seed), 600)
    write_group(replace(group, request=replace(REQUEST, timesteps=900)))
    (summary,) = json.loads(pyrl("report", "G", "--json", "--reps", 100).out)["groups"]
    assert (summary["runs"], summary["failed"]) == (3, 3)


def test_a_report_names_a_seed_with_damaged_evaluations_and_leaves_it_out(group, pyrl):
    for seed in group.seeds:
        begin(group.run(seed), 600)
    (group.run(1) / "evaluations.npz").write_bytes(b"junk")
    outcome = pyrl("report", "G", "--json", "--reps", 100)
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("G/seed_1 is left out: G/seed_1/evaluations.npz is no file of")
    (summary,) = json.loads(outcome.out)["groups"]
    assert (summary["runs"], summary["failed"]) == (2, 1)


CONFIG = "default: {policy: MlpPolicy, n_timesteps: 600, gamma: 0.9, tau: 0.01}\n"


def test_seeds_that_begin_later_read_the_config_as_it_was(resumed, pyrl, folder, monkeypatch):
    config = folder / "my.yml"
    config.write_text(CONFIG)
    started = []
    monkeypatch.setattr(
        command, "run_jobs", lambda tasks, *_: started.extend(task.job.arguments for task in tasks)
    )
    line = ("td3-train", "Pendulum-v1", "--config", "my.yml", "--seeds", 2, "--threads", 1)
    assert pyrl(*line).code == 0
    config.write_text("nonsense")  # while they wait
    shutil.rmtree("G")
    (folder / "td3/Pendulum-v1_1").rename("G")
    for words in (started[0], started[1], *(words for words, _ in resumed().values())):
        path = Path(words[words.index("--config") + 1])
        assert path.name == "seeds_config.yml"
    assert path == folder / "G/seeds_config.yml"  # where the group was moved to
    assert path.read_text() == CONFIG
    assert set(resumed("--config", "my.yml")) == {0, 1}  # the line may be said again


def test_synchronised_copies_too(pyrl, folder, monkeypatch):
    from pyrl_sb3.training.sync import launch

    (folder / "my.yml").write_text(CONFIG)
    monkeypatch.setattr(launch, "launch", lambda *_: None)
    line = ("td3-train", "Pendulum-v1", "--config", "my.yml", "--seeds", 2, "--sync", "mean")
    assert pyrl(*line).code == 0
    (folder / "my.yml").unlink()
    assert read_group(Path("td3/Pendulum-v1_1")).request_of(0).config.read_text() == CONFIG


def test_a_config_in_python_is_read_where_it_is(pyrl, folder, monkeypatch):
    (folder / "my.py").write_text("from pathlib import Path\nhere = Path(__file__).parent\n")
    with (folder / "my.py").open("a") as file:
        file.write("hyperparams = {'default': {'n_timesteps': int((here / 'n').read_text())}}\n")
    (folder / "n").write_text("600")
    monkeypatch.setattr(command, "run_jobs", lambda *_: None)
    line = ("td3-train", "Pendulum-v1", "--config", "my.py", "--trust", "--seeds", 2)
    assert pyrl(*line).code == 0
    group = read_group(Path("td3/Pendulum-v1_1"))
    assert group.request_of(1).config == folder / "my.py"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", [{}, SYNCHRONISED])
def test_a_group_that_is_in_use_is_left_alone(kind, group, pyrl):
    write_group(replace(group, **kind))
    begin(group.run(0), 0, checkpoint=False, evaluated=False)
    (group.run(0) / "model.zip").unlink()
    before = contents(group.folder)
    # A seed outlives a command that was killed.
    for folder in (group.folder, group.run(0)):
        with held(folder):
            outcome = pyrl("td3-train", "--resume", "G")
        said = f"pyrl: {folder.relative_to(Path.cwd())} is in use: another process is training "
        assert (outcome.code, outcome.err.replace(f"{Path.cwd()}/", "")) == (2, f"{said}there\n")
        assert contents(group.folder) == before


def test_a_group_is_in_use_as_long_as_its_seeds_run(group, pyrl, monkeypatch):
    from pyrl_sb3.training.sync import launch

    found = []

    def run(group):
        found.append(pyrl("td3-train", "--resume", group).err)

    monkeypatch.setattr(command, "run_jobs", lambda tasks, *_: run(tasks[0].job.log.parent))
    monkeypatch.setattr(launch, "launch", lambda group, words: run(group.folder))
    line = ("td3-train", "Pendulum-v1", "--timesteps", 600, "--seeds", 2, "--threads", 1)
    for words in (line, (*line, "--sync", "mean"), ("td3-train", "--resume", "G")):
        assert pyrl(*words).code == 0
    assert len(found) == 3
    assert all("is in use: another process is training there" in said for said in found)


@pytest.fixture
def strange(group, folder, monkeypatch):
    """Have a group's file say something of which nothing must be run."""
    (folder / "evil.py").write_text("from pathlib import Path\nPath('executed').touch()\n")
    monkeypatch.syspath_prepend(folder)

    def say(request=None, **facts):
        path = group.folder / "seeds.yml"
        there = yaml.safe_load(path.read_text())
        there["request"] |= request or {}
        path.write_text(yaml.safe_dump({**there, **facts}))

    yield say
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("kind", [{}, SYNCHRONISED])
def test_what_seeds_need_to_begin_anew_is_said_before_any_is_started(kind, strange, group, pyrl):
    write_group(replace(group, **kind))
    strange({"trust": True, "config": str(Path("evil.py").absolute())})
    (group.run(0) / "checkpoints").mkdir(parents=True)
    before = contents(group.folder)
    outcome = pyrl("td3-train", "--resume", "G")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert re.search(r"evil\.py.*--trust", outcome.err)
    assert contents(group.folder) == before
    assert (group.run(0) / "checkpoints").exists()


@pytest.mark.parametrize("words", [(), ("--trust",)])
@pytest.mark.parametrize("kind", [{}, SYNCHRONISED])
def test_the_line_that_goes_on_trusts_again(kind, words, group, pyrl, monkeypatch):
    from pyrl_sb3.training.sync import launch

    def run_jobs(tasks, *_):
        tasks[0].state = State.FAILED

    write_group(replace(group, **kind))
    monkeypatch.setattr(command, "run_jobs", run_jobs)
    monkeypatch.setattr(launch, "launch", lambda *_: signal.SIGINT)
    line = ("td3-train", "--resume", "G", *words)
    assert f"go on: pyrl {' '.join(line)}\n" in pyrl(*line).out


def test_the_line_that_goes_on_with_a_single_run_trusts_again(pyrl, monkeypatch):
    from pyrl_sb3.training import run

    ended = TrainingResult("E", Path("R"), Path("R/model.zip"), 9, None, signal.SIGINT)
    monkeypatch.setattr(run, "train", lambda *_: ended)
    outcome = pyrl("td3-train", "Pendulum-v1", "--trust")
    assert "go on: pyrl td3-train --resume R --trust\n" in outcome.out


def test_code_that_a_group_names_is_not_trusted_because_it_says_so(strange, group, resumed, folder):
    strange({"trust": True, "config": str(folder / "evil.py")})
    for seed in group.seeds:
        begin(group.run(seed), 300)
    for words, _ in resumed().values():
        assert "--trust" not in words
    assert all("--trust" in words for words, _ in resumed("--trust").values())


WRAPPED = "default: {policy: MlpPolicy, n_timesteps: 600, env_wrapper: evil.Wrapper}\n"


@pytest.mark.parametrize("kind", [{}, SYNCHRONISED])
def test_what_seeds_need_to_go_on_is_said_before_any_is_started(kind, strange, group, pyrl):
    write_group(replace(group, **kind))
    strange({"trust": True})
    for seed in group.seeds:
        begin(group.run(seed), 300)
        (group.run(seed) / "config.yml").write_text(WRAPPED)
    before = contents(group.folder)
    outcome = pyrl("td3-train", "--resume", "G")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert re.search(r"would run code of 'evil'; pass --trust", outcome.err)
    assert contents(group.folder) == before


@pytest.mark.parametrize("kind", [{}, SYNCHRONISED])
def test_demonstrations_that_are_gone_are_said_before_any_is_started(kind, group, pyrl):
    write_group(replace(group, **kind))
    for seed in group.seeds:
        begin(group.run(seed), 300)
        (group.run(seed) / "config.yml").write_text(
            f"{CONFIG.rstrip()[:-1]}, demonstrations: F}}\n"
        )
    before = contents(group.folder)
    outcome = pyrl("td3-train", "--resume", "G", "--timesteps", 900)
    assert (outcome.code, outcome.err) == (2, "pyrl: F: no such file\n")
    assert contents(group.folder) == before


@pytest.mark.parametrize("kind", [{}, SYNCHRONISED])
def test_a_group_that_cannot_be_written_to_is_said_in_one_line(kind, group, pyrl, monkeypatch):
    write_group(replace(group, **kind))
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # root may
    outcome = pyrl("td3-train", "--resume", "G")
    said = "pyrl: cannot write to G: a copy of it elsewhere can go on instead\n"
    assert (outcome.code, outcome.err) == (2, said)


@pytest.mark.parametrize("kind", [{}, SYNCHRONISED])
def test_a_finished_group_is_so_where_it_cannot_be_written_to(kind, group, pyrl, monkeypatch):
    write_group(replace(group, **kind))
    for seed in group.seeds:
        begin(group.run(seed), 600)
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    before = contents(group.folder)
    outcome = pyrl("td3-train", "--resume", "G")
    assert (outcome.code, outcome.err) == (0, "")
    assert "G is finished" in outcome.out
    assert "writing to" not in outcome.out
    assert contents(group.folder) == before


def test_copies_of_which_one_cannot_be_written_to_are_not_started(group, pyrl, monkeypatch):
    write_group(replace(group, **SYNCHRONISED))
    for seed in group.seeds:
        begin(group.run(seed), 300)
    closed = group.run(1).resolve()
    monkeypatch.setattr(
        "os.access", lambda path, mode: mode != os.W_OK or Path(path).resolve() != closed
    )
    outcome = pyrl("td3-train", "--resume", "G")
    said = "pyrl: cannot write to G/seed_1: a copy of it elsewhere can go on instead\n"
    assert (outcome.code, outcome.err) == (2, said)


@pytest.mark.parametrize("error", [RunStoppedError("gone"), InputError("engine e: gone")])
def test_how_to_go_on_is_said_where_no_more_seeds_can_be_started(error, group, pyrl, monkeypatch):
    def run_jobs(*_):
        raise error

    monkeypatch.setattr(command, "run_jobs", run_jobs)
    outcome = pyrl("td3-train", "--resume", "G")
    assert outcome.err == f"pyrl: {error}\n"
    assert outcome.out.endswith("go on: pyrl td3-train --resume G\n")


def test_a_config_of_one_seed_that_is_damaged_leaves_the_others_alone(group, resumed):
    for seed, content in enumerate((WRAPPED, CONFIG, CONFIG)):
        begin(group.run(seed), 300)
        (group.run(seed) / "config.yml").write_text(content)
    assert set(resumed()) == {0, 1, 2}


@pytest.mark.parametrize("kind", [{}, SYNCHRONISED])
def test_that_a_group_was_trusted_is_kept_and_nothing_more(kind, strange, group, pyrl, monkeypatch):
    from pyrl_sb3.training.sync import launch

    def run_jobs(tasks, *_):
        tasks[0].state = State.FAILED

    monkeypatch.setattr(command, "run_jobs", run_jobs)
    monkeypatch.setattr(launch, "launch", lambda *_: signal.SIGINT)
    write_group(replace(group, **kind))
    strange({"trust": True})
    # The file may be a stranger's: it does not make commands that trust it.
    assert "go on: pyrl td3-train --resume G\n" in pyrl("td3-train", "--resume", "G").out
    assert yaml.safe_load((group.folder / "seeds.yml").read_text())["request"]["trust"] is True
    assert not read_group(group.folder).request.trust


@pytest.mark.parametrize("name", ["stock", "exact", "trust"])
def test_a_flag_is_no_option_of_another_line(name, strange, pyrl):
    strange({name: "--trust"})
    outcome = pyrl("td3-train", "--resume", "G")
    assert outcome.code == 2
    assert f"{name}: must be true or false, not '--trust'" in outcome.err


EVIL = "would run code of 'evil'; pass --trust"
STRANGE = [
    ({"engine": "evil:Engine"}, f"engine 'evil:Engine' {EVIL}"),
    ({"engine": "pyrl_sb3.training.engines:subprocess.Popen"}, "Popen' is none; pass --trust"),
    ({"sync": "evil:d", "sync_every": 9, "sync_params": {}}, f"sync-callback 'evil:d' {EVIL}"),
    (
        {"sync": "torch.hub:load", "sync_every": 9, "sync_params": {"source": "local"}},
        "'torch.hub:load' is no sync-callback: it must be a subclass of BaseCallback",
    ),
    ({"sync": "mean"}, "G/seeds.yml: sync: every: must be a whole number of steps from 1 on"),
    ({"sync": "mean", "sync_every": 9, "sync_params": [1]}, "params: must be a mapping"),
    (
        {"sync": "mean", "sync_every": 9, "sync_params": {}, "engine": "evil:Engine"},
        f"engine 'evil:Engine' {EVIL}",
    ),
]


@pytest.mark.parametrize(("facts", "problem"), STRANGE)
def test_components_that_a_group_names_are_not_run(facts, problem, strange, group, pyrl):
    strange(**facts)
    before = contents(group.folder)
    outcome = pyrl("td3-train", "--resume", "G")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert problem in outcome.err
    assert contents(group.folder) == before


def test_an_engine_that_the_command_line_names_is_free(strange, resumed, folder):
    (folder / "fine.py").write_text("from pyrl_sb3.training.engines import *\n")
    strange(engine="evil:Engine")
    assert resumed("--engine", "fine:LocalProcesses")
    assert resumed("--trust")


def test_a_model_is_not_deleted_because_there_is_no_checkpoint(group, resumed, pyrl, folder):
    begin(group.run(0), 600, checkpoint=False)
    (group.run(0) / "model.zip").write_bytes(b"PK damaged")
    begin(group.run(1), 300, checkpoint=False)
    begin(folder / "elsewhere", 300, checkpoint=False)
    (folder / "elsewhere/model.zip").unlink()
    group.run(2).symlink_to(folder / "elsewhere")
    before = contents(folder)
    assert {words[1:3] for words, _ in resumed().values()} == {
        ("--resume", f"G/seed_{seed}") for seed in range(3)
    }
    assert contents(folder).keys() == before.keys()
    for seed, damaged in ((0, ", and its model.zip is damaged"), (1, "")):
        assert pyrl("td3-train", "--resume", f"G/seed_{seed}").err == (
            f"pyrl: G/seed_{seed} has no checkpoint{damaged}: when it is deleted, "
            "--resume G begins it again\n"
        )


@pytest.mark.parametrize("save_freq", [None, 0])
def test_the_best_model_of_a_killed_seed_is_kept_where_there_are_no_checkpoints(
    save_freq, group, resumed
):
    write_group(replace(group, request=replace(REQUEST, save_freq=save_freq)))
    begin(group.run(0), 300, checkpoint=False)
    (group.run(0) / "model.zip").rename(group.run(0) / "best_model.zip")
    words, _ = resumed()[0]
    assert ("--resume" in words) == (save_freq == 0)
    assert (group.run(0) / "best_model.zip").exists() == (save_freq == 0)


@pytest.mark.parametrize("kind", [{}, SYNCHRONISED])
def test_fewer_steps_than_all_have_had_are_refused(kind, group, pyrl, resumed):
    write_group(replace(group, **kind))
    begin(group.run(0), 400)
    begin(group.run(1), 300)
    before = contents(group.folder)
    outcome = pyrl("td3-train", "--resume", "G", "--timesteps", 299)
    said = "pyrl: --timesteps 299: G/seed_1 has had 300 steps already\n"
    assert (outcome.code, outcome.err) == (2, said)
    assert contents(group.folder) == before
    if not kind:
        assert resumed("--timesteps", 300)


@pytest.mark.parametrize("kind", [{}, SYNCHRONISED])
def test_the_steps_that_seeds_were_to_have_are_not_fewer_than_they_have_had(kind, group, pyrl):
    """They end where several environments do, which do not divide 600."""
    write_group(replace(group, **kind))
    for seed in group.seeds:
        begin(group.run(seed), 602 + seed)
    (group.folder / "model.zip").touch()
    outcome = pyrl("td3-train", "--resume", "G", "--timesteps", 600)
    assert (outcome.code, outcome.err) == (0, "")
    assert ("3 seeds, 0 to run" if not kind else "G is finished") in outcome.out
    said = "pyrl: --timesteps 599: G/seed_0 has had 602 steps already\n"
    assert pyrl("td3-train", "--resume", "G", "--timesteps", 599).err == said


@pytest.mark.parametrize(
    ("code", "stopping", "state"),
    [
        (130, True, State.STOPPED),
        (-signal.SIGINT, True, State.STOPPED),
        (143, False, State.STOPPED),
        (-signal.SIGTERM, False, State.FAILED),
        (1, True, State.FAILED),
        (-signal.SIGKILL, True, State.FAILED),
        (0, True, State.FINISHED),
    ],
)
def test_what_was_stopped_and_what_failed(code, stopping, state):
    class Process:
        def poll(self):
            return code

    task = Task(job=None, process=Process())
    task.look(stopping)
    assert task.state is state


@pytest.mark.parametrize("stopped", [None, signal.SIGINT])
def test_seeds_that_end_early_are_named(stopped, group, pyrl, monkeypatch):
    def run_jobs(tasks, *_):
        for task, end in zip(tasks, (State.STOPPED, State.FAILED, State.FINISHED), strict=True):
            task.state, task.code = end, 143
        return stopped

    monkeypatch.setattr(command, "run_jobs", run_jobs)
    outcome = pyrl("td3-train", "--resume", "G")
    assert outcome.code == (130 if stopped else 1)
    assert "failed: 1 of 3 seeds: 1 (exit code 143, G/seed_1.log)" in outcome.out
    assert ("stopped: 1 of 3 seeds: 0 (" in outcome.out) == (stopped is None)
    assert ("SIGINT: stopped; what each other seed has" in outcome.out) == (stopped is not None)
    assert "go on: pyrl td3-train --resume G" in outcome.out
    assert "statistics" not in outcome.out


@pytest.mark.parametrize(
    ("codes", "log", "begun", "stopped", "last"),
    [
        ((2, 2, 2), "pyrl: no stack", False, None, "none has begun: no stack"),
        ((2, 2, 2), "pyrl: no stack", True, None, "go on: pyrl td3-train --resume G"),
        ((2, 2, 1), "pyrl: no stack", False, None, "go on: pyrl td3-train --resume G"),
        ((2, 2, 2), "pyrl: no stack", False, signal.SIGINT, "go on: pyrl td3-train --resume G"),
        ((2, 2, 2), "", False, None, "go on: pyrl td3-train --resume G"),
        ((2, 2, 2), None, False, None, "go on: pyrl td3-train --resume G"),
    ],
    ids=["none", "one has", "one may", "others may", "nothing is said", "no log"],
)
def test_what_no_seed_can_begin_with_is_said_without_a_command_that_goes_on(
    codes, log, begun, stopped, last, group, pyrl, monkeypatch
):
    def run_jobs(tasks, *_):
        for task, code in zip(tasks, codes, strict=True):
            task.state, task.code = State.FAILED, code
            if log is not None:
                task.job.log.write_text(f"TD3 on Pendulum-v1\n{log}\n" if log else "")
        if begun:
            group.run(1).mkdir()
        return stopped

    monkeypatch.setattr(command, "run_jobs", run_jobs)
    outcome = pyrl("td3-train", "--resume", "G")
    assert outcome.out.splitlines()[-1] == last
    assert outcome.code == (130 if stopped else 1)


def test_a_single_run_is_not_synchronised_when_it_is_resumed(pyrl, folder):
    begin(folder / "run", 300)
    for name, said in (("run", "--sync: run is a single run, which learns"), ("r", "no run at r")):
        outcome = pyrl("td3-train", "--resume", name, "--sync", "mean")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert said in outcome.err


def test_seeds_that_ended_at_once_are_named(group, pyrl, monkeypatch):
    def run_jobs(tasks, *_):
        for task in tasks:
            task.state, task.ended_at_once = State.STOPPED, task is tasks[1]
        return signal.SIGINT

    monkeypatch.setattr(command, "run_jobs", run_jobs)
    outcome = pyrl("td3-train", "--resume", "G")
    assert outcome.code == 128 + signal.SIGINT
    assert outcome.out.splitlines()[1:] == [
        "writing to G",
        "ended at once, as they are in their checkpoints: seed 1",
        "SIGINT: stopped; what each other seed has learned is saved",
        "go on: pyrl td3-train --resume G",
    ]
